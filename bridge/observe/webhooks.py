"""Webhooks tell servers of the operator's what happens to calls, by HTTP.

Theory of operation. An event is written to the disk, and then one of a few workers sends it. Events of one call, of one
recording's call and of one upstream go to a receiver in their order, one at a time. Those of others do not wait for
them. If a receiver does not take an event, it is tried again, less and less often, for up to ``retry_s``. Then it is
given up, and the next event of the same call has its turn. The queue is bounded: an event that comes when it is full is
counted and lost.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.log import Tally, get_logger
from bridge.observe.webhook_lanes import Lane, WebhookLanes
from bridge.observe.webhook_notifier import Notification, WebhookNotifier
from bridge.observe.webhook_store import Delivery, WebhookStore
from bridge.session.session import Session
from bridge.wire.ids import new_id
from bridge.wire.server_events import ServerEvent

__all__ = ["Send", "WebhookStats", "Webhooks", "families_of"]

_log = get_logger("observe")

_WORKERS = 8
_FIRST_WAIT_S, _LONGEST_WAIT_S, _SPREAD = 1.0, 300.0, 0.2
_GONE = "status 410"  # RFC 9110 section 15.5.11: the receiver wants no more of it
_NOT_ASKED = "webhook_url no longer names this receiver."
_CLOSE_S = 5.0
_LOOK_S = 30.0

Send = Callable[[Delivery], Awaitable[str | None]]
"""Sends one event once; returns what went wrong, or None if the receiver has taken it."""


@dataclass(slots=True)
class WebhookStats:
    """Counts since the start; only ``waiting`` is the number now."""

    delivered: int = 0
    failures: int = 0
    """The number of attempts that a receiver did not take."""
    dead: int = 0
    """The number of events that were given up, or found the queue full."""
    waiting: int = 0


class Webhooks:
    """The webhooks of one daemon. They subscribe to the events of all calls.

    ``async with`` owns their workers and their thread.
    """

    def __init__(
        self,
        path: str,
        urls: Sequence[str],
        send: Send,
        *,
        find: Callable[[str], Session],
        max_waiting: int,
        retry_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.stats = WebhookStats()
        self.look_s = _LOOK_S
        """How often it looks whether another process has left something, in seconds."""
        self._path = path
        self._urls = urls
        self._send = send
        self._notifier = WebhookNotifier(find)
        self._lanes = WebhookLanes(clock)
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._tally = Tally()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webhooks")
        self._tasks = asyncio.TaskGroup()
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Webhooks":
        self._loop = asyncio.get_running_loop()
        try:
            self._store = await self._in_thread(WebhookStore, self._path)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        await self._adopt()
        await self._tasks.__aenter__()
        self._workers = [self._tasks.create_task(self._work()) for _ in range(_WORKERS)]
        self._workers.append(self._tasks.create_task(self._look_for_more()))
        return self

    async def _adopt(self) -> None:
        """Takes over what ended processes have left."""
        adopted, given_up = await self._in_thread(self._store.adopt, list(self._urls), self._wall_clock())
        if given_up:
            self._lose(_NOT_ASKED, "any", given_up)
        for delivery in adopted:
            self.stats.waiting += 1
            self._lanes.add_delivery(delivery)

    async def _look_for_more(self) -> None:
        """Looks again and again for what another process has left.

        A process that this one has taken over from leaves what it could not deliver when its last call ends.
        """
        while True:
            await asyncio.sleep(self.look_s)
            try:
                await self._adopt()
            except sqlite3.Error as error:
                _log.error("webhook.queue_unreadable", error=str(error))

    async def __aexit__(self, *exc_info: object) -> None:
        """Ends the workers. What is not delivered by now waits in the file for the next start."""
        for worker in self._workers:
            worker.cancel()
        await self._tasks.__aexit__(None, None, None)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._in_thread(self._store.close)  # after all that is still to be written
        except TimeoutError:
            _log.error("webhook.unwritten", error="The disk does not answer.")
        self._thread.shutdown(wait=False)

    # What is told

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Handles what all followers of all calls are told."""
        notification = self._notifier.tell(event)
        if notification is not None:
            self._tell(notification)

    def families(self) -> Iterator[Metric]:
        """Yields the counts of webhooks, for ``Metrics``."""
        return families_of(self.stats)

    def _tell(self, notification: Notification) -> None:
        kind = notification.type
        if self.stats.waiting + len(self._urls) > self._max_waiting:
            self._lose("The queue is full.", kind, len(self._urls))
            return
        event_id, now = new_id("evt"), self._wall_clock()
        event = {"id": event_id, "object": "event", "created_at": int(now), "type": kind, "data": notification.data}
        body = msgspec.json.encode(event)
        deliveries = [
            Delivery(0, url, notification.subject, event_id, kind, body, now, traceparent=notification.traceparent)
            for url in self._urls
        ]
        self.stats.waiting += len(deliveries)

        def written(future: "Future[None]") -> None:
            self._loop.call_soon_threadsafe(self._written, future, deliveries)

        self._thread.submit(lambda: self._store.add_deliveries(deliveries)).add_done_callback(written)

    def _written(self, future: "Future[None]", deliveries: list[Delivery]) -> None:
        if (error := future.exception()) is not None:  # the disk may be full: the event is sent all the same
            _log.error("webhook.unwritten", error=str(error))
        for delivery in deliveries:
            self._lanes.add_delivery(delivery)

    # The workers

    async def _work(self) -> None:
        while True:
            lane = await self._lanes.next_delivery()
            delivery = lane.deliveries[0]
            problem = await self._sent(delivery)
            if problem is None:
                self.stats.delivered += 1
                self._done(lane, self._store.delivered, delivery.number)
            elif self._is_too_old(delivery) or problem == _GONE:
                self._lose(problem, delivery.type, 1, url=_shown(delivery.url))
                self._done(lane, self._store.died, delivery.number, self._wall_clock())
            else:
                self.stats.failures += 1
                delivery.attempts += 1
                self._report(delivery, problem)
                self._write(self._store.failed, delivery.number)
                self._lanes.try_again(lane, in_s=_wait_s(delivery.attempts))

    async def _sent(self, delivery: Delivery) -> str | None:
        try:
            return await self._send(delivery)
        except Exception as error:
            _log.error("webhook.failed", exc_info=error)
            return type(error).__name__

    def _done(self, lane: Lane, settle: Callable[..., None], *arguments: object) -> None:
        """Settles the first delivery of the lane, so that the next one has its turn."""
        self._write(settle, *arguments)
        self.stats.waiting -= 1
        self._lanes.settle(lane)

    def _write(self, work: Callable[..., None], *arguments: object) -> None:
        """Writes after what was written before, and nobody waits for it.

        If it fails, something may be told once more.
        """

        def done(future: "Future[None]") -> None:
            if (error := future.exception()) is not None:
                _log.error("webhook.unwritten", error=str(error))

        self._thread.submit(work, *arguments).add_done_callback(done)

    def _is_too_old(self, delivery: Delivery) -> bool:
        return self._wall_clock() - delivery.created_at >= self._retry_s

    def _lose(self, problem: str, kind: str, count: int, **more: str) -> None:
        self.stats.dead += count
        if (told := self._tally.count_repeat(f"dead {problem}", self._clock())) is not None:
            _log.error("webhook.dead", type=kind, problem=problem, count=told, **more)

    def _report(self, delivery: Delivery, problem: str) -> None:
        if (count := self._tally.count_repeat(delivery.url, self._clock())) is not None:
            _log.warning("webhook.refused", url=_shown(delivery.url), problem=problem, count=count)

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await self._loop.run_in_executor(self._thread, work, *arguments)


def families_of(stats: WebhookStats) -> Iterator[Metric]:
    """Yields the counts as metrics."""
    yield CounterMetricFamily("bridge_webhooks_delivered", "Webhooks that a receiver accepted.", stats.delivered)
    yield CounterMetricFamily("bridge_webhook_failures", "Attempts to deliver a webhook that failed.", stats.failures)
    yield CounterMetricFamily("bridge_webhooks_dead", "Webhooks that were given up or dropped.", stats.dead)
    yield GaugeMetricFamily("bridge_webhooks_waiting", "Webhooks waiting to be delivered.", stats.waiting)


def _wait_s(attempts: int) -> float:
    """Returns how long to wait before the next attempt: longer each time, and not the same for all."""
    wait_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 20), _LONGEST_WAIT_S)
    return wait_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)


def _shown(url: str) -> str:
    """Returns the address without its query, which may hold anything."""
    return url.partition("?")[0]
