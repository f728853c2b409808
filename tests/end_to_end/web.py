"""HTTP and WebSocket as a stranger speaks them: one request per connection, and a socket that collects its events."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.event_log import EventLog
from tests.machine import scaled

_LIMIT_S = scaled(10.0)

TRUSTING = ssl.create_default_context()
"""For HTTPS of a certificate that nobody has signed."""
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str = b"",
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Sends one request, by HTTPS with ``tls`` or trusting anybody, and reads the whole answer."""
    parts = urlsplit(url)
    content = body.encode() if isinstance(body, str) else body
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, "Connection": "close", "Content-Length": str(len(content)), **(headers or {})}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    async with asyncio.timeout(_LIMIT_S):
        if tls is None and parts.scheme == "https":
            tls = TRUSTING
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
        try:
            writer.write(head.encode() + b"\r\n" + content)
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    start, _, payload = answer.partition(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Reply(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, payload)


class EventSocket(EventLog):
    """A WebSocket client of ``/v1/realtime``, reading as fast as events come."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection
        self.closed = asyncio.Event()

    async def send(self, event: Mapping[str, Any]) -> None:
        """Sends one event."""
        await self.connection.send(json.dumps(event))

    async def read(self) -> None:
        """Collects until the socket is closed."""
        try:
            while True:
                self.add(await self.connection.recv())
        except ConnectionClosed:
            self.closed.set()

    def freeze(self) -> None:
        """Reads no more from the network, as a client that hangs."""
        self.connection.transport.pause_reading()

    def thaw(self) -> None:
        """Reads on."""
        self.connection.transport.resume_reading()

    async def close_code(self) -> int:
        """Waits for the end; the code that came with it."""
        async with asyncio.timeout(_LIMIT_S):
            await self.closed.wait()
        code = self.connection.close_code
        assert code is not None
        return code


@asynccontextmanager
async def open_socket(
    url: str, query: str, *, first: str | None = "session.created", **options: Any
) -> AsyncIterator[EventSocket]:
    """A socket at the daemon's ``url``; its ``first`` event has come."""
    address = f"{url.replace('http', 'ws', 1)}v1/realtime?{query}"
    tls = {"ssl": TRUSTING} if address.startswith("wss") else {}
    options = {"compression": None, "proxy": None, "max_size": None, "max_queue": None, **tls, **options}
    async with connect(address, **options) as connection:
        client = EventSocket(connection)
        reading = asyncio.create_task(client.read())
        try:
            if first is not None:
                await client.until(first)
            yield client
        finally:
            await connection.close()
            await reading


@asynccontextmanager
async def open_watch(url: str, query: str = "", **options: Any) -> AsyncIterator[EventSocket]:
    """A socket at the daemon's ``/v1/calls/events``."""
    address = f"{url.replace('http', 'ws', 1)}v1/calls/events?{query}"
    async with connect(address, **{"compression": None, "proxy": None, **options}) as connection:
        client = EventSocket(connection)
        reading = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            await connection.close()
            await reading
