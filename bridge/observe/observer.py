"""All that is observed of one daemon, put together: what subscribes, and what is served of it."""

import contextlib
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from bridge.calls.registry import Registry
from bridge.config import ObserveSettings
from bridge.observe.exposition import Exposition
from bridge.observe.metrics import Metrics
from bridge.observe.requests import CountRequests
from bridge.wire.stats import DaemonStats

__all__ = ["Observer"]


class Observer:
    """Follows the calls of ``registry`` from the start; ``async with`` owns the threads that it uses."""

    def __init__(
        self,
        settings: ObserveSettings,
        registry: Registry,
        daemon: Callable[[], DaemonStats],
        *,
        carriers: Sequence[str],
        admit: Callable[[Request], object],
    ) -> None:
        """``admit`` raises if a request at the daemon's own port may not see what concerns all calls."""
        self.metrics = Metrics(registry.find, daemon, carriers=carriers)
        registry.subscribe(self.metrics)
        self._has_own_port = settings.metrics_port is not None
        self._admit = admit
        self._exposition = Exposition(self.metrics)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Observer":
        await self._stack.enter_async_context(self._exposition)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @property
    def routes(self) -> list[Route]:
        """For the daemon's own port."""
        return [] if self._has_own_port else [self._exposition.route(self._admit)]

    @property
    def middleware(self) -> list[Middleware]:
        """Around the daemon's router."""
        return [Middleware(CountRequests, count=self.metrics.count_request)]

    def new_app(self) -> Starlette:
        """For a port of its own: whoever reaches it may see all of this."""
        return Starlette(routes=[self._exposition.route(lambda request: None)])
