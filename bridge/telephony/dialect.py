"""What a telephone carrier and the bridge have to tell each other, whatever the carrier's dialect.

A dialect is one object for each connection: it turns the carrier's messages into the few events
below and makes the messages that the carrier gets. Text messages are ``str``, binary ones ``bytes``. What is malformed
or unexpected becomes ``Trouble``, which is counted and costs nothing else; only a call in a format that nobody here
knows is refused, with ``BadRequest``.
"""

import binascii
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from bridge.wire.audio import AudioFormat

__all__ = [
    "TOKEN_PARAMETER",
    "CarrierEvent",
    "CarrierDialect",
    "Dtmf",
    "Ended",
    "Flow",
    "MarkPlayed",
    "CallStarted",
    "CarrierReply",
    "Traits",
    "Trouble",
    "decode_sound",
    "is_callers",
    "number_in",
    "parameters_of",
    "pressed",
]

TOKEN_PARAMETER = "token"
"""The name by which an application gives a call its token, if the carrier has no place of its own for it."""

_TEL = "tel:"
_DTMF_KEYS = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The call is there; until now nobody knows whose sound this would be."""

    call: str
    """The carrier's own id of the call: the same when its socket comes back."""
    audio_format: AudioFormat
    """Of the caller's sound."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What the application gave the call on its way."""
    token: str | None = field(default=None, repr=False)
    """What signs the call in, if the carrier brings it in its messages."""
    answer_format: AudioFormat | None = None
    """In which the carrier takes the answer's sound; None: in the caller's format."""
    ids: dict[str, str] = field(default_factory=dict)
    """All of the carrier's own ids of the call and its stream, by its names for them. None of them signs a call in."""

    @property
    def output_format(self) -> AudioFormat:
        """In which the carrier takes the answer's sound."""
        return self.answer_format or self.audio_format


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key was pressed: one of ``0``-``9``, ``*``, ``#``, ``A``-``D``."""

    key: str


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """Everything before this mark has been played, or thrown away by ``clear``."""

    mark: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Whether the carrier takes more sound for now."""

    is_open: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The caller hung up."""

    reason: str = "caller_hung_up"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A message that is of no use, or the carrier's complaint about one of ours; ``what`` is a slug to count by."""

    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CarrierReply:
    """What the protocol wants to be answered at once, whatever becomes of the call."""

    messages: tuple[str | bytes, ...]


CarrierEvent = bytes | CallStarted | Dtmf | MarkPlayed | Flow | Ended | Trouble | CarrierReply
"""``bytes`` is the caller's sound in the format of ``CallStarted``."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a carrier wants to be fed."""

    lead_ms: int
    """How much sound is sent ahead of its time; 0: each frame at its time, to the millisecond."""
    has_marks: bool = True
    """It tells what it has played; else our own clock does."""
    piece_ms: int = 100
    """Of sound in one message to it, at most; in whole frames of 20 ms."""
    min_piece_ms: int = 0
    """Of sound in one message to it, at least, but for the end of an answer."""
    mark_ms: int = 100
    """How far marks are apart, if there is more to play."""
    tail_ms: int = 0
    """Of silence behind an answer: it holds the last sound back until more comes."""
    says_goodbye: bool = False
    """When we have hung up it has the last word, and closes the connection itself."""
    redials: bool = False
    """It takes a connection that we close for one that broke, and connects again: a call that was hung up stays so."""
    is_listening_only: bool = False
    """It takes no sound: whoever answers is heard by listeners alone."""
    wants_silence: bool = False
    """A frame is due every 20 ms, whether there is something to hear or not."""
    takes_pings: bool = True
    """WebSocket pings do no harm."""
    max_message_bytes: int = 65_536
    """Of sound in one message to it."""


class CarrierDialect(Protocol):
    """What is spoken on one connection: the carrier's messages as events, and the messages that it gets."""

    @property
    def name(self) -> str:
        """Of the dialect."""
        ...

    @property
    def traits(self) -> Traits:
        """The same for all its connections."""
        ...

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """What a message means; raises ``BadRequest`` if the call cannot be served."""
        ...

    def encode_sound(self, sound: bytes) -> str | bytes:
        """The message that plays whole frames of sound."""
        ...

    def encode_mark(self, name: str) -> list[str | bytes]:
        """What makes the carrier say ``MarkPlayed`` behind all that was sent."""
        ...

    def encode_clear(self) -> list[str | bytes]:
        """What silences the carrier at once."""
        ...

    def encode_answer(self) -> list[str | bytes]:
        """What answers a call that was left ringing until it was accepted; nothing if the carrier has answered."""
        ...

    def encode_hang_up(self) -> list[str | bytes]:
        """What ends the call, before the socket is closed."""
        ...

    def encode_key(self, key: str) -> list[str | bytes]:
        """What lets the other side hear a key (DTMF); nothing if the carrier has no word for it."""
        ...


def decode_sound(payload: str) -> bytes | None:
    """What a base64 field holds; None if it is not base64."""
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def is_callers(track: str | None) -> bool:
    """Whether a message's ``track`` is the caller's: carriers say ``inbound``, ``inbound_track``, or nothing."""
    return track is None or track.lower().removesuffix("_track") in ("", "inbound")


def parameters_of(given: Any) -> dict[str, str]:
    """What the application gave a call: carriers send an object, a list of name and value, or null if it is nothing.

    Some send a text: of JSON, or of ``name=value`` with commas or semicolons between them.
    """
    if isinstance(given, str):
        given = _parameters_in(given)
    if isinstance(given, list):
        given = {
            str(entry["name"]): entry.get("value") for entry in given if isinstance(entry, dict) and "name" in entry
        }
    if not isinstance(given, dict):
        return {}
    return {str(name): _shown(value) for name, value in given.items() if value is not None}


def _shown(value: Any) -> str:
    """A value as text; what is nested too deeply to be written is none."""
    try:
        return str(value)
    except RecursionError:
        return ""


def _parameters_in(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        try:
            return msgspec.json.decode(text)  # which takes no half of a surrogate, that could be written nowhere
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    pairs = (part.partition("=") for part in text.replace(";", ",").split(","))
    return {unquote(name.strip()): unquote(value.strip()) for name, equals, value in pairs if equals}


def pressed(key: str) -> list[CarrierEvent]:
    """The event of a key that the caller pressed, or of one that no telephone has."""
    return [Dtmf(key)] if key in _DTMF_KEYS else [Trouble("unknown_key")]


def number_in(target_uri: str) -> str | None:
    """The telephone number of a ``tel:`` URI, without what only people need to read it; None for another URI."""
    if not target_uri.startswith(_TEL):
        return None
    number = target_uri.removeprefix(_TEL).partition(";")[0]
    return "".join(character for character in number if character.isdigit() or character == "+")
