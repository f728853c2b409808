"""A WebSocket as a sink: ready-made frames go straight to its transport, and no client can put off its end.

uvicorn's protocol does the handshake, the parsing and the pings. What it does not do is done here: it tells the hub how
much a socket holds back, and it cuts a socket whose client does not read, which no ping and no close frame can reach.
What comes in is parsed in slices, and no more is read until all of it has been parsed and taken. A socket that sends
very much, or very small frames, waits for its turn like any other work (see ``bridge.turns``). A client that has not
been let in yet can send small messages only.
"""

import asyncio
import socket
import time
from typing import Any, cast

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from bridge.api.gate import GateEntry
from bridge.api.keys import subprotocols
from bridge.api.refusals import tell_refusal
from bridge.burst import Burst
from bridge.calls.keys import API_KEY_ID
from bridge.errors import BridgeError, error_body
from bridge.media.contracts import SinkOwner
from bridge.turns import UNIT_S, Share, Shares, Work
from bridge.wire.message import EncodedMessage, frame_of

__all__ = [
    "MAX_FIRST_BYTES",
    "MAX_TEXT_CHARS",
    "UNSUPPORTED_DATA",
    "BridgeWebSocket",
    "KeyShares",
    "SocketSink",
    "accept",
    "deny",
]

MAX_TEXT_CHARS = 21 * 1024 * 1024
"""The longest message: an append of 15 MiB as base64, and its JSON."""
UNSUPPORTED_DATA = 1003
"""The close code for what is no JSON text (RFC 6455 section 7.4.1)."""

MAX_FIRST_BYTES = 128 * 1024
"""The longest message from a client that has not been let in yet; a longer one closes its socket with 1009."""

_SUBPROTOCOL = "realtime"

_HIGH_WATER_BYTES = 256 * 1024
_LOW_WATER_BYTES = 64 * 1024
_UNSENT_BYTES = 64 * 1024  # or else the kernel keeps megabytes of old sound for a listener that does not read
_NOT_SENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
_CLOSE_DEADLINE_S = 2.0
_HANDSHAKE_TIMEOUT_S = 10.0
_MAX_MESSAGE_BYTES = 24 * 1024 * 1024  # above this it is cut; above MAX_TEXT_CHARS the endpoint says why it closes
_MAX_FRAGMENTS = 16_384  # fragments of one message
_AT_ONCE_BYTES = 4096  # sound and events come in no more than this; it is not copied
_SLICE_BYTES = 1024  # some 170 of the smallest frames, or 1 ms
_POLICY_VIOLATION = 1008
_NO_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 28\r\nconnection: close\r\n\r\n"
    b"This is no WebSocket request"
)
_KEY_SHARE, _KEY_BURST_S = 0.25, 0.5  # parts of the event loop's time, for one minted key
_SCOPE_KEY = "bridge.socket"


class BridgeWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol with its transport within reach."""

    sink: "SocketSink | None" = None
    entry: GateEntry | None = None
    """The entry by which the client is counted as a stranger until it is let in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the TCP connection."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.work = Work(self.loop)
        self._unparsed = bytearray()
        self._is_waiting = False
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES)
        line = transport.get_extra_info("socket")
        if line is not None and _NOT_SENT_LOWAT is not None:
            line.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOWAT, _UNSENT_BYTES)
        self._handshake_due = self.loop.call_later(_HANDSHAKE_TIMEOUT_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that the connection is gone."""
        self._handshake_due.cancel()
        self._unparsed.clear()
        self.let_in()
        super().connection_lost(exc)

    def let_in(self, max_message_bytes: int | None = None) -> None:
        """Lets the client in: it is no stranger any more, and may send messages of this size."""
        if max_message_bytes is not None:
            self.conn.max_message_size = max_message_bytes
        if self.entry is not None:
            self.entry.leave()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Takes frames, cut anywhere."""
        if len(data) > _AT_ONCE_BYTES or self._unparsed or self.read_paused or not self.work.begin_in_time():
            self._unparsed += data
            self._parse_later()
            return
        self._take(data)
        self.work.end()

    def _parse_later(self) -> None:
        """Parses in the socket's next turn; until then nothing is read."""
        if self._unparsed and not self._is_waiting and not self.read_paused:
            self._is_waiting = True
            self.work.next_turn(self._parse)
        self._read_or_wait()

    def _parse(self) -> None:
        self._is_waiting = False
        self.work.begin()
        until = time.perf_counter() + UNIT_S
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self._unparsed[:_SLICE_BYTES])
            del self._unparsed[:_SLICE_BYTES]
            self._take(piece)
            if time.perf_counter() > until:
                break
        if self.transport.is_closing():
            self._unparsed.clear()
        self.work.end()
        self._parse_later()

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()
            self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)

    def _read_or_wait(self) -> None:
        """Reads if nothing is left to parse, and no message is left to take; otherwise waits."""
        wants = not self.read_paused and not self._unparsed
        if not self.transport.is_closing() and wants != self.transport.is_reading():
            if wants:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def send_receive_event_to_app(self) -> None:
        """Gives the application a complete message.

        Until it has been taken, no more are parsed than one slice holds.
        """
        was_paused, self.read_paused = self.read_paused, True
        super().send_receive_event_to_app()
        if self.close_sent:
            self.read_paused = was_paused
        self._read_or_wait()

    async def receive(self) -> ASGIReceiveEvent:
        """Returns the next message; a socket that has had its share waits for it a little longer."""
        work = self.work
        await work.rest()
        message = await self.queue.get()
        work.begin()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._parse_later()
        return message

    # Frames

    def handle_cont(self, event: Frame) -> None:
        """Takes a fragment; too many of them make no message, and are refused."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.frames = []
            self.conn.fail(_POLICY_VIOLATION, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answers a ping, unless the client reads nothing: then it waits for the next one (RFC 6455 section 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_connect(self, event: Request) -> None:
        """Takes the handshake's request: the application finds its sink in the scope."""
        self.conn.max_message_size = MAX_FIRST_BYTES
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"][_SCOPE_KEY] = self.sink = SocketSink(self)

    def pause_writing(self) -> None:
        """Notes that the transport holds more than it should."""
        super().pause_writing()
        if self.sink is not None:
            self.sink.is_full(True)

    def resume_writing(self) -> None:
        """Notes that the transport has room again."""
        super().resume_writing()
        if self.sink is not None:
            self.sink.is_full(False)

    async def send(self, message: ASGISendEvent) -> None:
        """Sends what the application says.

        An answer instead of the upgrade completes the handshake as well; uvicorn would log it as our failure. To a
        client that has gone nothing is sent: whoever serves it finds that out by ``receive``, and cleans up there.
        """
        try:
            await super().send(message)
        except ClientDisconnected:
            return
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True
            self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)
        elif message["type"] == "websocket.accept":
            self._handshake_due.cancel()
        elif message["type"] == "websocket.close":
            self._read_or_wait()

    def handle_close(self, event: Frame) -> None:
        """Answers the client's goodbye; if the client does not read that answer, it is cut all the same."""
        if self.sink is not None:
            self.sink.said_goodbye = True
        super().handle_close(event)
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Ends the connection, because the client does not speak WebSocket."""
        super().handle_parser_exception()
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Cuts the connection if no pong came: a client that does not answer does not read either."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """Closes the connection, because the server stops; it does not wait for the client."""
        try:
            super().shutdown()
        except InvalidState:  # half a handshake, or half a goodbye
            self.transport.close()
        self.loop.call_later(_CLOSE_DEADLINE_S, self.transport.abort)


class SocketSink:
    """The sink to which the hub writes. Frames are made once for all sockets and written as they are."""

    def __init__(self, protocol: BridgeWebSocket) -> None:
        self.said_goodbye = False
        """Whether the client closed the connection, or we did; else it broke."""
        self._protocol = protocol
        self._transport = protocol.transport
        self._burst = Burst.of(protocol.loop)
        self._owner: SinkOwner | None = None

    @staticmethod
    def of(scope: Any) -> "SocketSink":
        """Returns the sink of the WebSocket that an ASGI scope stands for."""
        return cast(SocketSink, scope["state"][_SCOPE_KEY])

    def attach(self, owner: SinkOwner) -> None:
        """From now on tells ``owner`` of the socket's state."""
        self._owner = owner

    def send_message(self, message: EncodedMessage) -> None:
        """Writes a message, unless the socket is closing; at the end of the burst, if one is open."""
        if self._burst.is_open:
            self._burst.add_frame(self, message.frame)
        else:
            self.write_frame(message.frame)

    def write_frame(self, frame: bytes) -> None:
        """Writes a frame at once, unless the socket is closing."""
        if not self._protocol.close_sent and not self._transport.is_closing():
            self._transport.write(frame)

    def write_messages(self, messages: list[str | bytes]) -> None:
        """Writes messages of this socket alone, text or binary, at once, unless it is closing."""
        self._burst.write_frames()
        if not self._protocol.close_sent and not self._transport.is_closing():
            frames = [
                frame_of(message.encode()) if isinstance(message, str) else frame_of(message, is_text=False)
                for message in messages
            ]
            self._transport.write(b"".join(frames))

    def send_no_pings(self) -> None:
        """Sends no pings, for a client whose call a ping would end; to be called before the upgrade is accepted."""
        self._protocol.ping_interval = None

    def let_in(self, max_message_bytes: int | None = None) -> None:
        """Lets the client in, which has shown enough to be here, and to send messages of this size."""
        self._protocol.let_in(max_message_bytes)

    @property
    def work(self) -> Work:
        """The work that is done for this socket."""
        return self._protocol.work

    @property
    def received_close_code(self) -> int | None:
        """The code with which the client has said goodbye; None if it has not, also if it is gone."""
        received = self._protocol.conn.close_rcvd
        return None if received is None else int(received.code)

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of the connection."""
        return self._transport

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame; whatever the client does, the socket is gone soon after."""
        self._burst.write_frames()
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
        """The number of bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def is_full(self, full: bool) -> None:
        """Notes whether the transport is full."""
        if self._owner is not None:
            if full:
                self._owner.pause()
            else:
                self._owner.resume()


async def deny(websocket: WebSocket, error: BridgeError) -> None:
    """Sends an HTTP error in place of the upgrade."""
    tell_refusal(error, websocket.scope)
    await websocket.send_denial_response(JSONResponse({"error": error_body(error)}, error.http_status, error.headers))


async def accept(websocket: WebSocket) -> None:
    """Accepts the upgrade; browsers insist that one of the subprotocols that they offered is chosen."""
    SocketSink.of(websocket.scope).let_in(_MAX_MESSAGE_BYTES)
    await websocket.accept(_SUBPROTOCOL if _SUBPROTOCOL in subprotocols(websocket.headers) else None)


class KeyShares:
    """How much time all sockets of one key together may take before they wait for their turn."""

    def __init__(self) -> None:
        self._shares = Shares(_KEY_SHARE, _KEY_BURST_S)

    def of(self, key_id: str) -> Share | None:
        """Returns the share of this minted key; API keys have no such limit."""
        return None if key_id == API_KEY_ID else self._shares.of(key_id)


def _fits(reason: str) -> str:
    """Returns the part of a reason that fits.

    A close frame takes 125 bytes, two of them for the code (RFC 6455 section 5.5).
    """
    return reason.encode()[:123].decode("utf-8", "ignore")
