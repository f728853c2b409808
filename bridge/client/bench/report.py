"""Makes figures from the records of the calls: percentiles, what was answered, and what went wrong how often."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bridge.client.bench.lag import Lag
from bridge.client.bench.record import BenchRecord, Failure

__all__ = ["Client", "Report", "Spread", "Complaint", "report"]

_LATE_MS = 20.0  # the time of one packet
_LATE_SHARE = 0.01  # of the ticks; a larger share shows in the 99th percentiles
_HALT_MS = 200.0  # if this happens once, the slowest figure is our own delay


@dataclass(frozen=True, slots=True)
class Spread:
    """The percentiles of a measured time, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Complaint:
    """What went wrong, how often, and in the words of its first time."""

    code: str
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Client:
    """How well the measuring process itself was in time."""

    ticks: int
    """The number of ticks of 20 ms while calls were made."""
    late_ticks: int
    """The number of ticks that came more than 20 ms late."""
    lag_p99_ms: float
    lag_max_ms: float
    cpu_percent: float
    """The share of one core that it used, in percent."""
    was_late: bool
    """Whether it was so late that the figures are worse than the server is."""


@dataclass(frozen=True, slots=True)
class Report:
    """How the server bore the calls. Figures are None if nothing was measured."""

    result: Literal["came_through", "failed", "unfinished"]
    calls: int
    came_through: int
    failed: int
    unfinished: int
    turns: int
    """The number of turns that were begun."""
    answered: int
    early_answers: int
    """The number of answers that began before the caller had finished; they are not in any time."""
    silent_answers: int
    """The number of answers of text, or of a function's call, without sound."""
    broken_answers: int
    """The number of answers whose sound broke off and went on."""
    connect_ms: Spread | None
    first_sound_ms: Spread | None
    after_stopped_ms: Spread | None
    round_trip_ms: Spread | None
    gap_ms: Spread | None
    packets: int | None
    lost: int | None
    jitter_ms: Spread | None
    failures: list[Complaint]
    """The failures that ended calls."""
    complaints: list[Complaint]
    """The ``error`` events that came."""
    refusal: Failure | None
    """How the server refused ``session.update``; None if it did not."""
    client: Client


def report(records: list[BenchRecord], lag: Lag) -> Report:
    """Returns the figures of the calls, as far as they came."""
    turns = [turn for record in records for turn in record.turns]
    answered = [turn for turn in turns if turn.is_answered]
    failures = [record.failure for record in records if record.failure is not None]
    came_through, failed = (sum(each.result == result for each in records) for result in ("came_through", "failed"))
    unfinished = len(records) - came_through - failed
    packets = [record.packets for record in records if record.packets is not None]
    return Report(
        result="failed" if failed else "unfinished" if unfinished else "came_through",
        calls=len(records),
        came_through=came_through,
        failed=failed,
        unfinished=unfinished,
        turns=len(turns),
        answered=len(answered),
        early_answers=sum(turn.is_early for turn in turns),
        silent_answers=sum(not turn.answer_s for turn in answered),
        broken_answers=sum(turn.gap_ms > 0 for turn in turns),
        connect_ms=_spread(record.connect_ms for record in records),
        first_sound_ms=_spread(turn.first_sound_ms for turn in turns),
        after_stopped_ms=_spread(turn.after_stopped_ms for turn in turns),
        round_trip_ms=_spread(turn.round_trip_ms for turn in turns),
        gap_ms=_spread(turn.gap_ms for turn in turns if turn.answer_s),
        packets=sum(packets) if packets else None,
        lost=sum(record.lost or 0 for record in records) if packets else None,
        jitter_ms=_spread(record.jitter_ms for record in records),
        failures=_told(failures),
        complaints=_told(complaint for record in records for complaint in record.complaints),
        refusal=next((record.refusal for record in records if record.refusal is not None), None),
        client=_client(lag),
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    p50, p95, p99 = (round(float(value), 1) for value in np.percentile(known, (50, 95, 99)))
    return Spread(len(known), p50, p95, p99, round(max(known), 1))


def _told(failures: Iterable[Failure]) -> list[Complaint]:
    """Returns what went wrong, by code, with the most frequent first."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for failure in failures:
        first.setdefault(failure.code, failure.message)
        counts[failure.code] = counts.get(failure.code, 0) + 1
    return [Complaint(code, count, first[code]) for code, count in sorted(counts.items(), key=lambda each: -each[1])]


def _client(lag: Lag) -> Client:
    late_ms = np.array(lag.late_ms)
    if not late_ms.size:
        return Client(0, 0, 0.0, 0.0, 0.0, was_late=False)
    late, worst = int((late_ms > _LATE_MS).sum()), float(late_ms.max())
    return Client(
        ticks=late_ms.size,
        late_ticks=late,
        lag_p99_ms=round(float(np.percentile(late_ms, 99)), 1),
        lag_max_ms=round(worst, 1),
        cpu_percent=round(lag.cpu_percent),
        was_late=late > _LATE_SHARE * late_ms.size or worst > _HALT_MS,
    )
