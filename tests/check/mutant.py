"""A Realtime server with one planted fault: a proxy before a real one that changes what passes."""

import asyncio
import contextlib
import json
import socket
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.machine import scaled

__all__ = ["Event", "Fault", "mutant"]

Event = dict[str, Any]
_DROPPED = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "sec-websocket-key")
_HANDSHAKE = ("sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol")


def _as_it_is(event: Event) -> list[Event | str]:
    return [event]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the server; what comes out of ``server`` and ``client`` goes on in place of the event."""

    server: Callable[[Event], list[Event | str]] = _as_it_is
    client: Callable[[Event], list[Event | str]] = _as_it_is
    response: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]] = field(
        default=lambda status, headers, body: (status, headers, body)
    )
    closes_after: str = ""
    """The server closes the connection behind an event of this type."""


class _Proxy:
    def __init__(self, url: str, fault: Fault) -> None:
        self._url = url.rstrip("/")
        self._fault = fault

    async def answer(self, request: Request) -> Response:
        """Any HTTP request."""
        body = await request.body()
        target = f"{self._url}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
        status, said, text = await asyncio.to_thread(_ask, request.method, target, body, headers)
        status, said, text = self._fault.response(status, said, text)
        return Response(text, status, said)

    async def relay(self, socket: WebSocket) -> None:
        """Any WebSocket."""
        query = f"?{socket.url.query}" if socket.url.query else ""
        headers = {
            name: value for name, value in socket.headers.items() if name not in _DROPPED and name not in _HANDSHAKE
        }
        offered = [name.strip() for name in socket.headers.get("sec-websocket-protocol", "").split(",") if name]
        url = f"{self._url.replace('http', 'ws', 1)}{socket.url.path}{query}"
        try:
            upstream = await connect(url, additional_headers=headers, subprotocols=offered or None)  # type: ignore[arg-type]
        except InvalidStatus as refused:
            reply = refused.response
            status, said, body = self._fault.response(
                reply.status_code, {"content-type": "application/json"}, bytes(reply.body or b"")
            )
            await socket.send_denial_response(Response(body, status, said))
            return
        async with upstream:
            await socket.accept(upstream.subprotocol)
            with contextlib.suppress(ConnectionClosed, WebSocketDisconnect, RuntimeError):
                async with asyncio.TaskGroup() as tasks:
                    back = tasks.create_task(self._back(upstream, socket))
                    await self._forth(socket, upstream)
                    back.cancel()

    async def _back(self, upstream: ClientConnection, socket: WebSocket) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in upstream:
                event = json.loads(text)
                for each in self._fault.server(event):
                    await socket.send_text(each if isinstance(each, str) else json.dumps(each))
                if event["type"] == self._fault.closes_after:
                    await socket.close(1011)
                    return

    async def _forth(self, socket: WebSocket, upstream: ClientConnection) -> None:
        with contextlib.suppress(WebSocketDisconnect, ConnectionClosed):
            while True:
                text = await socket.receive_text()
                try:
                    event = json.loads(text)
                except ValueError:
                    await upstream.send(text)
                    continue
                for each in self._fault.client(event) if isinstance(event, dict) else [text]:
                    await upstream.send(each if isinstance(each, str) else json.dumps(each))


def _ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, data=body or None, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=scaled(10)) as reply:
            return reply.status, _kept(reply.headers), reply.read()
    except HTTPError as error:
        with error:
            return error.code, _kept(error.headers), error.read()


def _kept(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower() not in _DROPPED}


@contextlib.asynccontextmanager
async def mutant(url: str, fault: Fault) -> AsyncIterator[str]:
    """The URL of a server that is the one at ``url`` but for its fault."""
    proxy = _Proxy(url, fault)
    methods = ["GET", "POST", "OPTIONS", "DELETE"]
    app = Starlette(
        routes=[WebSocketRoute("/{path:path}", proxy.relay), Route("/{path:path}", proxy.answer, methods=methods)]
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="websockets-sansio"))
    serving = asyncio.ensure_future(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
