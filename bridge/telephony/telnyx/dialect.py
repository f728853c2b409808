"""Telnyx media streaming: Twilio's words in snake_case, with a codec for each direction and messages in any order.

The caller's sound is in the codec of ``start.media_format``: PCMU, PCMA or L16. The answer's is in what the application
asked Telnyx for as ``stream_bidirectional_codec``. No message of Telnyx's says which that is: the application tells it
by the same names, on the stream's URL or in the custom parameters; if it does not, it is PCMU, as at Telnyx. In which
byte order L16 is sent Telnyx does not say; it is read as little-endian, like everybody's but that of RTP.
"""

import json
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bridge.errors import BadRequest
from bridge.telephony.dialect import (
    TOKEN_PARAMETER,
    CallStarted,
    CarrierEvent,
    Ended,
    MarkPlayed,
    Traits,
    Trouble,
    decode_sound,
    is_callers,
    parameters_of,
    pressed,
)
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

__all__ = ["ANSWER_CODEC", "ANSWER_RATE", "AUTH_TOKEN_HEADER", "Telnyx"]

AUTH_TOKEN_HEADER = "x-telnyx-streaming-auth-token"
"""Carries ``stream_auth_token`` on the upgrade; ``connected`` has a field of the same name."""
ANSWER_CODEC, ANSWER_RATE = "stream_bidirectional_codec", "stream_bidirectional_sampling_rate"
"""What the application asked Telnyx for, by Telnyx's names; unset there it is PCMU, at 8000 Hz."""

_DEFAULT_CODEC, _DEFAULT_HZ = "PCMU", 8000
_L16_HZ = (8_000, 16_000, 22_050, 24_000, 48_000)
_MAX_HELD = 10  # messages behind a gap: 200 ms at the usual 20 ms each
_CODECS = {"PCMU": G711_ULAW, "PCMA": G711_ALAW}


class _MediaFormat(Struct):
    encoding: str | None = None
    sample_rate: int | str | None = None


class _Start(Struct):
    call_control_id: str | None = None
    call_session_id: str | None = None
    media_format: _MediaFormat | None = None
    custom_parameters: Any = None
    stream_auth_token: str | None = None


class _Media(Struct):
    payload: str
    track: str | None = None
    chunk: int | str | None = None


class _Dtmf(Struct):
    digit: str | int


class _Mark(Struct):
    name: str


class _Complaint(Struct):
    code: int | str | None = None
    title: str | None = None


class _Message(Struct):
    event: str
    stream_id: str | None = None
    start: _Start | None = None
    media: _Media | None = None
    dtmf: _Dtmf | None = None
    mark: _Mark | None = None
    payload: _Complaint | None = None
    connected: dict[str, Any] | None = None
    token: str | None = msgspec.field(default=None, name=AUTH_TOKEN_HEADER)


_decoder = msgspec.json.Decoder(_Message)


