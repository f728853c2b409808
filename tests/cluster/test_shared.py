"""What processes share in a real Redis: keys, quotas, allowances, ended calls and events, and races for them."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from msgspec.structs import replace as with_fields

from bridge.calls.admission import Admission
from bridge.calls.directory import CallRecord
from bridge.calls.keys import API_KEY_ID, Grant, KeyPurpose
from bridge.calls.quotas import Reservation
from bridge.calls.registry import CallLimits
from bridge.calls.shared import KeyLimits
from bridge.cluster.ended import RedisEndedCalls
from bridge.cluster.events import RedisEventBus
from bridge.cluster.grants import read_grant, write_grant
from bridge.cluster.keys import RedisKeyStore
from bridge.cluster.member import ClusterMember
from bridge.cluster.nodes import Nodes, NodeState, new_node_id, node_of
from bridge.cluster.quotas import RedisKeyAllowance, RedisKeyQuota
from bridge.cluster.store import SharedStore
from bridge.config import ClusterSettings
from bridge.errors import CannotCheck, OverLimit, Unauthorized
from bridge.session.fanout.backlog import Limits
from bridge.wire.choices import STOCK
from bridge.wire.client_events import read_session
from bridge.wire.own_events import CallClosed, CallOpened
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import CallResult, CarrierLegStats, Dialect
from tests.cluster.nodes import new_nodes
from tests.cluster.redis import SECRET, RunningRedis, free_port, redis_running, until
from tests.fakes import CALL_STATS, FakeSink
from tests.machine import scaled
from tests.processes import started

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(60)]

_LIMIT_S = scaled(10.0)
_CLIENT = Grant(key_id="key_1", purpose=KeyPurpose.CLIENT)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RunningRedis]:
    """One for all tests here; each uses a cluster of its own name."""
    async with redis_running() as running:
        yield running


@pytest.fixture
async def stores(
    server: RunningRedis, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[SharedStore, SharedStore]]:
    """Two processes' views of one cluster."""
    name = f"test-{abs(hash(request.node.nodeid))}"
    async with server.store(name) as one, server.store(name) as other:
        yield one, other


# Keys


def test_a_grant_survives_the_way_through_bytes() -> None:
    """Whatever a key was minted with is known where it is found, and a session's unknown words with it."""
    asked = read_session({"type": "realtime", "instructions": "Hm.", "own": {"x": 1}, "output_modalities": ["text"]})
    grant = Grant(
        key_id="k",
        purpose=KeyPurpose.LISTENER,
        config=asked,
        dialect=Dialect.BETA,
        temperature=0.7,
        metadata={"a": "b"},
        call_id="rtc_1",
        max_duration_s=3.0,
        idle_timeout_s=2.0,
        allowed_origins=("https://a.example",),
        is_single_use=True,
        token="t",
    )
    read = read_grant(write_grant(grant))
    assert read.config is not None
    assert (read.config.config, read.config.body) == (asked.config, asked.body)
    assert (str(read.config.complaint), str(asked.complaint)) == (
        str(asked.complaint),
        "Unknown parameter: 'session.own'.",
    )
    assert replace(read, config=None) == replace(grant, token="", config=None)
    assert read_grant(write_grant(Grant())) == Grant()


async def test_a_key_minted_here_is_good_there(stores: tuple[SharedStore, SharedStore]) -> None:
    """Another process of the same secret finds it; one with another secret, or after its time, does not."""
    here, there = (RedisKeyStore(store, SECRET) for store in stores)
    key = await here.mint(replace(_CLIENT, allowed_origins=("https://a.example",)), ttl_s=60)
    found = await there.find(key)
    assert found is not None
    assert (found.grant.key_id, found.is_expired) == ("key_1", False)
    assert await there.is_named("https://A.example:443")
    assert not await there.is_named("https://b.example")
    assert await RedisKeyStore(stores[1], "another secret").find(key) is None
    assert await there.find("ek_nobody") is None
    await there.spend(found.grant.token)
    await here.spend(found.grant.token)  # it is good for more than one call


async def test_an_expired_key_is_known_as_one(stores: tuple[SharedStore, SharedStore]) -> None:
    """A page that shows it may read why; it opens nothing."""
    here, there = (RedisKeyStore(store, SECRET) for store in stores)
    key = await here.mint(_CLIENT, ttl_s=0.001)

    async def is_expired() -> bool:
        found = await there.find(key)
        assert found is not None
        return found.is_expired

    await until(is_expired)
    found = await there.find(key)
    assert found is not None
    with pytest.raises(Unauthorized, match="expired"):
        await there.spend(found.grant.token)


