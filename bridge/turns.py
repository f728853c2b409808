"""Turns of the event loop: whoever has had more than its share of the time waits for the others.

Theory of operation. The work for a party (a socket, an upstream, an agent) is timed, in a leaky bucket. As long as the
bucket does not run over, the party is served whenever it has something to say. From then on it is served in turns: in
each round of the event loop, one of all such parties is served, for ``UNIT_S`` or for the one thing that takes longer.
So however many they are, a party that takes little waits for no more than one of them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import ClassVar
from weakref import WeakKeyDictionary, WeakValueDictionary

__all__ = ["UNIT_S", "Share", "Shares", "Turns", "Work"]

UNIT_S = 0.001
"""How long one party works before the next one has its turn."""

_now = time.perf_counter


class Share:
    """Measures how much time one party has taken lately."""

    def __init__(self, share: float = 0.05, burst_s: float = 0.02, *, of: "Share | None" = None) -> None:
        """Allows ``share`` of all time, and ``burst_s`` at once. What is taken counts for the share ``of`` as well."""
        self._share = share
        self._burst_s = burst_s
        self._of = of
        self._level_s = 0.0
        self._at = 0.0

    def count_seconds(self, seconds: float, now: float) -> None:
        """Counts that this many seconds were taken until ``now``."""
        self._level_s = max(0.0, self._level_s - self._share * (now - self._at)) + seconds
        self._at = now
        if self._of is not None:
            self._of.count_seconds(seconds, now)

    def is_over(self, now: float) -> bool:
        """Whether the party has taken more than its share."""
        if self._level_s - self._share * (now - self._at) > self._burst_s:
            return True
        return self._of is not None and self._of.is_over(now)

    def join(self, other: "Share | None") -> None:
        """From now on, what is taken counts for ``other`` as well, if it is set."""
        self._of = other


class Shares:
    """The shares of keys or addresses, each kept for as long as somebody uses it."""

    def __init__(self, share: float, burst_s: float) -> None:
        self._share = share
        self._burst_s = burst_s
        self._of: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def of(self, name: str) -> Share:
        """Returns the share of this name."""
        share = self._of.get(name)
        if share is None:
            share = self._of[name] = Share(self._share, self._burst_s)
        return share


class Turns:
    """The parties that wait in one event loop. Each waits only once, so there are no more than connections."""

    _of: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]"] = WeakKeyDictionary()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Callable[[], object]] = deque()

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Turns":
        """Returns the queue of this event loop."""
        turns = cls._of.get(loop)
        if turns is None:
            turns = cls._of[loop] = cls(loop)
        return turns

    def call(self, callback: Callable[[], object]) -> None:
        """Calls ``callback`` when all who came earlier have had their turn."""
        self._waiting.append(callback)
        if len(self._waiting) == 1:
            self._call_soon(self._next)

    def _next(self) -> None:
        callback = self._waiting[0]
        try:
            callback()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._call_soon(self._next)


class Work:
    """Times the work for one party, and interrupts it if it takes too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.share = Share()
        self._loop = loop
        self._turns = Turns.of(loop)
        self._began: float | None = None
        self._unit_s = 0.0

    @property
    def has_time(self) -> bool:
        """Whether the party may be served at once."""
        return not self.share.is_over(_now())

    def begin(self) -> None:
        """Starts the clock: work for the party begins, or goes on after a wait."""
        self._began = _now()

    def begin_in_time(self) -> bool:
        """Starts the clock if the party may be served at once; otherwise returns False, and work has to wait."""
        now = _now()
        if self.share.is_over(now):
            return False
        self._began = now
        return True

    def end(self) -> None:
        """Stops the clock: the work is done, or waits for something."""
        if self._began is not None:
            self._stop(self._began)

    def next_turn(self, callback: Callable[[], object]) -> None:
        """Calls ``callback`` in the next round of the loop, or when it is the party's turn."""
        self._unit_s = 0.0
        if self.has_time:
            self._loop.call_soon(callback)
        else:
            self._turns.call(callback)

    async def rest(self, *, is_pause: bool = False) -> None:
        """Called between two pieces of work, stops the clock until ``begin``.

        Others have their turn meanwhile if it is time for that, or if ``is_pause``.
        """
        now = _now() if self._began is None else self._stop(self._began)
        if is_pause or self._unit_s > UNIT_S or self.share.is_over(now):
            turn = self._loop.create_future()
            self.next_turn(partial(_settle, turn))
            await turn

    def _stop(self, began: float) -> float:
        """Counts the time since ``began``; returns what time it is."""
        now = _now()
        self._began = None
        self._unit_s += now - began
        self.share.count_seconds(now - began, now)
        return now


def _settle(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
