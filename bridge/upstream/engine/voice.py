"""The engine's voice: hibari, an English one that speaks a hundred times as fast as it is listened to."""

import numpy as np
from hibari import SAMPLE_RATE, Hibari
from numpy.typing import NDArray

from bridge.upstream.engine.prose import spoken
from bridge.wire.audio import SESSION_HZ

__all__ = ["Voice"]

_NAME = "heart"  # the one whose model comes inside the package; every other one would be downloaded

# It takes a breath of 0.3 s before a sentence and one of 0.45 s behind it: the caller has waited long enough.
_AUDIBLE = 0.003
_BREATH_BEFORE = SESSION_HZ * 40 // 1000
_BREATH_BEHIND = SESSION_HZ * 250 // 1000

assert SAMPLE_RATE == SESSION_HZ


class Voice:
    """One loaded voice; used by one thread at a time. With a ``seed`` the same text sounds the same to the bit."""

    def __init__(self, *, seed: int | None = None) -> None:
        self._seed = seed
        self._hibari = Hibari(voice=_NAME, threads=1)

    def say(self, sentence: str, *, speed: float = 1.0) -> bytes:
        """PCM16 24 kHz mono; nothing where there is nothing to be heard."""
        samples = _trimmed(self._hibari(spoken(sentence), speed=speed, seed=self._seed))
        pcm: bytes = (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
        return pcm


def _trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    if not audible.size:
        return samples[:0]
    return samples[max(0, audible[0] - _BREATH_BEFORE) : audible[-1] + _BREATH_BEHIND]
