"""The metrics: some are counted as things happen, others are read from the figures of calls when somebody asks.

Theory of operation. Calls are followed by typed subscriptions: one of all calls, which tells of openings and closings,
and one of each call, which tells of turns and losses. All else is read from ``CallStats`` and ``DaemonStats`` when the
metrics are collected, and once more when a call closes, so nothing is done here for a packet. Each call counts for
itself. What it has counted since it was last read is added to totals that outlive it. Labels have few values: see
``labels``.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.observe import labels
from bridge.observe.call_meter import CallMeter
from bridge.observe.instruments import BY_TRANSPORT, Instruments
from bridge.observe.totals import CallTotals
from bridge.session.session import Session
from bridge.wire.own_events import CallClosed, CallOpened, CallSettled, RecordingEnded, RecordingStarted
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import (
    LIVE,
    WEBRTC,
    WEBSOCKET,
    CallState,
    CallStats,
    DaemonStats,
    PeerStats,
    Stage,
)

__all__ = ["Levels", "Metrics", "Waits"]

_UNIT = 200
_MS = 0.001
_ENGINE = "local"


class Calls(Protocol):
    """Finds a call that an event has named."""

    def __call__(self, call_id: str) -> Session:
        """Returns the running call with this id."""
        ...


@dataclass(slots=True)
class Levels:
    """The state of all running calls together."""

    calls: Tally[tuple[str, str, str]] = field(default_factory=Tally)
    listeners: Tally[str] = field(default_factory=Tally)
    backlog_bytes: int = 0
    queued_ms: int = 0
    longest_queue_ms: int = 0
    jitters_ms: list[float] = field(default_factory=list)
    """The jitter of each WebRTC caller who has sent something."""
    round_trips_ms: list[float] = field(default_factory=list)
    """The round trip of each WebRTC caller for whom it is known."""


@dataclass(slots=True)
class Waits:
    """How long callers waited for answers, since the start."""

    count: int = 0
    sum_s: float = 0.0

    def add_wait(self, seconds: float) -> None:
        """Adds the wait for one more answer."""
        self.count += 1
        self.sum_s += seconds


class Metrics:
    """The metrics of one daemon. They subscribe to the events of all calls.

    ``registry`` holds what the last ``collect_all`` found.
    """

    def __init__(
        self,
        find: Calls,
        daemon: Callable[[], DaemonStats],
        *,
        carriers: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = CollectorRegistry()
        self._find = find
        self._daemon = daemon
        self._clock = clock
        self._transports = [(WEBRTC, ""), (WEBSOCKET, ""), (LIVE, ""), *(("telephone", name) for name in carriers)]
        self._on = Instruments(self.registry)
        self._meters: dict[str, CallMeter] = {}
        self._totals = CallTotals(self._transports)
        self.waits = Waits()
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        """Further sources of metrics, which are asked at each collection."""
        self.unit = _UNIT
        """The number of calls and listeners that are read before others have their turn."""
        self._collect_s = 0.0
        self._families: list[Metric] = []
        self._begin_at_zero()
        self.registry.register(self)

    def _begin_at_zero(self) -> None:
        """Makes all series that can be foreseen begin at zero.

        A series that began with its first fault would show no rise.
        """
        on = self._on
        for transport, carrier in self._transports:
            on.opened.labels(transport, carrier)
            on.lost.labels(transport, carrier)
            on.resumed.labels(transport, carrier)
            for result in labels.RESULTS:
                on.closed.labels(transport, carrier, result)
            for outcome in labels.INCOMING_OUTCOMES if carrier else ():
                on.incoming.labels(carrier, outcome)
        for reason in labels.CLOSE_REASONS | {labels.OTHER}:
            on.endings.labels(reason)
        for reason in labels.RECORDING_REASONS:
            on.recorded.labels(reason)

    # What happens

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Handles what all followers of all calls are told."""
        match event:
            case CallOpened(call=call):
                self._open(call)
            case CallClosed(call_id=call_id, result=result, reason=reason):
                self._close(call_id, str(result), reason)
            case CallSettled(transport=carrier, outcome=outcome):
                self._on.incoming.labels(carrier, str(outcome)).inc()
            case RecordingStarted():
                self._on.recordings.inc()
            case RecordingEnded(reason=reason):
                self._on.recorded.labels(labels.bounded(reason, labels.RECORDING_REASONS)).inc()

    def count_request(self, route: str, method: str, status: int) -> None:
        """Counts one more request; ``route`` is the pattern of its path."""
        self._on.requests.labels(route, method, status).inc()

    def measure_stage(self, upstream: str, stage: Stage, seconds: float) -> None:
        """Notes how long a stage of an embedded engine took to its first word or sound."""
        self._on.stages.labels(upstream, stage.value).observe(seconds)

    def _open(self, call: CallStats) -> None:
        session = self._find(call.id)
        transport = labels.transport_labels(call.transport)
        self._on.opened.labels(*transport).inc()
        meter = self._meters[call.id] = CallMeter(
            session.stats,
            clock=self._clock,
            is_played_here=call.transport != WEBSOCKET,
            on_first_sound=self._on.first_sound.labels(*transport).observe,
            on_answered=self._answered,
            on_lost=self._on.lost.labels(*transport).inc,
            on_resumed=lambda: self._came_back(call.id),
        )
        session.audience.subscribe(meter)

    def _answered(self, upstream: str, seconds: float) -> None:
        self._on.latency.labels(upstream).observe(seconds)
        self.waits.add_wait(seconds)

    def _came_back(self, call_id: str) -> None:
        """Adds what the call's leg has counted, because its next leg begins at zero."""
        meter = self._meters[call_id]
        self._on.resumed.labels(*labels.transport_labels(self._add(meter).transport)).inc()

    def _close(self, call_id: str, result: str, reason: str) -> None:
        meter = self._meters.pop(call_id, None)
        if meter is None:
            return
        stats = self._add(meter)
        transport = labels.transport_labels(stats.transport)
        self._on.closed.labels(*transport, result).inc()
        self._on.endings.labels(labels.bounded(reason, labels.CLOSE_REASONS)).inc()
        self._on.duration.labels(*transport).observe(stats.seconds)

    # What is read

    def _add(self, meter: CallMeter) -> CallStats:
        """Adds what a call has counted since it was last read."""
        stats = meter.read()
        self._totals.add(meter, stats)
        if stats.setup_ms is not None and meter.grown("setup", 1):
            self._on.setup.labels(*labels.transport_labels(stats.transport)).observe(stats.setup_ms * _MS)
        return stats

    async def read_calls(self) -> Levels:
        """Returns the state of the calls, read some at a time, and adds what they have counted to the totals."""
        began_s = time.thread_time()
        levels = Levels()
        read = 0
        for meter in tuple(self._meters.values()):
            stats = self._add(meter)
            _level(levels, stats)
            read += 1 + len(stats.listeners)
            if read > self.unit:
                read = 0
                self._collect_s += time.thread_time() - began_s
                await asyncio.sleep(0)
                began_s = time.thread_time()
        self._collect_s += time.thread_time() - began_s
        return levels

    def total(self, name: str) -> float:
        """Returns a figure of the calls' legs, over all calls since the start, in the unit in which legs count it."""
        return self._totals.total(name)

    async def collect_all(self) -> None:
        """Reads all calls and the process, so that ``registry`` has their figures."""
        levels = await self.read_calls()
        began_s = time.thread_time()
        for jitter_ms in levels.jitters_ms:
            self._on.jitter.observe(jitter_ms * _MS)
        for round_trip_ms in levels.round_trips_ms:
            self._on.round_trip.observe(round_trip_ms * _MS)
        daemon = self._daemon()
        for name in (_ENGINE, *(target.name for target in daemon.targets)):
            self._on.latency.labels(name)
            self._totals.begin_upstream(name)
        self._families = [*self._of_calls(levels), *self._totals.families(), *_of_daemon(daemon)]
        for source in self.sources:
            self._families += source()
        self._collect_s += time.thread_time() - began_s
        self._families.append(
            CounterMetricFamily(
                "bridge_metrics_collect_seconds", "Processor time spent on collecting metrics.", self._collect_s
            )
        )

    def collect(self) -> list[Metric]:
        """Returns what ``collect_all`` has found, for ``registry``."""
        return self._families

    def describe(self) -> list[Metric]:
        """Returns nothing, so that ``registry`` collects nothing only to know the names."""
        return []

    def _of_calls(self, levels: Levels) -> Iterator[Metric]:
        calls = GaugeMetricFamily("bridge_calls", "Running calls, by state.", labels=[*BY_TRANSPORT, "state"])
        for transport, carrier in self._transports:
            for state in labels.STATES:
                calls.add_metric([transport, carrier, state], levels.calls[transport, carrier, state])
        yield calls
        listeners = GaugeMetricFamily("bridge_listeners", "Listeners attached to calls, by role.", labels=["role"])
        for role in labels.ROLES:
            listeners.add_metric([role], levels.listeners[role])
        yield listeners
        yield GaugeMetricFamily(
            "bridge_listener_backlog_bytes", "Bytes that wait for slow listeners, in total.", levels.backlog_bytes
        )
        yield GaugeMetricFamily(
            "bridge_playback_queued_seconds",
            "Duration of answers still to be played, in total.",
            levels.queued_ms * _MS,
        )
        yield GaugeMetricFamily(
            "bridge_playback_queued_longest_seconds",
            "Duration of the answer still to be played in the call with the longest queue.",
            levels.longest_queue_ms * _MS,
        )


