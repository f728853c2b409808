"""A server that receives webhooks, over a real socket, and takes them or not as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai

from tests.machine import scaled

__all__ = ["SECRET", "Receiver"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_LIMIT_S = scaled(15.0)


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        """The event as a stock SDK makes it of the request, signature and all."""
        client = openai.OpenAI(api_key="any", webhook_secret=SECRET)
        return client.webhooks.unwrap(self.body, self.headers)


class Receiver:
    """``taken`` are the requests that it has answered with 200; ``refuses`` says with which status others are."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[Received] = []
        self.refused = 0
        self.refuses: list[int] = []
        """Statuses of the next answers; then it takes what comes."""
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def receiving(cls, port: int = 0, refuses: tuple[int, ...] = ()) -> AsyncIterator["Receiver"]:
        """One on a port of loopback."""
        receiver = cls()
        receiver.refuses = list(refuses)
        server = await asyncio.start_server(receiver._handle, "127.0.0.1", port)
        async with server:
            receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks?token=x"
            yield receiver

    @property
    def port(self) -> int:
        """On which it listens."""
        return int(self.url.split(":")[2].partition("/")[0])

    async def until(self, count: int) -> list[Any]:
        """The events, once there are so many."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.taken) < count:
                self._news.clear()
                await self._news.wait()
        return [each.event for each in self.taken]

    async def until_refused(self, count: int) -> None:
        """Returns when so many requests were not taken."""
        async with asyncio.timeout(_LIMIT_S):
            while self.refused < count:
                self._news.clear()
                await self._news.wait()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            body = await reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError:  # its daemon has stopped meanwhile, and tells it when it runs again
            writer.close()
            return
        status = self.refuses.pop(0) if self.refuses else 200
        if status == 200:
            self.taken.append(Received(head[0].split()[1], headers, body))
        else:
            self.refused += 1
        self._news.set()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: /elsewhere\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
