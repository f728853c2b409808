"""One clock of 20 ms for all telephone calls of a daemon."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bridge.media.pacer import Pacer

__all__ = ["Clock", "Ticking"]


class Ticking(Protocol):
    """Whoever has something to do every 20 ms."""

    def tick(self, now: float) -> None:
        """It is time."""
        ...


class Clock:
    """Every 20 ms, on an absolute schedule, for all legs; ``async with`` runs it."""

    def __init__(self) -> None:
        self.members: set[Ticking] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pacer = Pacer()

    async def __aenter__(self) -> "Clock":
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(self._pacer.start(self._loop.time()), self._tick)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def late_ticks(self) -> int:
        """Ticks that were left out because the process stood still."""
        return self._pacer.late_ticks

    @property
    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def call_later(self, delay_s: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """Does ``work`` once."""
        return self._loop.call_later(delay_s, work)

    def _tick(self) -> None:
        now = self._loop.time()
        self._pacer.begin(now)
        try:
            for member in tuple(self.members):
                member.tick(now)
        finally:  # whatever happened, the other calls' sound goes on
            self._timer = self._loop.call_at(self._pacer.end(), self._tick)
