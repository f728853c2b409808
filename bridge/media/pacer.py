"""The schedule of every clock that plays sound: 20 ms on absolute times, so that no delay adds up.

A clock that is a little late catches up, step by step. One that is later than that, because the process stood still,
leaves a gap: sound that comes too late helps nobody, and a burst of it would delay what follows.
"""

__all__ = ["FRAME_MS", "Pacer"]

FRAME_MS = 20
"""The time between two ticks, which is a frame of sound."""

_FRAME_S = FRAME_MS / 1000
_MAX_CATCH_UP = 5  # ticks


class Pacer:
    """When a clock is to step, with so many ``slots`` in each tick: ``begin`` and ``end`` go around each step.

    All times are in seconds, on the clock that ``start`` is given the time of.
    """

    def __init__(self, *, slots: int = 1) -> None:
        self.step_s = _FRAME_S / slots
        self.due = 0.0
        """When the next step is due."""
        self.late_ticks = 0
        """Ticks of 20 ms that were left out."""

    def start(self, now: float) -> float:
        """The clock starts; returns when its first step is due."""
        self.due = now + self.step_s
        return self.due

    def begin(self, now: float) -> int:
        """The step that is due begins; returns how many ticks are left out before it."""
        behind = int((now - self.due) / _FRAME_S)
        if behind <= _MAX_CATCH_UP:
            return 0
        self.late_ticks += behind
        self.due += behind * _FRAME_S
        return behind

    def end(self) -> float:
        """The step is done; returns when the next one is due."""
        return self.leave_out(0)

    def leave_out(self, steps: int) -> float:
        """The step is done, and so many after it are not needed; returns when the one after those is due."""
        self.due += (1 + steps) * self.step_s
        return self.due