async def test_no_key_stands_in_redis(server: RunningRedis, stores: tuple[SharedStore, SharedStore]) -> None:
    """Whoever reads Redis learns no key that opens anything."""
    key = await RedisKeyStore(stores[0], SECRET).mint(_CLIENT, ttl_s=60)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"KEYS *\r\nQUIT\r\n")
    names = await reader.read()
    writer.close()
    assert b":key:" in names
    assert key.encode() not in names
    assert key.removeprefix("ek_").encode() not in names


# Quotas


def _quota(store: SharedStore, limit: int = 2, *, counts_api_keys: bool = False) -> RedisKeyQuota:
    return RedisKeyQuota(
        store, new_node_id(), limit, name="calls", what="calls", code="too_many_calls", counts_api_keys=counts_api_keys
    )


async def test_a_quota_counts_over_processes(stores: tuple[SharedStore, SharedStore]) -> None:
    """What one has is missing in the other, and what is given back is free there as well."""
    here, there = map(_quota, stores)
    first, second = Reservation(), Reservation()
    await here.reserve_place("key_1", first)
    await there.reserve_place("key_1", second)
    for quota in (here, there):
        with pytest.raises(OverLimit, match="2 calls") as refused:
            await quota.reserve_place("key_1", Reservation())
        assert refused.value.code == "too_many_calls"
    await there.reserve_place("key_2", Reservation())
    await there.reserve_place(API_KEY_ID, Reservation())
    first.release()

    async def has_room() -> bool:
        try:
            await there.reserve_place("key_1", Reservation())
        except OverLimit:
            return False
        return True

    await until(has_room)


