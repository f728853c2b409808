"""Twilio Media Streams: JSON text both ways, µ-law at 8 kHz in base64; SignalWire and others speak it as well.

Order from the carrier: ``connected``, ``start``, then ``media``, ``dtmf`` and ``mark`` as they come, then ``stop``. To
it: ``media``, ``mark``, ``clear``, with exactly the documented fields; one more or less is an error there (31951).
"""

import base64
import hashlib
import hmac
import json
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from xml.sax.saxutils import quoteattr

import msgspec
from msgspec import Struct

from bridge.errors import BadRequest
from bridge.telephony.dialect import (
    CarrierEvent,
    Dtmf,
    Ended,
    Played,
    Started,
    Traits,
    Trouble,
    decode_sound,
    is_callers,
    is_dtmf,
    parameters_of,
)
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["SETTINGS_HEADER", "SIGNATURE_HEADER", "TOKEN_PARAMETER", "Twilio", "is_signed", "sign", "write_twiml"]

SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
TOKEN_PARAMETER = "token"

_FORMATS = {"audio/x-mulaw": G711_ULAW, "audio/x-alaw": G711_ALAW}
_DEFAULT_ENCODING, _DEFAULT_HZ = "audio/x-mulaw", 8000
_DIGESTS = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_DEFAULT_ALGORITHM = "HMAC_SHA1"
_PORTS = {"wss": 443, "https": 443, "ws": 80, "http": 80}


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
                return [Played(name)]
            case _Message(event="dtmf", dtmf=_Dtmf(digit=digit)):
                key = str(digit)
                return [Dtmf(key)] if is_dtmf(key) else [Trouble("unknown_key")]
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
        return [Started(start.callSid or stream_sid, audio_format, parameters, token)]

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


def sign(secret: str, url: str, parameters: Mapping[str, str] | None = None, *, algorithm: str = "HMAC_SHA1") -> str:
    """Twilio's signature of a request: the URL, then each parameter's name and value, by name."""
    signed = url + "".join(f"{name}{value}" for name, value in sorted((parameters or {}).items()))
    return base64.b64encode(hmac.digest(secret.encode(), signed.encode(), _DIGESTS[algorithm])).decode()


def is_signed(
    secrets: Iterable[str], url: str, headers: Mapping[str, str], parameters: Mapping[str, str] | None = None
) -> bool:
    """Whether the request to ``url`` (as the carrier was told it, ``wss://`` for a stream) is signed by a secret.

    The port may be written out or not, and a query may be signed as it stands or, as on streams, folded into the
    parameters; nothing else may differ, a slash at the end included.
    """
    signature = headers.get(SIGNATURE_HEADER, "")
    algorithm = _DEFAULT_ALGORITHM
    if settings := headers.get(SETTINGS_HEADER):
        algorithm = dict(part.strip().partition("=")[::2] for part in settings.split(",")).get("algorithm", "")
    if not signature or algorithm not in _DIGESTS:
        return False
    candidates = [
        sign(secret, spelling, given, algorithm=algorithm)
        for secret in secrets
        for spelling, given in _spellings(url, dict(parameters or {}))
    ]
    presented = signature.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(presented, candidate.encode()) for candidate in candidates]
    return any(matches)


def _spellings(url: str, parameters: dict[str, str]) -> Iterable[tuple[str, dict[str, str]]]:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    default = _PORTS.get(parts.scheme)
    places = {parts.netloc}
    if parts.port in (None, default):
        places |= {host, f"{host}:{default}"}
    for place in sorted(places):
        yield urlunsplit(parts._replace(netloc=place)), parameters
        if parts.query:
            folded = {**parameters, **dict(parse_qsl(parts.query, keep_blank_values=True))}
            yield urlunsplit(parts._replace(netloc=place, query="")), folded


def write_twiml(url: str, parameters: Mapping[str, str]) -> str:
    """What an incoming call is answered with: a stream to ``url`` with these parameters, until either side hangs up."""
    lines = "".join(
        f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in parameters.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Connect><Stream url={quoteattr(url)}>{lines}</Stream></Connect></Response>\n"
    )
