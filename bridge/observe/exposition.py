"""``GET /metrics``: the metrics as text, in Prometheus's format or OpenMetrics', whichever the client can read.

The metrics are read in the event loop, some calls at a time, and written down in a thread. For a second everybody gets
the same text, so frequent requests do not cost the calls anything.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.operation import Operation
from bridge.observe.metrics import Metrics

__all__ = ["METRICS", "Exposition"]

_PATH = "/metrics"
_FRESH_S = 1.0

METRICS = Operation(
    method="get",
    path=_PATH,
    summary="Metrics for Prometheus. With an API key only; or on a port of its own, without one.",
    response="text/plain",
)


class Exposition:
    """Writes the pages of ``GET /metrics`` in ``thread``. Each page is good for ``fresh_s``."""

    def __init__(self, metrics: Metrics, thread: ThreadPoolExecutor, *, fresh_s: float = _FRESH_S) -> None:
        self._metrics = metrics
        self._fresh_s = fresh_s
        self._lock = asyncio.Lock()
        self._made_at = -float("inf")
        self._texts: dict[str, tuple[bytes, str]] = {}
        self._thread = thread

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics and their media type, for a client whose header ``Accept`` is ``accept``.

        See RFC 9110 section 12.5.1.
        """
        encode, content_type = choose_encoder(accept)
        async with self._lock:
            if time.monotonic() - self._made_at > self._fresh_s:
                self._texts.clear()
                await self._metrics.collect_all()
                self._made_at = time.monotonic()
            if content_type not in self._texts:
                loop = asyncio.get_running_loop()
                written = await loop.run_in_executor(self._thread, encode, self._metrics.registry)
                self._texts[content_type] = written, content_type
            return self._texts[content_type]

    def route(self, admit: Callable[[Request], Awaitable[object]]) -> Route:
        """Makes the route of the metrics; ``admit`` raises if the request may not see them."""

        async def serve(request: Request) -> Response:
            await admit(request)
            text, content_type = await self.text(request.headers.get("accept", ""))
            return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

        return Route(_PATH, serve, methods=["GET"])
