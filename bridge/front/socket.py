"""A WebSocket as a sink: ready-made frames straight to its transport, and an end that no client can put off.

uvicorn's protocol does the handshake, the parsing and the pings. What it does not do is done here: it tells the hub how
much a socket holds back, and it cuts a socket whose client does not read, which no ping and no close frame can reach.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from bridge.errors import BridgeError, OverLimit, error_body
from bridge.front.keys import subprotocols
from bridge.session.roles import SinkOwner
from bridge.wire.message import Message, frame_of

__all__ = ["MAX_TEXT_CHARS", "UNSUPPORTED_DATA", "BridgeWebSocket", "SocketSink", "Sockets", "accept", "deny"]

MAX_TEXT_CHARS = 21 * 1024 * 1024
"""Of one message: an append of 15 MiB as base64, and its JSON."""
UNSUPPORTED_DATA = 1003
"""The close code for what is no JSON text (RFC 6455 section 7.4.1)."""

_SUBPROTOCOL = "realtime"

_HIGH_WATER_BYTES = 256 * 1024
_LOW_WATER_BYTES = 64 * 1024
_UNSENT_BYTES = 64 * 1024  # else the kernel keeps megabytes for a listener that does not read: minutes of old sound
_NOT_SENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
_CLOSE_DEADLINE_S = 2.0
_SCOPE_KEY = "bridge.socket"


class BridgeWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol with its transport within reach."""

    sink: "SocketSink | None" = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection exists."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES)
        line = transport.get_extra_info("socket")
        if line is not None and _NOT_SENT_LOWAT is not None:
            line.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOWAT, _UNSENT_BYTES)

    def handle_connect(self, event: Request) -> None:
        """The handshake: the application finds its sink in the scope."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"][_SCOPE_KEY] = self.sink = SocketSink(self)

    def pause_writing(self) -> None:
        """The transport holds more than it should."""
        super().pause_writing()
        if self.sink is not None:
            self.sink.is_full(True)

    def resume_writing(self) -> None:
        """The transport has room again."""
        super().resume_writing()
        if self.sink is not None:
            self.sink.is_full(False)

    async def send(self, message: ASGISendEvent) -> None:
        """An answer instead of the upgrade completes the handshake as well; uvicorn would log it as our failure."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_close(self, event: Frame) -> None:
        """The client says goodbye; if it does not read our answer, it is cut all the same."""
        if self.sink is not None:
            self.sink.said_goodbye = True
        super().handle_close(event)
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """The client does not speak WebSocket."""
        super().handle_parser_exception()
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """No pong: a client that does not answer does not read either."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops; whoever is still here is not waited for."""
        super().shutdown()
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)


class SocketSink:
    """Where the hub writes. Frames are made once for all sockets and written as they are."""

    def __init__(self, protocol: BridgeWebSocket) -> None:
        self.said_goodbye = False
        """The client closed the connection, or we did; else it broke."""
        self._protocol = protocol
        self._transport = protocol.transport
        self._owner: SinkOwner | None = None

    @staticmethod
    def of(scope: Any) -> "SocketSink":
        """The sink of the WebSocket that an ASGI scope stands for."""
        return cast(SocketSink, scope["state"][_SCOPE_KEY])

    def attach(self, owner: SinkOwner) -> None:
        """From now on ``owner`` is told of the socket's state."""
        self._owner = owner

    def send(self, message: Message) -> None:
        """Writes a frame; to a closing socket, nothing."""
        if not self._protocol.close_sent and not self._transport.is_closing():
            self._transport.write(message.frame)

    def write(self, messages: list[str | bytes]) -> None:
        """Writes messages of this socket alone, text or binary, at once; to a closing socket, nothing."""
        if not self._protocol.close_sent and not self._transport.is_closing():
            frames = [
                frame_of(message.encode()) if isinstance(message, str) else frame_of(message, is_text=False)
                for message in messages
            ]
            self._transport.write(b"".join(frames))

    def send_no_pings(self) -> None:
        """For a client whose call a ping would end; to be said before the upgrade is accepted."""
        self._protocol.ping_interval = None

    @property
    def received_close_code(self) -> int | None:
        """With which the client has said goodbye; None where it has not, also if it is gone."""
        received = self._protocol.conn.close_rcvd
        return None if received is None else int(received.code)

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself."""
        return self._transport

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame; whatever the client does, the socket is gone soon after."""
        protocol, transport = self._protocol, self._transport
        if protocol.close_sent or transport.is_closing():
            return
        self.said_goodbye = True
        protocol.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if protocol.conn.state is State.OPEN:
            protocol.conn.send_close(code, _fits(reason))
            transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        protocol.close_timer = protocol.loop.call_later(_CLOSE_DEADLINE_S, transport.abort)

    @property
    def buffered_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def is_full(self, full: bool) -> None:
        """The transport's word on whether it wants more."""
        if self._owner is not None:
            if full:
                self._owner.pause()
            else:
                self._owner.resume()


async def deny(websocket: WebSocket, error: BridgeError) -> None:
    """An HTTP error in place of the upgrade."""
    await websocket.send_denial_response(JSONResponse({"error": error_body(error)}, error.http_status, error.headers))


async def accept(websocket: WebSocket) -> None:
    """The upgrade; browsers insist that one of the subprotocols that they offered is chosen."""
    await websocket.accept(_SUBPROTOCOL if _SUBPROTOCOL in subprotocols(websocket.headers) else None)


class Sockets:
    """How many sockets of one kind, ``what``, each key has, over all calls."""

    def __init__(self, limit: int, *, what: str = "listeners") -> None:
        self._limit = limit
        self._what = what
        self._taken: Counter[str] = Counter()

    def require_room(self, key_id: str) -> None:
        """Raises ``OverLimit`` where one more would be one too many."""
        if self._taken[key_id] >= self._limit:
            raise OverLimit(f"This key has {self._limit} {self._what} already, which is the limit.")

    @contextmanager
    def one_more(self, key_id: str) -> Iterator[None]:
        """Counts the socket for as long as it is there."""
        self._taken[key_id] += 1
        try:
            yield
        finally:
            self._taken[key_id] -= 1
            self._taken += Counter()  # forgets keys that have none


def _fits(reason: str) -> str:
    """A close frame takes 125 bytes, two of them for the code (RFC 6455 section 5.5)."""
    return reason.encode()[:123].decode("utf-8", "ignore")
