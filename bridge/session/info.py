"""What is known of a call from outside, and the one word with which each of them ends."""

from dataclasses import dataclass, field

from bridge.context import CallContext
from bridge.errors import BridgeError
from bridge.wire.stats import CallResult, CallWarning, Dialect, Transport

__all__ = ["CallInfo", "result_of"]

_BY_THE_CLIENT = frozenset({"peer_not_connected", "no_media", "peer_lost", "peer_misbehaved", "dtls_failed"})


@dataclass(slots=True)
class CallInfo:
    """What is known of a session from outside."""

    context: CallContext
    transport: Transport
    model: str
    started_at: float
    """Unix time."""
    key_id: str = "api"
    """The key that opened it, for those that see their own calls only."""
    is_transcription: bool = False
    """The session only writes down what is said."""
    names_model: bool = True
    """Somebody asked for the model; else it is a default, and each upstream may have its own."""
    dialect: Dialect = Dialect.GA
    """What the leg's data channel speaks."""
    temperature: float | None = None
    """What a client has opened the session with, if its dialect has one."""
    dtmf_items: bool = False
    """Keys that the caller presses are written into the conversation."""
    warnings: tuple[CallWarning, ...] = ()
    """What of the call's beginning could not be used."""
    metadata: dict[str, str] = field(init=False)
    """What a telephone call brought with it, or the application in a beta session, whose clients may change it."""

    def __post_init__(self) -> None:
        self.metadata = dict(self.context.metadata)

    @property
    def id(self) -> str:
        """By which listeners find it."""
        return self.context.call_id

    @property
    def session_id(self) -> str:
        """Of its Realtime session."""
        return self.context.session_id


def result_of(error: BridgeError | None) -> CallResult:
    """The one word with which every call ends."""
    if error is None:
        return CallResult.SUCCESS
    if error.type == "invalid_request_error" or error.code in _BY_THE_CLIENT:
        return CallResult.CLIENT_ERROR
    return CallResult.UPSTREAM_ERROR if error.http_status == 502 else CallResult.SERVER_ERROR
