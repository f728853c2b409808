"""A WebSocket to a service, by the ``websockets`` client: opened without redirects, written without waiting."""

from collections.abc import Callable, Mapping
from typing import cast

from websockets.asyncio.connection import broadcast
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from bridge.errors import BadEvent, UpstreamError
from bridge.names import until_answered
from bridge.outgoing import TLS, refusal
from bridge.outgoing_sockets import WebSocketConnect
from bridge.sliced import SlicedConnection

__all__ = ["ServiceSocket"]

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_MAX_BUFFERED_BYTES = 8 * 1024 * 1024  # 80 s of sound, or the largest append: a service that takes no more is gone
_PING_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_NORMAL = 1000
_FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010, 4000})  # trying again would end the same way


class ServiceSocket:
    """One WebSocket to a service, which is opened once, run to its end, and closed."""

    def __init__(self, address: str, headers: Mapping[str, str], *, timeout_s: float) -> None:
        self._address = address
        self._headers = headers
        self._timeout_s = timeout_s
        self._socket: SlicedConnection | None = None
        self._fault: UpstreamError | None = None

    async def open(self) -> None:
        """Connects; raises ``UpstreamError``."""
        try:
            await self._until_named()
            connection = await WebSocketConnect(
                self._address,
                create_connection=SlicedConnection,
                additional_headers=self._headers,
                ssl=TLS if self._address.startswith("wss:") else None,
                compression=None,
                max_size=_MAX_MESSAGE_BYTES,
                open_timeout=self._timeout_s,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                max_queue=64,
                write_limit=2 * _MAX_BUFFERED_BYTES,  # nothing ever waits for room, closing least of all
            )
            self._socket = cast(SlicedConnection, connection)
        except InvalidStatus as error:
            response = error.response
            raise refusal(
                response.status_code, bytes(response.body or b""), response.headers.get("Retry-After")
            ) from error
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            raise UpstreamError(f"The upstream cannot be reached: {_reason(error)}", code="upstream_lost") from error

    async def _until_named(self) -> None:
        """Raises ``TimeoutError`` if no name server answers; a proxy looks names up itself."""
        uri = parse_uri(self._address)
        if get_proxy(uri) is None:
            await until_answered(uri.host, uri.port, self._timeout_s)

    async def run(self, receive: Callable[[bytes], None]) -> UpstreamError | None:
        """Hands each message to ``receive``, until the end; returns why it ended.

        It ends as well if ``receive`` raises ``BadEvent``, because such a service is not understood.
        """
        socket = self._socket
        assert socket is not None, "it has been opened"
        try:
            while True:
                message = await socket.recv(decode=False)
                socket.work.begin()
                receive(message)
                await socket.work.rest()  # a service that says very much waits for its turn
        except ConnectionClosed as error:
            return self._fault or _ending(error)
        except BadEvent as error:
            return UpstreamError(error.message, code=error.code)

    def write_message(self, message: bytes) -> None:
        """Writes without waiting. A service that does not take what it is sent is cut off, and counts as lost."""
        socket = self._socket
        if socket is None or self._fault is not None:
            return
        if socket.transport.get_write_buffer_size() + len(message) > _MAX_BUFFERED_BYTES:
            self._fault = UpstreamError("The upstream does not read what it is sent.", code="upstream_stalled")
            socket.transport.abort()
            return
        broadcast((socket,), message.decode())

    async def aclose(self) -> None:
        """Says goodbye, and cuts where that takes too long; may be called twice."""
        if self._socket is not None:
            await self._socket.close()


def _ending(error: ConnectionClosed) -> UpstreamError | None:
    """The error that a closed socket stands for."""
    close = error.rcvd
    if close is None or not error.rcvd_then_sent:  # cut, or closed by us for what it sent
        return UpstreamError("The connection to the upstream was lost.", code="upstream_lost")
    if close.code == _NORMAL:
        return None
    said = f": {close.reason}" if close.reason else ""
    return UpstreamError(
        f"The upstream closed the connection with {close.code}{said}",
        code="upstream_lost",
        is_transient=close.code not in _FINAL_CODES,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
