"""Opens WebSockets to other nodes for clients of this one, each signed for the node that it goes to."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from bridge.cluster.nodes import Node
from bridge.cluster.proof import MAX_HOPS, PROOF, Origin, Proofs
from bridge.errors import CannotCheck
from bridge.outgoing_sockets import WebSocketConnect

__all__ = [
    "LINK_TIMEOUT_S",
    "MAX_MESSAGE_BYTES",
    "ORIGIN_KEY",
    "OWN_HEADERS",
    "NodeSockets",
    "closing_code",
    "is_refused",
    "method_of",
    "target_of",
]

LINK_TIMEOUT_S = 10.0
"""The time limit of each step of a request to another node."""

MAX_MESSAGE_BYTES = 32 * 1024 * 1024

ORIGIN_KEY = "bridge.node"
"""The key in a scope that holds the ``Origin`` of a request which another node has passed on."""

_MAX_WAITING = 16  # messages that are read ahead of a slow client
_CLOSE_S = 2.0
_NO_CODES = (1005, 1006, 1015)  # no frame may have them (RFC 6455 section 7.4.1)
_NORMAL = 1000
OWN_HEADERS = frozenset(
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
"""The headers that are not passed on, because they are of one connection, or are said anew."""


class NodeSockets:
    """Passes requests on to other nodes, with proofs of who asks."""

    def __init__(self, proofs: Proofs) -> None:
        self._proofs = proofs

    def headers(self, scope: Mapping[str, Any], node: Node) -> list[tuple[str, str]]:
        """Returns the client's headers, and the proof that tells ``node`` who asks."""
        headers = Headers(raw=scope["headers"])
        before: Origin | None = scope.get(ORIGIN_KEY)
        client, port = scope.get("client") or ("", 0)
        hops = 1 if before is None else before.hops + 1
        origin = Origin(client, port, scope["scheme"], headers.get("host", ""), hops)
        kept = [(name, value) for name, value in headers.items() if name not in OWN_HEADERS]
        return [*kept, (PROOF, self._proofs.sign(method_of(scope), target_of(scope), origin, to=node.id))]

    async def open(self, node: Node, scope: Mapping[str, Any]) -> ClientConnection:
        """Opens a WebSocket to ``node`` for the request ``scope``, which a client has made.

        Raises ``CannotCheck`` if it has been passed on too often, ``OSError``, ``TimeoutError`` or a
        ``WebSocketException``.
        """
        before: Origin | None = scope.get(ORIGIN_KEY)
        if before is not None and before.hops >= MAX_HOPS:
            raise CannotCheck("The node that has this call cannot be reached right now; try again soon.")
        offered = [Subprotocol(name) for name in scope.get("subprotocols", ())]
        return await WebSocketConnect(
            f"{node.url.replace('http', 'ws', 1)}{target_of(scope)}",
            additional_headers=self.headers(scope, node),
            subprotocols=offered or None,
            user_agent_header=None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=_MAX_WAITING,
            open_timeout=LINK_TIMEOUT_S,
            close_timeout=_CLOSE_S,
            proxy=None,
        )


def closing_code(code: int) -> int:
    """Returns the code with which a socket is closed because another one was closed with ``code``."""
    return _NORMAL if code in _NO_CODES else code


def is_refused(error: BaseException | None) -> bool:
    """Returns whether the machine itself has said that nobody listens there."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def method_of(scope: Mapping[str, Any]) -> str:
    return str(scope.get("method", "GET"))


def target_of(scope: Mapping[str, Any]) -> str:
    """Returns the endpoint's one path with the query, without other spellings that the client may have used."""
    query = scope["query_string"].decode("latin-1")
    return quote(scope["path"]) + (f"?{query}" if query else "")
