"""Whether the measuring process itself is in time: what it notices late, it would blame on the server."""

import asyncio
import time
from array import array

__all__ = ["Lag"]

_TICK_S = 0.02


class Lag:
    """``run`` looks, until it is cancelled, how late a tick of 20 ms comes."""

    def __init__(self) -> None:
        self.late_ms = array("f")
        """Of each tick."""
        self._began = self._ended = 0.0
        self._cpu_began = self._cpu_ended = 0.0

    @property
    def cpu_percent(self) -> float:
        """The process's part of one core, meanwhile."""
        elapsed = self._ended - self._began
        return 100 * (self._cpu_ended - self._cpu_began) / elapsed if elapsed > 0 else 0.0

    async def run(self) -> None:
        """Ticks; after a long halt, from there on."""
        clock = time.monotonic  # what uvloop tells is of the beginning of its turn
        self._began, self._cpu_began = clock(), time.process_time()
        due = self._began
        while True:
            due = max(due + _TICK_S, clock())
            await asyncio.sleep(due - clock())
            self._ended, self._cpu_ended = clock(), time.process_time()
            self.late_ms.append(max(0.0, 1000 * (self._ended - due)))
