"""Calls that are over, for whoever asks afterwards."""

from msgspec.structs import replace

from bridge.calls.directory import CallRecord
from bridge.calls.ended import LocalEndedCalls
from bridge.wire.stats import CallResult, CallStats, Dialect, Framing, ListenerRole, ListenerStats
from tests.fakes import CALL_STATS, FakeClock

_LISTENER = ListenerStats(
    id="lst_1", role=ListenerRole.OBSERVER, dialect=Dialect.GA, audio="none", chunk_ms=None, chunk_size=None, tracks=[],
    events=None, framing=Framing.JSON, is_held=False, last_event_id="", backlog_bytes=0, dropped_events=0, dropped_ms=0,
)  # fmt: skip


def _add(ended: LocalEndedCalls, number: int, stats: CallStats = CALL_STATS) -> None:
    record = CallRecord(call_id=f"rtc_{number}", key_id="api")
    ended.add_ended_call(record, replace(stats, id=record.call_id), CallResult.SUCCESS, "hangup")


async def _ids(ended: LocalEndedCalls) -> list[str]:
    return [call.stats.id for call in await ended.list()]


async def test_the_last_calls_are_remembered() -> None:
    """As many as are wanted, the last one first; none if none are wanted."""
    ended, none = LocalEndedCalls(3, 60.0), LocalEndedCalls(0, 60.0)
    for number in range(5):
        _add(ended, number)
        _add(none, number)
    assert await _ids(ended) == ["rtc_4", "rtc_3", "rtc_2"]
    assert await _ids(none) == []


async def test_old_calls_are_forgotten() -> None:
    """Each is remembered for so long after its end, whether others end or not."""
    clock = FakeClock(100.0)
    ended = LocalEndedCalls(9, 60.0, clock=clock)
    _add(ended, 1)
    clock.now = 130.0
    _add(ended, 2)
    clock.now = 159.9
    assert await _ids(ended) == ["rtc_2", "rtc_1"]
    clock.now = 160.0
    assert await _ids(ended) == ["rtc_2"]
    clock.now = 190.0
    assert await _ids(ended) == []


async def test_other_limits_count_at_once() -> None:
    """If fewer are to be remembered, or for a shorter time, the others are forgotten then."""
    clock = FakeClock(100.0)
    ended = LocalEndedCalls(9, 60.0, clock=clock)
    for number in range(4):
        _add(ended, number)
        clock.now += 10
    ended.limit_to(3, 60.0)
    assert await _ids(ended) == ["rtc_3", "rtc_2", "rtc_1"]
    ended.limit_to(3, 25.0)
    assert await _ids(ended) == ["rtc_3", "rtc_2"]
    ended.limit_to(0, 25.0)
    assert await _ids(ended) == []


async def test_what_is_kept_of_a_call_is_bounded() -> None:
    """Its end and its figures; of its metadata 16 values of 256 characters, and nobody who listened."""
    ended = LocalEndedCalls(9, 60.0)
    metadata = {f"name{number}": "x" * 5000 for number in range(40)}
    _add(ended, 1, replace(CALL_STATS, metadata=metadata, listeners=[_LISTENER] * 2000))
    [call] = await ended.list()
    assert (call.stats.result, call.stats.reason) == (CallResult.SUCCESS, "hangup")
    assert isinstance(call.stats.ended_at, float)
    assert call.stats.listeners == []
    assert [len(value) for value in call.stats.metadata.values()] == [256] * 16
