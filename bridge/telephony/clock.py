"""One clock of 20 ms for all telephone calls of a daemon. It runs while there are any."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bridge.media.pacer import Pacer

__all__ = ["Clock", "Ticking"]


class Ticking(Protocol):
    """Something that has work to do every 20 ms."""

    def tick(self, now: float) -> None:
        """Does the work that is due at ``now``, in seconds of the loop's time."""
        ...


class Clock:
    """Calls all its members every 20 ms, on an absolute schedule, between entering and leaving ``async with``."""

    def __init__(self) -> None:
        self._members: set[Ticking] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pacer = Pacer()

    async def __aenter__(self) -> "Clock":
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, member: Ticking) -> None:
        """From now on calls ``member``."""
        self._members.add(member)
        if self._timer is None:
            self._timer = self._loop.call_at(self._pacer.start(self._loop.time()), self._tick)

    def remove(self, member: Ticking) -> None:
        """Calls ``member`` no more; may be called twice."""
        self._members.discard(member)

    @property
    def late_ticks(self) -> int:
        """The number of ticks that were left out because the process stood still."""
        return self._pacer.late_ticks

    @property
    def now(self) -> float:
        """The time of the event loop, in seconds."""
        return self._loop.time()

    def call_later(self, delay_s: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls ``work`` once, after ``delay_s``."""
        return self._loop.call_later(delay_s, work)

    def _tick(self) -> None:
        now = self._loop.time()
        self._pacer.begin(now)
        try:
            for member in tuple(self._members):
                member.tick(now)
        finally:  # the other calls' sound goes on, whatever happened
            due = self._pacer.end()
            self._timer = self._loop.call_at(due, self._tick) if self._members else None
