"""Sound in binary frames, which listeners of every dialect may choose. Their events are still JSON."""

from bridge.wire.audio import AudioFormat
from bridge.wire.binary import pack_sound
from bridge.wire.codecs.codec import PartOfAnswer
from bridge.wire.message import EncodedMessage

__all__ = ["BINARY_SOUND"]


class _BinarySound:
    name = "binary"

    def writer(self, track: str, audio_format: AudioFormat, prefix: str, part: PartOfAnswer | None) -> "_BinaryWriter":
        """Returns a writer for one part of a stream. A frame does not say to which part of an answer it belongs."""
        return _BinaryWriter(track, audio_format, prefix, is_live=part is None)


class _BinaryWriter:
    def __init__(self, track: str, audio_format: AudioFormat, prefix: str, *, is_live: bool) -> None:
        self._track = track
        self._format = audio_format
        self._prefix = prefix
        self._is_live = is_live

    def encode_sound(self, number: int, timestamp: int, sound: bytes, audio_ms: int) -> EncodedMessage:
        """Returns one message, whose payload is one binary frame."""
        payload = pack_sound(self._track, self._format, number, timestamp, sound)
        return EncodedMessage(
            payload, event_id=f"{self._prefix}{number}", audio_ms=audio_ms, is_live=self._is_live, is_binary=True
        )


BINARY_SOUND = _BinarySound()