def _level(levels: Levels, stats: CallStats) -> None:
    """Adds the state of one call to ``levels``."""
    if stats.state is not CallState.CLOSED:
        levels.calls[*labels.transport_labels(stats.transport), str(stats.state)] += 1
    for listener in stats.listeners:
        levels.listeners[listener.role] += 1
        levels.backlog_bytes += listener.backlog_bytes
    leg = stats.peer
    if leg is not None:
        levels.queued_ms += leg.queued_ms
        levels.longest_queue_ms = max(levels.longest_queue_ms, leg.queued_ms)
    if isinstance(leg, PeerStats) and leg.packets:
        levels.jitters_ms.append(leg.jitter_ms)
        if leg.round_trip_ms is not None:
            levels.round_trips_ms.append(leg.round_trip_ms)


def _of_daemon(stats: DaemonStats) -> Iterator[Metric]:
    """Yields the metrics of the process, without those of its calls."""
    yield GaugeMetricFamily(
        "bridge_draining", "1 if no new calls are accepted because the process is stopping.", stats.is_draining
    )
    yield GaugeMetricFamily(
        "bridge_overloaded", "1 if new calls get 503 because the event loop lags.", stats.is_overloaded
    )
    yield GaugeMetricFamily(
        "bridge_loop_lag_seconds", "Event loop lag, averaged over two seconds.", stats.loop_lag_ms * _MS
    )
    yield GaugeMetricFamily("bridge_conversations_bytes", "Bytes kept by all conversations.", stats.kept_bytes)
    yield GaugeMetricFamily("bridge_peers", "WebRTC peers, including those of upstreams.", stats.endpoint.peers)
    yield CounterMetricFamily(
        "bridge_connections_refused", "Connections refused because too many were pending.", stats.connections_refused
    )
    yield CounterMetricFamily(
        "bridge_log_lines_dropped", "Lines of the log that were dropped.", stats.log_lines_dropped
    )
    late = CounterMetricFamily("bridge_late_ticks", "Ticks of 20 ms that a playout clock skipped.", labels=["clock"])
    late.add_metric([WEBRTC], stats.endpoint.late_ticks)
    late.add_metric(["telephony"], stats.telephony.late_ticks)
    yield late
    yield _counts(
        "bridge_datagrams_dropped",
        "UDP datagrams that were dropped.",
        ("reason",),
        stats.endpoint.datagrams_dropped,
    )
    refused = CounterMetricFamily(
        "bridge_telephony_refused", "Connections from carriers that were refused.", labels=["carrier", "reason"]
    )
    for name, count in stats.telephony.refused.items():
        carrier, _, reason = name.partition(".")
        refused.add_metric([carrier, reason], count)
    yield refused
    yield _counts(
        "bridge_telephony_faults", "Messages from carriers that could not be used.", ("what",), stats.telephony.faults
    )
    yield CounterMetricFamily(
        "bridge_telephony_hang_ups_failed",
        "Calls that a carrier's API failed to hang up.",
        stats.telephony.hang_ups_failed,
    )
    for name, meaning, figure in (
        ("dials", "Attempts to connect to an upstream.", "dials"),
        ("dial_failures", "Attempts that brought no session.", "failures"),
        ("lost", "Connections to an upstream that were lost during a call.", "lost"),
        ("renewals", "Connections replaced before the service would have ended them.", "renewals"),
        ("given_up", "How often an upstream was given up, so that the call went to the next one or ended.", "given_up"),
    ):
        counts = {target.name: int(getattr(target, figure)) for target in stats.targets}
        yield _counts(f"bridge_upstream_{name}", meaning, ("upstream",), counts)


def _counts(name: str, meaning: str, names: Sequence[str], counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=names)
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
