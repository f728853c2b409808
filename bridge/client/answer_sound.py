"""The sound of an answer: where it begins and ends in all that came, when it was heard, and whether it still plays.

Every method that needs the time gets it as ``now``. Nothing here waits.
"""

from bridge.client.sound import BYTES_PER_MS, is_silent, sounding_end

__all__ = ["AnswerSound"]

_DRAIN_S = 0.2  # sound that is still on its way when the server says that it has stopped
_SILENCE_S = 1.0
_LEAD_BYTES = 100 * BYTES_PER_MS  # the sound may come this much earlier than the event that announces it


class AnswerSound:
    """All sound that came.

    ``is_paced`` says that it arrives as it is played, as over WebRTC, with silence around the answer.
    """

    def __init__(self, *, is_paced: bool) -> None:
        self.heard_at: float | None = None
        """When the latest response was first heard; None before."""
        self._is_paced = is_paced
        self._pcm = bytearray()
        self._start: int | None = None
        self._stop = 0
        self._from: int | None = None
        self._is_announced = False
        self._is_playing = False
        self._played_at = self._loud_at = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether something of the answer was heard."""
        return self._start is not None

    @property
    def pcm(self) -> bytes:
        """The sound that was heard, without the silence around it."""
        if not self._is_paced:
            return bytes(self._pcm)
        if self._start is None:
            return b""
        heard = bytes(self._pcm[self._start :])
        return heard[: max(self._stop - self._start, sounding_end(heard))]

    @property
    def heard_ms(self) -> int:
        """How much there is to hear so far, in milliseconds."""
        return 0 if self._start is None else (len(self._pcm) - self._start) // BYTES_PER_MS

    def receive_answer_sound(self, pcm: bytes, now: float) -> None:
        """Takes a piece of sound."""
        at = len(self._pcm)
        self._pcm += pcm
        if not self._is_paced:
            self._begin(at, now)
        elif not is_silent(pcm):
            self._loud_at = now
            if self._from is not None:
                self._begin(max(self._from, at), now)

    def expect(self) -> None:
        """Notes that a response was announced: the sound that can be heard from now on belongs to it."""
        self.heard_at = None
        if self._from is None:
            self._from = max(0, len(self._pcm) - _LEAD_BYTES)

    def started(self, now: float) -> None:
        """Notes that the server says that it plays."""
        self._is_announced = self._is_playing = True
        self._begin(len(self._pcm), now)

    def stopped(self, now: float) -> None:
        """Notes that the server says that it has played everything, or was cut off."""
        self._is_playing, self._played_at, self._stop = False, now, len(self._pcm)

    def is_heard(self, now: float, *, done_at: float) -> bool:
        """Returns whether all of a response that was complete at ``done_at`` has been heard."""
        if not self._is_paced:
            return True
        if self._is_announced:
            return not self._is_playing and now - max(done_at, self._played_at) >= _DRAIN_S
        return now - max(done_at, self._loud_at) >= _SILENCE_S

    def _begin(self, at: int, now: float) -> None:
        if self.heard_at is None:
            self.heard_at = now
        if self._start is None:
            self._start = at
