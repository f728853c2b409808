"""Whether what a caller's microphone brings is the answer that is being played, and nobody's speech. Pure."""

import numpy as np
from numpy.typing import NDArray

from bridge.wire.audio import SESSION_HZ

__all__ = ["WINDOW_MS", "explained"]

WINDOW_MS = 700
"""How much sound is compared."""

_DECIMATION = 3  # to 8 kHz, where speech has its energy
_HZ = SESSION_HZ // _DECIMATION
_SEGMENT_SAMPLES = _HZ * 96 // 1000
_HOP_SAMPLES = _SEGMENT_SAMPLES // 4
_FLOOR = np.float32(1e-9)

_Floats = NDArray[np.float32]
_TAPER = np.hanning(_SEGMENT_SAMPLES).astype(np.float32)


def explained(heard: bytes, played: bytes) -> float:
    """The part of the energy of ``heard`` that is ``played`` through some room, 0 to 1; PCM16 24 kHz mono.

    ``played`` has to hold what the room gave back somewhere, and to be longer than ``heard``. The delay is found by the
    correlation's phase (GCC-PHAT), the part by the coherence of both at this delay (Welch's method). What has nothing
    to do with ``played`` still explains a tenth, because the window is short.
    """
    sound, answer = _decimated(heard), _decimated(played)
    if len(answer) <= len(sound) or len(sound) < 2 * _SEGMENT_SAMPLES:
        return 0.0
    offset = _offset(sound, answer)
    ours, theirs = _spectra(sound), _spectra(answer[offset : offset + len(sound)])
    cross = np.abs((ours * theirs.conj()).sum(axis=0)) ** 2
    power = (np.abs(theirs) ** 2).sum(axis=0) + _FLOOR
    total = float((np.abs(ours) ** 2).sum())
    return min(1.0, float((cross / power).sum()) / total) if total > 0 else 0.0


def _offset(sound: _Floats, answer: _Floats) -> int:
    """Where in ``answer`` the sound begins, if it is in there."""
    size = 1 << (len(sound) + len(answer) - 1).bit_length()
    cross = np.fft.rfft(answer, size) * np.fft.rfft(sound, size).conj()
    likeness = np.fft.irfft(cross / (np.abs(cross) + _FLOOR), size)
    return int(np.abs(likeness[: len(answer) - len(sound)]).argmax())


def _spectra(sound: _Floats) -> NDArray[np.complex128]:
    windows = np.lib.stride_tricks.sliding_window_view(sound, _SEGMENT_SAMPLES)[::_HOP_SAMPLES]
    spectra: NDArray[np.complex128] = np.fft.rfft(windows * _TAPER)
    return spectra


def _decimated(pcm: bytes) -> _Floats:
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32_768
    means: _Floats = samples[: len(samples) // _DECIMATION * _DECIMATION].reshape(-1, _DECIMATION).mean(axis=1)
    return means
