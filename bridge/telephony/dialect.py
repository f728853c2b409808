"""What a telephone carrier and the bridge have to tell each other, whatever the carrier's dialect is.

A dialect is one object for each connection. It turns the carrier's messages into the few events below, and makes the
messages that the carrier gets. Text messages are ``str``, binary ones ``bytes``. A malformed or unexpected message
becomes ``CarrierFault``, which is counted and has no other effect. Only a call in a format that the bridge does not
know is refused, with ``BadRequest``.
"""

import binascii
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from bridge.wire.audio import AudioFormat

__all__ = [
    "RETURN_PARAMETER",
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
    "CarrierFault",
    "decode_sound",
    "is_callers",
    "number_in",
    "parameters_of",
    "pressed",
]

TOKEN_PARAMETER = "token"
"""The name by which an application gives a call its token, if the carrier has no place of its own for it."""

RETURN_PARAMETER = "comes_back"
"""The name of the parameter, with any value, that says that the call's application streams the call here again if the
stream ends, until the bridge says that the call is over. The webhook's answer says so."""

_TEL = "tel:"
_DTMF_KEYS = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The call has begun. Before this event nobody knows whose sound comes on the connection."""

    call: str
    """The carrier's own id of the call. It is the same if the call comes back on another socket."""
    audio_format: AudioFormat
    """The format of the caller's sound."""
    parameters: dict[str, str] = field(default_factory=dict)
    """The parameters that the application gave the call on its way."""
    token: str | None = field(default=None, repr=False)
    """The token that signs the call in, if the carrier brings it in its messages."""
    answer_format: AudioFormat | None = None
    """The format in which the carrier takes the answer's sound; None if it is the caller's format."""
    ids: dict[str, str] = field(default_factory=dict)
    """All of the carrier's own ids of the call and its stream, by its names for them. None of them signs a call in."""
    is_proved: bool = False
    """Whether the connection has shown that ``call`` is its own call: by the carrier's secret or signature, or by a key
    that was made for this call. Otherwise the carrier's API is asked nothing about the call."""

    @property
    def output_format(self) -> AudioFormat:
        """The format in which the carrier takes the answer's sound."""
        return self.answer_format or self.audio_format


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key was pressed: one of ``0``-``9``, ``*``, ``#``, ``A``-``D``."""

    key: str


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """The carrier has played everything before this mark, or thrown it away because of ``clear``."""

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
class CarrierFault:
    """A useless message, or the carrier's complaint about one of ours; ``what`` is a slug to count by."""

    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CarrierReply:
    """Messages that the protocol wants as an answer at once, whatever becomes of the call."""

    messages: tuple[str | bytes, ...]


CarrierEvent = bytes | CallStarted | Dtmf | MarkPlayed | Flow | Ended | CarrierFault | CarrierReply
"""All events that a dialect makes; ``bytes`` is the caller's sound in the format of ``CallStarted``."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a carrier wants to be fed."""

    lead_ms: int
    """How far ahead of its time sound is sent; with 0 each frame is sent at its time, to the millisecond."""
    has_marks: bool = True
    """Whether the carrier tells what it has played. If it does not, the bridge's own clock decides."""
    piece_ms: int = 100
    """The longest sound in one message to the carrier, in whole frames of 20 ms."""
    min_piece_ms: int = 0
    """The shortest sound in one message to the carrier; only the end of an answer may be shorter."""
    mark_ms: int = 100
    """The time between two marks, if there is more to play."""
    tail_ms: int = 0
    """The length of the silence that follows an answer. Such a carrier holds the last sound back until more comes."""
    says_goodbye: bool = False
    """Whether the carrier has the last word after the bridge has hung up, and closes the connection itself."""
    redials: bool = False
    """Whether the carrier connects again if the bridge closes a connection. A call that was hung up stays so."""
    is_listening_only: bool = False
    """Whether the carrier takes no sound. Only listeners hear whoever answers then."""
    wants_silence: bool = False
    """Whether the carrier has to get a frame every 20 ms, even if there is nothing to hear."""
    heartbeat: str = ""
    """The text that the carrier gets every 20 s, so that it does not end a stream without sound; empty: none."""
    takes_pings: bool = True
    """Whether WebSocket pings do no harm."""
    max_message_bytes: int = 65_536
    """The most bytes of sound in one message to the carrier."""


class CarrierDialect(Protocol):
    """The dialect of one connection: it reads the carrier's messages as events, and makes the messages that it gets."""

    @property
    def name(self) -> str:
        """The name of the dialect."""
        ...

    @property
    def traits(self) -> Traits:
        """The traits of the carrier, which are the same for all its connections."""
        ...

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """Returns what a message means; raises ``BadRequest`` if the call cannot be served."""
        ...

    def encode_sound(self, sound: bytes) -> str | bytes:
        """Returns the message that plays whole frames of sound."""
        ...

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Returns the messages that make the carrier say ``MarkPlayed`` after it has played all that was sent."""
        ...

    def encode_clear(self) -> list[str | bytes]:
        """Returns the messages that silence the carrier at once."""
        ...

    def encode_answer(self) -> list[str | bytes]:
        """Returns the messages that answer a call which was left ringing; none if the carrier has answered it."""
        ...

    def encode_hang_up(self) -> list[str | bytes]:
        """Returns the messages that end the call, before the socket is closed."""
        ...

    def encode_key(self, key: str) -> list[str | bytes]:
        """Returns the messages that let the other side hear a key (DTMF); none if the carrier has no word for it."""
        ...


def decode_sound(payload: str) -> bytes | None:
    """Returns what a base64 field holds; None if it is not base64."""
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def is_callers(track: str | None) -> bool:
    """Returns whether a message's ``track`` is the caller's.

    Carriers call that track ``inbound`` or ``inbound_track``, or leave it out.
    """
    return track is None or track.lower().removesuffix("_track") in ("", "inbound")


def parameters_of(given: Any) -> dict[str, str]:
    """Returns the parameters that the application gave a call.

    Carriers send an object, a list of names and values, or null if there are none. Some send a text: JSON, or
    ``name=value`` with commas or semicolons between them.
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
    """Returns a value as text; an empty one if the value is nested too deeply to be written."""
    try:
        return str(value)
    except RecursionError:
        return ""


def _parameters_in(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        try:
            return msgspec.json.decode(text)  # it refuses half a surrogate, which could not be written
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    pairs = (part.partition("=") for part in text.replace(";", ",").split(","))
    return {unquote(name.strip()): unquote(value.strip()) for name, equals, value in pairs if equals}


def pressed(key: str) -> list[CarrierEvent]:
    """Returns the event of a key that the caller pressed, or ``CarrierFault`` if no telephone has that key."""
    return [Dtmf(key)] if key in _DTMF_KEYS else [CarrierFault("unknown_key")]


def number_in(target_uri: str) -> str | None:
    """Returns the telephone number of a ``tel:`` URI; None if it is another URI.

    What is there only for people to read is left out.
    """
    if not target_uri.startswith(_TEL):
        return None
    number = target_uri.removeprefix(_TEL).partition(";")[0]
    return "".join(character for character in number if character.isdigit() or character == "+")
