"""The time of a Live session: milliseconds from ``session.started``, by the clock of the process."""

from collections.abc import Callable

__all__ = ["Timeline"]


class Timeline:
    """See the module; ``clock`` gives the time in seconds."""

    def __init__(self, clock: Callable[[], float], *, on_start: Callable[[], None]) -> None:
        self.input_ms = 0.0
        """How much of the caller's sound has come, in ms."""
        self._clock = clock
        self._on_start = on_start
        self._started: float | None = None

    @property
    def is_started(self) -> bool:
        """Whether the session has begun."""
        return self._started is not None

    def start(self) -> None:
        """Begins the session; may be called twice."""
        if self._started is None:
            self._started = self._clock()
            self._on_start()

    @property
    def now_ms(self) -> int:
        """The time of the session; 0 before it begins."""
        return 0 if self._started is None else int((self._clock() - self._started) * 1000)

    @property
    def seconds(self) -> int:
        """The whole seconds that the session has taken."""
        return self.now_ms // 1000

    def of_input(self, audio_ms: int) -> int:
        """Returns when the sound was heard that is ``audio_ms`` behind the beginning of the caller's sound.

        A caller that sends nothing for a while makes no difference: what counts is how much has come since.
        """
        return max(0, self.now_ms - max(0, int(self.input_ms) - audio_ms))
