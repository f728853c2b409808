"""The dialect of Asterisk's AudioSocket over TCP: frames of a type, a length and a payload.

The other end buffers nothing. The first frame is the call's UUID. The first sound frame shows what kind of sound the
call has, and the bridge answers in the same kind. A sender may send hang-up and sound, which is never empty: anything
else ends the call.
"""

from uuid import UUID

from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Ended, Traits, pressed
from bridge.wire.audio import AudioFormat, pcm16_at

__all__ = ["DTMF", "ERROR", "HANG_UP", "IDENTITY", "SOUND", "SOUND_TYPES", "AudioSocket", "Splitter", "frame"]

HANG_UP, IDENTITY, DTMF, SOUND, ERROR = 0x00, 0x01, 0x03, 0x10, 0xFF
_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
SOUND_TYPES = {SOUND + number: pcm16_at(rate_hz) for number, rate_hz in enumerate(_RATES_HZ)}
"""The formats by type of frame: 0x10 to 0x18, one for each rate."""

_TYPES = {audio_format: kind for kind, audio_format in SOUND_TYPES.items()}
_HEADER_BYTES = 3
_UUID_BYTES = 16


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Returns one frame, which is to be written at once."""
    return bytes((kind,)) + len(payload).to_bytes(2, "big") + payload


class Splitter:
    """Splits a stream of bytes, cut anywhere, into whole frames.

    A length has 16 bits, so only a few bytes can wait.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def push(self, data: bytes) -> list[bytes]:
        """Returns the frames that are complete now, with their headers."""
        self._data += data
        frames = []
        at = 0
        while len(self._data) - at >= _HEADER_BYTES:
            end = at + _HEADER_BYTES + int.from_bytes(self._data[at + 1 : at + 3], "big")
            if end > len(self._data):
                break
            frames.append(bytes(self._data[at:end]))
            at = end
        del self._data[:at]
        return frames


class AudioSocket:
    """The dialect of one connection. Its messages are whole frames."""

    name = "audiosocket"
    traits = Traits(lead_ms=0, has_marks=False, wants_silence=True, takes_pings=False, max_message_bytes=65_535)

    def __init__(self) -> None:
        self.uuid: UUID | None = None
        """The UUID of the call, as soon as Asterisk has sent it."""
        self._format: AudioFormat | None = None

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """Returns what a frame means."""
        assert isinstance(message, bytes)
        kind, payload = message[0], message[_HEADER_BYTES:]
        if kind == IDENTITY:
            if self.uuid is not None or len(payload) != _UUID_BYTES:
                return [CarrierFault("second_start" if self.uuid is not None else "malformed_message")]
            self.uuid = UUID(bytes=payload)
            return []
        if kind == HANG_UP:
            return [Ended()]
        if kind == ERROR:
            return [CarrierFault("carrier_error", payload[:8].hex())]
        if self.uuid is None:
            return [CarrierFault("message_before_start")]
        if kind == DTMF:
            return pressed(payload.decode("ascii", "replace"))
        if kind in SOUND_TYPES:
            return self._sound(SOUND_TYPES[kind], payload)
        return [CarrierFault("unknown_message")]

    def _sound(self, audio_format: AudioFormat, sound: bytes) -> list[CarrierEvent]:
        events: list[CarrierEvent] = []
        if self._format is None:
            self._format = audio_format
            events.append(CallStarted(str(self.uuid), audio_format, token=str(self.uuid)))
        if audio_format is not self._format:
            return [CarrierFault("format_changed")]
        if len(sound) % 2:
            return [*events, CarrierFault("odd_sound")]
        return [*events, sound] if sound else events

    def encode_sound(self, sound: bytes) -> bytes:
        """Returns one frame of sound, which must not be empty."""
        return frame(_TYPES[self._format or SOUND_TYPES[SOUND]], sound)

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Returns no messages, because AudioSocket has no marks."""
        return []

    def encode_clear(self) -> list[str | bytes]:
        """Returns no messages, because Asterisk buffers nothing."""
        return []

    def encode_answer(self) -> list[str | bytes]:
        """Returns no messages, because the carrier has answered already."""
        return []

    def encode_hang_up(self) -> list[str | bytes]:
        """Returns the frame that ends the call."""
        return [frame(HANG_UP)]

    def encode_key(self, key: str) -> list[str | bytes]:
        """Returns no messages, because AudioSocket has no word for keys."""
        return []
