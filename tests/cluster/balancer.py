"""A load balancer for the tests: one port, behind which each new connection goes to a node that answers it.

As proxies do (nginx's ``proxy_next_upstream``), it asks the next node if one breaks the connection before it has said
anything: a process that has just been killed takes connections for as long as the kernel needs to end it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO

__all__ = ["Balancer"]

_PIECE_BYTES = 65_536


class Balancer:
    """``ports`` are those of the nodes; the first one that answers on a connection gets it."""

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
        asked = BytesIO()
        for port in tuple(self.ports):
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                back.write(asked.getvalue())
                asking = asyncio.ensure_future(self._pass_on(reader, back, asked))
                try:
                    if answer := await there.read(_PIECE_BYTES):
                        asked.close()
                        writer.write(answer)
                        await asyncio.gather(asking, self._pass_on(there, writer))
                finally:
                    asking.cancel()
                    back.close()
            if asked.closed:
                return
        writer.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passed: BytesIO | None = None
    ) -> None:
        """Passes on what it reads, and keeps it in ``passed`` until that is closed."""
        try:
            while piece := await source.read(_PIECE_BYTES):
                if passed is not None and not passed.closed:
                    passed.write(piece)
                sink.write(piece)
                await sink.drain()
        finally:
            sink.close()
