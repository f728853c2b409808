"""Dialects that are data: JSON text both ways, with the sound in it as base64 or beside it in binary messages.

A carrier of this kind is a ``JsonSpec``. It says where in a message each value stands, what each kind of message means,
and which texts the carrier gets. A path is the names on the way to a value, with dots between them. If there are
several paths, the first that leads to a value counts. A text to the carrier has slots: ``<stream>``, ``<sid>`` (the
start's name for that field), ``<name>`` (of a mark), ``<key>``, ``<type>`` and ``<rate>`` (of the answer's sound),
``<chunk>`` and ``<ms>`` (its number and its time), ``<payload>``.
"""

import json
from binascii import b2a_base64
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import msgspec

from bridge.errors import BadRequest
from bridge.telephony.dialect import (
    TOKEN_PARAMETER,
    CallStarted,
    CarrierEvent,
    CarrierFault,
    CarrierReply,
    Ended,
    MarkPlayed,
    Traits,
    decode_sound,
    is_callers,
    parameters_of,
    pressed,
)
from bridge.wire.audio import AudioFormat, pcm16_at
from bridge.wire.ids import new_id

__all__ = ["JsonDialect", "JsonSpec", "Meaning", "Path", "path"]

_PAYLOAD = "<payload>"
_MAX_SHOWN = 64
_MAX_MARKS = 1000  # of those without a name; nobody plays so far ahead
_MAX_HELD = 10  # messages behind a gap: 200 ms at the usual 20 ms each

Path = tuple[str, ...]


@cache
def path(dotted: str) -> Path:
    """Returns the names in a path such as ``start.callSid``; for an entry of a list, its number is the name."""
    return tuple(dotted.split("."))


