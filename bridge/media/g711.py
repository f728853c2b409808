"""G.711 µ-law and A-law, one byte a sample, by table look-up.

Bit exact to CPython's former ``audioop``. Encoders differ among implementations by one quantisation step, decoders do
not (ITU-T G.711, tables 1 and 2).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_alaw", "decode_ulaw", "encode_alaw", "encode_ulaw"]

_Integers = NDArray[np.int32]

_BIAS = 33  # makes each µ-law segment start at a power of two, in 14-bit units
_CLIP = 8158  # the largest 14-bit magnitude the last µ-law segment holds

_CODES = np.arange(256, dtype=np.int32)
_SAMPLES = np.arange(65536, dtype="<u2").view("<i2").astype(np.int32)  # in the order of their unsigned reading


def _bit_length(values: _Integers) -> _Integers:
    return np.frexp(values)[1]


def _build_ulaw_encoder() -> NDArray[np.uint8]:
    linear = _SAMPLES >> 2
    magnitude = np.minimum(np.abs(linear), _CLIP) + _BIAS
    segment = _bit_length(magnitude) - 6
    code: _Integers = segment << 4 | magnitude >> segment + 1 & 0x0F
    return (code ^ np.where(linear < 0, 0x7F, 0xFF)).astype(np.uint8)


def _build_alaw_encoder() -> NDArray[np.uint8]:
    linear = _SAMPLES >> 3
    magnitude = np.where(linear < 0, ~linear, linear)
    segment = np.maximum(_bit_length(magnitude) - 5, 0)
    code: _Integers = segment << 4 | magnitude >> np.maximum(segment, 1) & 0x0F
    return (code ^ np.where(linear < 0, 0x55, 0xD5)).astype(np.uint8)


def _build_ulaw_decoder() -> NDArray[np.int16]:
    code = ~_CODES
    magnitude: _Integers = (((code & 0x0F) << 1) + _BIAS << (code >> 4 & 7)) - _BIAS << 2
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _build_alaw_decoder() -> NDArray[np.int16]:
    code = _CODES ^ 0x55
    segment = code >> 4 & 7
    step = ((code & 0x0F) << 1) + 1 + np.where(segment > 0, 32, 0)
    magnitude: _Integers = step << np.maximum(segment, 1) + 2
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


_ULAW_ENCODER = _build_ulaw_encoder()
_ALAW_ENCODER = _build_alaw_encoder()
_ULAW_DECODER = _build_ulaw_decoder()
_ALAW_DECODER = _build_alaw_decoder()


def encode_ulaw(pcm: bytes) -> bytes:
    """PCM16 little-endian to µ-law; silence is ``0xFF``."""
    return _ULAW_ENCODER.take(np.frombuffer(pcm, "<u2")).tobytes()


def encode_alaw(pcm: bytes) -> bytes:
    """PCM16 little-endian to A-law; silence is ``0xD5``."""
    return _ALAW_ENCODER.take(np.frombuffer(pcm, "<u2")).tobytes()


def decode_ulaw(data: bytes) -> bytes:
    """µ-law to PCM16 little-endian."""
    return _ULAW_DECODER.take(np.frombuffer(data, np.uint8)).tobytes()


def decode_alaw(data: bytes) -> bytes:
    """A-law to PCM16 little-endian; it has no zero, ``0xD5`` is +8."""
    return _ALAW_DECODER.take(np.frombuffer(data, np.uint8)).tobytes()
