"""Measures whether the measuring process itself is in time: delays of its own would count as the server's."""

import asyncio
import time
from array import array

__all__ = ["Lag"]

_TICK_S = 0.02


class Lag:
    """Looks how late a tick of 20 ms comes. ``run`` does so until it is cancelled."""

    def __init__(self) -> None:
        self.late_ms = array("f")
        """How late each tick was, in milliseconds."""
        self._began = self._ended = 0.0
        self._cpu_began = self._cpu_ended = 0.0

    @property
    def cpu_percent(self) -> float:
        """The share of one core that the process has used meanwhile, in percent."""
        elapsed = self._ended - self._began
        return 100 * (self._cpu_ended - self._cpu_began) / elapsed if elapsed > 0 else 0.0

    async def run(self) -> None:
        """Ticks. After a long halt it goes on from there."""
        clock = time.monotonic  # uvloop's clock stands at the beginning of its turn
        self._began, self._cpu_began = clock(), time.process_time()
        due = self._began
        while True:
            due = max(due + _TICK_S, clock())
            await asyncio.sleep(due - clock())
            self._ended, self._cpu_ended = clock(), time.process_time()
            self.late_ms.append(max(0.0, 1000 * (self._ended - due)))
