"""Webhooks: what happens to calls, told to servers of the operator's by HTTP.

Theory of operation. An event is written to the disk, and then sent by one of a few workers. Events of one call, of one
recording's call and of one upstream go to a receiver in their order, one at a time; those of others do not wait for
them. What a receiver does not take is tried again, less and less often, for up to ``retry_s``. Then it is given up,
and the next event of the same call has its turn. The queue is bounded: what comes when it is full is counted and lost.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.log import Tally, get_logger
from bridge.observe.webhook_store import Delivery, WebhookStore
from bridge.session.session import Session
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallClosed, CallOpened, RecordingEnded, UpstreamDown, UpstreamUp
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallStats

__all__ = ["Send", "WebhookStats", "Webhooks", "families_of"]

_log = get_logger("observe")

_WORKERS = 8
_FIRST_WAIT_S, _LONGEST_WAIT_S, _SPREAD = 1.0, 300.0, 0.2
_GONE = "status 410"  # RFC 9110 section 15.5.11: the receiver wants no more of it
_CLOSE_S = 5.0

Send = Callable[[Delivery], Awaitable[str | None]]
"""Sends one event once; says what went wrong, None if it was taken."""


@dataclass(slots=True)
class WebhookStats:
    """Counts since the start, but for ``waiting``."""

    delivered: int = 0
    failures: int = 0
    """Attempts that a receiver did not take."""
    dead: int = 0
    """Events that were given up, or found the queue full."""
    waiting: int = 0


@dataclass(slots=True, order=True)
class _Lane:
    """What one receiver is to be told of one subject, in order."""

    due: float
    number: int
    """Of two that are due at the same time, the older one comes first."""
    deliveries: deque[Delivery] = field(compare=False)


class Webhooks:
    """See the module; subscribed to the events of all calls. ``async with`` owns its workers and its thread."""

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
        self._path = path
        self._urls = urls
        self._send = send
        self._find = find
        self._max_waiting = max_waiting
        self._retry_s = retry_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._calls: dict[str, Session] = {}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._due: list[_Lane] = []  # a heap of those that no worker has
        self._numbers = itertools.count()
        self._news = asyncio.Event()
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
        known = set(self._urls)
        for delivery in await self._in_thread(self._store.waiting):
            if delivery.url in known:  # else nobody asks for it any more
                self.stats.waiting += 1
                self._enqueue(delivery)
        await self._tasks.__aenter__()
        self._workers = [self._tasks.create_task(self._work()) for _ in range(_WORKERS)]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """What is not delivered by now waits in the file for the next start."""
        for worker in self._workers:
            worker.cancel()
        await self._tasks.__aexit__(None, None, None)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._in_thread(self._store.close)  # behind all that is still to be written
        except TimeoutError:
            _log.error("webhook.unwritten", error="The disk does not answer.")
        self._thread.shutdown(wait=False)

    # What is told

    def event(self, event: ServerEvent, text: bytes) -> None:
        """What all who follow all calls are told."""
        match event:
            case CallOpened(call=call):
                session = self._calls[call.id] = self._find(call.id)
                self._tell("call.opened", call.id, _known(call, session.context.secrets))
            case CallClosed(call_id=call_id):
                session = self._calls.pop(call_id)
                stats = msgspec.to_builtins(session.stats())
                stats["metadata"] = _without(stats["metadata"], session.context.secrets)
                ending = {"call_id": call_id, "result": str(event.result), "reason": event.reason}
                self._tell("call.closed", call_id, {**ending, "stats": stats})
            case RecordingEnded(call_id=call_id, error=error):
                told = msgspec.to_builtins(event)
                kept = ("call_id", "recording_id", "reason", "seconds", "files", "error")
                kind = "recording.completed" if error is None else "recording.failed"
                self._tell(kind, call_id, {name: told[name] for name in kept})
            case UpstreamDown(upstream=name, code=code):
                self._tell("upstream.down", name, {"upstream": name, "code": code})
            case UpstreamUp(upstream=name):
                self._tell("upstream.up", name, {"upstream": name})

    def families(self) -> Iterator[Metric]:
        """For ``Metrics``."""
        return families_of(self.stats)

    def _tell(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        if self.stats.waiting + len(self._urls) > self._max_waiting:
            self._lose("The queue is full.", kind, len(self._urls))
            return
        event_id, now = new_id("evt"), self._wall_clock()
        event = {"id": event_id, "object": "event", "created_at": int(now), "type": kind, "data": data}
        body = msgspec.json.encode(event)
        deliveries = [Delivery(0, url, subject, event_id, kind, body, now) for url in self._urls]
        self.stats.waiting += len(deliveries)

        def written(future: "Future[None]") -> None:
            self._loop.call_soon_threadsafe(self._written, future, deliveries)

        self._thread.submit(lambda: self._store.add(deliveries)).add_done_callback(written)

    def _written(self, future: "Future[None]", deliveries: list[Delivery]) -> None:
        if (error := future.exception()) is not None:  # a full disk: it is told all the same, if all goes well
            _log.error("webhook.unwritten", error=str(error))
        for delivery in deliveries:
            self._enqueue(delivery)

    def _enqueue(self, delivery: Delivery) -> None:
        place = delivery.url, delivery.subject
        lane = self._lanes.get(place)
        if lane is not None:
            lane.deliveries.append(delivery)
            return
        lane = self._lanes[place] = _Lane(self._clock(), next(self._numbers), deque([delivery]))
        self._wait(lane)

    def _wait(self, lane: _Lane) -> None:
        heapq.heappush(self._due, lane)
        self._news.set()

    # The workers

    async def _work(self) -> None:
        while True:
            lane = await self._next()
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
                lane.due = self._clock() + _wait_s(delivery.attempts)
                self._wait(lane)

    async def _sent(self, delivery: Delivery) -> str | None:
        try:
            return await self._send(delivery)
        except Exception as error:
            _log.error("webhook.failed", exc_info=error)
            return type(error).__name__

    def _done(self, lane: _Lane, settle: Callable[..., None], *arguments: object) -> None:
        """The first of the lane is settled: the next one has its turn."""
        self._write(settle, *arguments)
        self.stats.waiting -= 1
        settled = lane.deliveries.popleft()
        if lane.deliveries:
            lane.due = self._clock()
            self._wait(lane)
        else:
            del self._lanes[settled.url, settled.subject]

    def _write(self, work: Callable[..., None], *arguments: object) -> None:
        """Behind what was written before; nobody waits for it. If it fails, something may be told once more."""

        def done(future: "Future[None]") -> None:
            if (error := future.exception()) is not None:
                _log.error("webhook.unwritten", error=str(error))

        self._thread.submit(work, *arguments).add_done_callback(done)

    async def _next(self) -> _Lane:
        """The lane that is due first, once it is due."""
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

    def _is_too_old(self, delivery: Delivery) -> bool:
        return self._wall_clock() - delivery.created_at >= self._retry_s

    def _lose(self, problem: str, kind: str, count: int, **more: str) -> None:
        self.stats.dead += count
        if (told := self._tally.add(f"dead {problem}", self._clock())) is not None:
            _log.error("webhook.dead", type=kind, problem=problem, count=told, **more)

    def _report(self, delivery: Delivery, problem: str) -> None:
        if (count := self._tally.add(delivery.url, self._clock())) is not None:
            _log.warning("webhook.refused", url=_shown(delivery.url), problem=problem, count=count)

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await self._loop.run_in_executor(self._thread, work, *arguments)


def families_of(stats: WebhookStats) -> Iterator[Metric]:
    """The counts as metrics."""
    yield CounterMetricFamily("bridge_webhooks_delivered", "Webhooks that were taken.", stats.delivered)
    yield CounterMetricFamily("bridge_webhook_failures", "Attempts that nobody took.", stats.failures)
    yield CounterMetricFamily("bridge_webhooks_dead", "Webhooks that were given up, or lost.", stats.dead)
    yield GaugeMetricFamily("bridge_webhooks_waiting", "Webhooks that are still to be delivered.", stats.waiting)


def _known(call: CallStats, secrets: Iterable[str]) -> dict[str, Any]:
    """What is known of a call when it begins."""
    return {
        "call_id": call.id,
        "session_id": call.session_id,
        "transport": call.transport,
        "model": call.model,
        "started_at": call.started_at,
        "metadata": _without(call.metadata, secrets),
    }


def _without(metadata: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Less what opens a door."""
    hidden = frozenset(secrets)
    return {name: value for name, value in metadata.items() if value not in hidden}


def _wait_s(attempts: int) -> float:
    """Before the next attempt: longer and longer, and not at the same time as all others."""
    wait_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts - 1, 20), _LONGEST_WAIT_S)
    return wait_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)


def _shown(url: str) -> str:
    """Without a query, which may hold anything."""
    return url.partition("?")[0]
