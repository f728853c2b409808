"""Silero VAD's forward pass in plain numpy.

The weights are those of Silero's 16 kHz ONNX model as float16 (MIT, see ``silero_LICENSE.txt``); rounding them moves
a probability by 2e-3, on the steepest edges of speech by 1e-2. A window costs a tenth of a millisecond.
"""

from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "WINDOW_SAMPLES", "SileroVad"]

RATE_HZ = 16_000
WINDOW_SAMPLES = 512

_CONTEXT_SAMPLES = 64  # of the window before, and as many again mirrored at the right edge
_FRAME_SAMPLES = 256
_HOP_SAMPLES = 128
_BINS = _FRAME_SAMPLES // 2 + 1
_HIDDEN = 128
_CONVOLUTION_STRIDES = (1, 2, 2, 1)

_Floats = NDArray[np.float32]


class _Convolution(NamedTuple):
    """Kernel size 3 over time, one row of zeros on either side, then ReLU."""

    kernel: _Floats  # (3 * channels in, channels out)
    bias: _Floats
    stride: int

    def __call__(self, rows: _Floats) -> _Floats:
        times, channels = rows.shape
        padded = np.zeros((times + 2, channels), np.float32)
        padded[1:-1] = rows
        convolved = _slide(padded, 3 * channels, self.stride * channels) @ self.kernel + self.bias
        activated: _Floats = np.maximum(convolved, 0)
        return activated


class _Weights(NamedTuple):
    fourier: _Floats  # (frame, real bins then imaginary ones)
    convolutions: tuple[_Convolution, ...]
    gates: _Floats  # (input, forget, cell, output; the cell's input then its hidden vector)
    gates_bias: _Floats
    final: _Floats
    final_bias: _Floats


def _slide(values: _Floats, width: int, hop: int) -> _Floats:
    """Overlapping rows of ``width`` from a contiguous array; each begins ``hop`` after the last."""
    stride = values.itemsize
    rows = (values.size - width) // hop + 1
    return np.ndarray((rows, width), np.float32, values, strides=(hop * stride, stride))


def _sigmoid(values: _Floats) -> _Floats:
    result: _Floats = 0.5 * np.tanh(0.5 * values) + 0.5  # unlike 1 / (1 + exp(-x)), never overflows
    return result


def _load_weights() -> _Weights:
    source = resources.files(__package__) / "silero_vad_16k_fp16.npz"
    with source.open("rb") as file, np.load(file) as archive:
        arrays = {name: archive[name].astype(np.float32) for name in archive.files}
    kernels = [arrays[f"conv{i}.weight"].transpose(2, 1, 0) for i in range(1, 5)]
    biases = [arrays[f"conv{i}.bias"] for i in range(1, 5)]
    return _Weights(
        fourier=np.ascontiguousarray(arrays["stft_conv.weight"][:, 0].T),
        convolutions=tuple(
            _Convolution(kernel.reshape(-1, len(bias)), bias, stride)
            for kernel, bias, stride in zip(kernels, biases, _CONVOLUTION_STRIDES, strict=True)
        ),
        gates=np.hstack((arrays["lstm_cell.weight_ih"], arrays["lstm_cell.weight_hh"])),
        gates_bias=arrays["lstm_cell.bias_ih"] + arrays["lstm_cell.bias_hh"],
        final=arrays["final_conv.weight"].ravel(),
        final_bias=arrays["final_conv.bias"],
    )


_WEIGHTS = _load_weights()  # at import: the event loop must not wait for a file


class SileroVad:
    """One stream's speech probability, window by window; remembers what it heard until ``reset``."""

    def __init__(self) -> None:
        self._weights = _WEIGHTS
        self.reset()

    def reset(self) -> None:
        """Forget everything heard."""
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._hidden = np.zeros(_HIDDEN, np.float32)
        self._cell = np.zeros(_HIDDEN, np.float32)

    def step(self, window: NDArray[np.float32]) -> float:
        """The probability, 0 to 1, that the next 512 samples (16 kHz, -1 to 1) hold speech."""
        if window.shape != (WINDOW_SAMPLES,):
            raise ValueError(f"a window is {WINDOW_SAMPLES} samples, not {window.shape}")
        weights = self._weights
        mirrored = window[-2 : -_CONTEXT_SAMPLES - 2 : -1]
        heard = np.concatenate((self._context, window, mirrored), dtype=np.float32)
        self._context = window[-_CONTEXT_SAMPLES:].copy()

        spectrum = _slide(heard, _FRAME_SAMPLES, _HOP_SAMPLES) @ weights.fourier
        features = np.hypot(spectrum[:, :_BINS], spectrum[:, _BINS:])
        for convolution in weights.convolutions:
            features = convolution(features)

        gates = weights.gates @ np.concatenate((features[0], self._hidden)) + weights.gates_bias
        admit, keep, candidate, emit = gates.reshape(4, _HIDDEN)
        self._cell = _sigmoid(keep) * self._cell + _sigmoid(admit) * np.tanh(candidate)
        self._hidden = _sigmoid(emit) * np.tanh(self._cell)
        logit = weights.final @ np.maximum(self._hidden, 0) + weights.final_bias
        return float(_sigmoid(logit).item())
