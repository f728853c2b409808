"""Which node a request is for: the one that has its call, by whatever endpoint."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from bridge.cluster.journal import Owner
from bridge.cluster.nodes import Nodes
from bridge.cluster.routing import CallRouter

_HERE, _THERE = "rtc_hereAAAAAAAA", "rtc_thereAAAAAAAA"


class _KnownNodes:
    least_loaded = "the least loaded"

    def find(self, node_id: str) -> str:
        return f"node {node_id}"


@dataclass
class _Local:
    is_full: bool = False

    def has(self, call_id: str) -> bool:
        return call_id == _HERE

    async def owner(self, call_id: str) -> Owner | None:
        return None

    async def take_over(self, call_id: str, seen: Owner) -> bool:
        return False


async def _node_for(method: str, path: str, *, is_full: bool = False) -> Any:
    router = CallRouter(cast(Nodes, _KnownNodes()), _Local(is_full))
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
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
