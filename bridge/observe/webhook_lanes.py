"""Keeps what is still to be told in order: one lane for each receiver and subject, and which of them is due next."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.observe.webhook_store import Delivery

__all__ = ["Lane", "WebhookLanes"]


@dataclass(slots=True, order=True)
class Lane:
    """The events that one receiver is to be told of one subject, in order."""

    due: float
    number: int
    """Orders lanes that are due at the same time: the older one comes first."""
    deliveries: deque[Delivery] = field(compare=False)


class WebhookLanes:
    """All lanes, by receiver and subject.

    A lane that a worker has taken is only its own until the worker gives it back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._due: list[Lane] = []  # a heap of the lanes that no worker has
        self._numbers = itertools.count()
        self._news = asyncio.Event()

    def add_delivery(self, delivery: Delivery) -> None:
        """Adds a delivery after those of the same receiver and subject."""
        place = delivery.url, delivery.subject
        lane = self._lanes.get(place)
        if lane is not None:
            lane.deliveries.append(delivery)
            return
        lane = self._lanes[place] = Lane(self._clock(), next(self._numbers), deque([delivery]))
        self._wait(lane)

    async def next_delivery(self) -> Lane:
        """Waits until a lane is due, and returns the one that is due first."""
        while True:
            left_s = self._due[0].due - self._clock() if self._due else None
            if left_s is not None and left_s <= 0:
                return heapq.heappop(self._due)
            self._news.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    def try_again(self, lane: Lane, *, in_s: float) -> None:
        """Makes the lane due again in ``in_s``, because its first delivery was not taken."""
        lane.due = self._clock() + in_s
        self._wait(lane)

    def settle(self, lane: Lane) -> None:
        """Removes the first delivery of the lane, so that the next one has its turn."""
        settled = lane.deliveries.popleft()
        if lane.deliveries:
            self.try_again(lane, in_s=0.0)
        else:
            del self._lanes[settled.url, settled.subject]

    def look(self) -> None:
        """Has whoever waits read the clock again."""
        self._news.set()

    def _wait(self, lane: Lane) -> None:
        heapq.heappush(self._due, lane)
        self._news.set()