class Meaning(Enum):
    """The meaning of a kind of message."""

    GREETING = "greeting"
    """The connection is there; the message may bring a token."""
    START = "start"
    SOUND = "sound"
    KEY = "key"
    PLAYED = "played"
    """A mark was reached, or thrown away."""
    NOTHING = "nothing"
    COMPLAINT = "complaint"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSpec:
    """The dialect of one carrier. Its paths have dots between the names."""

    name: str
    title: str
    """The carrier's name as people write it."""
    traits: Traits
    meanings: Mapping[str, Meaning]
    """The meaning of each kind of message, by the value at ``tag``."""
    tag: tuple[str, ...] = ("event",)
    is_any_case: bool = False
    """Whether names of fields and kinds of message may be in any case; the spec has them in lower case."""
    is_first_the_start: bool = False
    """Whether the first text starts the call, whatever its kind is."""
    is_sound_binary: bool = False

    # The start
    start: str = ""
    """The path of an object that the start must have; empty if it needs none."""
    call: tuple[str, ...]
    stream: tuple[str, ...] = ()
    message_stream: tuple[str, ...] = ()
    """The paths of the stream's id in any other message."""
    needs_stream: bool = False
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The paths of the numbers of both sides.

    They become parameters as well, by which the call is found. Parameters of the application that have the same name
    win.
    """
    takes_rest: bool = False
    """Whether everything else at the top of the start is a parameter, too."""
    tokens: tuple[str, ...] = ()
    """The paths of the token, if the parameters hold none."""
    greeting_tokens: tuple[str, ...] = ()

    # Formats
    encoding: str = ""
    """The path of the encoding, whose value may contain the rate: ``audio/l16;rate=16000``."""
    rate: str = ""
    rate_query: str = ""
    """The name of a parameter of the address that sets the rate, and wins over everything else."""
    encodings: Mapping[str, AudioFormat | None]
    """The formats by the carrier's names, in lower case; None stands for PCM16 at a rate of ``pcm_hz``.

    If the carrier names no encoding, it means the first.
    """
    pcm_hz: tuple[int, ...] = ()
    default_hz: int = 8000
    answer: tuple[str, str] | None = None
    """The names of the parameters that tell the answer's encoding and rate; None if they are the caller's."""
    types: Mapping[str, str] = field(default_factory=dict)
    """The value of ``<type>`` by ``AudioFormat.media_type``; ``<rate>`` may stand in it."""

    # Messages from the carrier
    payload: tuple[str, ...] = ()
    track: str = ""
    chunk: str = ""
    """The path of the number of a piece of sound, if pieces may come in another order."""
    key: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    complaint: tuple[str, ...] = ()
    """The paths of what is shown of a complaint."""

    # Texts to the carrier
    accept: tuple[str, ...] = ()
    """The texts that the carrier waits for after the start was taken."""
    sound: str = ""
    set_mark: str = ""
    are_marks_nameless: bool = False
    """Whether the carrier tells marks in their order, without a name."""
    clear_all: tuple[str, ...] = ()
    hang_up: str = ""
    hang_up_if: str = ""
    """A path in the start: only a carrier whose start has it knows the text ``hang_up``."""
    send_key: str = ""


class JsonDialect:
    """One connection on which the dialect of ``spec`` is spoken.

    ``token`` is what the upgrade has shown, and ``query`` the parameters of its address. ``of_upgrade`` holds the
    values that this carrier sends in headers of the upgrade, and others in the start.
    """

    def __init__(
        self,
        spec: JsonSpec,
        token: str | None = None,
        query: Mapping[str, str] | None = None,
        *,
        of_upgrade: Mapping[str, str] | None = None,
    ) -> None:
        self.name = spec.name
        self.traits = spec.traits
        self._spec = spec
        self._token = token
        self._query = dict(query or {})
        self._of_upgrade = dict(of_upgrade or {})
        self._is_started = False
        self._stream = ""
        self._can_hang_up = False
        self._order = _Order()
        self._marks = deque[str](maxlen=_MAX_MARKS)
        """The marks that have no name at the carrier, and that it has not reported yet."""
        self._texts = _Texts(spec, next(iter(spec.encodings.values())) or pcm16_at(spec.default_hz))

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """Returns what a message means. Numbered sound comes out in its order."""
        spec = self._spec
        if isinstance(message, bytes):
            return self._binary(message)
        try:
            said: Any = msgspec.json.decode(message)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return [CarrierFault("malformed_message")]
        if not isinstance(said, dict):
            return [CarrierFault("malformed_message")]
        if spec.is_any_case:
            said = _folded(said)
        if spec.is_first_the_start and not self._is_started:
            return self._start(said)
        kind = next((said[name] for name in spec.tag if said.get(name) is not None), None)
        if not isinstance(kind, str):
            return [CarrierFault("malformed_message")]
        return self._said(said, spec.meanings.get(kind.lower() if spec.is_any_case else kind))

    def _binary(self, message: bytes) -> list[CarrierEvent]:
        if not self._spec.is_sound_binary:
            return [CarrierFault("binary_message")]
        if not self._is_started:
            return [CarrierFault("message_before_start")]
        if len(message) % 2:
            return [CarrierFault("odd_sound")]
        return [message] if message else []

    def _said(self, said: dict[str, Any], meaning: Meaning | None) -> list[CarrierEvent]:
        spec = self._spec
        match meaning:
            case Meaning.GREETING:
                self._token = _first_text(said, spec.greeting_tokens) or self._token
                return []
            case Meaning.COMPLAINT:
                words = " ".join(_text(_at(said, place)) or "" for place in map(path, spec.complaint))
                return [CarrierFault("carrier_error", words[:100])]
            case Meaning.START:
                return [CarrierFault("second_start")] if self._is_started else self._start(said)
        if not self._is_started:
            return [CarrierFault("message_before_start")]
        stream = _first(said, spec.message_stream)
        if stream not in (None, self._stream):
            return [CarrierFault("other_stream")]
        match meaning:
            case Meaning.SOUND:
                return self._sound(said)
            case Meaning.PLAYED:
                mark = self._next_mark() if spec.are_marks_nameless else _first(said, spec.mark)
                return [MarkPlayed(mark)] if isinstance(mark, str) else [CarrierFault("malformed_message")]
            case Meaning.KEY:
                key = _text(_first(said, spec.key))
                return pressed(key) if key is not None else [CarrierFault("malformed_message")]
            case Meaning.END:
                return [*self._order.rest(), Ended()]
            case Meaning.NOTHING:
                return []
        return [CarrierFault("unknown_message")]

    def _start(self, said: dict[str, Any]) -> list[CarrierEvent]:
        spec = self._spec
        said = {**said, **self._of_upgrade}
        stream = _first_text(said, spec.stream) or ""
        if (spec.start and not isinstance(_at(said, path(spec.start)), dict)) or (spec.needs_stream and not stream):
            return [CarrierFault("malformed_message")]
        parameters = self._parameters(said)
        encoding, rate = _text(_at(said, path(spec.encoding))), _text(_at(said, path(spec.rate)))
        rate = self._query.get(spec.rate_query) or rate
        audio_format = self._format_of(encoding, rate, (spec.encoding or spec.rate).rpartition(".")[0] or spec.rate)
        answer_format = None
        if spec.answer is not None:
            codec, hz = (parameters.pop(name, None) or self._query.get(name) for name in spec.answer)
            answer_format = self._format_of(codec, hz, spec.answer[0])
        token = parameters.pop(TOKEN_PARAMETER, None) or _first_text(said, spec.tokens) or self._token
        self._is_started, self._stream = True, stream
        named = (place for place in spec.stream if _text(_at(said, path(place))))
        field = next(named, "").rpartition(".")[2]
        self._can_hang_up = not spec.hang_up_if or _at(said, path(spec.hang_up_if)) is not None
        self._texts = _Texts(spec, answer_format or audio_format, stream=stream, field=field)
        call = _first_text(said, spec.call) or stream or new_id("call")
        ids = {name: _first_text(said, places) or "" for name, places in spec.ids.items()}
        started = CallStarted(call, audio_format, parameters, token, answer_format, ids)
        accepted = tuple(text for template in spec.accept for text in self._texts.message(template))
        return [started, CarrierReply(accepted)] if accepted else [started]

    def _parameters(self, said: dict[str, Any]) -> dict[str, str]:
        spec = self._spec
        numbers = {name: _first_text(said, places) for name, places in spec.numbers.items()}
        parameters: dict[str, str] = {name: number for name, number in numbers.items() if number}
        if spec.takes_rest:
            known = {*spec.tag, spec.encoding, spec.rate}
            parameters |= {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in said.items()
                if name not in known and isinstance(value, str | int | float)
            }
        for place in spec.parameters:
            parameters |= parameters_of(_at(said, path(place)))
        return parameters

    def _format_of(self, encoding: str | None, rate: str | None, param: str) -> AudioFormat:
        spec = self._spec
        default = next(iter(spec.encodings))
        encoding, _, more = (encoding or default).partition(";")
        rate = rate or more.strip().removeprefix("rate=") or str(spec.default_hz)
        name = encoding.strip().lower()
        if name in spec.encodings:
            known = spec.encodings[name]
            if known is not None and rate == str(known.rate_hz):
                return known
            if known is None and rate in map(str, spec.pcm_hz):
                return pcm16_at(int(rate))
        raise BadRequest(
            f"A stream of {encoding[:_MAX_SHOWN]} at {rate[:16]} Hz is not served; "
            f"ask {spec.title} for {' or '.join(known.upper() for known in spec.encodings)}"
            f"{' at ' + ', '.join(map(str, spec.pcm_hz)) + ' Hz' if spec.pcm_hz else ''}.",
            code="unsupported_format",
            param=param,
        )

    def _sound(self, said: dict[str, Any]) -> list[CarrierEvent]:
        spec = self._spec
        payload = _first(said, spec.payload)
        track = _at(said, path(spec.track)) if spec.track else None
        if not isinstance(payload, str) or not isinstance(track, str | None):
            return [CarrierFault("malformed_message")]
        if not is_callers(track):
            return []
        sound = decode_sound(payload)
        if sound is None:
            return [CarrierFault("invalid_base64")]
        chunk = _at(said, path(spec.chunk)) if spec.chunk else None
        try:
            return self._order.push(int(chunk) if chunk is not None else None, sound)
        except (ValueError, TypeError, OverflowError):
            return [CarrierFault("malformed_message")]

    # To the carrier

    def encode_sound(self, sound: bytes) -> str | bytes:
        """Returns the message that plays whole frames of the answer."""
        return sound if self._spec.is_sound_binary else self._texts.sound(sound)

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Returns the text that the carrier echoes when it has played all before it; none if it has no marks."""
        if self._spec.are_marks_nameless:
            self._marks.append(name)
        return self._texts.message(self._spec.set_mark, name=_quoted(name))

    def encode_clear(self) -> list[str | bytes]:
        """Returns the texts that empty the carrier's buffer."""
        self._marks.clear()
        return [text for template in self._spec.clear_all for text in self._texts.message(template)]

    def encode_answer(self) -> list[str | bytes]:
        """Returns no messages, because the carrier has answered already."""
        return []

    def encode_hang_up(self) -> list[str | bytes]:
        """Returns the carrier's text for hanging up, if it has one."""
        return self._texts.message(self._spec.hang_up) if self._can_hang_up else []

    def encode_key(self, key: str) -> list[str | bytes]:
        """Returns the text that lets the caller's side hear a key; none if the carrier has no word for it."""
        return self._texts.message(self._spec.send_key, key=_quoted(key))

    def _next_mark(self) -> str:
        """Returns the name of the mark that was set longest ago; an empty one if no mark is waited for."""
        return self._marks.popleft() if self._marks else ""


