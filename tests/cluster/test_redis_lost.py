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

from tests.cluster.nodes import ADMIN, cluster, list_nodes, said_by
from tests.cluster.redis import RunningRedis, free_port, until
from tests.end_to_end.serving import Serving
from tests.end_to_end.web import EventSocket, Reply, open_socket, request
from tests.machine import scaled

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(60)]

_TYPED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "are you there?"}]}
_CALLS = 10


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


async def _is_ready(node: Serving) -> dict[str, bool]:
    checks = (await request("GET", f"{node.url}readyz")).json["checks"]
    return {check["name"]: check["is_ok"] for check in checks}


async def test_calls_go_on_without_redis(redis: RunningRedis, tmp_path: Path) -> None:
    """None ends. API keys open further calls; minted keys are refused with 503, and readiness says why.

    When Redis is back, empty, nodes find each other again, and what calls had noted is noted again.
    """
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(AsyncExitStack())
        await running.enter_async_context(redis.serving())
        nodes = await stack.enter_async_context(cluster(tmp_path, redis, 2))
        minted = (await _mint(nodes[0])).json["value"]
        calls = [
            await stack.enter_async_context(open_socket(node.url, "model=m", additional_headers=ADMIN))
            for node in nodes
            for _ in range(_CALLS // 2)
        ]
        await _turn(calls, 1)
        await running.aclose()
        await _turn(calls, 2)

        async def is_missed() -> bool:
            return not (await _is_ready(nodes[0]))["redis"]

        await until(is_missed, scaled(20.0))
        key = {"Authorization": f"Bearer {minted}"}
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(nodes[0].url, "model=m", additional_headers=key):
                pass
        assert refused.value.response.status_code == 503
        assert "Retry-After" in refused.value.response.headers
        assert json.loads(refused.value.response.body)["error"]["code"] == "cannot_check"
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


async def _say(redis: RunningRedis, command: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
    writer.write(f"{command}\r\nQUIT\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def _keys(redis: RunningRedis, pattern: str) -> list[bytes]:
    return re.findall(rb"\r\n(bridge:[^\r]+)", await _say(redis, f"KEYS {pattern}"))


async def _commands(redis: RunningRedis) -> int:
    """What Redis has carried out for clients; what a script calls is in these figures, too."""
    told = await _say(redis, "INFO commandstats")
    return sum(int(count) for count in re.findall(rb"cmdstat_[^:]+:calls=(\d+)", told))


@pytest.fixture
async def served(redis: RunningRedis) -> AsyncIterator[RunningRedis]:
    """Running."""
    async with redis.serving():
        yield redis


async def test_a_call_costs_redis_little(served: RunningRedis, tmp_path: Path) -> None:
    """A call of two turns costs some tens of commands from its beginning to its end, and one that is quiet none."""
    async with cluster(tmp_path, served, 1) as [node], AsyncExitStack() as stack:
        loop = asyncio.get_running_loop()

        async def spent(work: Any) -> float:
            began, before = loop.time(), await _commands(served)
            await work
            await asyncio.sleep(0.3)  # what is written a little later
            idle = (loop.time() - began) * idle_per_s
            return await _commands(served) - before - idle

        before, idle_per_s = await _commands(served), 0.0
        await asyncio.sleep(4)
        idle_per_s = (await _commands(served) - before) / 4

        async def begin() -> list[EventSocket]:
            opening = (open_socket(node.url, "model=m", additional_headers=ADMIN) for _ in range(_CALLS))
            calls.extend([await stack.enter_async_context(one) for one in opening])
            return calls

        calls: list[EventSocket] = []
        begun = await spent(begin()) / _CALLS
        turns = await spent(_turn(calls, 1)) / _CALLS
        quiet = await spent(asyncio.sleep(3)) / _CALLS / 3
        ended = await spent(stack.aclose()) / _CALLS
        figures = {"node_per_s": idle_per_s, "begun": begun, "turn": turns, "quiet_per_s": quiet, "ended": ended}
        assert idle_per_s < 20, figures
        assert begun + 2 * turns + ended < 60, figures
        assert quiet < 1, figures
