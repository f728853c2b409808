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
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from bridge.api.body import read_body
from bridge.api.socket import SocketSink
from bridge.cluster.nodes import Node
from bridge.cluster.proof import MAX_HOPS, PROOF, Origin, Proofs
from bridge.errors import BridgeError, CannotCheck, Forbidden, RequestError, error_body
from bridge.log import get_logger
from bridge.outgoing import Client, HTTPError

__all__ = ["LINK_TIMEOUT_S", "NodeLink", "Router"]

_log = get_logger("cluster")

LINK_TIMEOUT_S = 10.0
"""The time limit of each step of a request to another node."""

_MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_MAX_REQUEST_BYTES = 512 * 1024  # an offer and a session, as the endpoints take them, and more
_MAX_WAITING = 16  # messages that are read ahead of a slow client
_CLOSE_S = 2.0
_NO_CODES = (1005, 1006, 1015)  # no frame may have them (RFC 6455 section 7.4.1)
_NORMAL, _SERVICE_RESTART = 1000, 1012
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        PROOF,
    }
)
_ORIGIN_KEY = "bridge.node"


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
        self, app: ASGIApp, *, router: Router, proofs: Proofs, client: Client, trust: Callable[[str], None]
    ) -> None:
        self._app = app
        self._router = router
        self._proofs = proofs
        self._client = client
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers here, or asks the node that can answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            scope = self._admitted(scope)
            origin: Origin | None = scope.get(_ORIGIN_KEY)
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
        origin = self._proofs.check(said, _method(scope), _target(scope))
        if origin is None:
            raise Forbidden("The request claims to come from a node of the cluster, but its signature is wrong.")
        if scope.get("client"):
            self._trust(scope["client"][0])
        admitted = {
            **scope,
            "client": (origin.client, origin.port),
            "scheme": origin.scheme,
            "headers": list(scope["headers"]),
            _ORIGIN_KEY: origin,
        }
        headers = MutableHeaders(scope=admitted)
        headers["host"] = origin.host
        del headers[PROOF]
        return admitted

    def _headers(self, scope: Scope, node: Node) -> list[tuple[str, str]]:
        """Returns the client's headers, and the proof that tells ``node`` who asks."""
        headers = Headers(scope=scope)
        before: Origin | None = scope.get(_ORIGIN_KEY)
        client, port = scope.get("client") or ("", 0)
        origin = Origin(
            client, port, scope["scheme"], headers.get("host", ""), 1 if before is None else before.hops + 1
        )
        kept = [(name, value) for name, value in headers.items() if name not in _OWN_HEADERS]
        return [*kept, (PROOF, self._proofs.sign(_method(scope), _target(scope), origin, to=node.id))]

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
                f"{node.url}{_target(scope)}",
                headers=self._headers(scope, node),
                content=body,
            )
        except HTTPError as error:
            if _is_refused(error) and await self._router.is_lost(scope, query, node):
                await self._app(scope, _Again(body, receive), send)
                return
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            refusal = CannotCheck("The server that has this call does not answer right now; try again soon.")
            await _refuse(scope, receive, send, refusal)
            return
        response = Response(answer.content, answer.status_code)
        kept = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.multi_items()
            if name not in _OWN_HEADERS and not name.startswith("access-control-") and name != "content-encoding"
        ]
        response.raw_headers = [*kept, (b"content-length", b"%d" % len(answer.content))]
        await response(scope, receive, send)

    # Sockets

    async def _relay_socket(
        self, node: Node, scope: Scope, query: dict[str, str], receive: Receive, send: Send
    ) -> None:
        client = WebSocket(scope, receive, send)
        offered = [Subprotocol(name) for name in scope.get("subprotocols", ())]
        try:
            connection = await connect(
                f"{node.url.replace('http', 'ws', 1)}{_target(scope)}",
                additional_headers=self._headers(scope, node),
                subprotocols=offered or None,
                user_agent_header=None,
                compression=None,
                max_size=_MAX_MESSAGE_BYTES,
                max_queue=_MAX_WAITING,
                open_timeout=LINK_TIMEOUT_S,
                close_timeout=_CLOSE_S,
                proxy=None,
            )
        except InvalidStatus as refused:
            answer = refused.response
            kind = answer.headers.get("content-type", "text/plain")
            headers = {name: value for name, value in answer.headers.raw_items() if name.lower() == "retry-after"}
            await client.send_denial_response(Response(bytes(answer.body or b""), answer.status_code, headers, kind))
            return
        except (OSError, TimeoutError, WebSocketException) as error:
            if _is_refused(error) and await self._router.is_lost(scope, query, node):
                await self._app(scope, receive, send)
                return
            _log.warning("cluster.node_unreachable", node=node.id, reason=type(error).__name__)
            refusal = CannotCheck("The server that has this call does not answer right now; try again soon.")
            await _refuse(scope, receive, send, refusal)
            return
        async with connection:
            SocketSink.of(scope).let_in(_MAX_MESSAGE_BYTES)
            await client.accept(connection.subprotocol)
            await _pass_on(client, connection)


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


def _is_refused(error: BaseException | None) -> bool:
    """Returns whether the machine itself has said that nobody listens there."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def _pass_on(client: WebSocket, connection: ClientConnection) -> None:
    """Passes messages both ways until one side ends, and then ends the other one with the same code and reason."""
    async with asyncio.TaskGroup() as tasks:
        up = tasks.create_task(_up(client, connection))
        down = tasks.create_task(_down(client, connection))
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        down.cancel()


async def _up(client: WebSocket, connection: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while (message := await client.receive())["type"] == "websocket.receive":
            text = message.get("text")
            await connection.send(message["bytes"] if text is None else text)
        if SocketSink.of(client.scope).said_goodbye:
            code = message.get("code", _NORMAL)
            await connection.close(_NORMAL if code in _NO_CODES else code, message.get("reason") or "")
        else:  # it broke, and the node that has the call must see that
            connection.transport.abort()


async def _down(client: WebSocket, connection: ClientConnection) -> None:
    try:
        while True:
            message = await connection.recv()
            await (client.send_text(message) if isinstance(message, str) else client.send_bytes(message))
    except ConnectionClosed as ended:
        said = ended.rcvd
        code = _SERVICE_RESTART if said is None else _NORMAL if said.code in _NO_CODES else said.code
        with contextlib.suppress(RuntimeError):  # the client is gone as well
            await client.close(code, said.reason if said else "the node that has the call is gone")
    except RuntimeError:  # the client is gone already
        return


def _method(scope: Scope) -> str:
    return str(scope.get("method", "GET"))


def _target(scope: Scope) -> str:
    """Returns the endpoint's one path with the query, without other spellings that the client may have used."""
    query = scope["query_string"].decode("latin-1")
    return quote(scope["path"]) + (f"?{query}" if query else "")


async def _refuse(scope: Scope, receive: Receive, send: Send, error: BridgeError) -> None:
    response = JSONResponse({"error": error_body(error)}, error.http_status, error.headers)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)
