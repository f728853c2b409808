"""HTTP from strangers: uvicorn's protocol with bounds on the size of a head, on each wait, on each turn of the loop.

Theory of operation. What comes is parsed in slices, for at most a unit of time. Then everybody else has a turn (see
``bridge.turns``), and nothing more is read until all of it is parsed. Requests that a client sends ahead wait unparsed.
Each state of a connection has its deadline: the head of a request, its answer, the rest after a refusal. If a request
is refused before its end, the client is told so and the connection is closed. What the client still sends is thrown
away for a moment, because TCP would otherwise throw away the answer (RFC 9112 section 9.6).
"""

import asyncio
import re
import time
from typing import Any, cast

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bridge.api.gate import Gate, GateEntry
from bridge.api.media_lines import NewMediaLine, begins_media
from bridge.api.socket import BridgeWebSocket
from bridge.errors import RequestError, error_body
from bridge.log import Tally, get_logger
from bridge.turns import UNIT_S, Work

__all__ = ["MAX_HEADERS", "MAX_HEAD_BYTES", "MAX_URL_BYTES", "BoundedHttp"]

_log = get_logger("api")

MAX_URL_BYTES = 8 * 1024
"""The longest target of a request; a longer one is answered with 414."""
MAX_HEAD_BYTES = 64 * 1024
"""The most that request line and headers have together; more is answered with 431 (RFC 6585 section 5)."""
MAX_HEADERS = 100
"""The most headers of a request; more are answered with 431 as well."""
MAX_UPGRADE_LINE_BYTES = 8 * 1024
"""The longest header of a WebSocket handshake: the parser behind it takes no more."""
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""The longest request as it is on the wire; each handler takes less."""

_SLICE_BYTES = 1024  # some 40 of the shortest requests, or 1 ms
_REQUEST_S = 0.0003  # about what answering takes
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_STOPPING = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TIMEOUT_S = 10.0
_FIRST_REQUEST_S = 1.0  # of a connection that is new when the server stops
_ANSWER_TIMEOUT_S = 60.0  # more than any handler takes, including the body
_LINGER_S = 2.0
_LINGER_BYTES = 4 * 1024 * 1024
_STATUS_LINES = {
    400: b"HTTP/1.1 400 Bad Request",
    413: b"HTTP/1.1 413 Content Too Large",
    414: b"HTTP/1.1 414 URI Too Long",
    431: b"HTTP/1.1 431 Request Header Fields Too Large",
}

# A host and perhaps a port (RFC 9110 section 7.2); empty if the target has none.
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")

_tally = Tally()


class _Flow(FlowControl):
    """Flow control that reads on when nothing that came earlier is left."""

    def __init__(self, protocol: "BoundedHttp") -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """Reads on, because the application wants more, or a response is complete."""
        if not self._protocol.pipeline:
            self.read_paused = False
            self._protocol.read_on()

    def pause_reading(self) -> None:
        """Stops reading until the application wants more."""
        self.read_paused = True
        self._protocol.pause()


class _Ending:
    """The transport as a response sees it, which is closed with care."""

    def __init__(self, protocol: "BoundedHttp") -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        """Sends data."""
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._protocol.is_ending or self._protocol.transport.is_closing()

    def close(self) -> None:
        """Ends the connection, because the response was its last one."""
        self._protocol.end()


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds on the size of a head, on each wait and on each turn of the loop."""

    is_ending = False
    """Whether the last answer is on its way; then nothing more is parsed."""
    is_last = False
    """Whether the next answer says that it is the last one of this connection."""

    def __init__(
        self,
        *args: Any,
        gate: Gate,
        entry: GateEntry | None = None,
        new_media_line: NewMediaLine | None = None,
        **options: Any,
    ) -> None:
        """``entry`` is given if the connection was let through to the gate already.

        ``new_media_line`` makes what takes over if media comes instead of HTTP.
        """
        super().__init__(*args, **options)
        self._gate = gate
        self._entry = entry
        self._new_media_line = new_media_line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a client's connection, whose first request has to come in time."""
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = _Flow(self)
        self._work = Work(self.loop)
        self._is_waiting = False
        self._unparsed = bytearray()
        self._is_reading = True
        self._refusal: tuple[int, str] | None = None
        self._head_bytes = self._headers_bytes = self._raw_bytes = 0
        self._in_head = True
        self._is_stopping = False
        self._discarded_bytes = 0
        self._due: asyncio.TimerHandle | None = None
        self._set_due(_HEAD_TIMEOUT_S)
        if self._entry is None:
            self._entry = self._gate.enter(self.client[0] if self.client else "")
        if self._entry is None:
            self.transport.write(_TOO_MANY)
            self.end()
        else:
            self._work.share.join(self._entry.share)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that the connection is gone."""
        self._set_due(None)
        self._unparsed.clear()
        self._unset_keepalive_if_required()
        if self._entry is not None:
            self._entry.leave()
        super().connection_lost(exc)

    # Reading

    def data_received(self, data: bytes) -> None:
        """Takes any number of requests, cut anywhere."""
        if self.is_ending:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        if self._new_media_line is not None:
            new_line, self._new_media_line = self._new_media_line, None  # the first bytes decide it
            if begins_media(data):
                self._hand_over_media(new_line(), data)
                return
        self._unparsed += data
        if self._is_waiting:
            return
        if self._work.has_time:
            self._parse()
        else:
            self._next_turn()

    def read_on(self) -> None:
        """Parses what is here already, then reads what comes."""
        if self._unparsed:
            self._next_turn()
        elif not self._is_reading and not self.transport.is_closing():
            self._is_reading = True
            self.transport.resume_reading()

    def pause(self) -> None:
        """Stops reading from the network."""
        if self._is_reading and not self.transport.is_closing():
            self._is_reading = False
            self.transport.pause_reading()

    def _next_turn(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self.pause()
            self._work.next_turn(self._parse)

    def _parse(self) -> None:
        """Parses for a while; the rest follows in the next turn."""
        self._is_waiting = False
        self._work.begin()
        until = time.perf_counter() + UNIT_S
        while self._may_parse and time.perf_counter() < until:
            piece = bytes(self._unparsed[:_SLICE_BYTES])
            del self._unparsed[:_SLICE_BYTES]
            self._parse_piece(piece)
        self._work.end()
        if self._may_parse:
            self._next_turn()
        elif self._unparsed:
            self.pause()
        elif self._is_connected and not self.flow.read_paused and not self.is_ending:
            self.read_on()

    @property
    def _may_parse(self) -> bool:
        return bool(self._unparsed) and self._is_connected and not self.flow.read_paused and not self.is_ending

    def _parse_piece(self, piece: bytes) -> None:
        was_in_head = self._in_head
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError:
            malformed = "This is not an HTTP request." if self._in_head else "The body's framing is not valid HTTP."
            self._refuse(*(self._refusal or (400, malformed)))
            return
        self._raw_bytes += len(piece)
        if not self._in_head and self._raw_bytes > MAX_REQUEST_BYTES:  # trailers, or a body that nobody reads
            self._refuse(413, f"The request is over the limit of {MAX_REQUEST_BYTES} bytes.")
        if was_in_head and self._in_head:  # what the parser keeps to itself counts too
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES + _SLICE_BYTES:
                self._refuse(431, f"The request line and headers are over the limit of {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Begins a request at its first byte."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._in_head = True
        self._head_bytes = self._headers_bytes = self._raw_bytes = 0
        if not self._is_answering and not self._is_stopping:
            self._set_due(_HEAD_TIMEOUT_S)

    def on_url(self, url: bytes) -> None:
        """Takes a part of the request's target."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._stop_parsing(414, f"The URL is over the limit of {MAX_URL_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes one header."""
        super().on_header(name, value)
        self._headers_bytes += len(name) + len(value) + 4
        if len(self.headers) > MAX_HEADERS:
            self._stop_parsing(431, f"There are more than {MAX_HEADERS} headers.")
        if self._headers_bytes + len(self.url) > MAX_HEAD_BYTES:
            self._stop_parsing(431, f"The request line and headers are over the limit of {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Goes on with the request, whose head is whole."""
        self._in_head = False
        hosts = [value.strip() for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            self._stop_parsing(400, "A request must have exactly one Host header.")
        if not all(map(_HOST.fullmatch, hosts)):
            self._stop_parsing(400, "The Host header must be a host, optionally with a port.")
        if self._should_upgrade():
            for name, value in self.headers:
                if len(name) + len(value) + 4 > MAX_UPGRADE_LINE_BYTES:
                    self._stop_parsing(431, f"A header is over the limit of {MAX_UPGRADE_LINE_BYTES} bytes.")
        super().on_headers_complete()
        self._set_due(_ANSWER_TIMEOUT_S)

    def handle_websocket_upgrade(self) -> None:
        """Lets another protocol take over, which begins with the same head; not if the server stops."""
        if self._is_stopping:
            self.transport.write(_STOPPING)
            self.end()
            return
        self._set_due(None)
        self._unparsed.clear()
        if not self._is_reading:
            self._is_reading = True
            self.transport.resume_reading()
        self.connections.discard(self)
        head = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.scope["headers"]:
            head += [name, b": ", value, b"\r\n"]
        protocol = BridgeWebSocket(self.config, self.server_state, self.app_state)
        protocol.entry = self._entry
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(b"".join([*head, b"\r\n"]))

    def _hand_over_media(self, line: asyncio.Protocol, data: bytes) -> None:
        """Lets another protocol take over, which counts strangers for itself and has deadlines of its own."""
        self._set_due(None)
        self.connections.discard(self)
        if self._entry is not None:
            self._entry.leave()
        self.transport.set_protocol(line)
        line.connection_made(self.transport)
        if not self.transport.is_closing():
            line.data_received(data)

    def _stop_parsing(self, status: int, message: str) -> None:
        self._refusal = status, message
        raise ValueError(message)  # the parser turns it into an error of its own

    # Answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.transport = cast(asyncio.Transport, _Ending(self))

        async def closing(scope: Any, receive: Any, send: Any) -> None:
            """Makes an answer say that it is the last one, if it comes before the end of the request or ``is_last``."""

            async def say(message: Any) -> None:
                if message["type"] == "http.response.start" and (cycle.more_body or self.is_last):
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
                await send(message)

            try:
                await app(scope, receive, say)
            except asyncio.CancelledError:  # the server has cut the connection, and uvicorn would call that an error
                cycle.disconnected = True

        def start() -> None:
            if self._is_connected:
                super(BoundedHttp, self)._start_asgi_task(cycle, closing)

        has_time = self._work.has_time
        self._work.share.count_seconds(_REQUEST_S, time.perf_counter())
        if has_time:
            start()
        else:
            self._work.next_turn(start)

    def on_response_complete(self) -> None:
        """Goes on with the next request, if it has come already, or waits for one."""
        if not self.is_ending:
            self._set_due(_ANSWER_TIMEOUT_S if self.pipeline else _HEAD_TIMEOUT_S if self._in_head else None)
            super().on_response_complete()

    def end(self) -> None:
        """Sends what is to be sent, and closes; reads on to the end of the client's request, within bounds."""
        if self.is_ending or self.transport.is_closing():
            return
        self.is_ending = True
        self._unparsed.clear()
        self._unset_keepalive_if_required()
        self._set_due(_LINGER_S)
        if self._refusal is None and not self._owes_body:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if not self._is_reading:
            self._is_reading = True
            self.transport.resume_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection, because no further request came."""
        self.end()

    def shutdown(self) -> None:
        """Closes the connection after this answer, or now, because the server stops.

        One that has asked nothing yet has a moment for its request: its client connected when the server still took
        connections, and a load balancer would not ask another server.
        """
        self._is_stopping = self.is_last = True
        if self._is_answering:
            self.cycle.keep_alive = False
        elif self._has_asked:
            self.end()
        else:
            self._set_due(_FIRST_REQUEST_S)

    def _refuse(self, status: int, message: str) -> None:
        """Refuses what cannot be parsed; if an earlier answer is still due, only that one is sent."""
        self._refusal = status, message
        count = _tally.count_repeat(str(status), self.loop.time())
        if count is not None:
            _log.warning("api.bad_request", status=status, message=message, count=count)
        if self._is_waiting_for_body:  # the body never comes, and nobody is left to answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self._is_answering:
            self.cycle.keep_alive = False
            self._unparsed.clear()
            self.pause()
            return
        body = msgspec.json.encode({"error": error_body(RequestError(message))})
        self.transport.write(
            _STATUS_LINES[status]
            + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.end()

    # Inside

    @property
    def _is_connected(self) -> bool:
        return cast(Any, self.parser) is not None

    @property
    def _has_asked(self) -> bool:
        """Whether the head of a request has come."""
        return cast("RequestResponseCycle | None", self.cycle) is not None

    @property
    def _is_answering(self) -> bool:
        """Whether a request has been begun, and its response is not complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    @property
    def _is_waiting_for_body(self) -> bool:
        """Whether the request that is being read has its handler already, and no answer yet."""
        return self._is_answering and self.cycle.more_body and not self.cycle.response_started and not self.pipeline

    @property
    def _owes_body(self) -> bool:
        """Whether the request that was answered is not complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.more_body

    def _set_due(self, timeout_s: float | None) -> None:
        """Sets the time after which the connection is cut, unless the next step has come."""
        if self._due is not None:
            self._due.cancel()
        self._due = None if timeout_s is None else self.loop.call_later(timeout_s, self.transport.abort)
