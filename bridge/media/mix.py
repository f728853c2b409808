"""Mixes two channels that come interleaved into one."""

import numpy as np

from bridge.media.g711 import decode_ulaw
from bridge.wire.audio import G711_ULAW, AudioFormat

__all__ = ["mix_interleaved"]


def mix_interleaved(sound: bytes, audio_format: AudioFormat) -> bytes:
    """Returns the sum of both channels as PCM16; it is cut where it would be too loud.

    ``audio_format`` is that of each channel, µ-law or PCM16. A last sample without its partner is left out.
    """
    pcm = decode_ulaw(sound) if audio_format is G711_ULAW else sound
    both = np.frombuffer(pcm[: len(pcm) - len(pcm) % 4], "<i2").astype(np.int32)
    return (both[::2] + both[1::2]).clip(-32768, 32767).astype("<i2").tobytes()
