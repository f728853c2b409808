"""Redis does what it is told, and its answer is lost: nothing is done twice, and nothing stays that nobody may use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from msgspec.structs import replace

from bridge.calls.keys import Grant, KeyPurpose
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.cluster.keys import RedisKeyStore
from bridge.cluster.nodes import new_node_id
from bridge.cluster.notes_store import NotesStore
from bridge.cluster.ownership import Owner
from bridge.cluster.store import SharedStore
from bridge.errors import CannotCheck, Unauthorized
from bridge.session.session import Session
from bridge.wire.stats import WEBSOCKET
from tests.cluster.redis import SECRET, RunningRedis, redis_running, until
from tests.fakes import FakeUpstream

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(60)]

_ONCE = Grant(key_id="key_1", purpose=KeyPurpose.CLIENT, is_single_use=True)
_LIMITS = CallLimits(max_calls=9, max_listeners_per_call=9, call_limit_s=600.0, resume_grace_s=60.0)
_PIECE_BYTES = 65_536


class _LosingProxy:
    """Between a process and Redis: the answers to so many scripts are lost, with the connection that they come on."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.losing = 0
        self.lost = 0
        self._target_port = target_port

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["_LosingProxy"]:
        async with await asyncio.start_server(self._connect, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        with suppress(OSError):
            async with asyncio.TaskGroup() as tasks:
                up = tasks.create_task(self._up(reader, back))
                await self._down(there, writer)
                up.cancel()
        back.close()
        writer.close()

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            self._is_script = b"EVAL" in piece
            back.write(piece)
        back.close()

    async def _down(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await there.read(_PIECE_BYTES):
            if self.losing and self._is_script and not piece.startswith(b"-NOSCRIPT"):
                self.losing -= 1
                self.lost += 1
                return
            writer.write(piece)


@pytest.fixture
async def server() -> AsyncIterator[RunningRedis]:
    """A server of its own."""
    async with redis_running() as running:
        yield running


@pytest.fixture
async def proxy(server: RunningRedis) -> AsyncIterator[_LosingProxy]:
    """In front of it."""
    async with _LosingProxy(server.port).serving() as proxy:
        yield proxy


@pytest.fixture
async def stores(server: RunningRedis, proxy: _LosingProxy) -> AsyncIterator[tuple[SharedStore, SharedStore]]:
    """Of two processes: the first one loses answers, the other one does not."""
    async with RunningRedis(proxy.port).store() as losing, server.store() as other:
        yield losing, other


async def test_a_key_is_good_although_the_answer_to_its_use_was_lost(
    stores: tuple[SharedStore, SharedStore], proxy: _LosingProxy
) -> None:
    """The command is sent again, and Redis knows it again; another use is still refused, everywhere."""
    here, there = (RedisKeyStore(store, SECRET) for store in stores)
    found = await here.find(await here.mint(_ONCE, ttl_s=60))
    assert found is not None
    proxy.losing = 1
    await here.spend(found.grant.token)
    assert proxy.lost == 1
    for store in (here, there):
        with pytest.raises(Unauthorized, match="has already been used"):
            await store.spend(found.grant.token)


async def test_whoever_was_told_to_try_again_may_use_the_key_then(
    stores: tuple[SharedStore, SharedStore], proxy: _LosingProxy
) -> None:
    """All answers are lost, so that the client is refused with 503: its next try counts as the same, and only one."""
    here, there = (RedisKeyStore(store, SECRET) for store in stores)
    found = await here.find(await here.mint(_ONCE, ttl_s=60))
    assert found is not None
    proxy.losing = 2
    with pytest.raises(CannotCheck):
        await here.spend(found.grant.token)
    assert proxy.lost == 2

    async def is_up() -> bool:
        with suppress(CannotCheck):
            await stores[0].command("PING")
        return stores[0].is_up

    await until(is_up)
    tries = await asyncio.gather(*(here.spend(found.grant.token) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in tries].count(type(None)) == 1
    with pytest.raises(Unauthorized):
        await there.spend(found.grant.token)


class _Node:
    """A process with calls, as far as its notes need one."""

    def __init__(self, store: SharedStore) -> None:
        self.id = new_node_id()
        self.registry = Registry(lambda info: FakeUpstream(), _LIMITS)
        self.notes_store = NotesStore(store, self.id, self.registry)
        self.registry.events.subscribe(self.notes_store)

    async def is_owner(self, call_id: str) -> bool:
        owner = await self.notes_store.owner(call_id)
        return owner is not None and owner.node_id == self.id

    async def take_over(self, call_id: str, seen: Owner) -> Session | None:
        notes = await self.notes_store.take_over(call_id, seen)
        return None if notes is None else self.registry.adopt(notes, self.registry.admission.reserve())


@pytest.fixture
async def nodes(stores: tuple[SharedStore, SharedStore]) -> AsyncIterator[tuple[_Node, _Node]]:
    """Of these two processes."""
    async with AsyncExitStack() as stack:
        here, there = map(_Node, stores)
        for node in (here, there):
            await stack.enter_async_context(node.registry)
        yield here, there


async def _call_of(node: _Node) -> str:
    call_id = node.registry.open(Terms(), transport=WEBSOCKET).info.id

    async def is_noted() -> bool:
        return await node.is_owner(call_id)

    await until(is_noted)
    return call_id


async def test_a_call_is_taken_over_although_the_answer_was_lost(
    nodes: tuple[_Node, _Node], proxy: _LosingProxy
) -> None:
    """The script is sent again and knows itself again: one node has the call."""
    here, there = nodes
    call_id = await _call_of(there)
    proxy.losing = 1
    assert await here.take_over(call_id, Owner(there.id, 1)) is not None
    assert proxy.lost == 1
    assert await there.take_over(call_id, Owner(there.id, 1)) is None
    assert await here.notes_store.owner(call_id) == Owner(here.id, 2)


async def test_a_take_over_of_which_nothing_was_heard_is_finished_by_the_next_try(
    nodes: tuple[_Node, _Node], stores: tuple[SharedStore, SharedStore], proxy: _LosingProxy
) -> None:
    """Redis says that this node has the call, and it has not: the next one who asks gets it."""
    here, there = nodes
    call_id = await _call_of(there)
    proxy.losing = 2
    with pytest.raises(CannotCheck):
        await here.take_over(call_id, Owner(there.id, 1))
    assert proxy.lost == 2
    assert here.notes_store.is_taking(call_id)

    async def is_told() -> bool:
        with suppress(CannotCheck):
            return await here.is_owner(call_id)
        return False

    await until(is_told)
    seen = await here.notes_store.owner(call_id)
    assert seen == Owner(here.id, 2)
    assert await here.take_over(call_id, seen) is not None
    assert not here.notes_store.is_taking(call_id)


async def test_a_call_that_has_ended_is_not_begun_again(nodes: tuple[_Node, _Node]) -> None:
    """Neither by who took it over, nor by another node, whatever they have seen before."""
    here, there = nodes
    call_id = await _call_of(there)
    session = await here.take_over(call_id, Owner(there.id, 1))
    assert session is not None
    session.close("hangup")
    await session.lifetime.closed.wait()
    assert await here.notes_store.owner(call_id) is None  # it is told first, and then asked
    for node in (here, there):
        for seen in (Owner(there.id, 1), Owner(here.id, 2)):
            assert await node.take_over(call_id, seen) is None


async def test_older_notes_never_follow_newer_ones(
    nodes: tuple[_Node, _Node], stores: tuple[SharedStore, SharedStore]
) -> None:
    """A connection that was given up may deliver late: what was written since stands."""
    _, there = nodes
    call_id = await _call_of(there)
    notes = there.registry.notes(call_id)
    assert notes is not None
    older = there.notes_store.write_command(call_id, 1, replace(notes, model="older"))
    newer = there.notes_store.write_command(call_id, 1, replace(notes, model="newer"))
    for command in (newer, older):
        assert await stores[1].command(*command) == 1
    kept = await stores[1].command("HGET", stores[1].name("call", f"{{{call_id}}}"), "notes")
    assert b'"newer"' in kept
