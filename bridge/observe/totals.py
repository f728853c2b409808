"""Totals over all calls, those that are over included: what each call has counted is added as it grows."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric

from bridge.observe import labels
from bridge.observe.call_meter import CallMeter
from bridge.observe.instruments import BY_TRANSPORT
from bridge.wire.stats import WEBSOCKET, CallStats, CarrierLegStats, PeerStats

__all__ = ["CallTotals"]

_MS = 0.001
_NOBODY = "none"


@dataclass(frozen=True, slots=True)
class _Sum:
    """The total of one figure over all calls."""

    name: str
    meaning: str
    field: str
    unit: float = 1


_OF_PEERS = (
    _Sum("bridge_rtp_packets_received", "RTP packets received from WebRTC callers.", "packets"),
    _Sum("bridge_rtp_packets_lost", "RTP packets from callers that never arrived.", "lost"),
    _Sum("bridge_rtp_packets_late", "RTP packets from callers that arrived too late to be played.", "late"),
    _Sum("bridge_rtp_packets_recovered", "Lost packets whose sound was recovered by FEC or redundancy.", "recovered"),
    _Sum(
        "bridge_rtp_packets_resent",
        "Packets of answers that were sent again because a caller requested them.",
        "resent",
    ),
    _Sum("bridge_rtp_packets_passed", "Packets of answers that were passed on without being decoded.", "passed_on"),
    _Sum(
        "bridge_rtp_concealed_seconds", "Duration of callers' sound that was lost and concealed.", "concealed_ms", _MS
    ),
    _Sum("bridge_peer_moves", "How often a WebRTC caller changed its address.", "moves"),
)
_OF_CARRIERS = (
    _Sum("bridge_telephony_messages_received", "Messages with callers' sound received from carriers.", "messages"),
    _Sum(
        "bridge_telephony_input_late_seconds",
        "Duration of telephone callers' sound that arrived late, in a burst after a pause.",
        "input_late_ms",
        _MS,
    ),
    _Sum(
        "bridge_telephony_late_seconds", "By how much carriers played answers later than they should.", "late_ms", _MS
    ),
    _Sum("bridge_telephony_returns", "How often a carrier's connection was lost and came back.", "returns"),
)
_OF_LEGS = (
    _Sum("bridge_leg_sent", "Packets or chunks of answers sent to callers.", "sent"),
    _Sum(
        "bridge_leg_overflow_seconds",
        "Duration of answers that was dropped because too much was queued.",
        "overflow_ms",
        _MS,
    ),
    _Sum("bridge_leg_faults", "Packets and messages from callers that could not be used.", "faults"),
)


class CallTotals:
    """See the module. ``transports`` are the labels of all transports that a call may have.

    All series that can be foreseen begin at zero: a series that began with its first fault would show no rise.
    """

    def __init__(self, transports: Iterable[tuple[str, str]]) -> None:
        self._of_legs: dict[str, Tally[tuple[str, ...]]] = {
            one.name: Tally() for one in (*_OF_PEERS, *_OF_CARRIERS, *_OF_LEGS)
        }
        self._answers: Tally[str] = Tally()
        self._translated_ms: Tally[str] = Tally(input=0, output=0)
        self._dropped_events = 0
        for transport, carrier in transports:
            for one in _OF_LEGS if transport != WEBSOCKET else ():
                self._of_legs[one.name][transport, carrier] = 0
            for one in _OF_CARRIERS if carrier else ():
                self._of_legs[one.name][(carrier,)] = 0
        for one in _OF_PEERS:
            self._of_legs[one.name][()] = 0

    def begin_upstream(self, name: str) -> None:
        """Makes the series of an upstream begin at zero; does nothing to one that has begun."""
        self._answers[name] += 0

    def add(self, meter: CallMeter, stats: CallStats) -> None:
        """Adds what a call has counted since it was last read; ``stats`` are its figures now."""
        transport = labels.transport_labels(stats.transport)
        self._answers[stats.upstream.name or _NOBODY] += meter.grown("answers", stats.upstream.answers)
        for direction in ("input", "output"):
            seconds = getattr(stats.upstream, f"{direction}_seconds")
            self._translated_ms[direction] += meter.grown(f"translated_{direction}", round(1000 * seconds))
        self._dropped_events += meter.grown("dropped_events", stats.dropped_events)
        leg = stats.peer
        if leg is None:
            return
        self._add_all(meter, _OF_LEGS, leg, transport)
        if isinstance(leg, PeerStats):
            self._add_all(meter, _OF_PEERS, leg, ())
        elif isinstance(leg, CarrierLegStats):
            self._add_all(meter, _OF_CARRIERS, leg, transport[1:])

    def _add_all(self, meter: CallMeter, sums: Sequence[_Sum], leg: object, values: tuple[str, ...]) -> None:
        for one in sums:
            self._of_legs[one.name][values] += meter.grown(one.field, getattr(leg, one.field))

    def total(self, name: str) -> float:
        """Returns a figure of the calls' legs over all calls, in the unit in which legs count it."""
        return self._of_legs[name].total()

    def families(self) -> Iterator[Metric]:
        """Yields the metrics of the totals."""
        for sums, names in ((_OF_PEERS, ()), (_OF_CARRIERS, ("carrier",)), (_OF_LEGS, BY_TRANSPORT)):
            for one in sums:
                family = CounterMetricFamily(one.name, one.meaning, labels=names)
                for values, total in self._of_legs[one.name].items():
                    family.add_metric(values, total * one.unit)
                yield family
        yield CounterMetricFamily(
            "bridge_listener_events_dropped", "Events that slow listeners did not get.", self._dropped_events
        )
        answers = CounterMetricFamily("bridge_answers", "Answers that were completed.", labels=["upstream"])
        for name, count in self._answers.items():
            answers.add_metric([name], count)
        yield answers
        translated = CounterMetricFamily(
            "bridge_translated_seconds",
            "Duration of sound sent to translating services (`input`) and received from them (`output`).",
            labels=["direction"],
        )
        for direction, total_ms in self._translated_ms.items():
            translated.add_metric([direction], total_ms * _MS)
        yield translated
