"""RTP header extensions in their one-byte form (RFC 8285 section 4.2): which section a packet is of, and how loud."""

import math

import numpy as np

__all__ = ["AUDIO_LEVEL_URI", "MAX_ID", "MAX_MID_BYTES", "MID_URI", "HeaderExtensions"]

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MAX_ID = 14
"""The largest id: 15 is reserved, and more needs the two-byte form."""
MAX_MID_BYTES = 16

_PROFILE = 0xBEDE
_SILENT = 127  # -127 dBov or less (RFC 6464 section 3)
_IS_VOICE = 0x80
_LEVEL_AT = 5  # behind profile, length, and the id of the level, which comes first
_INT16, _FLOAT = np.dtype("<i2"), np.dtype(np.float32)  # to look them up by name takes as long as to use them


class HeaderExtensions:
    """The extensions that were negotiated, by their ids; None for each that was not."""

    def __init__(self, *, mid: str = "", mid_id: int | None = None, level_id: int | None = None) -> None:
        name = mid.encode()
        elements = b"" if mid_id is None else bytes([mid_id << 4 | len(name) - 1]) + name
        self._has_level = level_id is not None
        if level_id is not None:
            elements = bytes([level_id << 4, _SILENT]) + elements
        elements += bytes(-len(elements) % 4)
        self._block = _PROFILE.to_bytes(2, "big") + (len(elements) // 4).to_bytes(2, "big") + elements
        self._before_level, self._behind_level = self._block[:_LEVEL_AT], self._block[_LEVEL_AT + 1 :]
        self.is_empty = not elements

    def write_extensions(self, pcm: bytes, *, is_voice: bool) -> bytes:
        """Writes the extensions of the packet that carries ``pcm``, with their header of profile and length."""
        if not self._has_level:
            return self._block
        level = audio_level(pcm) | (_IS_VOICE if is_voice else 0)
        return self._before_level + bytes((level,)) + self._behind_level


def audio_level(pcm: bytes) -> int:
    """The level of PCM16 below full scale, in dB; 127 for silence (RFC 6464 section 3)."""
    samples = np.frombuffer(pcm, _INT16).astype(_FLOAT)
    power = float(samples.dot(samples)) / max(1, len(samples)) / 32768**2
    return _SILENT if power < 1e-12 else min(_SILENT, round(-10 * math.log10(power)))
