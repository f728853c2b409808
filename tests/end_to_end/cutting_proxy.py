"""A cable that is cut: a TCP proxy which resets its connections when so many bytes have passed, frames or no frames."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["CuttingProxy", "reset"]

_PIECE_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class CuttingProxy:
    """``passed`` counts the bytes of all connections, both ways."""

    def __init__(self, target_port: int) -> None:
        self.passed = 0
        self.cuts = 0
        self.connections = 0
        self.port = 0
        self._target_port = target_port
        self._every: int | None = None
        self._cut_at: int | None = None

    @classmethod
    @asynccontextmanager
    async def serving(cls, target_port: int) -> AsyncIterator["CuttingProxy"]:
        """In front of ``target_port`` of loopback."""
        proxy = cls(target_port)
        server = await asyncio.start_server(proxy._connect, "127.0.0.1", 0)
        async with server:
            proxy.port = server.sockets[0].getsockname()[1]
            yield proxy

    def cut_after(self, size: int, *, again: bool = False) -> None:
        """When so many more bytes have passed, the connection ends, in the middle of a frame or not."""
        self._cut_at = self.passed + size
        self._every = size if again else None

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        ends = (writer, target_writer)
        with suppress(OSError):
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._pass_on(reader, target_writer, ends))
                both_ways.create_task(self._pass_on(target_reader, writer, ends))

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, ends: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                left = len(piece) if self._cut_at is None else self._cut_at - self.passed
                self.passed += len(piece[:left])
                sink.write(piece[:left])
                if self.passed == self._cut_at:
                    self.cuts += 1
                    self._cut_at = None if self._every is None else self.passed + self._every
                    for end in ends:
                        reset(end)
                    return
                await sink.drain()
        sink.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
