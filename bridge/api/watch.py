"""The WebSocket door ``/v1/calls/events``: which calls run, and from then on which begin and end.

What begins can be attached to at once, so that a recorder or a supervisor finds every call by itself.
"""

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.api.keys import Keys
from bridge.api.socket import Sockets, SocketSink, accept, deny
from bridge.calls.registry import Registry
from bridge.errors import BridgeError, Forbidden, RequestError
from bridge.session.fanout.listener import Listener
from bridge.wire.choices import parse_choices
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode, error_event

__all__ = ["watch_route"]

_CHOICES = ("events", "after")


def watch_route(registry: Registry, keys: Keys, sockets: Sockets) -> WebSocketRoute:
    """The route, for API keys only: what a minted key may see, it is told elsewhere."""

    async def watch(websocket: WebSocket) -> None:
        try:
            grant = keys.admit(websocket.headers)
            grant.require_admin()
            choices = parse_choices(websocket.query_params.multi_items(), allowed=_CHOICES)
            registry.calls.require(choices)
            sockets.require_room(grant.key_id)
        except BridgeError as error:
            await deny(websocket, error)
            return
        with sockets.one_more(grant.key_id):
            await accept(websocket)
            sink = SocketSink.of(websocket.scope)
            listener: Listener | None = None
            try:
                listener = registry.watch(sink, choices)
                while (await websocket.receive())["type"] == "websocket.receive":
                    refusal = Forbidden("This connection tells of calls, and takes no events.")
                    registry.calls.tell(listener, error_event(refusal))
            except RequestError as error:  # the gap grew too wide during the upgrade
                sink.send(EncodedMessage(encode(error_event(error))))
                sink.close(error.close_code, error.message)
            finally:
                if listener is not None:
                    listener.close(1000, "")
                    registry.calls.remove(listener)

    return WebSocketRoute("/v1/calls/events", watch)
