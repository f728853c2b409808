"""What is known of a call from outside, and the one word with which each of them ends."""

from dataclasses import dataclass, field

from bridge.errors import BridgeError
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallWarning

__all__ = ["CallInfo", "result_of"]

_BY_THE_CLIENT = frozenset({"peer_not_connected", "no_media", "peer_lost", "peer_misbehaved", "dtls_failed"})


@dataclass(slots=True)
class CallInfo:
    """What is known of a session from outside."""

    transport: str
    model: str
    started_at: float
    """Unix time."""
    call_id: str | None = None
    key_id: str = "api"
    """The key that opened it, for those that see their own calls only."""
    is_transcription: bool = False
    """The session only writes down what is said."""
    names_model: bool = True
    """Somebody asked for the model; else it is a default, and each upstream may have its own."""
    is_beta: bool = False
    """The leg's data channel speaks the beta dialect."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What a telephone call brought with it, or a beta session was given."""
    dtmf_items: bool = False
    """Keys that the caller presses are written into the conversation."""
    warnings: tuple[CallWarning, ...] = ()
    """What of the call's beginning could not be used."""
    session_id: str = field(default_factory=lambda: new_id("sess"))
    state: str = "connecting"

    @property
    def id(self) -> str:
        """By which listeners find it."""
        return self.call_id or self.session_id

    def describe(self) -> dict[str, object]:
        """For people."""
        return {
            "id": self.id,
            "object": "realtime.call",
            "session_id": self.session_id,
            "state": self.state,
            "transport": self.transport,
            "model": self.model,
            "started_at": self.started_at,
            "metadata": self.metadata,
            "warnings": [{"code": warning.code, "message": warning.message} for warning in self.warnings],
        }


def result_of(error: BridgeError | None) -> str:
    """The one word with which every call ends."""
    if error is None:
        return "success"
    if error.type == "invalid_request_error" or error.code in _BY_THE_CLIENT:
        return "client_error"
    return "upstream_error" if error.http_status == 502 else "server_error"
