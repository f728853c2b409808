"""A load balancer for the tests: one port, behind which each new connection goes to a node that takes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Balancer"]

_PIECE_BYTES = 65_536


class Balancer:
    """``ports`` are those of the nodes; the first one that takes a connection gets it."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["Balancer"]:
        """On a port of loopback."""
        balancer = cls()
        async with await asyncio.start_server(balancer._connect, "127.0.0.1", 0) as server:
            balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield balancer

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in tuple(self.ports):
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            writer.transport.abort()
            return
        both = asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
        with suppress(OSError, asyncio.CancelledError):
            await both

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(_PIECE_BYTES):
                sink.write(piece)
                await sink.drain()
        finally:
            sink.close()
