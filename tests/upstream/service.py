"""A Realtime service over a real socket that does, connection by connection, what the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.wire.server_events import encode
from bridge.wire.sessions import default_session
from tests.machine import scaled

__all__ = ["Event", "Refusal", "Service", "Visit"]

_LIMIT_S = scaled(5.0)

Event = dict[str, Any]
Script = Callable[["Visit"], Awaitable[None]]


class Refusal:
    """An HTTP answer instead of the upgrade."""

    def __init__(self, status: int, *, retry_after: str | None = None, **error: str) -> None:
        self.status = HTTPStatus(status)
        self.retry_after = retry_after
        self.error = error

    def response(self) -> Response:
        body = json.dumps({"error": self.error}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.retry_after is not None:
            headers["Retry-After"] = self.retry_after
        return Response(self.status, self.status.phrase, headers, body)


class Visit:
    """One connection: what has come, and the means to answer."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.path = socket.request.path if socket.request else ""
        self.headers = socket.request.headers if socket.request else Headers()
        self.events: list[Event] = []
        self._news = asyncio.Event()
        self.sound_events = 0

    async def say(self, name: str, **fields: Any) -> None:
        """A server event."""
        await self.socket.send(json.dumps({"type": name, "event_id": "event_theirs", **fields}))

    async def greet(self, **session: Any) -> None:
        """``session.created``."""
        config = json.loads(encode(default_session(session_id="sess_theirs", model="theirs", expires_at=1)))
        await self.say("session.created", session={**config, **session})

    async def hear(self, name: str | None = None) -> Event:
        """The next client event, of this name where one is given; sound is counted and passed over."""
        async with asyncio.timeout(_LIMIT_S):
            while True:
                event: Event = json.loads(await self.socket.recv())
                if event["type"] == "input_audio_buffer.append" and name != event["type"]:
                    self.sound_events += 1
                    continue
                self.events.append(event)
                self._news.set()
                if name in (None, event["type"]):
                    return event

    async def until_heard(self, count: int) -> None:
        """Until its script has heard so many events."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.events) < count:
                self._news.clear()
                await self._news.wait()

    async def until_closed(self) -> None:
        """Takes whatever comes."""
        with suppress(ConnectionClosed):
            while True:
                await self.hear()

    async def cut(self) -> None:
        """The cable is gone, behind all that was said."""
        await (await self.socket.ping())
        self.socket.transport.abort()


class Service:
    """``visits`` holds the connections that were upgraded; ``knocks`` counts them all."""

    def __init__(self, scripts: list[Script | Refusal]) -> None:
        self.visits: list[Visit] = []
        self.knocks = 0
        self.failures: list[BaseException] = []
        self.url = ""
        self._scripts = scripts
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def serving(cls, *scripts: Script | Refusal) -> AsyncIterator["Service"]:
        """Each connection is handled by the next script; the last one handles all further ones."""
        service = cls(list(scripts))
        async with serve(
            service._handle, "127.0.0.1", 0, process_request=service._process, close_timeout=0.1, compression=None
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            service.url = f"ws://127.0.0.1:{port}/v1/realtime"
            yield service
        if service.failures:
            raise service.failures[0]

    async def visit(self, number: int) -> Visit:
        """The connection, once it is there."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.visits) < number:
                self._news.clear()
                await self._news.wait()
        return self.visits[number - 1]

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        script = self._scripts[min(self.knocks, len(self._scripts) - 1)]
        self.knocks += 1
        connection.script = script  # type: ignore[attr-defined]
        return script.response() if isinstance(script, Refusal) else None

    async def _handle(self, socket: ServerConnection) -> None:
        visit = Visit(socket)
        self.visits.append(visit)
        self._news.set()
        try:
            await socket.script(visit)  # type: ignore[attr-defined]
        except ConnectionClosed:
            pass
        except BaseException as failure:
            self.failures.append(failure)
            raise
