"""The link between nodes: any node answers any request, because it asks the node that has the call.

Theory of operation. ASGI middleware in front of all endpoints looks at what a request is for. It asks nothing but this
process's memory if that is enough: a call's id begins with the node that it began on. A request that belongs here goes
on as if nothing had happened. Any other request is sent to the other node as it came, with the client's own key, which
is judged there, and with a signature that says who is asking for whom. A WebSocket is passed on message by message.
Each side reads no further than the other has taken. So a slow listener is slow to the node that has the call, which
drops its sound as it does for its own listeners.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from bridge.api.body import read_body
from bridge.api.socket import SocketSink
from bridge.cluster.nodes import Node
from bridge.cluster.proof import MAX_HOPS, PROOF, Origin, Proofs
from bridge.cluster.sockets import (
    LINK_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    ORIGIN_KEY,
    OWN_HEADERS,
    NodeSockets,
    closing_code,
    is_refused,
    method_of,
    target_of,
)
from bridge.errors import BridgeError, CannotCheck, Forbidden, RequestError, error_body
from bridge.log import get_logger
from bridge.outgoing import Client, HTTPError
from bridge.outgoing_sockets import close_in_time, send_in_time

__all__ = ["NodeLink", "Router"]

_log = get_logger("cluster")

_MAX_REQUEST_BYTES = 512 * 1024  # an offer and a session, as the endpoints take them, and more
_NORMAL, _SERVICE_RESTART = 1000, 1012


class Router(Protocol):
    """The part that knows which node answers for a request."""

    async def node_for(self, scope: Scope, query: dict[str, str], *, is_relayed: bool) -> Node | None:
        """Returns the other node that answers; None if this one does. Raises ``BridgeError`` if none can."""
        ...

    async def is_lost(self, scope: Scope, query: dict[str, str], node: Node) -> bool:
        """Notes that nobody listens at ``node``; returns whether this node has the call now, and answers itself."""
        ...


class NodeLink:
    """The middleware that asks other nodes; ``client`` sends requests to them.

    ``trust`` is told the address of each node from which a request has come.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        router: Router,
        proofs: Proofs,
        sockets: NodeSockets,
        client: Client,
        trust: Callable[[str], None],
    ) -> None:
        self._app = app
        self._router = router
        self._proofs = proofs
        self._sockets = sockets
        self._client = client
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers here, or asks the node that can answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            scope = self._admitted(scope)
            origin: Origin | None = scope.get(ORIGIN_KEY)
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            node = await self._router.node_for(scope, query, is_relayed=origin is not None)
            if node is not None and origin is not None and origin.hops >= MAX_HOPS:
                node = None
        except BridgeError as error:
            await _refuse(scope, receive, send, error)
            return
        if node is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._relay_request(node, scope, query, receive, send)
        else:
            await self._relay_socket(node, scope, query, receive, send)

    def _admitted(self, scope: Scope) -> Scope:
        """Returns the request as the client made it, if another node has brought it.

        Raises ``Forbidden`` if no node of the cluster has sent it.
        """
        said = Headers(scope=scope).get(PROOF)
        if said is None:
            return scope
        origin = self._proofs.check(said, method_of(scope), target_of(scope))
        if origin is None:
            raise Forbidden("The request claims to come from a node of the cluster, but its signature is wrong.")
        if scope.get("client"):
            self._trust(scope["client"][0])
        admitted = {
            **scope,
            "client": (origin.client, origin.port),
            "scheme": origin.scheme,
            "headers": list(scope["headers"]),
            ORIGIN_KEY: origin,
        }
        headers = MutableHeaders(scope=admitted)
        headers["host"] = origin.host
        del headers[PROOF]
        return admitted

    # Requests

    async def _relay_request(
        self, node: Node, scope: Scope, query: dict[str, str], receive: Receive, send: Send
    ) -> None:
        try:
            body = await read_body(Request(scope, receive), _MAX_REQUEST_BYTES)
        except RequestError as error:
            await _refuse(scope, receive, send, error)
            return
        try:
            answer = await self._client.request(
                scope["method"],
                f"{node.url}{target_of(scope)}",
                headers=self._sockets.headers(scope, node),
                content=body,
            )
        except HTTPError as error:
            if is_refused(error) and await self._router.is_lost(scope, query, node):
                await self._app(scope, _Again(body, receive), send)
                return
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            refusal = CannotCheck("The server that has this call is not answering right now; try again soon.")
            await _refuse(scope, receive, send, refusal)
            return
        response = Response(answer.content, answer.status_code)
        kept = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.multi_items()
            if name not in OWN_HEADERS and not name.startswith("access-control-") and name != "content-encoding"
        ]
        response.raw_headers = [*kept, (b"content-length", b"%d" % len(answer.content))]
        await response(scope, receive, send)

    # Sockets

    async def _relay_socket(
        self, node: Node, scope: Scope, query: dict[str, str], receive: Receive, send: Send
    ) -> None:
        client = WebSocket(scope, receive, send)
        try:
            connection = await self._sockets.open(node, scope)
        except InvalidStatus as refused:
            answer = refused.response
            kind = answer.headers.get("content-type", "text/plain")
            headers = {name: value for name, value in answer.headers.raw_items() if name.lower() == "retry-after"}
            await client.send_denial_response(Response(bytes(answer.body or b""), answer.status_code, headers, kind))
            return
        except (OSError, TimeoutError, WebSocketException) as error:
            if is_refused(error) and await self._router.is_lost(scope, query, node):
                await self._app(scope, receive, send)
                return
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            refusal = CannotCheck("The server that has this call is not answering right now; try again soon.")
            await _refuse(scope, receive, send, refusal)
            return
        try:
            SocketSink.of(scope).let_in(MAX_MESSAGE_BYTES)  # its key was judged there, before the upgrade
            await client.accept(connection.subprotocol)
            await _pass_on(client, connection)
        finally:
            await close_in_time(connection, LINK_TIMEOUT_S)