class Telnyx:
    """One media stream."""

    name = "telnyx"
    traits = Traits(lead_ms=1000)

    def __init__(self, token: str | None = None, query: Mapping[str, str] | None = None) -> None:
        self._query = dict(query or {})
        self._stream_id = ""
        self._is_started = False
        self._token = token  # of the upgrade, if it had one
        self._order = _Order()

    def receive(self, message: str | bytes) -> list[CarrierEvent]:
        """What a message means; sound comes out in the order in which it was spoken."""
        if isinstance(message, bytes):
            return [Trouble("binary_message")]
        try:
            said = _decoder.decode(message)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return [Trouble("malformed_message")]
        if said.event == "connected":
            inner = (said.connected or {}).get(AUTH_TOKEN_HEADER)
            self._token = said.token or (inner if isinstance(inner, str) else self._token)
            return []
        if said.event == "error":
            complaint = said.payload or _Complaint()
            return [Trouble("carrier_error", f"{complaint.code or ''} {complaint.title or ''}"[:100])]
        if said.event == "start":
            return self._start(said)
        if not self._is_started:
            return [Trouble("message_before_start")]
        if said.stream_id not in (None, self._stream_id):
            return [Trouble("other_stream")]
        match said:
            case _Message(event="media", media=_Media() as media):
                return self._media(media)
            case _Message(event="mark", mark=_Mark(name=name)):
                return [MarkPlayed(name)]
            case _Message(event="dtmf", dtmf=_Dtmf(digit=digit)):
                return pressed(str(digit))
            case _Message(event="stop"):
                return [*self._order.rest(), Ended()]
        return [Trouble("unknown_message" if said.event not in ("media", "mark", "dtmf") else "malformed_message")]

    def _start(self, said: _Message) -> list[CarrierEvent]:
        if self._is_started:
            return [Trouble("second_start")]
        start = said.start
        if start is None:
            return [Trouble("malformed_message")]
        media_format = start.media_format or _MediaFormat()
        audio_format = _format_of(media_format.encoding, media_format.sample_rate, "start.media_format")
        parameters = parameters_of(start.custom_parameters)
        answer = {name: parameters.pop(name, None) or self._query.get(name) for name in (ANSWER_CODEC, ANSWER_RATE)}
        answer_format = _format_of(answer[ANSWER_CODEC], answer[ANSWER_RATE], ANSWER_CODEC)
        self._is_started = True
        self._stream_id = said.stream_id or ""
        token = parameters.pop(TOKEN_PARAMETER, None) or start.stream_auth_token or self._token
        call = start.call_control_id or start.call_session_id or self._stream_id
        ids = {
            "call_control_id": start.call_control_id or "",
            "call_session_id": start.call_session_id or "",
            "stream_id": self._stream_id,
        }
        return [CallStarted(call, audio_format, parameters, token, answer_format, ids)]

    def _media(self, media: _Media) -> list[CarrierEvent]:
        if not is_callers(media.track):
            return []
        sound = decode_sound(media.payload)
        if sound is None:
            return [Trouble("invalid_base64")]
        try:
            chunk = int(media.chunk) if media.chunk is not None else None
        except ValueError:
            return [Trouble("malformed_message")]
        return self._order.push(chunk, sound)

    def sound(self, sound: bytes) -> str:
        """20 ms to 30 s of sound, without an RTP header."""
        return f'{{"event":"media","media":{{"payload":"{b2a_base64(sound, newline=False).decode()}"}}}}'

    def mark(self, name: str) -> list[str | bytes]:
        """Echoed when all before it has been played."""
        return [json.dumps({"event": "mark", "mark": {"name": name}}, separators=(",", ":"))]

    def clear(self) -> list[str | bytes]:
        """Empties the buffer, and sends all marks in it back."""
        return ['{"event":"clear"}']

    def hang_up(self) -> list[str | bytes]:
        """There is no word for it: that is what Telnyx's HTTP API is for."""
        return []


class _Order:
    """Sound by its chunk number: what comes too early waits for what is missing, but not for long."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, bytes] = {}

    def push(self, chunk: int | None, sound: bytes) -> list[CarrierEvent]:
        """What can be heard now; a chunk that comes twice or too late is ``Trouble``."""
        if chunk is None:
            return [sound] if sound else []
        if self._next is None:
            self._next = chunk
        if chunk < self._next or chunk in self._held:
            return [Trouble("late_chunk")]
        self._held[chunk] = sound
        events = self._due()
        if len(self._held) > _MAX_HELD:
            self._next = min(self._held)
            events += [Trouble("lost_chunk"), *self._due()]
        return events

    def rest(self) -> list[CarrierEvent]:
        """Everything that still waits."""
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


def _format_of(encoding: str | None, rate: int | str | None, param: str) -> AudioFormat:
    encoding, rate = encoding or _DEFAULT_CODEC, str(rate or _DEFAULT_HZ)
    known = _CODECS.get(encoding)
    if known is not None and rate == str(known.rate_hz):
        return known
    if encoding == "L16" and rate in map(str, _L16_HZ):
        return pcm16_at(int(rate))
    raise BadRequest(
        f"A stream of {encoding[:64]} at {rate[:16]} Hz is not served; ask Telnyx for PCMU, PCMA or L16.",
        code="unsupported_format",
        param=param,
    )
