"""Puts together all that observes one daemon: what subscribes to calls, and what the HTTP server serves of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.calls.registry import Registry
from bridge.config import ObserveSettings
from bridge.observe.exposition import METRICS, Exposition
from bridge.observe.load import LOAD, LoadHistory
from bridge.observe.metrics import Metrics
from bridge.observe.readiness import READY, Probe, ReadinessChecks, disk_probe
from bridge.observe.recordings import families_of_recordings
from bridge.observe.requests import CountRequests
from bridge.observe.tracing import CallTracing, wants_content
from bridge.observe.webhook_request import deliver, key_of
from bridge.observe.webhook_store import Delivery
from bridge.observe.webhooks import Webhooks
from bridge.observe.worker_pages import WorkerLink
from bridge.wire.stats import DaemonStats, RecordingsStats

if TYPE_CHECKING:
    from bridge.observe.otlp import OtlpSpans

__all__ = ["OPERATIONS", "Observer"]

_LIVE = "/healthz"

OPERATIONS = [METRICS, READY, LOAD]
"""The operations that observe a daemon, for the description of the API."""


async def _admit_all(request: Request) -> None:
    """Lets every request in."""


class Observer:
    """Follows the calls of ``registry`` from the start; ``async with`` owns the threads that it uses."""

    def __init__(
        self,
        settings: ObserveSettings,
        registry: Registry,
        daemon: Callable[[], DaemonStats],
        *,
        carriers: Sequence[str],
        record_dir: str | None,
        probes: Mapping[str, Probe],
        admit: Callable[[Request], Awaitable[object]],
        workers: WorkerLink | None = None,
    ) -> None:
        """Subscribes to the calls of ``registry``.

        ``probes`` try what calls need from outside. ``admit`` raises if a request at the daemon's own port may not see
        what concerns all calls. ``workers`` leads to the other workers of this machine, if there are any.
        """
        self.metrics = Metrics(registry.find, daemon, carriers=carriers)
        registry.events.subscribe(self.metrics)
        self._has_own_port = settings.metrics_port is not None
        self._admit = admit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="observer")
        self._exposition = Exposition(self.metrics, self._thread, workers=workers)
        self._workers = workers
        self.load = LoadHistory(self.metrics, daemon, self._thread, workers=workers)
        """The samples of the last hour. They are entered by themselves, once ``daemon`` can be asked."""
        self._disk_thread = ThreadPoolExecutor(1, thread_name_prefix="disk")  # it may wait for the disk for ever
        probes = dict(probes)
        if record_dir is not None:
            probes["recordings"] = disk_probe(record_dir, settings.ready_free_bytes, self._disk_thread)
        self._readiness = ReadinessChecks(daemon, probes, workers=workers)
        self._otlp_endpoint = settings.otlp_endpoint
        self._registry = registry
        self._spans: OtlpSpans | None = None
        self.webhooks = _webhooks_of(settings, registry)
        """The webhooks; None if no receiver is set."""
        if self.webhooks is not None:
            registry.events.subscribe(self.webhooks)
            self.metrics.sources.append(self.webhooks.families)

    async def __aenter__(self) -> "Observer":
        if self._otlp_endpoint is not None:
            self._spans = spans = await _new_spans(self._otlp_endpoint)
            self._registry.new_trace = spans.new_context
            self._registry.events.subscribe(CallTracing(spans, self._registry.find, has_content=wants_content()))
            self.metrics.sources.append(spans.families)
        if self.webhooks is not None:
            await self.webhooks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self.webhooks is not None:
            await self.webhooks.__aexit__()
        if self._spans is not None:
            await self._spans.aclose()
        self._thread.shutdown(wait=False)
        self._disk_thread.shutdown(wait=False)

    def follow_recordings(self, stats: Callable[[], RecordingsStats]) -> None:
        """Adds what becomes of recordings to the metrics."""
        self.metrics.sources.append(lambda: families_of_recordings(stats()))

    @property
    def routes(self) -> list[Route]:
        """The routes for the daemon's own port."""
        always = [self._readiness.route(), self.load.route(self._admit)]
        if self._workers is not None:
            parts = (self._exposition, self._readiness, self.load)
            always += [part.workers_route(self._workers) for part in parts]
        return always if self._has_own_port else [*always, self._exposition.route(self._admit)]

    @property
    def middleware(self) -> list[Middleware]:
        """The middleware around the daemon's router."""
        return [Middleware(CountRequests, count=self._count_request)]

    def _count_request(self, route: str, method: str, status: int, code: str) -> None:
        self.metrics.count_request(route, method, status)
        self.load.count_refusal(status, code)

    def new_app(self) -> Starlette:
        """Makes an application for a port of its own. Whoever reaches that port may see all of this."""
        live = Route(_LIVE, _say_ok, methods=["GET"])
        return Starlette(routes=[self._exposition.route(_admit_all), self._readiness.route(), live])


async def _new_spans(endpoint: str) -> "OtlpSpans":
    """Imports OpenTelemetry only if it is wanted, because it is an extra, and a large one."""
    return await asyncio.to_thread(lambda: import_module("bridge.observe.otlp").OtlpSpans(endpoint))


def _webhooks_of(settings: ObserveSettings, registry: Registry) -> Webhooks | None:
    if settings.webhook_queue is None or not settings.webhook_url:
        return None
    keys = list(map(key_of, settings.webhook_secret))

    async def send(delivery: Delivery) -> str | None:
        return await deliver(
            delivery.url,
            delivery.event_id,
            delivery.body,
            keys=keys,
            timestamp=int(time.time()),
            allow_private=settings.webhook_private,
            traceparent=delivery.traceparent,
        )

    return Webhooks(
        settings.webhook_queue,
        settings.webhook_url,
        send,
        find=registry.find,
        max_waiting=settings.webhook_queue_events,
        retry_s=settings.webhook_retry_s,
    )


async def _say_ok(request: Request) -> Response:
    """Says that the process lives."""
    return PlainTextResponse("ok")
