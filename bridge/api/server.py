"""The HTTP and WebSocket server: uvicorn on one TCP port, with the routes of all endpoints."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import resources
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from bridge.api.calls import call_routes
from bridge.api.cors import Cors
from bridge.api.describe import description_routes
from bridge.api.gate import Gate
from bridge.api.http import BoundedHttp
from bridge.api.ice_servers import TurnServers, ice_server_route
from bridge.api.keys import Keys
from bridge.api.live import live_routes
from bridge.api.media_lines import NewMediaLine
from bridge.api.models import model_routes
from bridge.api.operation import Operation
from bridge.api.proxies import Forwarded, TrustedProxies
from bridge.api.realtime import realtime_route
from bridge.api.refusals import tell_refusal
from bridge.api.secrets import secret_routes
from bridge.api.socket import MAX_FIRST_BYTES, BridgeWebSocket
from bridge.api.spellings import Spellings
from bridge.api.tls import ServedCertificate
from bridge.api.tls_listener import TlsListener
from bridge.api.translations import translation_routes
from bridge.api.watch import watch_route
from bridge.api.whep import whep_routes
from bridge.api.whip import whip_routes
from bridge.calls.quotas import KeyAllowance
from bridge.calls.service import CallService
from bridge.config import ServerSettings
from bridge.errors import BridgeError, RequestError, error_body
from bridge.log import get_logger

__all__ = ["Server", "new_app"]

_log = get_logger("api")

_POLL_S = 0.02
_CUT_MARGIN_S = 0.5  # each connection cuts itself at the deadline
_CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_CONSOLE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def new_app(
    calls: CallService,
    keys: Keys,
    *,
    models: Callable[[], Mapping[str, str]],
    page_keys: KeyAllowance,
    proxies: TrustedProxies,
    turn: TurnServers,
    routes: Sequence[BaseRoute] = (),
    operations: Sequence[Operation] = (),
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Makes the routes of the daemon; ``routes`` are those of other rooms, and ``operations`` describe them.

    ``models`` tells which may be asked for, and who answers for each. ``page_keys`` tells how many keys pages get that
    show none, ``turn`` which TURN servers callers are told of. ``middleware`` is put around the router, behind all that
    corrects and judges requests.
    """
    cors = Middleware(Cors, keys=keys)

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok")

    served: list[BaseRoute] = [
        realtime_route(calls, keys),
        watch_route(calls, keys),
        *live_routes(calls, keys),
        *call_routes(calls, keys),
        *translation_routes(calls, keys),
        *whip_routes(calls, keys, turn),
        *whep_routes(calls, keys, turn),
        *secret_routes(keys, calls, page_keys, turn),
        ice_server_route(keys, turn),
        *model_routes(models, keys),
        *routes,
        *description_routes(operations),
        Route("/healthz", health, methods=["GET"]),
        *_console_routes(),
    ]
    handlers = {BridgeError: _refuse, HTTPException: _not_served}
    forwarded = Middleware(Forwarded, proxies=proxies)
    whole = [Middleware(Spellings), forwarded, cors, Middleware(_Contain), *middleware]
    app = Starlette(routes=served, middleware=whole, exception_handlers=handlers)
    app.router.default = _nothing_here
    return app


