"""The values of labels. They are few, and known beforehand.

A text that comes from a stranger, a service or a carrier is never the value of a label.
"""

from bridge.wire.stats import LIVE, WEBRTC, WEBSOCKET, CallResult, CallState, IncomingOutcome, ListenerRole, Transport

__all__ = [
    "CLOSE_REASONS",
    "INCOMING_OUTCOMES",
    "METHODS",
    "OTHER",
    "RECORDING_REASONS",
    "RESULTS",
    "ROLES",
    "STATES",
    "bounded",
    "transport_labels",
]

OTHER = "other"
"""The value that stands for every unknown one."""

INCOMING_OUTCOMES = tuple(map(str, IncomingOutcome))
RESULTS = tuple(map(str, CallResult))
ROLES = tuple(map(str, ListenerRole))
STATES = (CallState.CONNECTING.value, CallState.CONNECTED.value, CallState.LOST.value)
"""The states of a call that is not over."""

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

CLOSE_REASONS = frozenset(
    {
        # Somebody wished it, or a limit was reached.
        "caller_hung_up",
        "call_ended",
        "caller_closed",
        "cancelled",
        "channel_closed",
        "client_closed",
        "close_requested",
        "connection_lost",
        "hangup",
        "idle_timeout",
        "peer_closed",
        "referred",
        "resumed",
        "server_draining",
        "server_stopped",
        "session_expired",
        "taken_over",
        "upstream_closed",
        # The caller's side failed.
        "carrier_lost",
        "node_lost",
        "dtls_failed",
        "event_too_large",
        "ice_failed",
        "internal_error",
        "invalid_request",
        "no_media",
        "peer_failed",
        "peer_lost",
        "peer_misbehaved",
        "peer_not_connected",
        "slow_consumer",
        "socket_lost",
        "carrier_refused",
        "carrier_unreachable",
        "no_call",
        "refer_failed",
        # The answering side failed, in the words of the bridge.
        "agent_lost",
        "bad_answer",
        "call_taken",
        "llm_broke_off",
        "hearing_broke_off",
        "hearing_unreachable",
        "llm_unreachable",
        "voice_unreachable",
        "no_agent",
        "upstream_busy",
        "upstream_error",
        "upstream_lost",
        "upstream_protocol",
        "upstream_reconnecting",
        "upstream_stalled",
        "upstream_timeout",
        # The answering side failed, in the words of Realtime services.
        "insufficient_quota",
        "invalid_api_key",
        "model_not_found",
        "rate_limit_exceeded",
        "server_error",
    }
)
"""The reasons with which calls end. An upstream may have words of its own, which become ``other``."""

RECORDING_REASONS = frozenset({"call_ended", "disk_too_slow", "failed", "requested", "server_stopped"})
"""The reasons with which recordings end."""


def bounded(value: str, known: frozenset[str]) -> str:
    """Returns ``value`` if it is one of ``known``, else ``other``."""
    return value if value in known else OTHER


def transport_labels(transport: Transport) -> tuple[str, str]:
    """Returns the labels ``transport`` and ``carrier`` of a call.

    The transport of a telephone call is its carrier's name.
    """
    return (transport, "") if transport in (WEBRTC, WEBSOCKET, LIVE) else ("telephone", transport)
