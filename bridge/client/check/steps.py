"""The steps of which a row is made, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "AnswerFits",
    "Append",
    "Attach",
    "Closed",
    "Connect",
    "Dialect",
    "Expect",
    "EndCall",
    "Hear",
    "Never",
    "PostOffer",
    "Order",
    "Ping",
    "Refused",
    "Request",
    "Row",
    "Send",
    "SendRaw",
    "Speak",
    "Step",
    "Transport",
]

Dialect = Literal["ga", "beta", "live"]
Transport = Literal["websocket", "webrtc"]
Fields = Mapping[str, Any]
"""Paths such as ``response.output.0.id``, and what must be there: a value, or one of ``values``.

``$name`` stands for what an earlier step has kept under that name.
"""


@dataclass(frozen=True, slots=True)
class Send:
    """Sends a client event, which gets an ``event_id`` if it has none."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SendRaw:
    """Sends a WebSocket message that need not be an event."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """Expects a server event after the last ``Send`` or ``Speak``.

    The event is in GA's words; ``keep`` names fields for later steps.
    """

    kind: str
    fields: Fields = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    within_s: float = 10.0
    on: Literal["call", "side"] = "call"
    unless: str = ""
    """The event by which the server says that it does not do this, if it comes instead."""
    or_kind: str = ""
    """Another event that is as good here, because the row is about something else."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Expects an ``error`` event that names the last event sent, and after which the session goes on."""

    codes: tuple[str, ...] = ()
    """The codes that the error may have; empty if every code is right."""
    param: str | None = None
    names_event: bool = True
    """Whether the error must have the ``event_id`` of the event that it answers."""


@dataclass(frozen=True, slots=True)
class Order:
    """Expects that events of these kinds have come since the row began, in the order of their first times."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Never:
    """Expects that no such event has come since the last ``Send`` or ``Speak``, nor comes within this time."""

    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Speak:
    """Speaks the phrase in real time, and is silent until an event of this kind comes."""

    until: str = "input_audio_buffer.speech_stopped"
    within_s: float = 15.0
    since_sent: bool = False
    """Whether the event may have come already, since the last ``Send``: then the sound only keeps time going."""
    heard_ms: int = 0
    """How much of the answer, that is not silence, must have come as well."""


@dataclass(frozen=True, slots=True)
class Append:
    """Appends the beginning of the phrase, as fast as possible."""

    milliseconds: int
    codec: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"


@dataclass(frozen=True, slots=True)
class Hear:
    """Expects this much sound of the answer that is not silence."""

    milliseconds: int
    within_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Closed:
    """Expects that the server closes the connection, with one of these codes."""

    codes: tuple[int, ...]
    within_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Ping:
    """Expects that a WebSocket ping is answered."""

    within_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """Makes an HTTP request below the API's root, and judges its response."""

    method: str
    path: str
    statuses: tuple[int, ...]
    json: dict[str, Any] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """A key to use in place of the given one; ``$name`` stands for one that was kept."""
    fields: Fields = field(default_factory=dict)
    has_headers: Mapping[str, str] = field(default_factory=dict)
    """What the response's headers must have: a name, and a part of the value in lower case."""
    keep: Mapping[str, str] = field(default_factory=dict)
    keep_header: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostOffer:
    """Posts a browser's offer, raw, in a form or as a Live session's, and keeps its answer for ``AnswerFits``."""

    as_form: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerFits:
    """Expects that the answer which was kept fits the offer.

    Each section must fit, with all that a peer needs to connect.
    """


@dataclass(frozen=True, slots=True)
class Connect:
    """Opens a WebSocket with this query; if ``status`` is 101 it must open, and then is the row's connection."""

    query: Mapping[str, str] | None = None
    """The query in place of the one that names the model."""
    path: str = ""
    """The path below the API's root, for another endpoint than that of sessions; ``$name`` stands for what was kept."""
    key: str | None = None
    status: int = 101
    subprotocols: tuple[str, ...] = ()
    as_subprotocol: bool = False
    """Whether the key is sent as a subprotocol, as a browser sends it."""
    fields: Fields = field(default_factory=dict)
    """What the body of the refusal must have."""


@dataclass(frozen=True, slots=True)
class Attach:
    """Attaches a second WebSocket to the call by its id, or to the Live session by ``$session``."""


@dataclass(frozen=True, slots=True)
class EndCall:
    """Ends the call over HTTP, and expects that its peer is told."""


Step = (
    Send
    | SendRaw
    | Expect
    | Refused
    | Order
    | Never
    | Speak
    | Append
    | Hear
    | Closed
    | Ping
    | Request
    | PostOffer
    | AnswerFits
    | Connect
    | Attach
    | EndCall
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that a server does or does not do."""

    id: str
    """``group.name``, for ``--only`` and for reports."""
    says: str
    """What is right, in one sentence."""
    source: str
    """Where the protocol says so."""
    steps: tuple[Step, ...]
    transports: tuple[Transport, ...] = ("websocket", "webrtc")
    dialects: tuple[Dialect, ...] = ("ga", "beta")
    opens: bool = True
    """Whether a connection is made first, on which ``session.created`` has come."""
    is_optional: bool = False
    """Whether a server may do without it: one that says so does not fail."""
    needs_key: bool = False

    @property
    def group(self) -> str:
        """The group, which ``--only`` takes."""
        return self.id.partition(".")[0]

    @property
    def speech_s(self) -> float:
        """How many seconds of speech the row costs."""
        spoken = sum(PHRASE_S for step in self.steps if isinstance(step, Speak))
        return spoken + sum(step.milliseconds / 1000 for step in self.steps if isinstance(step, Append))


PHRASE_S = 1.6
