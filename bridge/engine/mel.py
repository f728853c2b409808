"""Whisper's ears: the log-mel spectrogram that its models were trained on, in plain numpy."""

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAMES_PER_S", "RATE_HZ", "log_mel"]

RATE_HZ = 16_000
FRAMES_PER_S = 100

_FFT_SAMPLES = 400
_HOP_SAMPLES = RATE_HZ // FRAMES_PER_S
_FLOOR = 1e-10
_RANGE = 8.0  # decades below the loudest
# Slaney's mel scale: linear up to 1 kHz, 27 mels to each factor of 6.4 above it.
_LINEAR_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27

_Floats = NDArray[np.float32]

_WINDOW = np.hanning(_FFT_SAMPLES + 1)[:-1].astype(np.float32)  # periodic


def log_mel(samples: _Floats, *, frames: int, mels: int = 80) -> _Floats:
    """Features (``mels``, ``frames``) of mono sound at 16 kHz, -1 to 1.

    Silence is added, and what is too long is cut.
    """
    sound = samples[: frames * _HOP_SAMPLES]
    reach = _FFT_SAMPLES // 2
    mirrored = sound[1 : reach + 1][::-1]
    padded = np.concatenate((np.zeros(reach - len(mirrored), np.float32), mirrored, sound, np.zeros(2 * reach)))
    count = min(frames, len(sound) // _HOP_SAMPLES + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float32), _FFT_SAMPLES)[::_HOP_SAMPLES][:count]
    spectrum = np.fft.rfft(windows * _WINDOW)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    energies = np.full((mels, frames), _FLOOR, np.float32)
    energies[:, : len(power)] = np.maximum(_filters(mels) @ power.T, _FLOOR)
    decades = np.log10(energies)
    limited: _Floats = (np.maximum(decades, decades.max() - _RANGE) + 4) / 4
    return np.ascontiguousarray(limited, np.float32)


@functools.cache
def _filters(mels: int) -> _Floats:
    """Triangles of equal area (``mels``, bins), as librosa's default ones."""
    bins_hz = np.fft.rfftfreq(_FFT_SAMPLES, 1 / RATE_HZ)
    corners_hz = _to_hz(np.linspace(0, _to_mel(RATE_HZ / 2), mels + 2))
    low, middle, high = corners_hz[:-2, np.newaxis], corners_hz[1:-1, np.newaxis], corners_hz[2:, np.newaxis]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    filters: _Floats = triangles.astype(np.float32)
    filters.flags.writeable = False
    return filters


def _to_mel(hz: float) -> float:
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)  # for what is above the break


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    hz: NDArray[np.float64] = np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, above)
    return hz
