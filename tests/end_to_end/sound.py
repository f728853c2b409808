"""Sound as tests compare it: decoded and resampled by other means than the bridge's own."""

from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

RATES_HZ = {"pcm16": 24_000, "g711_ulaw": 8_000, "g711_alaw": 8_000}
_CODECS = {"g711_ulaw": "pcm_mulaw", "g711_alaw": "pcm_alaw"}

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
