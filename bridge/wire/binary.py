"""Sound in binary WebSocket messages, for listeners with ``framing=binary``: 16 bytes of header, then the sound.

| offset | bytes | field |
|---|---|---|
| 0 | 1 | version, 1 |
| 1 | 1 | track: 0 input (the caller), 1 output (the answer) |
| 2 | 1 | format: 0 pcm16 (little-endian), 1 g711_ulaw, 2 g711_alaw, 3 opus (one packet), 4 mp3 (one frame) |
| 3 | 1 | rate in kHz: 8, 16, 24, 44 (which is 44,100 Hz), 48 |
| 4 | 4 | sequence of the track's messages, counting up without a gap |
| 8 | 8 | timestamp of the first sample: samples of the track before it, at that rate, since the call began |

Numbers are unsigned and big-endian. Control events are still JSON text. A header of Opus without sound marks
packets that were lost, up to the next timestamp.
"""

import struct
from typing import NamedTuple

from bridge.wire.audio import COMPRESSED, G711_ALAW, G711_ULAW, PCM16, RATES_HZ, AudioFormat, pcm16_at
from bridge.wire.choices import TRACKS

__all__ = ["FORMAT_NUMBERS", "HEADER_BYTES", "BinarySound", "pack_sound", "unpack_sound"]

_HEADER = struct.Struct("!BBBBIQ")
HEADER_BYTES = _HEADER.size
_VERSION = 1
FORMAT_NUMBERS = {
    **{PCM16.name: 0, G711_ULAW.name: 1, G711_ALAW.name: 2},
    **{name: compression.number for name, compression in COMPRESSED.items()},
}
"""The numbers of the formats, by the names with which listeners ask for them."""
_NUMBERS: dict[AudioFormat, int] = {
    **{pcm16_at(rate_hz): 0 for rate_hz in RATES_HZ},
    **{plain: FORMAT_NUMBERS[plain.name] for plain in (G711_ULAW, G711_ALAW)},
    **{audio_format: each.number for each in COMPRESSED.values() for audio_format in each.formats},
}
_FORMATS = {(number, known.rate_hz // 1000): known for known, number in _NUMBERS.items()}


class BinarySound(NamedTuple):
    """One binary message, as it was read."""

    track: str
    audio_format: AudioFormat
    sequence: int
    timestamp: int
    sound: bytes


def pack_sound(track: str, audio_format: AudioFormat, sequence: int, timestamp: int, sound: bytes) -> bytes:
    """Returns one binary message: the header, then the sound."""
    rate_khz = audio_format.rate_hz // 1000
    number = _NUMBERS[audio_format]
    return _HEADER.pack(_VERSION, TRACKS.index(track), number, rate_khz, sequence & 0xFFFFFFFF, timestamp) + sound


def unpack_sound(message: bytes) -> BinarySound:
    """Reads what ``pack_sound`` wrote; raises ``ValueError`` if it is something else."""
    if len(message) < HEADER_BYTES or message[0] != _VERSION or message[1] > 1:
        raise ValueError("not a message of sound in binary framing, version 1")
    _, track, number, rate_khz, sequence, timestamp = _HEADER.unpack_from(message)
    audio_format = _FORMATS.get((number, rate_khz))
    if audio_format is None:
        raise ValueError(f"not a message of sound in a known format: {number} at {rate_khz} kHz")
    return BinarySound(TRACKS[track], audio_format, sequence, timestamp, message[HEADER_BYTES:])
