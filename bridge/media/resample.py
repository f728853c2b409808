"""Streaming conversion between sample rates, by a polyphase windowed sinc.

Coefficients are multiples of 2**-30 and samples are integers, so every product and every sum is exact in float64: the
output depends neither on how the input is cut nor on the order in which BLAS adds.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resampler"]

# In units of the lower of the two rates: passband to 0.8 of its Nyquist frequency, stopband from 1.15, 68 dB between
# (Kaiser's formula: 7.95 + 2.285 * pi * 0.35 * 2 * lobes dB).
_LOBES = 12
_CUTOFF = 0.975
_BETA = 0.1102 * (68 - 8.7)
_SCALE = 2.0**30


@functools.cache
def _build_filter(inputs: int, outputs: int) -> tuple[NDArray[np.float64], int]:
    """The matrix (span, ``outputs``) that a window of input samples is multiplied with, and its reach on either side.

    The first of a window's ``outputs`` results lies at its sample ``reach``, the next ``inputs / outputs`` later.
    """
    slowdown = max(inputs / outputs, 1.0)
    half_width = _LOBES * slowdown
    reach = math.ceil(half_width)
    span = 2 * reach + (outputs - 1) * inputs // outputs + 1
    at = np.arange(outputs) * inputs / outputs + reach
    distance = np.arange(span)[:, np.newaxis] - at
    window = np.i0(_BETA * np.sqrt(np.maximum(1 - (distance / half_width) ** 2, 0))) * (np.abs(distance) <= half_width)
    taps = np.sinc(_CUTOFF * distance / slowdown) * window
    matrix = np.rint(taps / taps.sum(axis=0) * _SCALE) / _SCALE
    matrix.flags.writeable = False
    return matrix, reach


class Resampler:
    """Mono PCM16 little-endian of one rate in, of another out; output sample ``k`` sounds at ``k / to_hz``.

    To know a sample, it must have heard ``lookahead_ms`` beyond it; that much, and no more than one cycle of the
    ratio besides, is held back until ``flush``.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._inputs = from_hz // divisor
        self._outputs = to_hz // divisor
        self._matrix, self._reach = _build_filter(self._inputs, self._outputs)
        self.lookahead_ms = 0.0 if from_hz == to_hz else 1000 * self._reach / from_hz
        self._reset()

    def _reset(self) -> None:
        self._tail = np.zeros(self._reach)
        self._input_samples = 0
        self._output_samples = 0

    def push(self, pcm: bytes) -> bytes:
        """Takes any number of samples; returns those that are now certain, in whole cycles of the ratio."""
        if self._inputs == self._outputs:
            return pcm
        fresh = np.frombuffer(pcm, "<i2")
        samples = np.concatenate((self._tail, fresh))
        span = len(self._matrix)
        cycles = max((len(samples) - span) // self._inputs + 1, 0)
        stride = samples.itemsize
        windows = np.ndarray((cycles, span), samples.dtype, samples, strides=(self._inputs * stride, stride))
        result = np.rint(windows @ self._matrix)
        self._tail = samples[cycles * self._inputs :].copy()
        self._input_samples += len(fresh)
        self._output_samples += result.size
        return np.minimum(np.maximum(result, -32768), 32767).astype("<i2").tobytes()

    def flush(self) -> bytes:
        """Returns what was held back, as if silence followed, and begins anew."""
        if self._inputs == self._outputs:
            return b""
        missing = round(self._input_samples * self._outputs / self._inputs) - self._output_samples
        tail = self.push(bytes(2 * len(self._matrix)))
        self._reset()
        return tail[: 2 * missing]
