"""Both sides of a call on one timeline: the caller left, the answer right, each where it was heard.

Sound comes with its place in its own track. The caller's is laid where the clock says it was spoken, and after that
sample by sample; if its track falls behind the clock, it was silent. The answer's comes faster than it plays: it is
laid behind what is still playing, and cut where it was cut for the caller.
"""

from collections.abc import Iterator

__all__ = ["StereoTimeline"]

_LATE_S = 0.25  # the caller's sound may come so much later than it was spoken before silence is put in front of it
_FINAL_S = 1.0  # nothing is laid further back than this
_AHEAD_S = 30.0  # how far the caller's sound may run ahead of the clock before it is final
_PIECE_S = 60.0  # no more is taken at once
_MAX_WAITING_S = 600.0  # of an answer that has still to be heard; more is left out


class _Channel:
    """The samples of one side from ``base`` on; silence where nothing was laid."""

    def __init__(self) -> None:
        self.base = 0
        self._pcm = bytearray()

    @property
    def end(self) -> int:
        """The place behind the last sample."""
        return self.base + len(self._pcm) // 2

    def lay(self, at: int, pcm: bytes) -> None:
        """Lays ``pcm`` from sample ``at`` on, or behind what is there."""
        self._pcm += bytes(2 * max(0, at - self.end)) + pcm

    def cut(self, at: int) -> None:
        """Drops everything from sample ``at`` on."""
        del self._pcm[2 * max(0, at - self.base) :]

    def take_samples(self, samples: int) -> bytes:
        """Takes the first so many samples, which are final."""
        pcm = bytes(self._pcm[: 2 * samples])
        del self._pcm[: 2 * samples]
        self.base += samples
        return pcm + bytes(2 * samples - len(pcm))


class StereoTimeline:
    """See the module. ``now`` is seconds since it began; sound is PCM16 mono, ``timestamp`` its place in samples."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._left, self._right = _Channel(), _Channel()
        self._shift: int | None = None
        self._expected: int | None = None

    def add_caller_sound(self, pcm: bytes, timestamp: int, now: float) -> None:
        """Adds sound of the caller."""
        spoken_at = max(0, self._samples(now) - len(pcm) // 2)
        if self._shift is None or timestamp + self._shift < spoken_at - self._samples(_LATE_S):
            self._shift = spoken_at - timestamp
        self._left.lay(timestamp + self._shift, pcm)

    def add_answer_sound(self, pcm: bytes, timestamp: int, now: float) -> None:
        """Adds sound of the answer; what is missing before ``timestamp`` is silence."""
        missing = 0 if self._expected is None else max(0, timestamp - self._expected)
        self._expected = timestamp + len(pcm) // 2
        at = max(self._samples(now), self._right.end + missing)
        if at - self._samples(now) <= self._samples(_MAX_WAITING_S):
            self._right.lay(at, pcm)

    def cut(self, now: float) -> None:
        """Cuts the answer, because the caller hears no more of it."""
        self._right.cut(self._samples(now))

    @property
    def waiting_s(self) -> float:
        """How much of the caller's sound is here, in seconds."""
        return (self._left.end - self._left.base) / self._rate_hz

    def take_final(self, now: float) -> tuple[bytes, bytes]:
        """Takes what is final, left and right; both have the same length."""
        final = max(self._samples(now - _FINAL_S), self._left.end - self._samples(_AHEAD_S))
        return self._take(final)

    def finish(self, now: float) -> Iterator[tuple[bytes, bytes]]:
        """Takes all that is left, in pieces; of the answer, what was heard."""
        self.cut(now)
        until = max(self._left.end, self._right.end)
        while self._left.base < until:
            yield self._take(until)

    def _take(self, until: int) -> tuple[bytes, bytes]:
        samples = min(max(0, until - self._left.base), self._samples(_PIECE_S))
        return self._left.take_samples(samples), self._right.take_samples(samples)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self._rate_hz)
