"""Between the formats that sound is carried in, as streams: nothing is decoded that need not be.

``SoundConverter`` makes several formats of one: decoded once, resampled once for each rate, encoded once for each
format. ``SoundEncoder`` and ``SoundDecoder`` make one of one.
"""

from collections.abc import Callable

import numpy as np

from bridge.media import g711
from bridge.media.resample import Resampler
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat

__all__ = ["SoundConverter", "SoundDecoder", "SoundEncoder"]

_ENCODERS: dict[AudioFormat, Callable[[bytes], bytes]] = {G711_ULAW: g711.encode_ulaw, G711_ALAW: g711.encode_alaw}
_DECODERS: dict[AudioFormat, Callable[[bytes], bytes]] = {G711_ULAW: g711.decode_ulaw, G711_ALAW: g711.decode_alaw}


def _as_it_is(sound: bytes) -> bytes:
    return sound


def _twice(pcm: bytes) -> bytes:
    """Repeats each sample, for the left and for the right."""
    return np.repeat(np.frombuffer(pcm, "<i2"), 2).tobytes()


class SoundConverter:
    """Converts one format to any others, which may come and go. The format itself passes through untouched."""

    def __init__(self, source: AudioFormat) -> None:
        self.source = source
        self._decode = _DECODERS.get(source, _as_it_is)
        self._encoders: dict[AudioFormat, Callable[[bytes], bytes]] = {}
        self._resamplers: dict[int, Resampler] = {}

    def want(self, target: AudioFormat) -> None:
        """From now on makes ``target`` as well; may be called twice."""
        if target is self.source or target in self._encoders:
            return
        self._encoders[target] = _ENCODERS.get(target, _as_it_is if target.channels == 1 else _twice)
        if target.rate_hz not in self._resamplers:
            self._resamplers[target.rate_hz] = Resampler(self.source.rate_hz, target.rate_hz)

    def leave_out(self, target: AudioFormat) -> None:
        """Stops making ``target``. If it is wanted again, its resampler begins anew."""
        if self._encoders.pop(target, None) is not None:
            if all(other.rate_hz != target.rate_hz for other in self._encoders):
                del self._resamplers[target.rate_hz]

    def push(self, sound: bytes) -> dict[AudioFormat, bytes]:
        """Takes sound; returns what is due in each format."""
        if not self._encoders:
            return {self.source: sound}
        pcm = self._decode(sound)
        made = self._encode({rate_hz: resampler.push(pcm) for rate_hz, resampler in self._resamplers.items()})
        made[self.source] = sound
        return made

    def flush(self) -> dict[AudioFormat, bytes]:
        """Returns what the resamplers still held."""
        made = self._encode({rate_hz: resampler.flush() for rate_hz, resampler in self._resamplers.items()})
        made[self.source] = b""
        return made

    def _encode(self, by_rate: dict[int, bytes]) -> dict[AudioFormat, bytes]:
        return {target: encode(by_rate[target.rate_hz]) for target, encode in self._encoders.items()}


class SoundEncoder:
    """Converts a stream of ``source`` to one other format."""

    def __init__(self, target: AudioFormat, source: AudioFormat = PCM16) -> None:
        self._target = target
        self._converter = SoundConverter(source)
        self._converter.want(target)

    def push(self, sound: bytes) -> bytes:
        """Takes sound; returns what is due in the format."""
        return self._converter.push(sound)[self._target]

    def flush(self) -> bytes:
        """Returns what the resampler still held."""
        return self._converter.flush()[self._target]


class SoundDecoder(SoundEncoder):
    """Converts a stream of ``source`` to PCM16, or to another format."""

    def __init__(self, source: AudioFormat, target: AudioFormat = PCM16) -> None:
        super().__init__(target, source)
