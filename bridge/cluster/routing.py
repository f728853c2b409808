"""Which node answers for a request: the one that has the call, or for a new call one that has room."""

from typing import Protocol

from starlette.types import Scope

from bridge.cluster.nodes import Node, Nodes, node_of

__all__ = ["CallRouter", "LocalCalls"]

_CALLS = ("/v1/realtime/calls/", "/v1/calls/", "/v1/whip/", "/v1/whep/")
_OF_NO_CALL = frozenset({"events"})
_OPENING = frozenset({"/v1/realtime/calls", "/v1/realtime", "/v1/whip"})
_SOCKET = "/v1/realtime"
_AGENT = "agent"


class LocalCalls(Protocol):
    """What this node has."""

    def has(self, call_id: str) -> bool:
        """The call runs here."""
        ...

    @property
    def is_full(self) -> bool:
        """One more would be refused."""
        ...


class CallRouter:
    """See ``Router`` of the link."""

    def __init__(self, nodes: Nodes, local: LocalCalls) -> None:
        self._nodes = nodes
        self._local = local

    async def node_for(self, scope: Scope, query: dict[str, str], *, is_relayed: bool) -> Node | None:
        """See ``Router``."""
        call_id = _call_of(scope, query)
        if call_id is not None:
            return None if self._local.has(call_id) else self._nodes.find(node_of(call_id))
        if not is_relayed and _opens(scope, query) and self._local.is_full:
            return self._nodes.least_loaded
        return None


def _call_of(scope: Scope, query: dict[str, str]) -> str | None:
    """The call that the request is for."""
    path = scope["path"]
    if scope["type"] == "websocket":
        return query.get("session_id", query.get("call_id")) if path == _SOCKET else None
    for prefix in _CALLS:
        if path.startswith(prefix):
            call_id = path.removeprefix(prefix).partition("/")[0]
            return None if call_id in _OF_NO_CALL else call_id
    return None


def _opens(scope: Scope, query: dict[str, str]) -> bool:
    """The request is for a new call."""
    if scope["type"] == "websocket":
        return scope["path"] == _SOCKET and query.get("role") != _AGENT
    return scope["method"] == "POST" and scope["path"] in _OPENING
