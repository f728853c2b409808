"""What a cluster and several workers cost: ``python -m benchmarks.workers``.

Servers stand side by side, each a process or several of its own, and real WebRTC peers speak to all of them at the same
time (``benchmarks.kit.load``), each with a WebSocket listener. For each window the CPU time of each server, all of its
processes together, is divided by the packets that its callers sent. Of each window the ratio to the first server is
taken, and of the ratios the median: what else the machine does meanwhile hits all of them alike.

- ``cluster``: a process by itself, and one that is the only node of a cluster.
- ``workers``: one worker, two workers whose listeners are at the worker that has the call, and two whose listeners are
  at whichever the kernel has chosen, so that half of them are passed on.

Beside that it counts what Redis is asked: by a node without calls, by calls that begin, and by calls that speak.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from benchmarks.kit.caller import NO_TURNS, post_offer
from benchmarks.kit.load import Clock, FrameCounter, LoadPeer, Weather
from benchmarks.kit.output import add_output_flags, run, save
from benchmarks.kit.process import Program, Redis, serving, serving_redis
from benchmarks.kit.sampling import fine_cpu_s, machine
from bridge.webrtc.dtls import new_certificate

__all__ = ["main", "measure"]

_HOST = "127.0.0.1"
_SECRET = "a secret of the benchmark"
_SETTLE_S = 3.0
_IDLE_S = 5.0

Figures = dict[str, Any]


@dataclass(slots=True)
class _Server:
    """One server, its callers and their listeners."""

    name: str
    program: Program
    listens_anywhere: bool = False
    peers: list[LoadPeer] = field(default_factory=list)
    sockets: list[FrameCounter] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    """The port of each node by its name, and how many calls it has got."""
    shares: list[int] = field(default_factory=list)

    def cpu_s(self) -> float:
        """Of all of its processes."""
        main = self.program.figures
        return sum(map(fine_cpu_s, (main, *main.children(recursive=True))))

    def sent(self) -> int:
        """Packets of all callers until now."""
        return sum(peer.sent for peer in self.peers)

    def heard(self) -> int:
        """Events with sound that listeners have got until now."""
        return sum(socket.events for socket in self.sockets)

    async def look_at_nodes(self) -> None:
        """Learns where each node of this server listens."""
        pids = {self.program.process.pid, *(each.pid for each in self.program.figures.children())}
        told = await asyncio.to_thread(_get, f"{self.program.url}/v1/nodes")
        for node in told["data"]:
            if node["pid"] in pids:
                self.nodes[node["id"]] = int(node["url"].rpartition(":")[2])

    def port_for(self, call_id: str) -> int:
        """Where the listener of a call connects."""
        name = call_id.partition("_")[2][:6]
        return self.program.port if self.listens_anywhere else self.nodes.get(name, self.program.port)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as got:
        return json.loads(got.read())


async def _open(server: _Server, clock: Clock, certificate: Any) -> None:
    """One more caller with its listener."""
    call_id = ""

    async def signal(offer: str) -> bytes:
        nonlocal call_id
        answer, call_id = await asyncio.to_thread(post_offer, server.program.url, offer, json.dumps(NO_TURNS))
        return answer

    peer = LoadPeer(certificate, len(server.peers), Weather())
    server.peers.append(peer)
    await peer.connect(_HOST, signal)
    path = f"/v1/realtime?call_id={call_id}&audio=pcm16"
    server.sockets.append(await FrameCounter.open(_HOST, server.port_for(call_id), path))
    clock.add(peer.send_frame, peer.keep_alive)


@contextlib.asynccontextmanager
async def _called(servers: Sequence[_Server], calls: int) -> AsyncIterator[None]:
    """Every server has so many callers that speak, until the end of the block."""
    clock, certificate = Clock(), new_certificate()
    ticking = asyncio.ensure_future(clock.run())
    try:
        for _ in tqdm(range(calls), desc="calling", unit="call", disable=None):
            for server in servers:
                await _open(server, clock, certificate)
        clock.is_speaking = True
        await asyncio.sleep(_SETTLE_S)
        yield
        faults = [fault for server in servers for peer in server.peers for fault in peer.faults]
        lost = sum(socket.is_lost for server in servers for socket in server.sockets)
        if faults or lost:
            raise RuntimeError(f"{len(faults)} faults of peers, {lost} sockets lost: {faults[:3]}")
    finally:
        ticking.cancel()
        for server in servers:
            for socket in server.sockets:
                socket.transport.abort()
            await asyncio.gather(*(peer.aclose() for peer in server.peers))


async def _compare(servers: Sequence[_Server], calls: int, *, seconds: float, windows: int) -> list[Figures]:
    """What a packet costs at each server, and the ratio to the first one, in windows that all have in common."""
    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    async with _called(servers, calls):
        for server in servers:
            if server.nodes:
                served = [_calls_of(node) for node in (await _nodes(server))]
                server.shares = sorted(served)
        came = {server.name: server.heard() - server.sent() for server in servers}
        for _ in tqdm(range(windows), desc="measuring", unit="window", disable=None):
            before = [(server.cpu_s(), server.sent()) for server in servers]
            await asyncio.sleep(seconds)
            for server, (cpu_s, sent) in zip(servers, before, strict=True):
                costs[server.name].append((server.cpu_s() - cpu_s) / (server.sent() - sent) * 1e6)
        missing = {server.name: came[server.name] - (server.heard() - server.sent()) for server in servers}
        sent_in_all = {server.name: server.sent() for server in servers}
    figures = []
    for server in servers:
        own = costs[server.name]
        ratios = [cost / first for cost, first in zip(own, costs[servers[0].name], strict=True)]
        figures.append(
            {
                "server": server.name,
                "calls": calls,
                **({"calls_by_node": server.shares} if server.shares else {}),
                "us_per_packet": round(statistics.median(own), 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratios": [round(ratio, 3) for ratio in ratios],
                "came_through_percent": round(100 - 100 * missing[server.name] / sent_in_all[server.name], 1),
            }
        )
    return figures


async def _nodes(server: _Server) -> list[dict[str, Any]]:
    told = await asyncio.to_thread(_get, f"{server.program.url}/v1/nodes")
    return [node for node in told["data"] if node["id"] in server.nodes]


def _calls_of(node: dict[str, Any]) -> int:
    return int(node["calls"])


def _node_flags(redis: Redis, name: str) -> tuple[str, ...]:
    """Those of a node; servers of different names know nothing of each other."""
    return ("--redis-url", redis.url, "--cluster-name", name, "--cluster-secret", _SECRET)


async def measure(calls: int, *, seconds: float, windows: int) -> Figures:
    """All figures, with the load of the machine before and behind them."""
    usual = ("--max-calls", "2000", "--max-loop-lag-ms", "0", "--engine", "parrot")
    busy_before = os.getloadavg()[0]
    async with serving_redis() as redis, contextlib.AsyncExitStack() as stack:
        alone = _Server("alone", await stack.enter_async_context(serving(*usual)))
        node = _Server("cluster", await stack.enter_async_context(serving(*usual, *_node_flags(redis, "node"))))
        of_redis = await _of_redis(redis, node, calls, seconds * windows)
        node.peers.clear()
        node.sockets.clear()
        cluster = await _compare((alone, node), calls, seconds=seconds, windows=windows)
    async with serving_redis() as redis, contextlib.AsyncExitStack() as stack:
        servers = []
        for name, count, anywhere in (
            ("1 worker", 1, False),
            ("2 workers", 2, False),
            ("2 workers, listeners anywhere", 2, True),
        ):
            flags = (*usual, *_node_flags(redis, name.replace(" ", "-").replace(",", "")), "--workers", str(count))
            server = _Server(name, await stack.enter_async_context(serving(*flags)), listens_anywhere=anywhere)
            servers.append(server)
        await asyncio.sleep(_SETTLE_S)  # the workers learn of each other
        for server in servers:
            await server.look_at_nodes()
        workers = await _compare(servers, calls, seconds=seconds, windows=windows)
    return {
        "machine": {**machine(), "load_before": busy_before, "load_after": os.getloadavg()[0]},
        "seconds": seconds,
        "windows": windows,
        "cluster": cluster,
        "workers": workers,
        "redis": of_redis,
    }


async def _of_redis(redis: Redis, node: _Server, calls: int, seconds: float) -> Figures:
    """Commands to Redis, counted by itself, and the CPU time that they cost it."""
    idle = await _rate(redis, _IDLE_S)
    before = await redis.commands()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with _called((node,), calls):
        opened = await redis.commands() - before - idle * (loop.time() - began)
        before_cpu_s = fine_cpu_s(redis.figures)
        speaking = await _rate(redis, seconds)
        cpu_s = fine_cpu_s(redis.figures) - before_cpu_s
    return {
        "idle_commands_per_s": round(idle, 2),
        "commands_per_call_begun": round(opened / calls, 2),
        "commands_per_call_and_s": round((speaking - idle) / calls, 3),
        "redis_cpu_percent_of_core": round(100 * cpu_s / seconds, 2),
    }


async def _rate(redis: Redis, seconds: float) -> float:
    before = await redis.commands()
    await asyncio.sleep(seconds)
    return (await redis.commands() - before) / seconds


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="What a cluster and several workers cost.")
    parser.add_argument("--calls", type=int, default=20, help="calls at each server")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--windows", type=int, default=9)
    add_output_flags(parser, can_draw=False)
    arguments = parser.parse_args()
    figures = run(measure(arguments.calls, seconds=arguments.seconds, windows=arguments.windows))
    save(arguments, figures)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
