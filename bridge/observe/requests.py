"""Counts requests by route and status. It looks only at what is answered, and not at bodies and headers."""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import REFUSED_CODE
from bridge.observe.labels import METHODS, OTHER, bounded

__all__ = ["CountRequests", "UNMATCHED"]

UNMATCHED = "unmatched"
"""The route of requests that match none: their paths are a stranger's words, and no label."""

_UPGRADED, _CLOSED_BEFORE, _FAILED = 101, 403, 500


class CountRequests:
    """ASGI middleware around the router. For each request it calls ``count`` once.

    ``count`` gets the route, the method, the status and the error code. The code is ``other`` unless an error of the
    bridge's own answers the request. A WebSocket counts when it is answered: with 101, or the status of its refusal
    (RFC 6455 section 4.2.2).
    """

    def __init__(self, app: ASGIApp, count: Callable[[str, str, int, str], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts it when it is answered."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_counted = False

        def count(status: int) -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                route = getattr(scope.get("route"), "path", UNMATCHED)
                self._count(route, bounded(scope.get("method", "GET"), METHODS), status, scope.get(REFUSED_CODE, OTHER))

        async def note(message: Message) -> None:
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    count(message["status"])
                case "websocket.accept":
                    count(_UPGRADED)
                case "websocket.close":
                    count(_CLOSED_BEFORE)
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:
            count(_FAILED)
            raise
