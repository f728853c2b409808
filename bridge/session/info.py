"""What is known of a call from outside, and the one word with which each of them ends."""

from dataclasses import dataclass, field

from bridge.context import CallContext
from bridge.errors import BridgeError
from bridge.wire.server_events import Body
from bridge.wire.stats import CallResult, CallWarning, Dialect, Transport

__all__ = ["CallInfo", "Moved", "result_of"]

_BY_THE_CLIENT = frozenset({"peer_not_connected", "no_media", "peer_lost", "peer_misbehaved", "dtls_failed"})


@dataclass(slots=True)
class CallInfo:
    """What others may know of a call."""

    context: CallContext
    transport: Transport
    model: str
    started_at: float
    """When it began, as Unix time."""
    key_id: str = "api"
    """The id of the key that opened it. A minted key sees the calls that it opened."""
    is_transcription: bool = False
    """True if the session only transcribes."""
    names_model: bool = True
    """True if the client named the model; else it is a default, and each upstream may have its own."""
    dialect: Dialect = Dialect.GA
    """The dialect of the leg's data channel."""
    temperature: float | None = None
    """The temperature with which a client has opened the session, if its dialect has one."""
    dtmf_items: bool = False
    """True if keys that the caller presses are added to the conversation as items."""
    warnings: tuple[CallWarning, ...] = ()
    """The parts of the offer or of the request that could not be used."""
    live: Body | None = None
    """The session as a Live client asked for it, as it was written; None if the call is no Live client's."""
    live_fork: str | None = None
    """The id of the stored Live session that the client asked to fork."""
    metadata: dict[str, str] = field(init=False)
    """What a telephone call brought with it, or the application in a beta session, whose clients may change it."""

    def __post_init__(self) -> None:
        self.metadata = dict(self.context.metadata)

    @property
    def is_translation(self) -> bool:
        """Whether the session translates; then all its clients speak the dialect of translations."""
        return self.dialect is Dialect.TRANSLATION

    @property
    def is_of_minted_key(self) -> bool:
        """Whether a minted key has opened it, and no API key."""
        return self.key_id != "api"

    @property
    def id(self) -> str:
        """The id by which listeners find the call."""
        return self.context.call_id

    @property
    def session_id(self) -> str:
        """The id of its Realtime session."""
        return self.context.session_id


@dataclass(frozen=True, slots=True)
class Moved:
    """What is known of a call that another process had, beside its conversation."""

    resume_key: str
    """With which whoever is the call may come back."""
    last_event: int
    """The number of the last event that the other process is known to have sent."""
    owes_answer: bool
    """An answer was asked for and is not complete."""


def result_of(error: BridgeError | None) -> CallResult:
    """The result of a call, in one word."""
    if error is None:
        return CallResult.SUCCESS
    if error.type == "invalid_request_error" or error.code in _BY_THE_CLIENT:
        return CallResult.CLIENT_ERROR
    return CallResult.UPSTREAM_ERROR if error.http_status == 502 else CallResult.SERVER_ERROR
