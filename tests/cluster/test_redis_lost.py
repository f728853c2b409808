"""Redis goes away under running calls, and comes back empty; and how much it is asked for each call."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from benchmarks.kit.process import running
from tests.cluster.nodes import ADMIN, API_KEY, cluster, list_nodes, said_by
from tests.cluster.redis import RunningRedis, free_port, until
from tests.end_to_end.serving import Serving
from tests.end_to_end.web import EventSocket, Reply, open_socket, request
from tests.machine import SLOWNESS, scaled

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(60)]

_TYPED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "are you there?"}]}
_CALLS = 10
_SPEAKING = 40
_GAP_MS = 100.0


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The daemons are programs of their own: one loop for the client is enough."""
    return "asyncio", {"use_uvloop": False, "debug": False}


@pytest.fixture
def redis() -> RunningRedis:
    """Not running yet."""
    return RunningRedis(free_port())


async def _mint(node: Serving) -> Reply:
    headers = {**ADMIN, "Content-Type": "application/json"}
    return await request("POST", f"{node.url}v1/realtime/client_secrets", headers=headers, body="{}")


async def _turn(sockets: list[EventSocket], number: int) -> None:
    for socket in sockets:
        await socket.send({"type": "conversation.item.create", "item": _TYPED})
        await socket.send({"type": "response.create"})
    for socket in sockets:
        await socket.until("response.done", number=number)


async def _missed(node: Serving) -> None:
    """Waits until the node says that it misses Redis."""

    async def is_missed() -> bool:
        return not (await _is_ready(node))["redis"]

    await until(is_missed, scaled(20.0))


async def _require_refusals(node: Serving, minted: str) -> None:
    """What cannot be checked is refused, and the client is told to come again."""
    key = {"Authorization": f"Bearer {minted}"}
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(node.url, "model=m", additional_headers=key):
            pass
    assert refused.value.response.status_code == 503
    assert "Retry-After" in refused.value.response.headers
    assert json.loads(refused.value.response.body)["error"]["code"] == "cannot_check"
    assert (await _mint(node)).status == 503


async def _is_ready(node: Serving) -> dict[str, bool]:
    checks = (await request("GET", f"{node.url}readyz")).json["checks"]
    return {check["name"]: check["is_ok"] for check in checks}


