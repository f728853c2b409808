"""How late the event loop is, and whether that is too late for one more call.

A timer that is due and not called yet waits behind everybody's sound. Its lateness is what each call has to bear; it is
averaged over two seconds so that a single pause does not count. Beyond a limit, a further call would harm those that
run.
"""

import asyncio
import math

from bridge.errors import Overloaded
from bridge.log import get_logger

__all__ = ["LoopLag"]

_log = get_logger("registry")

_TICK_S = 0.05
_MEMORY_S = 2.0
_RELIEF = 0.5  # part of the limit: below that, calls are taken again


class LoopLag:
    """The lateness of the event loop; ``measure`` takes what a timer says, ``start`` begins one.

    ``limit_ms`` of 0 means that nothing is too late.
    """

    def __init__(self, limit_ms: float = 0.0) -> None:
        self.mean_ms = 0.0
        """The mean lateness of the last seconds, in milliseconds."""
        self.is_too_late = False
        self.limit_ms = limit_ms
        self._timer: asyncio.TimerHandle | None = None

    def measure(self, late_ms: float, since_s: float = _TICK_S) -> None:
        """Counts a timer that was called ``late_ms`` after it was due.

        The one before was called ``since_s`` earlier.
        """
        weight = 1 - math.exp(-since_s / _MEMORY_S)
        self.mean_ms += weight * (late_ms - self.mean_ms)
        if not self.limit_ms:
            self.is_too_late = False
            return
        if not self.is_too_late and self.mean_ms > self.limit_ms:
            self.is_too_late = True
            _log.warning("registry.overloaded", loop_lag_ms=round(self.mean_ms))
        elif self.is_too_late and self.mean_ms < self.limit_ms * _RELIEF:
            self.is_too_late = False
            _log.info("registry.relieved", loop_lag_ms=round(self.mean_ms))

    def require_time(self) -> None:
        """Raises ``Overloaded`` if the event loop has no time for another call."""
        if self.is_too_late:
            raise Overloaded("The server is overloaded and accepts no new calls for now.")

    def start(self) -> None:
        """Begins to measure the running loop."""
        self._loop = asyncio.get_running_loop()
        self._called_at = self._loop.time()
        self._timer = self._loop.call_later(_TICK_S, self._tick)

    def stop(self) -> None:
        """Stops measuring; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        since_s, self._called_at = now - self._called_at, now
        self.measure(max(0.0, 1000 * (since_s - _TICK_S)), since_s)
        self._timer = self._loop.call_later(_TICK_S, self._tick)
