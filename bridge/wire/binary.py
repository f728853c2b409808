"""Sound in binary WebSocket messages, for listeners with ``framing=binary``: 16 bytes of header, then raw samples.

| offset | bytes | field |
|---|---|---|
| 0 | 1 | version, 1 |
| 1 | 1 | track: 0 input (the caller), 1 output (the answer) |
| 2 | 1 | format: 0 pcm16 (little-endian), 1 g711_ulaw, 2 g711_alaw |
| 3 | 1 | rate in kHz: 8, 16, 24, 44 (which is 44,100 Hz), 48 |
| 4 | 4 | sequence of the track's messages, counting up without a gap |
| 8 | 8 | timestamp of the first sample: samples of the track before it, at that rate, since the call began |

Numbers are unsigned and big-endian. Control events go on being JSON text.
"""

import struct
from typing import NamedTuple

from bridge.wire.audio import FORMATS, RATES_HZ, AudioFormat, pcm16_at
from bridge.wire.choices import TRACKS

__all__ = ["HEADER_BYTES", "BinarySound", "pack_sound", "unpack_sound"]

_HEADER = struct.Struct("!BBBBIQ")
HEADER_BYTES = _HEADER.size
_VERSION = 1
_FORMATS = list(FORMATS)
_PCM16 = _FORMATS.index("pcm16")
_BY_KHZ = {rate_hz // 1000: rate_hz for rate_hz in RATES_HZ}


class BinarySound(NamedTuple):
    """One message, read."""

    track: str
    audio_format: AudioFormat
    sequence: int
    timestamp: int
    sound: bytes


def pack_sound(track: str, audio_format: AudioFormat, sequence: int, timestamp: int, sound: bytes) -> bytes:
    """One message."""
    number = _FORMATS.index(audio_format.name) if audio_format.name in FORMATS else _PCM16
    rate_khz = audio_format.rate_hz // 1000
    return _HEADER.pack(_VERSION, TRACKS.index(track), number, rate_khz, sequence & 0xFFFFFFFF, timestamp) + sound


def unpack_sound(message: bytes) -> BinarySound:
    """Reads what ``pack_sound`` wrote; raises ``ValueError``."""
    if len(message) < HEADER_BYTES or message[0] != _VERSION or message[1] > 1 or message[2] >= len(_FORMATS):
        raise ValueError("not a message of sound in binary framing, version 1")
    _, track, number, rate_khz, sequence, timestamp = _HEADER.unpack_from(message)
    audio_format = pcm16_at(_BY_KHZ.get(rate_khz, 0)) if number == _PCM16 else FORMATS[_FORMATS[number]]
    return BinarySound(TRACKS[track], audio_format, sequence, timestamp, message[HEADER_BYTES:])
