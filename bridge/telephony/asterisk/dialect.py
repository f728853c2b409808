"""The dialect of Asterisk's chan_websocket: raw sound in binary messages, and control in text.

A text has at most 128 bytes, and is plain or JSON. A channel's ``MEDIA_START`` shows which of the two it speaks, and
the bridge answers in the same form. Media may come before it.
"""

import json
from collections.abc import Mapping
from typing import Any

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Flow, MarkPlayed, Traits, pressed
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

__all__ = ["FORMATS", "SUBPROTOCOL", "Asterisk", "parse_event"]

SUBPROTOCOL = "media"
FORMATS = {
    "ulaw": G711_ULAW,
    "alaw": G711_ALAW,
    "slin": pcm16_at(8_000),
    "slin12": pcm16_at(12_000),
    "slin16": pcm16_at(16_000),
    "slin24": pcm16_at(24_000),
    "slin32": pcm16_at(32_000),
    "slin44": pcm16_at(44_100),
    "slin48": pcm16_at(48_000),
    "slin96": pcm16_at(96_000),
    "slin192": pcm16_at(192_000),
}
"""The formats by Asterisk's names.

Its ``slin`` has the byte order of its machine: little-endian on all that it runs on.
"""

_MAX_EARLY_BYTES = 384_000  # a second of the largest format
_MAX_SOUND_BYTES = 65_500  # after a longer message Asterisk closes with 1009 and hangs up
_DEFAULT_FORMAT = "ulaw"
_ID_KEYS = ("channel_id", "connection_id", "channel")
_WITHOUT_VALUE = frozenset({"MEDIA_XOFF", "MEDIA_XON", "QUEUE_DRAINED"})
_WITH_ID = frozenset({"MEDIA_MARK_PROCESSED", "MEDIA_BUFFERING_COMPLETED"})
_IGNORED = frozenset({"QUEUE_DRAINED", "STATUS", "MEDIA_BUFFERING_COMPLETED"})


class Asterisk:
    """The dialect of one media channel."""

    name = "asterisk"
    traits = Traits(lead_ms=1000, takes_pings=False, max_message_bytes=_MAX_SOUND_BYTES)

    def __init__(self, parameters: Mapping[str, str] | None = None, *, token: str | None = None) -> None:
        self._parameters = dict(parameters or {})  # the URI's parameters; the token comes from there, too
        self._token = token
        self._is_json = False
        self._format: AudioFormat | None = None
        self._early = bytearray()

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """Returns what a message means."""
        if isinstance(message, bytes):
            return self._sound(message)
        said = parse_event(message)
        if said is None:
            return [CarrierFault("malformed_message")]
        match said:
            case {"event": "MEDIA_START"}:
                return self._start(said, is_json=message.lstrip().startswith("{"))
            case {"event": "DTMF_END", "digit": str(digit)}:
                return pressed(digit)
            case {"event": "MEDIA_XOFF"}:
                return [Flow(False)]
            case {"event": "MEDIA_XON"}:
                return [Flow(True)]
            case {"event": "MEDIA_MARK_PROCESSED", "correlation_id": str(mark)}:
                return [MarkPlayed(mark)]
            case {"event": "ERROR"}:
                return [CarrierFault("carrier_error", str(said.get("error_text", ""))[:100])]
            case {"event": str(event)} if event in _IGNORED:
                return []
        return [CarrierFault("unknown_message")]

    def _sound(self, sound: bytes) -> list[CarrierEvent]:
        if self._format is None:  # under load the first media comes before MEDIA_START
            self._early += sound[: _MAX_EARLY_BYTES - len(self._early)]
            return []
        if len(sound) % self._format.bytes_per_sample:
            return [CarrierFault("odd_sound")]
        return [sound] if sound else []

    def _start(self, said: dict[str, Any], *, is_json: bool) -> list[CarrierEvent]:
        if self._format is not None:
            return [CarrierFault("second_start")]
        codec = str(said.get("format", _DEFAULT_FORMAT))
        audio_format = FORMATS.get(codec)
        if audio_format is None:
            raise BadRequest(
                f"Channels with the codec {codec[:64]} are not supported; dial with one of c({'|'.join(FORMATS)}).",
                code="unsupported_format",
                param="format",
            )
        self._is_json, self._format = is_json, audio_format
        variables = said.get("channel_variables")
        parameters = {**self._parameters, **(variables if isinstance(variables, dict) else {})}
        call = next((str(said[key]) for key in _ID_KEYS if said.get(key)), "")
        early, self._early = bytes(self._early), bytearray()
        parameters = {name: str(value) for name, value in parameters.items()}
        ids = {key: str(said[key]) for key in _ID_KEYS if said.get(key)}
        started = CallStarted(call, audio_format, parameters, self._token, ids=ids)
        early = early[: len(early) // audio_format.bytes_per_sample * audio_format.bytes_per_sample]
        return [started, early] if early else [started]

    def encode_sound(self, sound: bytes) -> bytes:
        """Returns the message of the sound.

        It has at most 65,500 bytes in whole frames, because Asterisk would drop a part of a frame.
        """
        return sound

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Returns the message that Asterisk confirms when all before it has been played."""
        return [self._command("MARK_MEDIA", name)]

    def encode_clear(self) -> list[str | bytes]:
        """Returns the message that drops what is queued, marks included. Asterisk confirms none of these marks."""
        return [self._command("FLUSH_MEDIA")]

    def encode_answer(self) -> list[str | bytes]:
        """Returns the message that answers a channel which was dialled with ``n``; none if it is answered already."""
        return [self._command("ANSWER")]

    def encode_hang_up(self) -> list[str | bytes]:
        """Returns the message that ends the channel."""
        return [self._command("HANGUP")]

    def encode_key(self, key: str) -> list[str | bytes]:
        """Returns no messages, because Asterisk has no word for keys."""
        return []

    def _command(self, command: str, correlation_id: str = "") -> str:
        if self._is_json:
            said = {"command": command, **({"correlation_id": correlation_id} if correlation_id else {})}
            return json.dumps(said, separators=(",", ":"))
        return f"{command} {correlation_id}".strip()


def parse_event(text: str) -> dict[str, Any] | None:
    """Returns either form of an event as one dictionary; None if it is neither."""
    text = text.strip()
    if text.startswith("{"):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return said if isinstance(said.get("event"), str) else None
    event, *words = text.split() or [""]
    if not event.isupper():
        return None
    said = {"event": event}
    if event in _WITH_ID:
        said["correlation_id"] = words[0] if words else ""
    elif event == "ERROR":
        said["error_text"] = text.partition("error_text:")[2]
    elif event not in _WITHOUT_VALUE:
        said |= {key: value for key, colon, value in (word.partition(":") for word in words) if colon}
    return said
