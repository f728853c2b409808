"""Several daemons that share a Redis, each a program of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.cluster.nodes import Nodes, new_node_id
from bridge.cluster.proof import Proofs
from bridge.cluster.store import SharedStore
from tests.cluster.redis import SECRET, RunningRedis, until
from tests.end_to_end.serving import Serving, serving
from tests.end_to_end.web import Reply, request

__all__ = ["ADMIN", "API_KEY", "cluster", "list_nodes", "new_nodes", "node_flags", "said_by"]

API_KEY = "the tests' own key"
_SHOWN_LINES = 150
ADMIN = {"Authorization": f"Bearer {API_KEY}"}


def node_flags(redis: RunningRedis, *flags: str) -> tuple[str, ...]:
    """Those of a node."""
    shared = ("--redis-url", redis.url, "--cluster-secret", SECRET, "--api-key", API_KEY)
    return (*shared, "--redis-timeout-s", "2", *flags)


def new_nodes(store: SharedStore, url: str = "http://127.0.0.1:1", *, secret: str = SECRET) -> Nodes:
    """A node of its own that says nothing yet, and what it knows of others."""
    node_id = new_node_id()
    return Nodes(store, node_id, url, Proofs(secret, node_id, lambda: store.now_ms))


async def said_by(node: Serving, path: str, method: str = "GET", **options: object) -> Reply:
    """What a node answers an operator."""
    return await request(method, f"{node.url}{path}", headers=ADMIN, **options)  # type: ignore[arg-type]


async def list_nodes(node: Serving) -> list[dict[str, Any]]:
    """The nodes that a node knows."""
    nodes: list[dict[str, Any]] = (await said_by(node, "v1/nodes")).json["data"]
    return nodes


@asynccontextmanager
async def cluster(folder: Path, redis: RunningRedis, count: int, *flags: str) -> AsyncIterator[list[Serving]]:
    """``count`` nodes that know each other."""
    async with AsyncExitStack() as stack:
        starting = [
            stack.enter_async_context(serving(folder / f"node{number}.log", *node_flags(redis, *flags)))
            for number in range(count)
        ]
        nodes = [await node for node in starting]

        async def know_each_other() -> bool:
            known = await asyncio.gather(*map(list_nodes, nodes))
            return all(len([node for node in one if node["state"] == "serving"]) == count for one in known)

        await until(know_each_other)
        try:
            yield nodes
        finally:
            for node in nodes:  # shown if the test fails
                sys.stdout.write("\n".join([node.url, *node.log.splitlines()[-_SHOWN_LINES:], ""]))
