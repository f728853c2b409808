"""The WebSocket door ``/v1/realtime``: sessions of their own (``model=``) and listeners of calls (``call_id=``)."""

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.errors import BadRequest, BridgeError, OverLimit, error_body
from bridge.front.keys import Keys, subprotocols
from bridge.front.socket import SocketSink
from bridge.session.hub import Listener
from bridge.session.registry import Registry
from bridge.session.session import Session
from bridge.wire.audio import FORMATS, AudioFormat

__all__ = ["realtime_route"]

_SUBPROTOCOL = "realtime"
_ROLES = ("controller", "observer")
_UNSUPPORTED_DATA = 1003
_INTERNAL_ERROR = 1011


def realtime_route(registry: Registry, keys: Keys) -> WebSocketRoute:
    """The route; what is wrong with a request is said before the upgrade, as an HTTP error."""

    async def realtime(websocket: WebSocket) -> None:
        try:
            keys.admit(websocket.headers)
            query = websocket.query_params
            role, audio = _choices(query)
            if "call_id" in query:
                session = registry.find(query["call_id"])
                session.require_room()
            else:
                session = registry.open(model=query["model"], transport="websocket")
                role = "owner"
        except BridgeError as error:
            response = JSONResponse({"error": error_body(error)}, error.http_status)
            await websocket.send_denial_response(response)
            return
        offered = subprotocols(websocket.headers)
        await websocket.accept(_SUBPROTOCOL if _SUBPROTOCOL in offered else None)
        await _serve(websocket, session, role=role, audio=audio)

    return WebSocketRoute("/v1/realtime", realtime)


async def _serve(websocket: WebSocket, session: Session, *, role: str, audio: AudioFormat | None) -> None:
    """From the upgrade to the end of the socket."""
    sink = SocketSink.of(websocket.scope)
    listener: Listener | None = None
    reason = "client_closed"
    try:
        if session.closed.is_set():
            sink.close(1000, "call ended")
            return
        listener = session.attach(sink, role=role, audio=audio)
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is None:
                reason = "binary_message"
                sink.close(_UNSUPPORTED_DATA, "events are JSON text")
                return
            session.receive(listener, text)
    except OverLimit as error:
        sink.close(error.close_code, error.message)
    except Exception as error:
        reason = f"internal_error_{type(error).__name__}"
        sink.close(_INTERNAL_ERROR, "internal error")
        raise
    finally:
        if listener is not None:
            session.detach(listener, reason)
        elif role == "owner":
            session.close("client_closed")


def _choices(query: QueryParams) -> tuple[str, AudioFormat | None]:
    """What a listener asks for on its URL; raises ``BadRequest`` naming what does not fit."""
    if ("model" in query) == ("call_id" in query):
        raise BadRequest("Give exactly one of 'model' (a new session) and 'call_id' (a running call).", param="model")
    role = query.get("role", "controller")
    if role not in _ROLES:
        raise BadRequest(f"'role' is one of {', '.join(_ROLES)}.", param="role")
    name = query.get("audio", "none")
    if name != "none" and name not in FORMATS:
        raise BadRequest(f"'audio' is one of none, {', '.join(FORMATS)}.", param="audio")
    if "model" in query and ("audio" in query or "role" in query):
        raise BadRequest(
            "'audio' and 'role' are for listeners of a call; a session of its own has both.", param="audio"
        )
    return role, FORMATS.get(name)
