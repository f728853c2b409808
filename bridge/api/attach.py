"""A WebSocket that has a place, in a call or beside all calls: from the upgrade to its end."""

from starlette.websockets import WebSocket

from bridge.api.socket import MAX_TEXT_CHARS, SocketSink, accept
from bridge.calls.handles import SocketHandle, SocketPlace
from bridge.errors import BridgeError, RequestError
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import encode, error_event

__all__ = ["serve_place"]

_INTERNAL_ERROR = 1011


async def serve_place(websocket: WebSocket, place: SocketPlace) -> None:
    """Accepts the upgrade, takes the place, hands on what the client says, and leaves when the socket is gone."""
    sink = SocketSink.of(websocket.scope)
    handle: SocketHandle | None = None
    reason, failure = "client_closed", None
    try:
        await accept(websocket)
        handle = await place.attach(sink)
        if handle is None:
            return
        while (message := await websocket.receive())["type"] == "websocket.receive":
            text = message.get("text")
            if text is None:
                handle.refuse_binary()
                continue
            if len(text) > MAX_TEXT_CHARS:
                reason = "message_too_big"
                handle.refuse_long(len(text))
                return
            await handle.receive_text(text, sink.work)
    except RequestError as error:  # it was right before the upgrade and is not now: the call is full, the gap too wide
        sink.send_message(EncodedMessage(encode(error_event(error))))
        sink.close(error.close_code, error.message)
    except Exception as error:
        reason, failure = "internal_error", BridgeError(f"{type(error).__name__} in a socket's task")
        sink.close(_INTERNAL_ERROR, "internal error")
        raise
    finally:
        if handle is not None:
            handle.detach(reason, error=failure, is_lost=not sink.said_goodbye)
        else:
            place.give_up()
