"""HTTPS: a handshake has a deadline, and a client in the middle of one is counted as a stranger.

A server of asyncio's tells nobody of a connection until its handshake is done, and waits a minute for that. So the
connections are accepted here.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from bridge.api.gate import Gate, GateEntry
from bridge.api.media_lines import NewMediaLine, begins_media, peek
from bridge.log import get_logger

__all__ = ["TlsListener"]

_log = get_logger("api")

_HANDSHAKE_TIMEOUT_S = 10.0
_GOODBYE_TIMEOUT_S = 2.0  # the wait for the client's close_notify (RFC 8446 section 6.1)
_AT_ONCE = 64  # connections that are accepted before others have their turn
_ACCEPT_AGAIN_S = 1.0  # after the process has run out of descriptors, as asyncio does


class TlsListener:
    """Accepts connections at ``listening``, which is bound, and shakes hands; then ``new_protocol`` takes over.

    It is called with ``entry``, by which the connection is counted, and leaves that when the connection is lost. A
    connection that begins as media does, without TLS, goes to ``new_media_line``.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        gate: Gate,
        new_protocol: Callable[..., asyncio.Protocol],
        new_media_line: NewMediaLine | None = None,
    ) -> None:
        self._socket = listening
        self._context = context
        self._gate = gate
        self._new_protocol = new_protocol
        self._new_media_line = new_media_line
        self._handshakes = asyncio.TaskGroup()
        self._under_way: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def start(self, backlog: int) -> None:
        """Begins to accept; the task that calls this calls ``wait_closed``."""
        self._loop = asyncio.get_running_loop()
        await self._handshakes.__aenter__()
        self._socket.setblocking(False)
        self._socket.listen(backlog)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    @property
    def is_shaking_hands(self) -> bool:
        """Whether handshakes are under way."""
        return bool(self._under_way)

    def stop_accepting(self) -> None:
        """Closes the port alone; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def close(self) -> None:
        """Accepts no more, and ends the handshakes that are under way; may be called twice."""
        self.stop_accepting()
        for task in self._under_way:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when nothing is left of the connections."""
        await self._handshakes.__aexit__(None, None, None)

    def _accept(self) -> None:
        """Takes a new connection; one too many is cut, because nothing can be said yet."""
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._socket.fileno())
                self._again = self._loop.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            entry = self._gate.enter(address[0])
            if entry is None:
                connection.close()
                continue
            connection.setblocking(False)
            task = self._handshakes.create_task(self._shake_hands(connection, entry))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _accept_again(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _shake_hands(self, connection: socket.socket, entry: GateEntry) -> None:
        """Shakes hands until the protocol has been told of the connection."""
        try:
            if await self._takes_media(connection):
                entry.leave()
                return
            await self._loop.connect_accepted_socket(
                lambda: self._new_protocol(entry=entry),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=_GOODBYE_TIMEOUT_S,
            )
        except OSError:  # the deadline, and what TLS makes of strange bytes; the loop has closed the connection
            entry.leave()
        except Exception as error:
            entry.leave()
            _log.error("api.handshake_failed", exc_info=error)
        except BaseException:
            entry.leave()
            raise

    async def _takes_media(self, connection: socket.socket) -> bool:
        """Whether the connection brings media, and is handed over; raises ``OSError`` if nothing comes."""
        if self._new_media_line is None:
            return False
        try:
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                first = await peek(connection)
        except BaseException:
            connection.close()
            raise
        if not first or not begins_media(first):
            return False
        await self._loop.connect_accepted_socket(self._new_media_line, connection)
        return True
