"""Telnyx media streaming: Twilio's words in snake_case, with a codec that was agreed on and messages in any order.

Sound of both directions is taken to be in the codec of ``start.media_format``: PCMU, PCMA or L16. Telnyx does not say
in which byte order it sends L16; it is read as little-endian, like everybody's but that of RTP.
"""

import json
from binascii import b2a_base64
from typing import Any

import msgspec
from msgspec import Struct

from bridge.errors import BadRequest
from bridge.wire.audio import G711_ALAW, G711_ULAW, RATES_HZ, AudioFormat, pcm16_at
from bridge.wire.carrier import CarrierEvent, Dtmf, Ended, Played, Started, Traits, Trouble, decode_sound, is_dtmf

__all__ = ["AUTH_TOKEN_HEADER", "TOKEN_PARAMETER", "Telnyx"]

AUTH_TOKEN_HEADER = "x-telnyx-streaming-auth-token"
"""Carries ``stream_auth_token`` on the upgrade; ``connected`` has a field of the same name."""
TOKEN_PARAMETER = "token"

_MAX_HELD = 10  # messages behind a gap: 200 ms at the usual 20 ms each
_CODECS = {"PCMU": G711_ULAW, "PCMA": G711_ALAW}


class _MediaFormat(Struct):
    encoding: str = "PCMU"
    sample_rate: int | str = 8000


class _Start(Struct):
    call_control_id: str = ""
    call_session_id: str = ""
    media_format: _MediaFormat = msgspec.field(default_factory=_MediaFormat)
    custom_parameters: dict[str, Any] | list[dict[str, Any]] | None = None
    stream_auth_token: str | None = None


class _Media(Struct):
    payload: str
    track: str = "inbound"
    chunk: int | str | None = None


class _Dtmf(Struct):
    digit: str


class _Mark(Struct):
    name: str


class _Complaint(Struct):
    code: int | str = ""
    title: str = ""


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

    def __init__(self, token: str | None = None) -> None:
        self._stream_id = ""
        self._is_started = False
        self._token = token  # of the upgrade, where there was one
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
            return [Trouble("carrier_error", f"{complaint.code} {complaint.title}"[:100])]
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
                return [Played(name)]
            case _Message(event="dtmf", dtmf=_Dtmf(digit=digit)):
                return [Dtmf(digit)] if is_dtmf(digit) else [Trouble("unknown_key")]
            case _Message(event="stop"):
                return [*self._order.rest(), Ended()]
        return [Trouble("unknown_message" if said.event not in ("media", "mark", "dtmf") else "malformed_message")]

    def _start(self, said: _Message) -> list[CarrierEvent]:
        if self._is_started:
            return [Trouble("second_start")]
        start = said.start
        if start is None:
            return [Trouble("malformed_message")]
        audio_format = _format_of(start.media_format)
        self._is_started = True
        self._stream_id = said.stream_id or ""
        parameters = _parameters(start.custom_parameters)
        token = parameters.pop(TOKEN_PARAMETER, None) or start.stream_auth_token or self._token
        call = start.call_control_id or start.call_session_id or self._stream_id
        return [Started(call, audio_format, parameters, token)]

    def _media(self, media: _Media) -> list[CarrierEvent]:
        if media.track != "inbound":
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


def _format_of(media_format: _MediaFormat) -> AudioFormat:
    rate = str(media_format.sample_rate)
    known = _CODECS.get(media_format.encoding)
    if known is not None and rate == str(known.rate_hz):
        return known
    if media_format.encoding == "L16" and rate in map(str, RATES_HZ):
        return pcm16_at(int(rate))
    raise BadRequest(
        f"A stream of {media_format.encoding[:64]} at {rate[:16]} Hz is not served; ask Telnyx for PCMU, PCMA or L16.",
        code="unsupported_format",
        param="start.media_format",
    )


def _parameters(given: dict[str, Any] | list[dict[str, Any]] | None) -> dict[str, str]:
    """The application's own; Telnyx takes them as a list of name and value, and sends an object."""
    if isinstance(given, list):
        given = {str(entry.get("name")): entry.get("value", "") for entry in given if "name" in entry}
    return {name: str(value) for name, value in (given or {}).items()}
