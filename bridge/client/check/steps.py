"""What a row is made of: the steps of its play, as data."""

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

Dialect = Literal["ga", "beta"]
Transport = Literal["websocket", "webrtc"]
Fields = Mapping[str, Any]
"""Paths such as ``response.output.0.id``, and what must be there: a value, or one of ``values``. ``$name`` is what an
earlier step has kept under that name."""


@dataclass(frozen=True, slots=True)
class Send:
    """A client event; it gets an ``event_id`` if it has none."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SendRaw:
    """A WebSocket message that need not be an event."""

    message: str | bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """A server event after the last ``Send`` or ``Speak``, in GA's words; ``keep`` names fields for later steps."""

    kind: str
    fields: Fields = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    within_s: float = 10.0
    on: Literal["call", "side"] = "call"
    unless: str = ""
    """An event that says, if it comes instead, that the server does not do this."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An ``error`` event that names the last event sent, and after which the session goes on."""

    codes: tuple[str, ...] = ()
    """Any of these; empty if none is settled."""
    param: str | None = None
    names_event: bool = True
    """The error has the ``event_id`` of the event that it answers."""


@dataclass(frozen=True, slots=True)
class Order:
    """Events of these kinds have come since the row began, each for the first time behind the one before it."""

    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Never:
    """No such event since the last ``Send`` or ``Speak``, for so long from now."""

    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Speak:
    """The phrase is spoken in real time, and silence behind it until an event of this kind comes."""

    until: str = "input_audio_buffer.speech_stopped"
    within_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Append:
    """The beginning of the phrase, appended as fast as it goes."""

    milliseconds: int
    codec: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"


@dataclass(frozen=True, slots=True)
class Hear:
    """So much sound of the answer has come that is no silence."""

    milliseconds: int
    within_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closes the connection, with one of these codes."""

    codes: tuple[int, ...]
    within_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Ping:
    """A WebSocket ping is answered."""

    within_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request below the API's root, and what its response must be."""

    method: str
    path: str
    statuses: tuple[int, ...]
    json: dict[str, Any] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """Another key than the one that was given; ``$name`` for one that was kept."""
    fields: Fields = field(default_factory=dict)
    has_headers: Mapping[str, str] = field(default_factory=dict)
    """Of the response: name, and a part of its value in lower case."""
    keep: Mapping[str, str] = field(default_factory=dict)
    keep_header: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostOffer:
    """A browser's offer is posted, raw or in a form; its answer is kept, and so is the call's ``$location``."""

    as_form: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerFits:
    """The answer that was kept fits the offer: section by section, and with all that a peer needs to connect."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A WebSocket of this query; ``status`` 101 if it must be opened. It then is the row's connection."""

    query: Mapping[str, str] | None = None
    """Instead of the model's."""
    key: str | None = None
    status: int = 101
    subprotocols: tuple[str, ...] = ()
    as_subprotocol: bool = False
    """The key goes as a browser sends it."""
    fields: Fields = field(default_factory=dict)
    """Of the refusal's body."""


@dataclass(frozen=True, slots=True)
class Attach:
    """A second WebSocket is attached to the call by its id."""


@dataclass(frozen=True, slots=True)
class EndCall:
    """The call is ended over HTTP, and its peer is told."""


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
    """One thing that a server does or does not."""

    id: str
    """``group.name``, for ``--only`` and for reports."""
    says: str
    """What is right, in one sentence."""
    source: str
    """Where that is written."""
    steps: tuple[Step, ...]
    transports: tuple[Transport, ...] = ("websocket", "webrtc")
    dialects: tuple[Dialect, ...] = ("ga", "beta")
    opens: bool = True
    """A connection is made first, and ``session.created`` has come."""
    is_optional: bool = False
    """A server without it says so, and is none the worse: not supported."""
    needs_key: bool = False

    @property
    def group(self) -> str:
        """What ``--only`` takes."""
        return self.id.partition(".")[0]

    @property
    def speech_s(self) -> float:
        """Seconds of speech that it costs."""
        spoken = sum(PHRASE_S for step in self.steps if isinstance(step, Speak))
        return spoken + sum(step.milliseconds / 1000 for step in self.steps if isinstance(step, Append))


PHRASE_S = 1.6
