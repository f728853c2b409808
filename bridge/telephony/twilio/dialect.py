"""Twilio Media Streams: JSON text both ways, µ-law at 8 kHz in base64; SignalWire and others speak it as well.

Order from the carrier: ``connected``, ``start``, then ``media``, ``dtmf`` and ``mark`` as they come, then ``stop``. To
it: ``media``, ``mark``, ``clear``, with exactly the documented fields; one more or less is an error there (31951).
"""

import json
from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

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
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["Twilio", "write_twiml"]


_FORMATS = {"audio/x-mulaw": G711_ULAW, "audio/x-alaw": G711_ALAW}
_DEFAULT_ENCODING, _DEFAULT_HZ = "audio/x-mulaw", 8000


class _MediaFormat(Struct):
    encoding: str | None = None
    sampleRate: int | str | None = None


class _Start(Struct):
    streamSid: str | None = None
    callSid: str | None = None
    mediaFormat: _MediaFormat | None = None
    customParameters: Any = None


class _Media(Struct):
    payload: str
    track: str | None = None


class _Dtmf(Struct):
    digit: str | int


class _Mark(Struct):
    name: str


class _Message(Struct):
    event: str
    streamSid: str | None = None
    start: _Start | None = None
    media: _Media | None = None
    dtmf: _Dtmf | None = None
    mark: _Mark | None = None


_decoder = msgspec.json.Decoder(_Message)


class Twilio:
    """One Media Stream."""

    name = "twilio"
    traits = Traits(lead_ms=1000)

    def __init__(self) -> None:
        self._stream_sid = ""
        self._head = self._tail = ""

    def receive(self, message: str | bytes) -> list[CarrierEvent]:
        """What a message means."""
        if isinstance(message, bytes):
            return [Trouble("binary_message")]
        try:
            said = _decoder.decode(message)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return [Trouble("malformed_message")]
        if said.event == "connected":
            return []
        if said.event == "start":
            return self._start(said)
        if not self._stream_sid:
            return [Trouble("message_before_start")]
        if said.streamSid not in (None, self._stream_sid):
            return [Trouble("other_stream")]
        match said:
            case _Message(event="media", media=_Media() as media):
                if not is_callers(media.track):
                    return []
                sound = decode_sound(media.payload)
                return [Trouble("invalid_base64")] if sound is None else [sound] if sound else []
            case _Message(event="mark", mark=_Mark(name=name)):
                return [MarkPlayed(name)]
            case _Message(event="dtmf", dtmf=_Dtmf(digit=digit)):
                return pressed(str(digit))
            case _Message(event="stop"):
                return [Ended()]
        return [Trouble("unknown_message" if said.event not in ("media", "mark", "dtmf") else "malformed_message")]

    def _start(self, said: _Message) -> list[CarrierEvent]:
        if self._stream_sid:
            return [Trouble("second_start")]
        start = said.start
        stream_sid = said.streamSid or (start.streamSid if start is not None else None)
        if start is None or not stream_sid:
            return [Trouble("malformed_message")]
        media_format = start.mediaFormat or _MediaFormat()
        encoding, rate = media_format.encoding or _DEFAULT_ENCODING, media_format.sampleRate or _DEFAULT_HZ
        audio_format = _FORMATS.get(encoding)
        if audio_format is None or str(rate) != str(audio_format.rate_hz):
            raise BadRequest(
                f"A stream of {encoding[:64]} at {str(rate)[:16]} Hz is not served.",
                code="unsupported_format",
                param="start.mediaFormat",
            )
        self._stream_sid = stream_sid
        self._head = f'{{"event":"media","streamSid":{json.dumps(stream_sid)},"media":{{"payload":"'
        self._tail = '"}}'
        parameters = parameters_of(start.customParameters)
        token = parameters.pop(TOKEN_PARAMETER, None)
        ids = {"callSid": start.callSid or "", "streamSid": stream_sid}
        return [CallStarted(start.callSid or stream_sid, audio_format, parameters, token, ids=ids)]

    def sound(self, sound: bytes) -> str:
        """Any length plays, without a header."""
        return f"{self._head}{b2a_base64(sound, newline=False).decode()}{self._tail}"

    def mark(self, name: str) -> list[str | bytes]:
        """Echoed when all before it has been played."""
        return [_write({"event": "mark", "streamSid": self._stream_sid, "mark": {"name": name}})]

    def clear(self) -> list[str | bytes]:
        """Empties the buffer, and sends all marks in it back."""
        return [_write({"event": "clear", "streamSid": self._stream_sid})]

    def hang_up(self) -> list[str | bytes]:
        """There is no word for it: closing the socket ends ``<Connect>``."""
        return []


def _write(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


def write_twiml(url: str, parameters: Mapping[str, str]) -> str:
    """What an incoming call is answered with: a stream to ``url`` with these parameters, until either side hangs up."""
    lines = "".join(
        f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in parameters.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Connect><Stream url={quoteattr(url)}>{lines}</Stream></Connect></Response>\n"
    )