async def test_calls_go_on_without_redis(redis: RunningRedis, tmp_path: Path) -> None:
    """None ends. API keys open further calls; minted keys are refused with 503, and readiness says why.

    When Redis is back, empty, nodes find each other again, and what calls had noted is noted again.
    """
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(AsyncExitStack())
        await up.enter_async_context(redis.serving())
        nodes = await stack.enter_async_context(cluster(tmp_path, redis, 2))
        minted = (await _mint(nodes[0])).json["value"]
        calls = [
            await stack.enter_async_context(open_socket(node.url, "model=m", additional_headers=ADMIN))
            for node in nodes
            for _ in range(_CALLS // 2)
        ]
        await _turn(calls, 1)
        await up.aclose()
        await _turn(calls, 2)

        await _missed(nodes[0])
        await _require_refusals(nodes[0], minted)
        assert (await _mint(nodes[1])).status == 503
        async with open_socket(nodes[0].url, "model=m", additional_headers=ADMIN) as another:
            await _turn([another], 1)
            call_id = calls[0].events[0]["session"]["id"]
            async with open_socket(nodes[1].url, f"call_id={call_id}", additional_headers=ADMIN) as listener:
                await _turn(calls, 3)
                await listener.until("response.done")
        async with redis.serving():

            async def is_back() -> bool:
                known = [await list_nodes(node) for node in nodes]
                ready = [(await _is_ready(node))["redis"] for node in nodes]
                return all(ready) and list(map(len, known)) == [2, 2]

            await until(is_back, scaled(20.0))
            assert (await _mint(nodes[1])).status == 200
            await _turn(calls, 4)

            async def are_noted() -> bool:
                return len(await _keys(redis, "bridge:call:*")) == _CALLS

            await until(are_noted)
            assert not any(call.closed.is_set() for call in calls)
            listed = (await said_by(nodes[0], "v1/calls")).json["data"]
            assert {call["id"] for call in listed} == {call.events[0]["session"]["id"] for call in calls}
            await stack.aclose()


@pytest.mark.alone  # forty callers, whose sound has to be in time
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_sound_goes_on_without_redis(redis: RunningRedis, tmp_path: Path, how: str) -> None:
    """Forty calls hear and are heard without a gap while Redis is gone, or is silent, and when it is back.

    Meanwhile what cannot be checked is refused. Afterwards keys open calls again, and each call is noted again.
    """
    async with AsyncExitStack() as stack:
        lost = await stack.enter_async_context(AsyncExitStack())
        await lost.enter_async_context(redis.serving())
        [node] = await stack.enter_async_context(cluster(tmp_path, redis, 1, "--max-calls", "100"))
        minted = (await _mint(node)).json["value"]
        words = ("tests.cluster.callers", node.url, str(node.process.pid), API_KEY, str(_SPEAKING))
        callers = await stack.enter_async_context(running(*words))
        assert await callers.ask() == "speaking"
        call_ids = await _call_ids(node)
        assert len(call_ids) == _SPEAKING
        await callers.ask("100")
        quiet = await callers.report()
        if how == "stopped":
            redis.stop()
        else:
            await lost.aclose()
        await _missed(node)
        assert _redis_up(await said_by(node, "metrics")) == 0.0
        await _require_refusals(node, minted)
        async with open_socket(node.url, "model=m", additional_headers=ADMIN) as another:
            await _turn([another], 1)
        assert await _call_ids(node) == call_ids
        await callers.ask("200")
        _require_no_gap(await callers.report(), quiet)
        if how == "stopped":
            redis.go_on()
        else:
            await stack.enter_async_context(redis.serving())

        async def is_well() -> bool:
            return (await _is_ready(node))["redis"] and len(await _keys(redis, "bridge:call:*")) == _SPEAKING

        await until(is_well, scaled(20.0))
        assert _redis_up(await said_by(node, "metrics")) == 1.0
        usable = minted if how == "stopped" else (await _mint(node)).json["value"]
        key = {"Authorization": f"Bearer {usable}"}
        async with open_socket(node.url, "model=m", additional_headers=key) as another:
            await _turn([another], 1)
        await callers.ask("100")
        _require_no_gap(await callers.report(), quiet)
        assert await _call_ids(node) == call_ids


async def _call_ids(node: Serving) -> set[str]:
    return {call["id"] for call in (await said_by(node, "v1/calls")).json["data"]}


def _redis_up(page: Reply) -> float:
    return next(
        float(line.split()[1])
        for line in page.body.decode().splitlines()
        if line.startswith("bridge_cluster_redis_up ")
    )


def _require_no_gap(report: dict[str, Any], quiet: dict[str, Any]) -> None:
    """Fails if a call ended, or was silent for longer than it may be on this machine."""
    assert report["faults"] == [], report
    assert report["lost"] == 0, report
    assert report["gap_ms"] <= max(_GAP_MS * SLOWNESS, 5 * quiet["gap_ms"]), (report, quiet)


async def _say(redis: RunningRedis, command: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    writer.write(f"{command}\r\nQUIT\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def _keys(redis: RunningRedis, pattern: str) -> list[bytes]:
    return re.findall(rb"\r\n(bridge:[^\r]+)", await _say(redis, f"KEYS {pattern}"))


_OURS = frozenset({b"info", b"hvals", b"quit"})


async def _commands(redis: RunningRedis) -> int:
    """What Redis has carried out for clients, without what the test has asked; what a script calls is counted, too."""
    told = await _say(redis, "INFO commandstats")
    counted = re.findall(rb"cmdstat_([^:]+):calls=(\d+)", told)
    return sum(int(count) for name, count in counted if name not in _OURS)


async def _next_beat(redis: RunningRedis, beats: int) -> float:
    """Waits until the only node has said so many times more that it lives, once a second; the time in its last word."""
    last = b""

    async def has_spoken() -> bool:
        nonlocal last
        before, last = last, await _say(redis, "HVALS bridge:nodes")
        return last != before

    for _ in range(beats + 1):  # the first one is what it has said already
        await until(has_spoken)
    [until_ms] = re.findall(rb"\r\n(\d{10,}) ", last)
    return int(until_ms) / 1000


@pytest.fixture
async def served(redis: RunningRedis) -> AsyncIterator[RunningRedis]:
    """Running."""
    async with redis.serving():
        yield redis


async def test_a_call_costs_redis_little(served: RunningRedis, tmp_path: Path) -> None:
    """A call of two turns costs some tens of commands from its beginning to its end, and one that is quiet none."""
    async with cluster(tmp_path, served, 1) as [node], AsyncExitStack() as stack:

        async def spent(work: Any) -> float:
            began, before = await _next_beat(served, 0), await _commands(served)
            await work
            ended = await _next_beat(served, 2)  # what was noted is written between two of them
            return await _commands(served) - before - (ended - began) * idle_per_s

        began, before = await _next_beat(served, 1), await _commands(served)
        idle_s = await _next_beat(served, 4) - began
        idle_per_s = (await _commands(served) - before) / idle_s

        async def begin() -> list[EventSocket]:
            opening = (open_socket(node.url, "model=m", additional_headers=ADMIN) for _ in range(_CALLS))
            calls.extend([await stack.enter_async_context(one) for one in opening])
            return calls

        calls: list[EventSocket] = []
        begun = await spent(begin()) / _CALLS
        turns = await spent(_turn(calls, 1)) / _CALLS
        quiet = await spent(_next_beat(served, 2)) / _CALLS / 4
        ended = await spent(stack.aclose()) / _CALLS
        figures = {"node_per_s": idle_per_s, "begun": begun, "turn": turns, "quiet_per_s": quiet, "ended": ended}
        assert idle_per_s < 20, figures
        assert begun + 2 * turns + ended < 60, figures
        assert quiet < 1, figures
