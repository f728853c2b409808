"""Decides which node answers a request: the one that has the call, or for a new call one that has room.

If the node of a call is dead, whichever node is asked for the call takes it over before it answers. A node at which
nobody listens any more counts as dead at once, but only for requests that fail because of it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

from bridge.cluster.nodes import Node, Nodes, node_of
from bridge.cluster.ownership import Owner
from bridge.errors import BridgeError

__all__ = ["CallRouter", "LocalCalls"]

_LIVE = "/v1/live/sessions"
_CALLS = ("/v1/realtime/calls/", "/v1/calls/", "/v1/whip/", "/v1/whep/", f"{_LIVE}/")
_OF_NO_CALL = frozenset({"", "events"})
_OPENING = frozenset({"/v1/realtime/calls", "/v1/realtime", "/v1/whip", _LIVE})
_SOCKET = "/v1/realtime"
_AGENT = "agent"


class LocalCalls(Protocol):
    """The calls of this node, as the router needs to know them."""

    def has(self, call_id: str) -> bool:
        """Returns whether the call runs here, or waits here to be accepted."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether one more call would be refused."""
        ...

    async def owner(self, call_id: str) -> Owner | None:
        """Returns the owner of the call, as the notes in Redis say; None if nobody has it. Raises ``CannotCheck``."""
        ...

    def is_taking(self, call_id: str) -> bool:
        """Returns whether this node has tried to take the call over, and does not know yet whether it has it."""
        ...

    async def take_over(self, call_id: str, seen: Owner) -> bool:
        """Goes on with the call; returns False if another node was first.

        Raises ``BridgeError`` if that is not possible.
        """
        ...


class CallRouter:
    """The ``Router`` of the link: it knows which node answers which request.

    ``admit`` raises ``BridgeError`` if the key of a request opens nothing. It is asked before Redis is, and before a
    call is taken over: a stranger who knows a call's id makes no work.
    """

    def __init__(self, nodes: Nodes, local: LocalCalls, admit: Callable[[Headers], Awaitable[object]]) -> None:
        self._nodes = nodes
        self._local = local
        self._admit = admit

    async def node_for(self, scope: Scope, query: dict[str, str], *, is_relayed: bool) -> Node | None:
        """Returns the node that answers; see ``Router``."""
        call_id = _call_of(scope, query)
        if call_id is not None:
            return await self._owner_of(call_id, scope, is_relayed=is_relayed)
        if not is_relayed and _opens(scope, query) and self._local.is_full:
            return self._nodes.least_loaded
        return None

    async def is_lost(self, scope: Scope, query: dict[str, str], node: Node) -> bool:
        """Counts the node as dead, and returns whether this node has the call now; see ``Router``."""
        call_id = _call_of(scope, query)
        self._nodes.suspect(node.id)
        try:
            return call_id is not None and await self._owner_of(call_id, scope, is_relayed=False) is None
        except BridgeError:
            return False

    async def _owner_of(self, call_id: str, scope: Scope, *, is_relayed: bool) -> Node | None:
        if self._local.has(call_id):
            return None
        node_id = node_of(call_id)
        node = self._nodes.find(node_id)
        if node is not None and not is_relayed:  # the node that has relayed it may be that one, and stop
            return node
        if not self._nodes.is_one(node_id):
            return None
        await self._admit(Headers(scope=scope))
        owner = await self._local.owner(call_id)
        if owner is None:
            return None
        is_own = owner.node_id == self._nodes.id
        if is_own and not self._local.is_taking(call_id):
            return None
        node = self._nodes.find(owner.node_id)
        if node is not None:
            return node
        if not is_own and self._local.is_full and self._nodes.least_loaded is not None:
            return self._nodes.least_loaded
        if await self._local.take_over(call_id, owner):
            return None
        winner = await self._local.owner(call_id)
        return None if winner is None else self._nodes.find(winner.node_id)


def _call_of(scope: Scope, query: dict[str, str]) -> str | None:
    """Returns the id of the call that the request is for; None if it is for none."""
    path = scope["path"]
    if scope["type"] == "websocket":
        if path.startswith(f"{_LIVE}/"):
            return path.removeprefix(f"{_LIVE}/").partition("/")[0] or None
        return query.get("session_id", query.get("call_id")) if path == _SOCKET else None
    for prefix in _CALLS:
        if path.startswith(prefix):
            call_id = path.removeprefix(prefix).partition("/")[0]
            return None if call_id in _OF_NO_CALL else call_id
    return None


def _opens(scope: Scope, query: dict[str, str]) -> bool:
    """Returns whether the request is for a new call."""
    if scope["type"] == "websocket":
        return scope["path"] == _LIVE or (scope["path"] == _SOCKET and query.get("role") != _AGENT)
    return scope["method"] == "POST" and scope["path"] in _OPENING
