"""How long the supervisor waits before it starts a worker again that has died."""

__all__ = ["Backoff"]

_FIRST_S = 0.25
_LONGEST_S = 30.0
_WELL_AFTER_S = 60.0


class Backoff:
    """The waits of one worker: each twice as long as the one before, until it has served for a minute."""

    def __init__(self) -> None:
        self.failed_starts = 0
        """How often in a row it has ended before it served."""
        self._next_s = _FIRST_S
        self._serving_since: float | None = None

    @property
    def is_serving(self) -> bool:
        """Whether the worker serves, and has not ended since."""
        return self._serving_since is not None

    def serves(self, now: float) -> None:
        """Notes that the worker serves."""
        self.failed_starts = 0
        self._serving_since = now

    def ended(self, now: float) -> float:
        """Notes that the worker has ended, and returns for how many seconds to wait before it is started again."""
        since, self._serving_since = self._serving_since, None
        if since is None:
            self.failed_starts += 1
        elif now - since >= _WELL_AFTER_S:
            self._next_s = _FIRST_S
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, _LONGEST_S)
        return wait_s
