"""Adds up what several workers of a machine report of the last hour.

Each worker takes one sample in each slot of five seconds of the clock on the wall, in its middle. When a slot is over,
all samples of it have been taken, and become one. Its time is the end of the slot, whichever worker is asked, so that a
page which comes back gets the later ones from any of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from bridge.observe.load_report import LoadReport, LoadSample, slot_of
from bridge.wire.stats import DaemonStats, EndpointStats, TargetStats, TelephonyStats

__all__ = ["added"]


def added(own: LoadReport, others: Sequence[LoadReport], *, started_at: float, after: float | None) -> LoadReport:
    """Returns the report of all workers together, with the samples that are later than ``after``.

    ``own`` is that of the worker which is asked. ``started_at`` is the time at which the workers were started.
    """
    reports = [own, *others]
    return LoadReport(
        version=own.version,
        started_at=started_at,
        now=own.now,
        every_s=own.every_s,
        samples=[each for each in _samples(reports, own) if after is None or each.at > after],
        refused=_counts(report.refused for report in reports),
        workers=len(reports),
        daemon=_daemon([report.daemon for report in reports]),
    )


def _samples(reports: Iterable[LoadReport], own: LoadReport) -> Iterator[LoadSample]:
    """Yields one sample of each slot that is over."""
    every_s = own.every_s
    slots: dict[int, list[LoadSample]] = {}
    for report in reports:
        for slot, sample in {slot_of(sample.at, every_s): sample for sample in report.samples}.items():
            slots.setdefault(slot, []).append(sample)
    for slot in sorted(slots):
        at = (slot + 1) * every_s
        if at <= own.now:
            yield _sample(at, slots[slot])


def _sample(at: float, samples: list[LoadSample]) -> LoadSample:
    trips = sum(each.round_trips for each in samples)
    answers = sum(each.answers for each in samples)
    worst = [each.worst_round_trip_ms for each in samples if each.worst_round_trip_ms is not None]
    trips_ms = sum(each.round_trips * each.round_trip_ms for each in samples if each.round_trip_ms is not None)
    waited_ms = sum(each.answers * each.answer_ms for each in samples if each.answer_ms is not None)
    return LoadSample(
        at=at,
        calls=sum(each.calls for each in samples),
        listeners=sum(each.listeners for each in samples),
        loop_lag_ms=max(each.loop_lag_ms for each in samples),
        processor_percent=round(sum(each.processor_percent for each in samples), 1),
        memory_bytes=sum(each.memory_bytes for each in samples),
        packets=sum(each.packets for each in samples),
        lost=sum(each.lost for each in samples),
        late=sum(each.late for each in samples),
        concealed_ms=sum(each.concealed_ms for each in samples),
        telephone_late_ms=sum(each.telephone_late_ms for each in samples),
        round_trips=trips,
        round_trip_ms=round(trips_ms / trips, 1) if trips else None,
        worst_round_trip_ms=max(worst, default=None),
        queued_ms=max(each.queued_ms for each in samples),
        answers=answers,
        answer_ms=round(waited_ms / answers, 1) if answers else None,
        refused=_counts(each.refused for each in samples),
    )


def _daemon(all_stats: Sequence[DaemonStats]) -> DaemonStats:
    """Returns the figures of all processes: what any of them counts, added up, and the worst of what has a limit."""
    return DaemonStats(
        is_draining=all(each.is_draining for each in all_stats),
        is_overloaded=any(each.is_overloaded for each in all_stats),
        loop_lag_ms=max(each.loop_lag_ms for each in all_stats),
        kept_bytes=sum(each.kept_bytes for each in all_stats),
        connections_refused=sum(each.connections_refused for each in all_stats),
        log_lines_dropped=sum(each.log_lines_dropped for each in all_stats),
        endpoint=EndpointStats(
            peers=sum(each.endpoint.peers for each in all_stats),
            late_ticks=sum(each.endpoint.late_ticks for each in all_stats),
            datagrams_dropped=_counts(each.endpoint.datagrams_dropped for each in all_stats),
        ),
        telephony=TelephonyStats(
            refused=_counts(each.telephony.refused for each in all_stats),
            faults=_counts(each.telephony.faults for each in all_stats),
            late_ticks=sum(each.telephony.late_ticks for each in all_stats),
            hang_ups_failed=sum(each.telephony.hang_ups_failed for each in all_stats),
        ),
        targets=_targets(all_stats),
    )


def _targets(all_stats: Sequence[DaemonStats]) -> list[TargetStats]:
    """Returns the upstreams, each once. One is down if a worker has given it up."""
    targets: dict[str, TargetStats] = {}
    for target in (target for stats in all_stats for target in stats.targets):
        known = targets.get(target.name)
        targets[target.name] = (
            target
            if known is None
            else replace(
                known,
                dials=known.dials + target.dials,
                failures=known.failures + target.failures,
                lost=known.lost + target.lost,
                renewals=known.renewals + target.renewals,
                given_up=known.given_up + target.given_up,
                down=known.down or target.down,
            )
        )
    return list(targets.values())


def _counts(counted: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counted:
        total.update(each)
    return dict(total)