class _Texts:
    """Makes the texts that one stream's carrier gets. What is the same in all of them is filled in once.

    ``field`` is the carrier's name for the id of the ``stream``.
    """

    def __init__(self, spec: JsonSpec, audio_format: AudioFormat, *, stream: str = "", field: str = "") -> None:
        rate = str(audio_format.rate_hz)
        of_type = spec.types.get(audio_format.media_type, "").replace("<rate>", rate)
        self._slots = {
            "<sid>": _quoted(field),
            "<stream>": _quoted(stream),
            "<type>": _quoted(of_type),
            "<rate>": rate,
        }
        self._head, _, self._tail = self._filled(spec.sound).partition(_PAYLOAD)
        self._format = audio_format
        self._chunks = self._sent_bytes = 0

    def message(self, text: str, **slots: str) -> list[str | bytes]:
        """Returns one of the spec's texts; none if the carrier has no such word."""
        return [self._filled(text, **slots)] if text else []

    def sound(self, sound: bytes) -> str:
        """Returns the text that plays the sound, numbered if the carrier wants that."""
        head = self._head
        if "<chunk>" in head:
            self._chunks += 1
            head = head.replace("<chunk>", str(self._chunks))
            head = head.replace("<ms>", str(self._format.ms_of(self._sent_bytes)))
            self._sent_bytes += len(sound)
        return f"{head}{b2a_base64(sound, newline=False).decode()}{self._tail}"

    def _filled(self, text: str, **more: str) -> str:
        for slot, value in self._slots.items():
            text = text.replace(slot, value)
        for name, value in more.items():
            text = text.replace(f"<{name}>", value)
        return text


