"""Which node a request is for: the one that has its call, by whatever endpoint."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.datastructures import Headers

from bridge.cluster.nodes import Nodes
from bridge.cluster.ownership import Owner
from bridge.cluster.routing import CallRouter
from bridge.errors import Unauthorized

_HERE, _THERE, _GONE = "rtc_hereAAAAAAAA", "rtc_thereAAAAAAAA", "rtc_goneAAAAAAAA"


class _KnownNodes:
    least_loaded = "the least loaded"
    id = "hereAA"

    def find(self, node_id: str) -> str | None:
        return None if node_id.startswith("gone") else f"node {node_id}"

    def is_one(self, node_id: str) -> bool:
        return True


@dataclass
class _Local:
    is_full: bool = False
    taken: list[str] = field(default_factory=list)

    def has(self, call_id: str) -> bool:
        return call_id == _HERE

    async def owner(self, call_id: str) -> Owner | None:
        return Owner("gone", 1) if call_id == _GONE else None

    def is_taking(self, call_id: str) -> bool:
        return False

    async def take_over(self, call_id: str, seen: Owner) -> bool:
        self.taken.append(call_id)
        return True


async def _admit(headers: Headers) -> None:
    if headers.get("authorization") is None:
        raise Unauthorized("no key")


async def _node_for(method: str, path: str, *, is_full: bool = False) -> Any:
    router = CallRouter(cast(Nodes, _KnownNodes()), _Local(is_full), _admit)
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
    return await router.node_for(scope, {}, is_relayed=False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/v1/realtime/calls/{}"),
        ("GET", "/v1/calls/{}"),
        ("PATCH", "/v1/whip/{}"),
        ("DELETE", "/v1/whip/{}"),
        ("POST", "/v1/whep/{}"),
        ("PATCH", "/v1/whep/{}/ply_any"),
    ],
)
async def test_requests_about_a_call_go_where_it_is(method: str, path: str) -> None:
    """A call that is not here is looked for at the node that its id names."""
    assert await _node_for(method, path.format(_HERE)) is None
    assert str(await _node_for(method, path.format(_THERE))).startswith("node there")


@pytest.mark.parametrize("path", ["/v1/realtime/calls", "/v1/whip"])
async def test_new_calls_go_where_there_is_room(path: str) -> None:
    """They stay here unless this node is full."""
    assert await _node_for("POST", path) is None
    assert await _node_for("POST", path, is_full=True) == "the least loaded"
    assert await _node_for("OPTIONS", path, is_full=True) is None


async def test_a_call_of_a_dead_node_is_taken_over_for_those_who_have_a_key() -> None:
    """Whoever only knows its id is refused, and nothing is asked or begun for them."""
    local = _Local()
    router = CallRouter(cast(Nodes, _KnownNodes()), local, _admit)
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": f"/v1/calls/{_GONE}", "headers": []}
    with pytest.raises(Unauthorized):
        await router.node_for(scope, {}, is_relayed=False)
    assert local.taken == []
    scope["headers"] = [(b"authorization", b"Bearer k")]
    assert await router.node_for(scope, {}, is_relayed=False) is None
    assert local.taken == [_GONE]
