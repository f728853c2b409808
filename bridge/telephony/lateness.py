"""Measures how much of a telephone caller's sound came late.

Nothing is lost over TCP, so a bad network shows as bursts. Sound is late if it comes faster than real time after a
pause: it was spoken in the pause. If sound goes on at its usual pace after a pause, the network was not the cause: some
carriers send no silence.
"""

from bridge.wire.audio import AudioFormat

__all__ = ["InputLateness"]

_PAUSE_S = 0.1


class InputLateness:
    """The lateness of one call's sound; ``now`` is the time in seconds at which a message came."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.messages = 0
        """The number of messages with sound that came."""
        self._bytes_per_s = audio_format.size_of(1000)
        self._came_at: float | None = None
        self._owed_s = 0.0
        self._late_s = 0.0

    @property
    def late_ms(self) -> int:
        """How much of the sound came late, in ms."""
        return round(1000 * self._late_s)

    def add(self, size_bytes: int, now: float) -> None:
        """Counts a message with so many bytes of sound."""
        self.messages += 1
        sound_s = size_bytes / self._bytes_per_s
        gap_s = sound_s if self._came_at is None else now - self._came_at
        self._came_at = now
        missing_s = gap_s - sound_s
        if missing_s > _PAUSE_S:
            self._owed_s = missing_s
        elif self._owed_s > 0.0:
            if gap_s < sound_s / 2:
                self._late_s += min(sound_s, self._owed_s)
                self._owed_s -= sound_s - gap_s
            else:
                self._owed_s = 0.0
