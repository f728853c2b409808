"""The meaning of a call's figures, from when on one is high, and what causes that: one table for all figures.

``bridge calls --why`` judges a call by it, and the guide on choppy sound prints it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.client.operators.api import CallRow

__all__ = ["FIGURES", "Figure", "JudgedFigure", "judge"]

_Values = Mapping[str, float]

_MAX_SHARE = 0.02  # of packets or of time; people hear more than this, see docs/performance.md
_MAX_LATE_SHARE = 0.01
_MAX_JITTER_MS = 30.0
_MAX_ROUND_TRIP_MS = 300.0
_MAX_MOVES = 3
_MIN_SILENT_SHARE = 0.95


def _share_of_packets(name: str, limit: float) -> Callable[[_Values], bool]:
    return lambda values: values[name] > limit * max(1.0, values.get("packets", 0.0) + values.get("lost", 0.0))


def _share_of_time(name: str, limit: float) -> Callable[[_Values], bool]:
    return lambda values: values[name] > limit * 1000 * max(1.0, values["seconds"])


def _more_than(name: str, limit: float) -> Callable[[_Values], bool]:
    return lambda values: values[name] > limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a call, with its meaning."""

    name: str
    """Its name in ``GET /v1/calls``."""
    meaning: str
    cause: str
    """The cause that it points to if it is high."""
    is_high: Callable[[_Values], bool] | None = None
    """Judges it among the other figures of the call; None if it says nothing by itself."""


FIGURES = (
    Figure(
        name="lost",
        meaning="packets from the caller that never arrived",
        cause="the network between the caller and the bridge loses packets",
        is_high=_share_of_packets("lost", _MAX_SHARE),
    ),
    Figure(
        name="recovered",
        meaning="lost packets whose sound was recovered by FEC or redundancy",
        cause="the same as `lost`, but it is hardly audible",
    ),
    Figure(
        name="late",
        meaning="packets that arrived too late to be played",
        cause="the network's delay varies by more than 120 ms",
        is_high=_share_of_packets("late", _MAX_LATE_SHARE),
    ),
    Figure(
        name="jitter_ms",
        meaning="how much the delay of packets varies",
        cause="a mobile network or a full uplink at the caller's side",
        is_high=_more_than("jitter_ms", _MAX_JITTER_MS),
    ),
    Figure(
        name="reorder_ms",
        meaning="how long the bridge waits for a missing packet",
        cause="the network reorders packets",
    ),
    Figure(
        name="concealed_ms",
        meaning="the caller's sound that was made up because packets were lost or late",
        cause="the same as `lost` and `late`: listeners heard this much made-up sound",
        is_high=_share_of_time("concealed_ms", _MAX_SHARE),
    ),
    Figure(
        name="input_late_ms",
        meaning="the telephone caller's sound that arrived late, in a burst after a pause",
        cause="the connection from the carrier to the bridge stalls at times, or this machine does: then "
        "`bridge_loop_lag_seconds` is high too",
        is_high=_share_of_time("input_late_ms", _MAX_LATE_SHARE),
    ),
    Figure(
        name="silence_ms",
        meaning="time during which the caller sent nothing",
        cause="the caller's side: a muted microphone, or one that sends only speech (DTX)",
        is_high=_share_of_time("silence_ms", _MIN_SILENT_SHARE),
    ),
    Figure(
        name="too_fast",
        meaning="packets dropped because they arrived at more than twice real time",
        cause="a client that sends a file instead of a microphone",
        is_high=_more_than("too_fast", 0),
    ),
    Figure(
        name="doubles",
        meaning="packets that arrived twice",
        cause="harmless",
    ),
    Figure(
        name="remote_lost_percent",
        meaning="share of our packets that the peer reports as lost",
        cause="the network from the bridge to the caller loses packets, so the answer is choppy",
        is_high=_more_than("remote_lost_percent", 100 * _MAX_SHARE),
    ),
    Figure(
        name="remote_jitter_ms",
        meaning="how much the delay of our packets varies, as the peer reports",
        cause="the network from the bridge to the caller",
        is_high=_more_than("remote_jitter_ms", _MAX_JITTER_MS),
    ),
    Figure(
        name="resent",
        meaning="packets that the peer requested again",
        cause="the network from the bridge to the caller loses packets",
        is_high=lambda values: values["resent"] > _MAX_SHARE * max(50.0, values.get("sent", 0.0)),
    ),
    Figure(
        name="round_trip_ms",
        meaning="round-trip time to the peer",
        cause="a long distance: run a bridge closer to the callers",
        is_high=_more_than("round_trip_ms", _MAX_ROUND_TRIP_MS),
    ),
    Figure(
        name="queued_ms",
        meaning="length of the answer that is still to be played",
        cause="no fault: an answer arrives faster than it is played",
    ),
    Figure(
        name="overflow_ms",
        meaning="length of the answer that was dropped because too much was waiting to be played",
        cause="the upstream's answers last for minutes: see `outbound_queue_s`",
        is_high=_more_than("overflow_ms", 0),
    ),
    Figure(
        name="late_ms",
        meaning="by how much the carrier played the answer later than it should",
        cause="the answer arrived too slowly: look at `bridge_loop_lag_seconds` and the upstream",
        is_high=_share_of_time("late_ms", _MAX_SHARE),
    ),
    Figure(
        name="moves",
        meaning="how often the peer changed its address",
        cause="a mobile device that switches between networks",
        is_high=_more_than("moves", _MAX_MOVES),
    ),
    Figure(
        name="returns",
        meaning="how often the carrier's connection was lost and came back",
        cause="the connection from the carrier to the bridge breaks",
        is_high=_more_than("returns", 0),
    ),
    Figure(
        name="faults",
        meaning="packets and messages from the caller's side that could not be used",
        cause="a wrong codec or a faulty client; `GET /v1/telephony` counts those of carriers by their fault",
        is_high=_more_than("faults", 0),
    ),
    Figure(
        name="datagrams_dropped",
        meaning="datagrams from the peer that waited too long, or that were not its own",
        cause="the process or the machine is overloaded: lower `max_calls`",
        is_high=_more_than("datagrams_dropped", 10),
    ),
    Figure(
        name="upstream_lost",
        meaning="connections to the upstream that broke in this call",
        cause="the upstream: the caller noticed a pause; `upstream.lost` in the log says more",
        is_high=_more_than("upstream_lost", 0),
    ),
    Figure(
        name="dropped_events",
        meaning="events dropped for listeners that read too slowly",
        cause="a slow listener; nobody else is affected: it should read in a thread of its own, or ask for "
        "`audio=opus`",
        is_high=_more_than("dropped_events", 0),
    ),
)
"""All figures, in the order in which one looks at them."""


@dataclass(frozen=True, slots=True)
class JudgedFigure:
    """A figure of one call, with its judgement."""

    figure: Figure
    value: float
    is_high: bool

    @property
    def shown(self) -> str:
        """The value, with no more digits than are meaningful."""
        return f"{self.value:.1f}".removesuffix(".0")


def judge(call: CallRow) -> list[JudgedFigure]:
    """Returns all that the bridge says of the call's sound."""
    values: dict[str, float] = {name: float(value) for name, value in (call.peer or {}).items() if value is not None}
    values |= {
        "seconds": call.seconds,
        "upstream_lost": float(call.upstream.lost),
        "dropped_events": float(call.dropped_events),
    }
    return [
        JudgedFigure(one, values[one.name], one.is_high is not None and one.is_high(values))
        for one in FIGURES
        if one.name in values
    ]
