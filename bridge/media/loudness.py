"""When somebody speaks, as far as loudness tells: an estimate for callers of models that do not say so."""

from dataclasses import dataclass

import numpy as np

__all__ = ["SpeechByLoudness", "SpeechEdge", "is_audible"]

_FRAME_MS = 20
_LEAST_RMS = 250.0  # of 32,768: whatever is below is no speech
_ABOVE = 3.0  # 10 dB over the line's own noise
_RISE = 1.01  # for each frame: a floor that has risen is believed within seconds
_LOUD_FRAMES = 5  # of the last eight: a click is no speech
_QUIET_FRAMES = 30  # 600 ms: a pause between two words is no end
_AUDIBLE = 100  # of 32,768, peak: an Opus decoder's silence is below


@dataclass(frozen=True, slots=True)
class SpeechEdge:
    """Speech begins, or has ended; ``at_ms`` counts from the first sound."""

    is_start: bool
    at_ms: int


class SpeechByLoudness:
    """Finds speech in PCM16 mono at ``rate_hz``."""

    def __init__(self, rate_hz: int) -> None:
        self.heard_ms = 0
        """How much sound has come, in whole frames."""
        self._frame_bytes = 2 * rate_hz * _FRAME_MS // 1000
        self._rest = b""
        self._floor = _LEAST_RMS
        self._lately = 0
        """A bit for each of the last eight frames, the newest lowest: whether it was loud."""
        self._quiet_frames = 0
        self._is_speaking = False

    def push(self, pcm: bytes) -> list[SpeechEdge]:
        """Takes more sound; returns where speech began or ended in it."""
        sound = self._rest + pcm if self._rest else pcm
        whole_bytes = len(sound) - len(sound) % self._frame_bytes
        self._rest = sound[whole_bytes:]
        edges: list[SpeechEdge] = []
        if whole_bytes:
            frames = np.frombuffer(sound[:whole_bytes], "<i2").reshape(-1, self._frame_bytes // 2).astype(np.float32)
            for rms in np.sqrt(np.einsum("ij,ij->i", frames, frames) / frames.shape[1]):
                edge = self._take(float(rms))
                if edge is not None:
                    edges.append(edge)
        return edges

    def _take(self, rms: float) -> SpeechEdge | None:
        self.heard_ms += _FRAME_MS
        is_loud = rms > max(_LEAST_RMS, _ABOVE * self._floor)
        if not is_loud:
            self._floor = min(max(rms, 1.0), self._floor * _RISE) if rms < self._floor else self._floor * _RISE
            self._floor = min(self._floor, 1000.0)
        self._lately = (self._lately << 1 | is_loud) & 0xFF
        self._quiet_frames = 0 if is_loud else self._quiet_frames + 1
        if not self._is_speaking and self._lately.bit_count() >= _LOUD_FRAMES:
            self._is_speaking = True
            return SpeechEdge(True, max(0, self.heard_ms - 8 * _FRAME_MS))
        if self._is_speaking and self._quiet_frames >= _QUIET_FRAMES:
            self._is_speaking = False
            return SpeechEdge(False, self.heard_ms - _QUIET_FRAMES * _FRAME_MS)
        return None


def is_audible(pcm: bytes) -> bool:
    """Whether PCM16 holds anything but silence."""
    samples = np.frombuffer(pcm, "<i2")
    return bool(samples.size) and (int(samples.max()) >= _AUDIBLE or int(samples.min()) <= -_AUDIBLE)