class Server:
    """uvicorn without its signal handlers: the daemon decides when it stops."""

    def __init__(
        self,
        app: Starlette,
        listening: socket.socket,
        settings: ServerSettings,
        gate: Gate,
        *,
        certificate: ServedCertificate | None = None,
        new_media_line: NewMediaLine | None = None,
    ) -> None:
        """``certificate`` turns HTTPS on. With ``new_media_line``, connections that bring media are taken as well."""
        of_http = new_media_line if certificate is None else None  # there is none inside TLS
        self._socket = listening
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=cast(Any, partial(BoundedHttp, gate=gate, new_media_line=of_http)),
                ws=BridgeWebSocket,
                ws_max_size=MAX_FIRST_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # uvicorn believes whoever is on loopback
                ssl_context_factory=None if certificate is None else lambda config, default: certificate.context,
                timeout_graceful_shutdown=max(1, round(settings.close_deadline_s)),
            ),
            gate,
            new_media_line,
        )

    async def run(self) -> None:
        """Serves until ``stop``."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._server.cut()
            await self._server.wait_cut()

    async def wait_started(self) -> None:
        """Returns when connections are accepted."""
        await self._server.is_serving.wait()

    def stop_accepting(self) -> None:
        """Leaves new connections to another process; open ones are served, and closed after an answer."""
        self._server.stop_accepting()

    async def wait_idle(self) -> None:
        """Returns when no connection is left on which another request could come."""
        await self._server.wait_idle()

    def stop(self) -> None:
        """Accepts no more connections; ``run`` returns when the open ones are closed, or cut at the deadline."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gate: Gate, new_media_line: NewMediaLine | None) -> None:
        super().__init__(config)
        self._new_media_line = new_media_line
        self.is_serving = asyncio.Event()
        self.servers: list[Any] = []
        self._gate = gate
        self._listeners: list[TlsListener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts up as uvicorn's server does, except for TLS."""
        new_protocol = partial(
            cast(Any, self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        backlog = self.config.backlog
        for listening in sockets or ():
            if self.config.ssl is not None:
                listener = TlsListener(listening, self.config.ssl, self._gate, new_protocol, self._new_media_line)
                await listener.start(backlog)
                self.servers.append(listener)
                self._listeners.append(listener)
            else:
                loop = asyncio.get_running_loop()
                self.servers.append(await loop.create_server(new_protocol, sock=listening, backlog=backlog))
        self.started = True
        self.is_serving.set()

    def stop_accepting(self) -> None:
        """See ``Server``."""
        for server in self.servers:
            server.stop_accepting() if isinstance(server, TlsListener) else server.close()
        for connection in self._http_connections():
            connection.is_last = True

    async def wait_idle(self) -> None:
        """See ``Server``."""
        while True:
            if not self._http_connections() and not any(each.is_shaking_hands for each in self._listeners):
                return
            await asyncio.sleep(_POLL_S)

    def _http_connections(self) -> list[BoundedHttp]:
        return [each for each in self.server_state.connections if isinstance(each, BoundedHttp)]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Says goodbye to whoever is connected, and waits until the deadline; never fails."""
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        for connection in list(self.server_state.connections):
            self._guarded(connection.shutdown)
        until = asyncio.get_running_loop().time() + (self.config.timeout_graceful_shutdown or 0) + _CUT_MARGIN_S
        while self.server_state.connections or self.server_state.tasks:
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(_POLL_S)

    def cut(self) -> None:
        """Closes whatever is still open, at once."""
        for server in self.servers:
            server.close()
        connections, tasks = list(self.server_state.connections), list(self.server_state.tasks)
        if connections or tasks:
            _log.warning("api.cut", connections=len(connections), requests=len(tasks))
        for connection in connections:
            self._guarded(connection.transport.abort)
        for task in tasks:
            task.cancel()

    async def wait_cut(self) -> None:
        """Returns when no handshake is left."""
        for listener in self._listeners:
            await listener.wait_closed()

    def _guarded(self, end: Callable[[], object]) -> None:
        """Ends one connection: if that fails, it must not keep the others."""
        try:
            end()
        except Exception as error:
            _log.error("api.shutdown_failed", exc_info=error)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Contain:
    """Logs what nobody foresaw, and answers it like any other error, CORS headers included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            _log.error("api.request_failed", path=scope.get("path"), exc_info=error)
            if scope["type"] == "http":
                refusal = BridgeError("Something went wrong in the server; see its log.")
                await JSONResponse({"error": error_body(refusal)}, refusal.http_status)(scope, receive, send)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request for which there is nothing; Starlette would close a socket with 403 and no word."""
    if scope["type"] != "websocket":
        raise HTTPException(404)
    refusal = RequestError(f"{scope['path']} is not a WebSocket endpoint here.", code="not_found")
    response = JSONResponse({"error": error_body(refusal)}, 404)
    await WebSocket(scope, receive, send).send_denial_response(response)


async def _not_served(request: Request, error: Exception) -> Response:
    """Returns the refusal: there is nothing at this path, or not by this method."""
    assert isinstance(error, HTTPException)
    refusal = RequestError(f"{request.method} {request.url.path} is not served here.", code="not_found")
    return JSONResponse({"error": error_body(refusal)}, error.status_code, error.headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, BridgeError)
    tell_refusal(error, request.scope)
    return JSONResponse({"error": error_body(error)}, error.http_status, error.headers)


def _console_routes() -> list[Route]:
    """Makes the routes of the console's few files; serving them from disk would start a thread pool."""
    return [
        Route(path, _file(content, content_type), methods=["GET"]) for path, content, content_type in _CONSOLE_FILES
    ]


def _file(content: bytes, content_type: str) -> Any:
    async def serve(request: Request) -> Response:
        return Response(content, media_type=content_type, headers=_CONSOLE_HEADERS)

    return serve


def _read_console() -> list[tuple[str, bytes, str]]:
    files = []
    for entry in resources.files("bridge.api").joinpath("console").iterdir():
        content_type = _CONTENT_TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if content_type is not None:
            path = "/" if entry.name == "index.html" else f"/{entry.name}"
            files.append((path, entry.read_bytes(), content_type))
    return files


_CONSOLE_FILES = _read_console()  # at import: the event loop must not wait for a file
