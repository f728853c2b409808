"""What is spoken in benchmarks: a person, a few seconds long."""

import wave
from functools import cache
from pathlib import Path

import numpy as np

from bridge.media.opus import FRAME_MS, new_encoder
from bridge.wire.audio import SESSION_HZ

__all__ = ["FRAME_BYTES", "likeness", "opus_speech", "speech"]

_SPEECH = Path(__file__).parents[2] / "tests" / "data" / "speech.wav"

FRAME_BYTES = 2 * SESSION_HZ * FRAME_MS // 1000
"""Of 20 ms of PCM16 at 24 kHz, mono."""


@cache
def speech() -> bytes:
    """A few seconds of a person speaking, PCM16 24 kHz mono."""
    with wave.open(str(_SPEECH)) as source:
        return bytes(source.readframes(source.getnframes()))


@cache
def opus_speech() -> tuple[bytes, ...]:
    """That speech as Opus packets of 20 ms, 32 kbit/s with in-band FEC."""
    encoder, pcm = new_encoder(SESSION_HZ), speech()
    return tuple(encoder.encode(pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES))


def likeness(pcm: bytes) -> float:
    """How much PCM16 of 24 kHz is like some part of that speech, said twice: the best correlation, 0 to 1.

    It may be as long as the speech at most; what is longer is like nothing, and so is silence.
    """
    heard = np.frombuffer(pcm, "<i2").astype(np.float64)
    said = np.tile(np.frombuffer(speech(), "<i2").astype(np.float64), 2)
    if len(heard) > len(said) // 2 or not heard.any():
        return 0.0
    size = len(said) + len(heard)
    products = np.fft.irfft(np.fft.rfft(said, size) * np.conj(np.fft.rfft(heard, size)), size)[: len(said) - len(heard)]
    sums = np.concatenate(([0.0], np.cumsum(said**2)))
    energies = (sums[len(heard) :] - sums[: -len(heard)])[: len(products)]
    return float(np.max(products / np.sqrt(np.maximum(energies, 1.0) * np.sum(heard**2))))
