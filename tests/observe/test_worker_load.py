"""The last hour of several workers as one: what is added up, what is the worst, and which samples belong together."""

from msgspec.structs import replace

from bridge.observe.load_report import LoadReport, LoadSample
from bridge.observe.worker_load import added
from tests.observe.figures import DAEMON

_SAMPLE = LoadSample(
    at=1002.4,
    calls=3,
    listeners=1,
    loop_lag_ms=2.0,
    processor_percent=40.5,
    memory_bytes=100,
    packets=1000,
    lost=10,
    late=3,
    concealed_ms=60,
    telephone_late_ms=20,
    round_trips=1,
    round_trip_ms=100.0,
    worst_round_trip_ms=100.0,
    queued_ms=700,
    answers=3,
    answer_ms=500.0,
    refused={"forbidden": 1},
)
_OTHER = replace(
    _SAMPLE,
    at=1003.1,
    calls=4,
    loop_lag_ms=9.0,
    round_trips=3,
    round_trip_ms=20.0,
    worst_round_trip_ms=30.0,
    queued_ms=5,
    answers=1,
    answer_ms=900.0,
    refused={"forbidden": 2, "call_limit": 1},
)
_NOBODY = replace(_SAMPLE, round_trips=0, round_trip_ms=None, worst_round_trip_ms=None, answers=0, answer_ms=None)


def _report(*samples: LoadSample, now: float = 1006.0) -> LoadReport:
    refused = {"forbidden": len(samples)}
    return LoadReport(
        version="1", started_at=900.0, now=now, every_s=5.0, samples=list(samples), refused=refused, daemon=DAEMON
    )


def _added(own: LoadReport, *others: LoadReport, after: float | None = None) -> LoadReport:
    return added(own, others, started_at=800.0, after=after)


def test_counts_are_added_and_means_are_weighed() -> None:
    """A mean counts for as many as it was taken of; of what has a limit, the worst counts."""
    [sample] = _added(_report(_SAMPLE), _report(_OTHER)).samples
    assert (sample.at, sample.calls, sample.listeners, sample.memory_bytes) == (1005.0, 7, 2, 200)
    assert (sample.packets, sample.lost, sample.late) == (2000, 20, 6)
    assert (sample.concealed_ms, sample.telephone_late_ms) == (120, 40)
    assert (sample.processor_percent, sample.loop_lag_ms, sample.queued_ms) == (81.0, 9.0, 700)
    assert (sample.round_trips, sample.round_trip_ms, sample.worst_round_trip_ms) == (4, 40.0, 100.0)
    assert (sample.answers, sample.answer_ms) == (4, 600.0)
    assert sample.refused == {"forbidden": 3, "call_limit": 1}


def test_who_measured_nothing_changes_no_mean() -> None:
    """And if nobody has, there is none."""
    [sample] = _added(_report(_SAMPLE), _report(_NOBODY)).samples
    assert (sample.round_trip_ms, sample.worst_round_trip_ms, sample.answer_ms) == (100.0, 100.0, 500.0)
    [sample] = _added(_report(_NOBODY), _report(_NOBODY)).samples
    assert (sample.round_trip_ms, sample.worst_round_trip_ms, sample.answer_ms) == (None, None, None)


def test_a_slot_is_told_when_it_is_over() -> None:
    """Until then a worker may still be about to take its sample; and what was told does not change."""
    late = replace(_SAMPLE, at=1007.5)
    reports = _report(_SAMPLE, late, now=1009.9), _report(_OTHER)
    assert [each.at for each in _added(*reports).samples] == [1005.0]
    reports = _report(_SAMPLE, late, now=1010.0), _report(_OTHER)
    assert [(each.at, each.calls) for each in _added(*reports).samples] == [(1005.0, 7), (1010.0, 3)]
    assert [each.at for each in _added(*reports, after=1005.0).samples] == [1010.0]


def test_the_processes_are_one() -> None:
    """Figures since the start are added up, an upstream is there once, and it is down if one worker says so."""
    other = replace(DAEMON, is_draining=True, is_overloaded=False, loop_lag_ms=20.0)
    other = replace(
        other, targets=[replace(DAEMON.targets[0], down="timeout"), replace(DAEMON.targets[0], name="second")]
    )
    report = _added(_report(_SAMPLE), replace(_report(_OTHER, _OTHER), daemon=other))
    assert (report.workers, report.started_at, report.refused) == (2, 800.0, {"forbidden": 3})
    daemon = report.daemon
    assert (daemon.is_draining, daemon.is_overloaded, daemon.loop_lag_ms) == (False, True, 20.0)
    assert (daemon.kept_bytes, daemon.connections_refused, daemon.log_lines_dropped) == (14, 6, 8)
    assert (daemon.endpoint.peers, daemon.endpoint.datagrams_dropped) == (2, {"bad_stun": 12})
    assert daemon.telephony.refused == {"twilio.invalid_signature": 16}
    first, second = daemon.targets
    assert (first.name, first.dials, first.given_up, first.down) == ("cloud", 24, 32, "timeout")
    assert (second.name, second.dials) == ("second", 12)
