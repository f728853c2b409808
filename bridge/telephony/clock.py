"""One clock of 20 ms for all telephone calls of a daemon."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bridge.telephony.playout import FRAME_MS

__all__ = ["Clock", "Ticking"]

_TICK_S = FRAME_MS / 1000
_MAX_CATCH_UP = 5  # ticks; a clock later than that leaves a gap instead of a burst


class Ticking(Protocol):
    """Whoever has something to do every 20 ms."""

    def tick(self, now: float) -> None:
        """It is time."""
        ...


class Clock:
    """Every 20 ms, on an absolute schedule, for all legs; ``async with`` runs it."""

    def __init__(self) -> None:
        self.members: set[Ticking] = set()
        self.late_ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0

    async def __aenter__(self) -> "Clock":
        self._loop = asyncio.get_running_loop()
        self._next_tick = self._loop.time() + _TICK_S
        self._timer = self._loop.call_at(self._next_tick, self._tick)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def call_later(self, delay_s: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """Does ``work`` once."""
        return self._loop.call_later(delay_s, work)

    def _tick(self) -> None:
        now = self._loop.time()
        behind = int((now - self._next_tick) / _TICK_S)
        if behind > _MAX_CATCH_UP:
            self.late_ticks += behind
            self._next_tick += behind * _TICK_S
        try:
            for member in tuple(self.members):
                member.tick(now)
        finally:  # whatever happened, the other calls' sound goes on
            self._next_tick += _TICK_S
            self._timer = self._loop.call_at(self._next_tick, self._tick)
