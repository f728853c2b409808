"""The engine's voice: one of hibari's, which are English and speak a hundred times as fast as they are listened to."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hibari import SAMPLE_RATE, Hibari
from hibari.voices import VOICES
from numpy.typing import NDArray

from bridge.engine.prose import spoken
from bridge.errors import ConfigError
from bridge.wire.audio import SESSION_HZ

__all__ = ["Voice"]

_WARM_UP = "Warm up."
_NAME = "heart"  # the one whose model comes inside the package; every other one would be downloaded

_LONGEST_BREATH = 250  # phonemes, 15 to 20 s; no usual sentence is longer
# It takes a breath of 0.3 s before a sentence and one of 0.45 s behind it: the caller has waited long enough.
_AUDIBLE = 0.003
_BREATH_BEFORE = SESSION_HZ * 40 // 1000
_BREATH_BEHIND = SESSION_HZ * 250 // 1000

assert SAMPLE_RATE == SESSION_HZ


class Voice:
    """One loaded voice; used by one thread at a time. With a ``seed`` the same text sounds the same to the bit."""

    def __init__(self, file: Path | None = None, *, seed: int | None = None) -> None:
        """``file`` is another voice's model, called as hibari calls it; raises ``ConfigError`` if it is none."""
        self._seed = seed
        self.name = _NAME if file is None else _name_of(file)
        """The name of the voice."""
        accent = self.name if self.name in VOICES else _NAME
        try:
            self._hibari = Hibari(voice=accent, model=None if file is None else str(file), threads=1)
            self.say(_WARM_UP)  # a model of another kind fails here
        except Exception as error:  # ONNX Runtime's errors have nothing else in common
            if file is None:
                raise
            reason = str(error).partition("\n")[0][:200]
            raise ConfigError(f"engine_voice: {file} is not a hibari voice: {reason}", param="engine_voice") from None

    def say(self, sentence: str, *, speed: float = 1.0) -> bytes:
        """Speaks a text as PCM16 24 kHz mono; empty if there is nothing to be heard."""
        random = np.random.default_rng(self._seed)
        breaths = [breath for phonemes in self._hibari.phonemize(spoken(sentence)) for breath in _breaths(phonemes)]
        sounds = [self._hibari.from_ids(self._hibari.ids(breath), speed, random) for breath in breaths]
        samples = _trimmed(np.concatenate(sounds)) if sounds else np.zeros(0, np.float32)
        pcm: bytes = (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
        return pcm


def _name_of(file: Path) -> str:
    """The voice in a file of this name; a file with a name of its own is a voice of this name."""
    return next((name for name, voice in VOICES.items() if voice["file"] == file.name), file.stem)


def _breaths(phonemes: str) -> Iterator[str]:
    """Cuts a text between words into pieces so short that each takes little memory, which is never given back."""
    while len(phonemes) > _LONGEST_BREATH:
        end = phonemes.rfind(" ", 0, _LONGEST_BREATH) + 1 or _LONGEST_BREATH
        yield phonemes[:end]
        phonemes = phonemes[end:]
    yield phonemes


def _trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    audible = np.flatnonzero(np.abs(samples) > _AUDIBLE)
    if not audible.size:
        return samples[:0]
    return samples[max(0, audible[0] - _BREATH_BEFORE) : audible[-1] + _BREATH_BEHIND]
