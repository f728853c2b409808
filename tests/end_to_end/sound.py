"""Sound as tests compare it: decoded and resampled by other means than the bridge's own."""

from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

RATES_HZ = {"pcm16": 24_000, "g711_ulaw": 8_000, "g711_alaw": 8_000}
_CODECS = {"g711_ulaw": "pcm_mulaw", "g711_alaw": "pcm_alaw"}

PLAYED_LIKENESS = 0.5
"""The same for ``stretched_likeness`` of what a peer has played or recorded in real time.

A busy machine leaves gaps in it and stretches it: 0.72 was seen. Other words of the speaker reach 0.35.
"""

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """How one recording lies on another: found ``lag`` samples later in it, and how alike the two are there."""

    lag: int
    correlation: float


def samples_of(pcm: bytes) -> Samples:
    """PCM16 as numbers."""
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def pcm_of(samples: Samples) -> bytes:
    """Numbers as PCM16."""
    return np.clip(np.rint(samples), -32_768, 32_767).astype("<i2").tobytes()


def decode(sound: bytes, audio_format: str) -> Samples:
    """What events of ``audio_format`` carried, at the format's own rate."""
    name = _CODECS.get(audio_format)
    if name is None:
        return samples_of(sound)
    codec = av.CodecContext.create(name, "r")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout = RATES_HZ[audio_format], "mono"
    return np.concatenate([frame.to_ndarray().ravel() for frame in codec.decode(av.Packet(sound))]).astype(np.float64)


def encode(pcm: bytes, audio_format: str) -> bytes:
    """PCM16 24 kHz as a client would append it in ``audio_format``."""
    name = _CODECS.get(audio_format)
    if name is None:
        return pcm
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = RATES_HZ[audio_format], "mono", "s16"
    low = np.frombuffer(pcm_of(resample(samples_of(pcm), 24_000, RATES_HZ[audio_format])), "<i2")
    frame = av.AudioFrame.from_ndarray(low.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATES_HZ[audio_format]
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """By cutting or padding the spectrum: no delay, no ripple."""
    length = len(samples) * to_hz // from_hz
    spectrum = np.fft.rfft(samples)
    fitted = np.zeros(length // 2 + 1, dtype=np.complex128)
    common = min(len(spectrum), len(fitted))
    fitted[:common] = spectrum[:common]
    return np.fft.irfft(fitted, length) * (to_hz / from_hz)


def match(sound: Samples, source: Samples) -> Match:
    """Where ``source`` lies in ``sound``, compared over all that the two have in common."""
    size = 1 << (len(sound) + len(source)).bit_length()
    product = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(source, size))
    lag = int(np.argmax(np.fft.irfft(product, size)))
    lag = lag - size if lag >= len(sound) else lag  # behind the end of the sound: before its beginning
    ours, theirs = sound[max(0, lag) :], source[max(0, -lag) :]
    common = min(len(ours), len(theirs))
    return Match(lag, float(np.corrcoef(ours[:common], theirs[:common])[0, 1]))


def stretched_likeness(sound: Samples, source: Samples) -> float:
    """How alike ``sound`` is to ``source`` if its player may have stretched it, as libwebrtc's does on a busy machine.

    Both at 24 kHz. Each piece of 300 ms is laid where it fits best, within 200 ms of the last one that fitted; the mean
    of the pieces' correlations, weighted by their energy.
    """
    size, reach = 7_200, 4_800
    lag = match(sound, source).lag
    quiet = np.zeros(len(source) + reach)
    padded = np.concatenate([quiet, sound, quiet])
    likeness = weights = 0.0
    for at in range(0, len(source) - size + 1, size):
        piece = source[at : at + size]
        start = at + lag + len(quiet) - reach
        there = padded[start : start + size + 2 * reach]
        energy = float(np.dot(piece, piece))
        weights += energy
        if energy > 0 and there.any():
            found = match(there, piece)
            likeness += energy * found.correlation
            if found.correlation > PLAYED_LIKENESS:  # noise in a pause fits anywhere
                lag += found.lag - reach
    return likeness / weights
