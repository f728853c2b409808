"""The metrics that are counted and measured as things happen."""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from bridge import __version__

__all__ = ["BY_TRANSPORT", "Instruments"]

BY_TRANSPORT = ("transport", "carrier")
"""The labels of metrics that depend on how a caller came: ``labels.transport_labels`` gives their values."""

_SETUP_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 3, 5, 10)
_SOUND_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10)
_STAGE_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_CALL_S = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_JITTER_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
_ROUND_TRIP_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)


class Instruments:
    """Counters and histograms by their purpose, all in one ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        for of_python in (ProcessCollector, PlatformCollector, GCCollector):
            of_python(registry=registry)
        Info("bridge_build", "Version of the bridge.", registry=registry).info({"version": __version__})

        def counter(name: str, meaning: str, *names: str) -> Counter:
            return Counter(f"bridge_{name}", meaning, names, registry=registry)

        def seconds(name: str, buckets: Sequence[float], meaning: str, *names: str) -> Histogram:
            return Histogram(f"bridge_{name}_seconds", meaning, names, buckets=buckets, registry=registry)

        self.opened = counter("calls_opened", "Calls that were opened.", *BY_TRANSPORT)
        self.closed = counter(
            "calls_closed", "Calls that ended, by result: success, or whose error it was.", *BY_TRANSPORT, "result"
        )
        self.incoming = counter("incoming_calls", "Incoming calls that waited, by outcome.", "carrier", "outcome")
        self.endings = counter("call_endings", "Calls that ended, by reason.", "reason")
        self.lost = counter("calls_lost", "How often a call lost its owner, peer or carrier.", *BY_TRANSPORT)
        self.resumed = counter("calls_resumed", "How often a lost owner, peer or carrier came back.", *BY_TRANSPORT)
        self.recordings = counter("recordings_started", "Recordings that were started.")
        self.recorded = counter("recordings_ended", "Recordings that ended, by reason.", "reason")
        self.requests = counter("http_requests", "HTTP requests and WebSocket handshakes.", "route", "method", "status")
        self.setup = seconds("call_setup", _SETUP_S, "Time from the request until sound could flow.", *BY_TRANSPORT)
        self.first_sound = seconds(
            "call_first_sound", _SOUND_S, "Time from the request to the first sound of an answer.", *BY_TRANSPORT
        )
        self.latency = seconds(
            "turn_latency", _SOUND_S, "Time from the end of speech to the first sound of the answer.", "upstream"
        )
        self.stages = seconds(
            "stage_latency",
            _STAGE_S,
            "Time from a request to a stage of an embedded engine to its first word or sound.",
            "upstream",
            "stage",
        )
        self.duration = seconds("call_duration", _CALL_S, "Duration of calls.", *BY_TRANSPORT)
        self.jitter = seconds("rtp_jitter", _JITTER_S, "Jitter of WebRTC callers' packets, sampled at each collection.")
        self.round_trip = seconds(
            "rtp_round_trip", _ROUND_TRIP_S, "Round-trip time to WebRTC callers, sampled at each collection."
        )