class _Order:
    """Puts sound into the order of its chunk numbers. A chunk that is early waits for the missing one, but not long."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, bytes] = {}

    def push(self, chunk: int | None, sound: bytes) -> list[CarrierEvent]:
        """Returns what can be heard now; a chunk that comes twice or too late is ``CarrierFault``."""
        if chunk is None:
            return [sound] if sound else []
        if self._next is None:
            self._next = chunk
        if chunk < self._next or chunk in self._held:
            return [CarrierFault("late_chunk")]
        self._held[chunk] = sound
        events = self._due()
        if len(self._held) > _MAX_HELD:
            self._next = min(self._held)
            events += [CarrierFault("lost_chunk"), *self._due()]
        return events

    def rest(self) -> list[CarrierEvent]:
        """Returns all sound that still waits, and forgets it."""
        rest: list[CarrierEvent] = [self._held[chunk] for chunk in sorted(self._held)]
        self._held.clear()
        return rest

    def _due(self) -> list[CarrierEvent]:
        events: list[CarrierEvent] = []
        while self._next in self._held:
            sound = self._held.pop(self._next)
            self._next += 1
            if sound:
                events.append(sound)
        return events


def _at(said: Any, place: Path) -> Any:
    """Returns the value at the end of the path; None if it leads nowhere."""
    for name in place:
        if isinstance(said, dict):
            said = said.get(name)
        elif isinstance(said, list) and name.isdecimal() and int(name) < len(said):
            said = said[int(name)]
        else:
            return None
    return said


def _first(said: Any, places: Iterable[str]) -> Any:
    return next((found for place in places if (found := _at(said, path(place))) is not None), None)


def _first_text(said: Any, places: Iterable[str]) -> str | None:
    return next((found for place in places if (found := _text(_at(said, path(place))))), None)


def _text(value: Any) -> str | None:
    """Returns a string as it is, and a whole number as text; None for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _quoted(value: str) -> str:
    """Returns the text as JSON in which nothing can be taken for a slot."""
    return json.dumps(value).replace("<", "\\u003c")


def _folded(said: Any, depth: int = 3) -> Any:
    """Returns the message with the names of its fields in lower case."""
    if isinstance(said, dict) and depth:
        return {name.lower(): _folded(value, depth - 1) for name, value in said.items()}
    return said
