"""``GET /v1/load``: what a sample says, how many are kept, who may see them, and why requests were refused."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from bridge.observe.load import LoadHistory
from bridge.wire.stats import DaemonStats, Transport
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.fakes import FakeClock
from tests.machine import scaled
from tests.observe.figures import DAEMON
from tests.observe.test_metrics import _CARRIER, _PEER, House

_KEY = "sk-load-test"
_BEARER = {"Authorization": f"Bearer {_KEY}"}
_LIMIT_S = scaled(10.0)


class Hour:
    """A history of a made-up house, that takes a sample when the test says so."""

    def __init__(self, house: House, thread: ThreadPoolExecutor) -> None:
        self.house = house
        self.clock = FakeClock(1_000.0)
        self.stats: DaemonStats = DAEMON
        self.history = LoadHistory(house.metrics, lambda: self.stats, thread, clock=self.clock)

    async def sample(self, seconds: float = 5.0) -> None:
        """One more, so much later."""
        self.clock.now += seconds
        await self.history.sample()


@pytest.fixture
async def hour() -> AsyncIterator[Hour]:
    """One without calls."""
    house = House()
    with ThreadPoolExecutor(1) as thread:
        async with house.registry:
            yield Hour(house, thread)


async def test_a_sample_has_what_was_counted_since_the_one_before(hour: Hour) -> None:
    """Packets that came, are missing or were late; levels as they are."""
    _, leg = hour.house.call()
    await hour.sample()
    leg.figures = replace(_PEER, packets=1500, lost=14, late=4, concealed_ms=160, queued_ms=700, round_trip_ms=50.0)
    _, slow = hour.house.call()
    slow.figures = replace(_PEER, packets=1, lost=0, late=0, concealed_ms=0, round_trip_ms=150.0)
    await hour.sample()
    first, second = hour.history.report().samples
    assert (first.calls, first.packets, first.lost, first.late, first.concealed_ms) == (1, 1000, 10, 3, 60)
    assert (second.calls, second.packets, second.lost, second.late, second.concealed_ms) == (2, 501, 4, 1, 100)
    assert (second.round_trip_ms, second.worst_round_trip_ms, second.queued_ms) == (100.0, 150.0, 700)
    assert (second.loop_lag_ms, second.at - first.at) == (12.0, 5.0)
    assert second.memory_bytes > 10_000_000
    assert (second.answers, second.answer_ms) == (0, None)


async def test_a_telephone_has_no_packets_but_may_be_late(hour: Hour) -> None:
    """What a carrier brings late is counted apart from what WebRTC callers lose."""
    _, leg = hour.house.call(Transport("twilio"), replace(_CARRIER, input_late_ms=300))
    await hour.sample()
    leg.figures = replace(_CARRIER, input_late_ms=1_000)
    await hour.sample()
    first, second = hour.history.report().samples
    assert [(one.telephone_late_ms, one.packets, one.round_trip_ms) for one in (first, second)] == [
        (300, 0, None),
        (700, 0, None),
    ]


async def test_without_calls_there_is_no_round_trip(hour: Hour) -> None:
    """A mean of nothing is null, not zero."""
    await hour.sample()
    [sample] = hour.history.report().samples
    assert (sample.calls, sample.round_trip_ms, sample.worst_round_trip_ms) == (0, None, None)


async def test_waits_for_answers_are_averaged(hour: Hour) -> None:
    """Over those of one sample; the next sample begins anew."""
    hour.house.metrics.waits.add_wait(0.4)
    hour.house.metrics.waits.add_wait(0.6)
    await hour.sample()
    hour.house.metrics.waits.add_wait(2.0)
    await hour.sample()
    assert [(one.answers, one.answer_ms) for one in hour.history.report().samples] == [(2, 500.0), (1, 2000.0)]


async def test_an_hour_is_kept_and_no_more(hour: Hour) -> None:
    """The oldest sample makes room; whoever had one gets the later ones."""
    for _ in range(725):
        await hour.sample()
    samples = hour.history.report().samples
    assert len(samples) == 720
    assert samples[-1].at - samples[0].at == pytest.approx(719 * 5.0)
    assert hour.history.report(samples[-3].at).samples == samples[-2:]
    assert hour.history.report(samples[-1].at).samples == []


async def test_refusals_are_counted_by_their_reason(hour: Hour) -> None:
    """Those of requests, of carriers and of connections; what was answered otherwise is none."""
    await hour.sample()
    refused = [(401, "invalid_api_key")] * 2
    for status, code in (*refused, (404, "unknown_call"), (200, "other"), (503, "other")):  # the last one is /readyz
        hour.history.count_refusal(status, code)
    telephony = replace(DAEMON.telephony, refused={"twilio.invalid_signature": 9})
    hour.stats = replace(DAEMON, telephony=telephony, connections_refused=5)
    await hour.sample()
    report = hour.history.report()
    assert report.samples[0].refused == {"twilio.invalid_signature": 8, "connection_limit": 3}
    assert report.samples[1].refused == {"invalid_api_key": 2, "twilio.invalid_signature": 1, "connection_limit": 2}
    assert report.refused == {"invalid_api_key": 2, "twilio.invalid_signature": 9, "connection_limit": 5}


async def test_reasons_are_few(hour: Hour) -> None:
    """However many codes there are, what is kept of them is bounded."""
    for number in range(1000):
        hour.history.count_refusal(403, f"code_{number}")
    assert len(hour.history.report().refused) < 100
    assert sum(hour.history.report().refused.values()) == 1000 + 8 + 3


async def test_a_fault_in_a_sample_ends_nothing(hour: Hour) -> None:
    """It is told, and the next sample is taken."""
    asked: list[DaemonStats] = []
    third = asyncio.Event()

    def fail_once() -> DaemonStats:
        asked.append(DAEMON)
        if len(asked) == 1:
            raise ValueError("broken")
        if len(asked) == 3:  # the second sample is taken by now
            third.set()
        return DAEMON

    with ThreadPoolExecutor(1) as thread, capture_logs() as lines:
        async with LoadHistory(hour.house.metrics, fail_once, thread, every_s=0.001) as history:
            async with asyncio.timeout(_LIMIT_S):
                await third.wait()
            assert history.report().samples
    assert [line["event"] for line in lines] == ["observe.sample_failed"]


async def test_only_a_key_of_the_server_opens_it(serve_with: ServeWith) -> None:
    """Without one 401, with a minted one 403; a port of their own for metrics changes nothing."""
    async with serve_with(api_key=(_KEY,), metrics_port=0) as daemon:
        url = f"{daemon.url}v1/load"
        assert (await request("GET", url)).status == 401
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=_BEARER, body="{}")
        assert (await request("GET", url, headers={"Authorization": f"Bearer {minted.json['value']}"})).status == 403
        with pytest.raises(InvalidStatus):
            async with open_socket(daemon.url, "model=any"):
                pass
        reply = await request("GET", url, headers=_BEARER)
        assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
        assert reply.json["refused"] == {"invalid_api_key": 2, "forbidden": 1}
        assert reply.json["daemon"]["is_draining"] is False


@pytest.mark.parametrize("after", ["soon", "nan", ""])
async def test_a_time_is_a_number(serve_with: ServeWith, after: str) -> None:
    """Anything else is refused by name."""
    async with serve_with() as daemon:
        reply = await request("GET", f"{daemon.url}v1/load?after={after}")
    assert (reply.status, reply.json["error"]["param"]) == (400, "after")