async def test_what_a_dead_process_had_is_free_after_its_lease(
    stores: tuple[SharedStore, SharedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not renew; who lives does, and keeps what it has."""
    monkeypatch.setattr("bridge.cluster.quotas._LEASE_MS", int(scaled(300)))
    dead, living = map(_quota, stores)
    await dead.reserve_place("key_1", Reservation())
    await living.reserve_place("key_1", Reservation())
    renewed = 0

    async def has_room() -> bool:
        nonlocal renewed
        renewed += 1
        living.renew()
        try:
            await living.reserve_place("key_1", Reservation())
        except OverLimit:
            return False
        return True

    await until(has_room)
    assert renewed > 2
    with pytest.raises(OverLimit):
        await living.reserve_place("key_1", Reservation())


async def test_an_address_has_one_allowance_in_all_processes(stores: tuple[SharedStore, SharedStore]) -> None:
    """So many in a minute, whichever process is asked; an IPv6 network counts as one."""
    here, there = (RedisKeyAllowance(store, 2, SECRET) for store in stores)
    await here.count_key("2001:db8::1")
    await there.count_key("2001:db8::2")
    with pytest.raises(OverLimit, match="2 keys in the last minute"):
        await here.count_key("2001:db8::3")
    await here.count_key("2001:db8:0:1::1")
    assert here.is_open
    assert not RedisKeyAllowance(stores[0], 0, SECRET).is_open


# Races


async def _race(
    stack: AsyncExitStack, server: RunningRedis, name: str, what: str, tries: int, *words: str
) -> tuple[Process, str]:
    command = (sys.executable, "-m", "tests.cluster.racing", server.url, name, what, str(tries), ",".join(words))
    process = await stack.enter_async_context(started(*command, stdin=PIPE, stderr=None))
    return process, await _line(process)


async def _line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(scaled(30.0)):
        return (await process.stdout.readline()).decode().strip()


async def _raced(server: RunningRedis, name: str, what: str, tries: int, *words: str) -> list[int]:
    """How often each of two processes won."""
    async with AsyncExitStack() as stack:
        racers = await asyncio.gather(*(_race(stack, server, name, what, tries, *words) for _ in range(2)))
        assert [said for _, said in racers] == ["ready", "ready"]
        start_at = time.time() + 0.1
        for process, _ in racers:
            assert process.stdin is not None
            process.stdin.write(f"{start_at}\n".encode())
        return [int(await _line(process)) for process, _ in racers]


async def test_each_single_use_is_had_once(server: RunningRedis) -> None:
    """Two processes try 500 keys each at once: exactly 500 tries win. A race has been one if both have won some."""
    won = [500, 0]
    for _ in range(10):
        name = new_node_id()
        async with server.store(name) as store:
            keys = RedisKeyStore(store, SECRET)
            minted = [await keys.mint(replace(_CLIENT, is_single_use=True), ttl_s=600) for _ in range(500)]
        won = await _raced(server, name, "keys", 500, *minted)
        assert sum(won) == 500
        if all(won):
            break
    assert all(won), won


async def test_the_last_places_are_had_once(server: RunningRedis) -> None:
    """Two processes try 500 times each at once for 37 places of one key: exactly 37 win."""
    assert sum(await _raced(server, new_node_id(), "quota", 500, "37")) == 37


# What happened


async def test_an_ended_call_is_listed_everywhere(stores: tuple[SharedStore, SharedStore]) -> None:
    """The last one first, with the figures of its leg, up to the limit."""
    here, there = (RedisEndedCalls(store, 2, 60.0) for store in stores)
    leg = CarrierLegStats(
        sent=1,
        queued_ms=2,
        overflow_ms=3,
        faults=4,
        is_connected=True,
        messages=5,
        late_ms=6,
        input_late_ms=8,
        returns=7,
    )
    for number in range(3):
        record = CallRecord(call_id=f"rtc_{number}", key_id="api", found_by=("+49 30 1",))
        stats = CALL_STATS if number < 2 else with_fields(CALL_STATS, peer=leg)
        here.add_ended_call(record, stats, CallResult.SUCCESS, "hangup")

        async def is_there(wanted: str = f"rtc_{number}") -> bool:
            return wanted in [call.record.call_id for call in await there.list()]

        await until(is_there)
    calls = await there.list()
    assert [call.record.call_id for call in calls] == ["rtc_2", "rtc_1"]
    assert calls[0].stats.peer == leg
    assert calls[0].record.found_by == ("+49 30 1",)
    assert [call.record.call_id for call in await here.list()] == ["rtc_2", "rtc_1"]


class _Heard:
    def __init__(self) -> None:
        self.events: list[ServerEvent] = []

    def event(self, event: ServerEvent, text: bytes) -> None:
        self.events.append(event)


async def test_watchers_hear_of_all_processes_and_subscribers_of_their_own(
    stores: tuple[SharedStore, SharedStore],
) -> None:
    """What happens in one process is told to the watchers of both, once, and counted in one."""
    here, there = (RedisEventBus(store, new_node_id(), Limits()) for store in stores)
    own, others, sink = _Heard(), _Heard(), FakeSink()
    here.subscribe(own)
    there.subscribe(others)
    there.watch(sink, STOCK, [])
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(bus.follow()) for bus in (here, there)]
        here.publish(CallOpened(call=CALL_STATS))
        here.publish(CallClosed(call_id="rtc_1", result=CallResult.SUCCESS, reason="hangup"))

        async def has_both() -> bool:
            return sink.types[1:] == [
                "bridge.call.opened",
                "bridge.call.closed",
            ]

        await until(has_both)
        for task in following:
            task.cancel()
    assert [type(event) for event in own.events] == [CallOpened, CallClosed]
    assert others.events == []


# Nodes


async def test_nodes_know_each_other_until_they_are_silent(
    stores: tuple[SharedStore, SharedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each learns of the other by its own word; one that leaves, or says nothing for long, is gone."""
    monkeypatch.setattr("bridge.cluster.nodes.DEAD_AFTER_S", scaled(0.3))
    here, there = (new_nodes(store, f"http://127.0.0.1:{port}") for port, store in enumerate(stores, 1))
    await here.say()
    await there.say()
    await here.say()
    assert [node.url for node in here.others] == ["http://127.0.0.1:2"]
    call_id = there.new_call_id("rtc")
    assert node_of(call_id) == there.id
    found = here.find(node_of(call_id))
    assert found is not None
    assert found.url == "http://127.0.0.1:2"
    await there.leave()
    await here.say()
    assert here.others == []
    await there.say()
    await here.say()
    assert len(here.others) == 1

    async def is_alone() -> bool:
        await here.say()
        return here.others == []

    await until(is_alone)


async def test_who_writes_to_redis_without_the_secret_is_no_node(stores: tuple[SharedStore, SharedStore]) -> None:
    """Neither a record under a name of its own nor another address for a node that lives gets requests with keys."""
    here, there = (new_nodes(store, f"http://127.0.0.1:{port}") for port, store in enumerate(stores, 1))
    rogue = new_nodes(stores[1], "http://192.0.2.66", secret="another secret, as long as the other")
    await there.say()
    await rogue.say()
    rogue.id = there.id
    await here.say()
    assert [node.id for node in here.others] == [there.id]
    await rogue.say()
    await here.say()
    assert here.others == []
    await there.say()
    await here.say()
    assert [node.url for node in here.others] == ["http://127.0.0.1:2"]


async def test_a_node_that_joins_says_at_once_that_it_serves(stores: tuple[SharedStore, SharedStore]) -> None:
    """Until then it is starting, and not draining. Others do not wait for its next heartbeat."""
    here, there = map(new_nodes, stores)

    async def state() -> NodeState:
        await there.say()
        [node] = there.others
        return node.state

    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(here.beat())
        await until(lambda: _is_known(there))
        assert await state() is NodeState.STARTING
        began = asyncio.get_running_loop().time()
        here.serve(Admission(max_calls=1))

        async def is_serving() -> bool:
            return await state() is NodeState.SERVING

        await until(is_serving)
        assert asyncio.get_running_loop().time() - began < scaled(0.5)
        beating.cancel()


async def _is_known(nodes: Nodes) -> bool:
    await nodes.say()
    return bool(nodes.others)


# Without Redis


async def test_what_cannot_be_checked_is_refused() -> None:
    """A minted key, a client's quota and an allowance get 503; API keys go on by what is known here."""
    async with RunningRedis(free_port()).store() as store:
        keys, quota = RedisKeyStore(store, SECRET), _quota(store, 1, counts_api_keys=True)
        for asking in (
            keys.find("ek_1"),
            keys.mint(_CLIENT, ttl_s=60),
            keys.spend("token"),
            quota.reserve_place("key_1", Reservation()),
            RedisKeyAllowance(store, 1, SECRET).count_key("192.0.2.1"),
        ):
            with pytest.raises(CannotCheck) as refused:
                await asking
            assert (refused.value.http_status, "Retry-After" in refused.value.headers) == (503, True)
        assert not await keys.is_named("https://a.example")
        await quota.reserve_place(API_KEY_ID, Reservation())
        with pytest.raises(OverLimit):
            await quota.reserve_place(API_KEY_ID, Reservation())
        assert store.complaint is not None


async def test_a_silent_redis_keeps_nobody_waiting() -> None:
    """A server that takes connections and never answers costs one question its time limit, and the next none."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        async with RunningRedis(port).store(timeout_s=0.2) as store:
            keys = RedisKeyStore(store, SECRET)
            with pytest.raises(CannotCheck):
                await keys.find("ek_1")
            sent = store.asked
            for _ in range(20):
                with pytest.raises(CannotCheck):
                    await keys.find("ek_1")
            assert store.asked <= sent + 1


async def test_owners_publish_again_to_a_redis_that_came_back_empty() -> None:
    """What is held is counted again, although Redis has forgotten it."""
    server = RunningRedis(free_port())
    async with server.store() as here, server.store() as there:
        async with server.serving():
            quota = _quota(here, 1)
            await quota.reserve_place("key_1", Reservation())
        with pytest.raises(CannotCheck):
            await quota.reserve_place("key_2", Reservation())
        async with server.serving():

            async def is_back() -> bool:
                try:
                    await here.command("PING")
                except CannotCheck:
                    return False
                return here.is_up

            async def is_counted() -> bool:
                reservation = Reservation()
                try:
                    await _quota(there, 1).reserve_place("key_1", reservation)
                except (CannotCheck, OverLimit) as error:
                    return isinstance(error, OverLimit)
                reservation.release()
                return False

            await until(is_back)
            await until(is_counted)


async def test_who_waits_for_redis_can_be_cancelled_at_any_moment(server: RunningRedis) -> None:
    """A task that follows events ends when it is told to, also while a connection is being made."""
    for number in range(40):
        async with server.store() as store, asyncio.timeout(_LIMIT_S), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(RedisEventBus(store, new_node_id(), Limits()).follow())
            for _ in range(number):
                await asyncio.sleep(0)
            following.cancel()


async def test_a_node_says_goodbye_after_all_that_it_has_told(server: RunningRedis) -> None:
    """Whoever finds it gone takes its calls over as they stand in Redis: what was said last must be there already."""
    settings = ClusterSettings(redis_url=server.url, cluster_name=new_node_id(), cluster_secret=SECRET)
    limits = CallLimits(max_calls=1, max_listeners_per_call=1, call_limit_s=1.0)
    of_keys = KeyLimits(calls=1, listeners=1, page_keys=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    async with ClusterMember(settings, "http://127.0.0.1:1", limits, of_keys) as member:
        member.store.soon("fact", lambda: [("SET", member.store.name("told"), "1")])
    writer.write(b"QUIT\r\n")
    seen = (await reader.read()).decode()
    writer.close()
    assert 0 < seen.index('"SET"') < seen.rindex('"HDEL"'), seen
