"""What whoever runs a bridge is told of a call: which of its figures are high, and the table."""

from typing import Any

import msgspec
import pytest

from bridge.client.address import CallFailed
from bridge.client.operators.api import BridgeApi, CallRow
from bridge.client.operators.calls import _span
from bridge.client.operators.quality import FIGURES, judge
from bridge.wire.stats import CallStats, CarrierLegStats, PeerStats
from tests.fakes import CALL_STATS

_WELL = {"packets": 5000.0, "lost": 20.0, "late": 10.0, "jitter_ms": 8.0, "concealed_ms": 400.0, "round_trip_ms": 90.0}


def _call(**changes: Any) -> CallRow:
    return CallRow(id="rtc_1", seconds=100.0, **{"peer": dict(_WELL), **changes})


def _high(call: CallRow) -> list[str]:
    return [one.figure.name for one in judge(call) if one.is_high]


def test_a_call_that_is_well_has_no_high_figure() -> None:
    """Over any network a packet is lost now and then."""
    assert _high(_call()) == []
    assert _high(_call(peer=None)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lost", 400),
        ("late", 100),
        ("jitter_ms", 45.5),
        ("concealed_ms", 5000),
        ("input_late_ms", 2000),
        ("silence_ms", 99_000),
        ("too_fast", 1),
        ("remote_lost_percent", 4.5),
        ("remote_jitter_ms", 50),
        ("resent", 300),
        ("round_trip_ms", 450),
        ("overflow_ms", 20),
        ("late_ms", 3000),
        ("moves", 5),
        ("returns", 1),
        ("faults", 1),
        ("datagrams_dropped", 50),
    ],
)
def test_a_figure_that_is_high_is_seen(name: str, value: float) -> None:
    """Each by itself, and no other with it."""
    assert _high(_call(peer={**_WELL, "sent": 5000.0, name: float(value)})) == [name]


def test_figures_of_the_call_itself_are_judged() -> None:
    """An upstream that was lost, and a listener that was too slow."""
    call = msgspec.convert(
        {"id": "rtc_1", "seconds": 9, "upstream": {"name": "cloud", "lost": 1}, "dropped_events": 3}, CallRow
    )
    assert _high(call) == ["upstream_lost", "dropped_events"]


def test_every_figure_is_one_of_the_bridge() -> None:
    """A name that no call has would never be shown."""
    known = {*PeerStats.__struct_fields__, *CarrierLegStats.__struct_fields__, "upstream_lost", "dropped_events"}
    assert {figure.name for figure in FIGURES} <= known
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


def test_what_a_bridge_lists_is_read() -> None:
    """With figures that are not known yet, true and false among them, and null."""
    leg = CarrierLegStats(
        sent=1, queued_ms=0, overflow_ms=0, faults=0, is_connected=True, messages=7, input_late_ms=9000, late_ms=0,
        returns=0,
    )  # fmt: skip
    told = msgspec.to_builtins(msgspec.structs.replace(CALL_STATS, peer=leg, metadata={"From": "+49301234567"}))
    assert isinstance(msgspec.convert(told, CallStats), CallStats)
    told["peer"] |= {"new": None}
    (row,) = BridgeApi("http://h:1", None).read_calls(msgspec.json.encode({"object": "list", "data": [told]}))
    assert row.caller == "+49301234567"
    assert "input_late_ms" in _high(row)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": [{"no": "id"}]}'])
def test_what_is_no_list_of_calls_is_told(body: bytes) -> None:
    """A proxy's page, or another server's answer."""
    with pytest.raises(CallFailed, match="not like a bridge"):
        BridgeApi("http://h:1", None).read_calls(body)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h"), (-3, "0 s")],
)
def test_times_are_read_by_people(seconds: float, text: str) -> None:
    """By their two largest units."""
    assert _span(seconds) == text
