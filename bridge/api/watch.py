"""The WebSocket endpoint ``/v1/calls/events``: which calls run, and from then on which begin and end.

A call that begins can be attached to at once, so that a recorder or a supervisor finds every call by itself.
"""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.attach import serve_place
from bridge.api.keys import Keys
from bridge.api.socket import deny
from bridge.calls.service import CallService
from bridge.errors import BridgeError
from bridge.wire.choices import parse_choices

__all__ = ["watch_route"]

_CHOICES = ("events", "after")


def watch_route(calls: CallService, keys: Keys) -> WebSocketRoute:
    """Makes the route, for API keys only: a minted key is told elsewhere what it may see."""

    async def watch(websocket: WebSocket) -> None:
        try:
            grant = await keys.admit(websocket.headers)
            grant.require_admin()
            choices = parse_choices(websocket.query_params.multi_items(), allowed=_CHOICES)
            place = await calls.place_for_watcher(grant, choices)
        except BridgeError as error:
            await deny(websocket, error)
            return
        await serve_place(websocket, place)

    return WebSocketRoute("/v1/calls/events", watch)
