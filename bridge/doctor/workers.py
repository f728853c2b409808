"""Whether the workers of this machine have a core each, and all of them serve."""

import asyncio
import os
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bridge.client.address import CallFailed
from bridge.config import Config, is_loopback
from bridge.doctor.findings import Examined, Findings, fine, warning

__all__ = ["workers"]


class _Node(Struct):
    url: str
    state: str
    worker: int | None = None


class _Nodes(Struct):
    data: list[_Node]


async def workers(examined: Examined) -> Findings:
    """Whether each worker has a core, and whether all of them serve."""
    config = examined.config
    if config is None or not config.cluster.workers:
        return
    count, cores = config.cluster.workers, len(os.sched_getaffinity(0))
    said = f"{_counted(count, 'worker')}, and {_counted(cores, 'core')}"
    if count > cores:
        yield warning(
            said, f"set workers to {cores}, or fewer if this machine does other work: each worker uses a core"
        )
    else:
        yield fine(said)
    if examined.api is None or not examined.has_answered:
        return
    try:
        reply = await asyncio.to_thread(examined.api.get, "/v1/nodes")
        nodes = msgspec.json.decode(reply.body, type=_Nodes).data
    except (CallFailed, msgspec.MsgspecError) as error:
        yield warning(f"the list of workers cannot be read: {error}", "was the bridge started with different settings?")
        return
    serving = {node.worker for node in nodes if _is_here(node, config) and node.state in ("serving", "busy")}
    missing = [number for number in range(count) if number not in serving]
    if missing:
        names = ", ".join(map(str, missing))
        advice = (
            "look for supervisor.worker_died in the log: it says how a worker ended and when it will be started again"
        )
        yield warning(f"of {_counted(count, 'worker')}, these do not serve: {names}", advice)
    else:
        yield fine(f"all {count} serve" if count > 1 else "it serves")


def _is_here(node: _Node, config: Config) -> bool:
    """Returns whether the node is a worker of the machine with these settings."""
    host = urlsplit(node.url).hostname or ""
    own = config.cluster.node_url
    return node.worker is not None and (is_loopback(host) if own is None else host == urlsplit(own).hostname)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
