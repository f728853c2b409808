"""Redis by each kind of URL: one server, a Redis Cluster, and a server that sentinels name."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from bridge.calls.directory import CallRecord
from bridge.calls.keys import Grant, KeyPurpose
from bridge.calls.quotas import Reservation
from bridge.cluster.address import RedisAddress
from bridge.cluster.ended import RedisEndedCalls
from bridge.cluster.events import RedisEventBus
from bridge.cluster.keys import RedisKeyStore
from bridge.cluster.nodes import new_node_id
from bridge.cluster.quotas import RedisKeyQuota
from bridge.cluster.store import SharedStore
from bridge.errors import ConfigError, OverLimit
from bridge.session.fanout.backlog import Limits
from bridge.wire.choices import STOCK
from bridge.wire.own_events import CallOpened
from bridge.wire.stats import CallResult
from tests.cluster.nodes import new_nodes
from tests.cluster.redis import SECRET, free_port, redis_running, until
from tests.fakes import CALL_STATS, FakeSink
from tests.processes import started

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(60)]


@asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[str]:
    async with redis_running() as running:
        yield f"{running.url}/0"


@asynccontextmanager
async def _clustered(folder: Path) -> AsyncIterator[str]:
    """A Redis Cluster of one server, which has all slots."""
    flags = ("--cluster-enabled", "yes", "--cluster-config-file", str(folder / "nodes.conf"), "--dir", str(folder))
    bus = ("--cluster-port", str(free_port()))  # else 10,000 above its own, which is no port at all for many
    async with redis_running(*flags, *bus) as running:
        await _say(running.port, "CLUSTER ADDSLOTSRANGE 0 16383")

        async def is_whole() -> bool:
            return b"cluster_state:ok" in await _say(running.port, "CLUSTER INFO")

        await until(is_whole)
        yield f"redis+cluster://127.0.0.1:{running.port}"


@asynccontextmanager
async def _watched(folder: Path) -> AsyncIterator[str]:
    """A server, and the sentinel that knows where it is."""
    port = free_port()
    async with redis_running() as running:
        settings = folder / "sentinel.conf"
        settings.write_text(f"port {port}\nsentinel monitor main 127.0.0.1 {running.port} 1\n")
        async with started("redis-server", str(settings), "--sentinel", stdout=DEVNULL, stderr=DEVNULL):

            async def is_known() -> bool:
                try:
                    return str(running.port).encode() in await _say(port, "SENTINEL get-master-addr-by-name main")
                except OSError:
                    return False

            await until(is_known)
            yield f"redis+sentinel://127.0.0.1:{port}/main/0"


async def _say(port: int, command: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{command}\r\n".encode())
    answer = await reader.read(4096)  # short, and so in one piece
    writer.close()
    return answer


@pytest.mark.parametrize("serve", [_alone, _clustered, _watched])
async def test_all_that_is_shared_works_by_each_kind_of_url(
    serve: Callable[[Path], AbstractAsyncContextManager[str]], tmp_path: Path
) -> None:
    """Keys, quotas, nodes, ended calls and events go through one server, a Redis Cluster and sentinels alike."""
    async with serve(tmp_path) as url, SharedStore(url, "bridge", timeout_s=10.0) as store:
        keys, here, there = RedisKeyStore(store, SECRET), new_node_id(), new_node_id()
        key = await keys.mint(Grant(key_id="key_1", purpose=KeyPurpose.CLIENT, is_single_use=True), ttl_s=60)
        found = await keys.find(key)
        assert found is not None
        await keys.spend(found.grant.token)
        one, other = (RedisKeyQuota(store, node, 1, name="calls", what="calls") for node in (here, there))
        await one.reserve_place("key_1", Reservation())
        with pytest.raises(OverLimit):
            await other.reserve_place("key_1", Reservation())
        nodes = new_nodes(store)
        await nodes.say()
        assert [node.id for node in nodes.alive] == [nodes.id]
        ended, sink = RedisEndedCalls(store, 5, 60.0), FakeSink()
        bus, foreign = (RedisEventBus(store, node, Limits()) for node in (here, there))
        bus.watch(sink, STOCK, [])
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(bus.follow())
            ended.add_ended_call(CallRecord(call_id="rtc_1", key_id="api"), CALL_STATS, CallResult.SUCCESS, "hangup")
            foreign.publish(CallOpened(call=CALL_STATS))

            async def is_heard() -> bool:
                return "bridge.call.opened" in sink.types

            async def is_listed() -> bool:
                return bool(await store.command("LLEN", store.name("ended")))

            await until(is_listed)
            if not await is_heard():
                foreign.publish(CallOpened(call=CALL_STATS))  # the first may have come before it was followed
            await until(is_heard)
            following.cancel()
        assert store.complaint is None


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1", "redis+cluster://", "redis://127.0.0.1:port"])
def test_a_url_that_says_nothing_of_use(url: str) -> None:
    """It is refused by the name of its setting, and not shown."""
    with pytest.raises(ConfigError, match="redis_url") as refused:
        RedisAddress(url).new_client(1.0)
    assert refused.value.param == "redis_url"
