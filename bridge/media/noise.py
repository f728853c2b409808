"""Whether a piece of sound is a pause: digital silence, or no louder than the noise of the line it came over."""

import numpy as np

__all__ = ["NoiseFloor"]

_SILENT = 300  # of 32,768, peak: between words on a clean line, 40 dB below full scale
_LEAST = 30.0  # RMS: whatever is below is silence, and says nothing of the line
_MOST = 1000.0  # of 32,768, RMS: whatever is louder than -30 dB is no noise floor
_ABOVE = 1.5  # 3.5 dB: the RMS of 20 ms of noise, coded at 32 kbit/s, stays within
_RISE = 1.05  # each time: a floor that has risen is believed within half a minute
_ENOUGH = 8  # samples, of which one at least was no speech


class NoiseFloor:
    """Knows how quiet one line has been of late."""

    def __init__(self) -> None:
        self._rms = _MOST
        self._samples = 0

    def observe(self, pcm: bytes) -> None:
        """Takes a sample of the line, PCM16 mono; 20 ms of each few hundred are enough."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        rms = float(np.dot(samples, samples) / max(1, len(samples))) ** 0.5
        if rms >= _LEAST:
            self._rms = min(rms, self._rms * _RISE, _MOST)
            self._samples += 1

    def is_quiet(self, pcm: bytes) -> bool:
        """Whether nobody speaks in ``pcm``, as far as loudness tells; true if it is empty."""
        samples = np.frombuffer(pcm, "<i2")
        if not len(samples) or -_SILENT < int(samples.min()) and int(samples.max()) < _SILENT:
            return True
        if self._samples < _ENOUGH:
            return False
        wide = samples.astype(np.float32)
        return float(np.dot(wide, wide) / len(samples)) <= (_ABOVE * self._rms) ** 2
