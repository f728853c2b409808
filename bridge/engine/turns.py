"""Where a caller's turns begin and end: the ``server_vad`` of the Realtime protocol."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.engine.vad import RATE_HZ, WINDOW_SAMPLES, SileroVad
from bridge.media.resample import Resampler

__all__ = ["Edge", "SpeechPaused", "SpeechResumed", "SpeechStarted", "SpeechStopped", "TurnDetector"]

_INPUT_HZ = 24_000
_INPUT_BYTES_PER_MS = 2 * _INPUT_HZ // 1000
_WINDOW_MS = 1000 * WINDOW_SAMPLES // RATE_HZ
_WINDOW_BYTES = 2 * WINDOW_SAMPLES
_FULL_SCALE = np.float32(1 / 32768)
_HYSTERESIS = 0.15  # speech goes on until it is this much less likely than what began it (Silero's VADIterator)
_LEAST_PROBABILITY = 0.01


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """A turn began."""

    audio_start_ms: int
    """Start of the turn's audio: the prefix padding before speech, but never in an earlier turn or in cleared audio."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """A turn ended."""

    audio_end_ms: int
    """End of the turn's audio: where the silence was long enough to tell, so that silence is part of it."""


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """Silence inside a turn, which may become its end."""

    audio_end_ms: int
    """How far the sound has been heard."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The pause was not the end of the turn."""


Edge = SpeechStarted | SpeechPaused | SpeechResumed | SpeechStopped


class TurnDetector:
    """Finds the turns in one stream of PCM16 24 kHz mono; its clock is ms since the first sample ever pushed.

    With ``pause_ms`` it tells of shorter silences as well, and may then be told how long this one has to last.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        prefix_padding_ms: int = 300,
        silence_duration_ms: int = 500,
        pause_ms: int | None = None,
    ) -> None:
        self.configure(
            threshold=threshold, prefix_padding_ms=prefix_padding_ms, silence_duration_ms=silence_duration_ms
        )
        self._pause_ms = pause_ms
        self._is_paused = False
        self._this_silence_ms: int | None = None
        self._resampler = Resampler(_INPUT_HZ, RATE_HZ)
        self._vad = SileroVad()
        self._pending = b""  # less than one window at 16 kHz
        self._pushed_bytes = 0
        self._judged_ms = 0
        self._free_ms = 0  # audio before this belongs to an earlier turn or was cleared
        self._is_speaking = False
        self._silent_since_ms: int | None = None

    @property
    def is_speaking(self) -> bool:
        """Whether a turn is open."""
        return self._is_speaking

    def configure(self, *, threshold: float, prefix_padding_ms: int, silence_duration_ms: int) -> None:
        """Change the settings from the next window on; an open turn stays open."""
        self._threshold = threshold
        self._prefix_padding_ms = prefix_padding_ms
        self._silence_duration_ms = silence_duration_ms

    def end_after(self, silence_ms: int) -> SpeechStopped | None:
        """The present pause ends the turn when it has lasted so long, at once if it has; the next is as configured."""
        if not self._is_paused or self._silent_since_ms is None:
            return None
        self._this_silence_ms = silence_ms
        return self._stop() if self._judged_ms - self._silent_since_ms >= silence_ms else None

    def reset(self) -> None:
        """Forget an open turn and whatever was pushed so far, but keep the clock."""
        self._is_speaking = False
        self._forget_silence()
        self._free_ms = self._pushed_bytes // _INPUT_BYTES_PER_MS

    def push(self, pcm: bytes) -> list[Edge]:
        """Hear any number of samples; return the turns' edges among them, in order."""
        self._pushed_bytes += len(pcm)
        self._pending += self._resampler.push(pcm)
        whole = len(self._pending) - len(self._pending) % _WINDOW_BYTES
        heard, self._pending = self._pending[:whole], self._pending[whole:]
        samples = np.frombuffer(heard, "<i2") * _FULL_SCALE
        edges = (self._judge(window) for window in samples.reshape(-1, WINDOW_SAMPLES))
        return [edge for edge in edges if edge is not None]

    def _judge(self, window: NDArray[np.float32]) -> Edge | None:
        probability = self._vad.step(window)
        start_ms, self._judged_ms = self._judged_ms, self._judged_ms + _WINDOW_MS
        if probability >= self._threshold:
            was_paused = self._is_paused
            self._forget_silence()
            if not self._is_speaking:
                return self._start(start_ms)
            return SpeechResumed() if was_paused else None
        if self._is_speaking and probability < max(self._threshold - _HYSTERESIS, _LEAST_PROBABILITY):
            if self._silent_since_ms is None:
                self._silent_since_ms = start_ms
            return self._judge_silence(self._judged_ms - self._silent_since_ms)
        return None

    def _judge_silence(self, silence_ms: int) -> Edge | None:
        if silence_ms >= (self._this_silence_ms or self._silence_duration_ms):
            return self._stop()
        if self._pause_ms is not None and silence_ms >= self._pause_ms and not self._is_paused:
            self._is_paused = True
            return SpeechPaused(self._judged_ms)
        return None

    def _start(self, speech_ms: int) -> SpeechStarted:
        self._is_speaking = True
        return SpeechStarted(max(speech_ms - self._prefix_padding_ms, self._free_ms))

    def _stop(self) -> SpeechStopped:
        self._is_speaking = False
        self._forget_silence()
        self._free_ms = self._judged_ms
        return SpeechStopped(self._judged_ms)

    def _forget_silence(self) -> None:
        self._silent_since_ms = None
        self._is_paused = False
        self._this_silence_ms = None