class _Again:
    """A request's body that was read already, and the messages that follow it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """Returns the next message of the request."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _pass_on(client: WebSocket, connection: ClientConnection) -> None:
    """Passes messages both ways until one side ends, and then ends the other one with the same code and reason."""
    async with asyncio.TaskGroup() as tasks:
        up = tasks.create_task(_up(client, connection))
        down = tasks.create_task(_down(client, connection))
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if up.done() and up.result():
            await asyncio.wait((down,), timeout=LINK_TIMEOUT_S)
        up.cancel()
        down.cancel()


async def _up(client: WebSocket, connection: ClientConnection) -> bool:
    """Returns whether the other node is gone, which the client is still to be told."""
    try:
        while (message := await client.receive())["type"] == "websocket.receive":
            text = message.get("text")
            await send_in_time(connection, message["bytes"] if text is None else text, LINK_TIMEOUT_S)
    except (ConnectionClosed, TimeoutError):
        return True
    if SocketSink.of(client.scope).said_goodbye:
        code, reason = closing_code(message.get("code", _NORMAL)), message.get("reason") or ""
        await close_in_time(connection, LINK_TIMEOUT_S, code=code, reason=reason)
    else:  # it broke, and the node that has the call must see that
        connection.transport.abort()
    return False


async def _down(client: WebSocket, connection: ClientConnection) -> None:
    try:
        while True:
            message = await connection.recv()
            await (client.send_text(message) if isinstance(message, str) else client.send_bytes(message))
    except ConnectionClosed as ended:
        said = ended.rcvd
        code = _SERVICE_RESTART if said is None else closing_code(said.code)
        with contextlib.suppress(RuntimeError):  # the client is gone as well
            await client.close(code, said.reason if said else "the node that has the call is gone")
    except RuntimeError:  # the client is gone already
        return


async def _refuse(scope: Scope, receive: Receive, send: Send, error: BridgeError) -> None:
    response = JSONResponse({"error": error_body(error)}, error.http_status, error.headers)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)
