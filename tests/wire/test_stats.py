"""The figures of calls: their JSON is what clients of ``GET /v1/calls`` read."""

import msgspec
import pytest

from bridge.wire.stats import (
    BearerStats,
    CallStats,
    CarrierLegStats,
    EndpointStats,
    ListenerStats,
    PeerStats,
    RecordingStats,
    TargetStats,
    UpstreamStats,
)
from tests.fakes import CALL_STATS

_LEG = {"sent", "queued_ms", "overflow_ms", "faults"}
_FIELDS = {
    PeerStats: _LEG
    | {"packets", "lost", "late", "too_fast", "doubles", "recovered", "concealed_ms", "silence_ms", "jitter_ms"}
    | {"reorder_ms", "held", "round_trip_ms", "passed_on", "resent", "remote_lost_percent", "remote_jitter_ms"}
    | {"moves", "datagrams_dropped"},
    CarrierLegStats: _LEG | {"is_connected", "messages", "input_late_ms", "late_ms", "returns"},
    ListenerStats: {"id", "role", "dialect", "audio", "chunk_ms", "chunk_size", "tracks", "events", "framing"}
    | {"is_held", "last_event_id", "backlog_bytes", "dropped_events", "dropped_ms"},
    BearerStats: {"kind", "input", "output", "quality"},
    RecordingStats: {"id", "object", "call_id", "state", "seconds"},
    EndpointStats: {"peers", "late_ticks", "datagrams_dropped"},
    CallStats: {"id", "object", "session_id", "state", "transport", "model", "started_at", "metadata", "warnings"}
    | {"status", "seconds", "listeners", "legs", "peer", "session", "upstream", "setup_ms", "dropped_events"}
    | {"key_id", "trace_id", "ended_at", "result", "reason"},
    UpstreamStats: {"name", "lines", "lost", "answers", "stages", "input_seconds", "output_seconds"},
    TargetStats: {"name", "down", "dials", "failures", "lost", "renewals", "given_up"},
}


@pytest.mark.parametrize("kind", _FIELDS)
def test_no_field_is_lost_or_renamed(kind: type[msgspec.Struct]) -> None:
    """Clients find each figure under its name."""
    assert set(kind.__struct_encode_fields__) == _FIELDS[kind]


def test_a_running_call_does_not_name_its_session_nor_its_end() -> None:
    """The list of calls leaves out what one call alone tells, or one that is over; a leg's own figures come whole."""
    leg = CarrierLegStats(
        sent=1,
        queued_ms=0,
        overflow_ms=0,
        faults=0,
        is_connected=True,
        messages=7,
        input_late_ms=0,
        late_ms=0,
        returns=0,
    )
    told = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(CALL_STATS, peer=leg)))
    assert told.keys() == _FIELDS[CallStats] - {"session", "ended_at", "result", "reason"}
    assert (told["object"], told["peer"].keys()) == ("realtime.call", _FIELDS[CarrierLegStats])
