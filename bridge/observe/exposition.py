"""``GET /metrics``: the metrics as text, in Prometheus's format or OpenMetrics', whichever the client can read.

The metrics are read in the event loop, some calls at a time, and written down in a thread. For a second everybody gets
the same text, so frequent requests do not cost the calls anything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.operation import Operation
from bridge.observe.metrics import Metrics
from bridge.observe.worker_pages import WORKERS_METRICS, WorkerLink, WorkersPage, written

__all__ = ["METRICS", "Exposition"]

_PATH = "/metrics"
_FRESH_S = 1.0

METRICS = Operation(
    method="get",
    path=_PATH,
    summary="Metrics for Prometheus. Needs an API key, except on `metrics_port`.",
    response="text/plain",
)


class Exposition:
    """Writes the pages of ``GET /metrics`` in ``thread``. Each page is good for ``fresh_s``."""

    def __init__(
        self,
        metrics: Metrics,
        thread: ThreadPoolExecutor,
        *,
        workers: WorkerLink | None = None,
        fresh_s: float = _FRESH_S,
    ) -> None:
        """With ``workers`` a page has the metrics of all workers of this machine."""
        self._metrics = metrics
        self._workers = workers
        self._fresh_s = fresh_s
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()
        """Two locks: workers ask each other while they write a page, and must be able to answer meanwhile."""
        self._read_at = self._made_at = -float("inf")
        self._page: Collector = metrics.registry
        self._texts: dict[str, tuple[bytes, str]] = {}
        self._own: bytes | None = None
        self._thread = thread

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics and their media type, for a client whose header ``Accept`` is ``accept``.

        See RFC 9110 section 12.5.1.
        """
        encode, content_type = choose_encoder(accept)
        async with self._writing:
            if time.monotonic() - self._made_at > self._fresh_s:
                self._texts.clear()
                async with self._reading:
                    await self._read()
                if self._workers is not None:
                    others = await self._workers.ask_others(WORKERS_METRICS)
                    self._page = WorkersPage(self._workers.group, self._metrics.registry, others)
                self._made_at = time.monotonic()
            if content_type not in self._texts:
                loop = asyncio.get_running_loop()
                text = await loop.run_in_executor(self._thread, encode, self._page)
                self._texts[content_type] = text, content_type
            return self._texts[content_type]

    async def own(self) -> bytes:
        """Returns the metrics of this worker alone, as it tells them to another worker."""
        async with self._reading:
            await self._read()
            if self._own is None:
                loop = asyncio.get_running_loop()
                self._own = await loop.run_in_executor(self._thread, written, self._metrics.registry)
            return self._own

    async def _read(self) -> None:
        """Reads the figures of this process, unless that was done lately."""
        if time.monotonic() - self._read_at > self._fresh_s:
            self._own = None
            await self._metrics.collect_all()
            self._read_at = time.monotonic()

    def route(self, admit: Callable[[Request], Awaitable[object]]) -> Route:
        """Makes the route of the metrics; ``admit`` raises if the request may not see them."""

        async def serve(request: Request) -> Response:
            await admit(request)
            text, content_type = await self.text(request.headers.get("accept", ""))
            return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

        return Route(_PATH, serve, methods=["GET"])

    def workers_route(self, workers: WorkerLink) -> Route:
        """Makes the route by which the other workers ask this one for its metrics."""

        async def serve(request: Request) -> Response:
            await workers.admit(request)
            return Response(await self.own(), media_type="application/msgpack")

        return Route(WORKERS_METRICS, serve, methods=["GET"])
