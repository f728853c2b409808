"""The one way to a call: by a key, within limits, also if keys and quotas are looked up elsewhere."""

import asyncio

import pytest

from bridge.calls.handles import SocketHandle, SocketPlace
from bridge.calls.keys import Grant, KeyPurpose, LocalKeyStore
from bridge.calls.quotas import LocalKeyQuota, Quotas, Reservation
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.errors import BridgeError, Draining, Forbidden, OverLimit, Unauthorized, UnknownCall
from bridge.session.fanout.backlog import Limits
from bridge.session.info import CallInfo
from bridge.turns import Work
from bridge.upstream.agent import AgentQueue
from bridge.wire.choices import STOCK, Choices
from bridge.wire.stats import Dialect, ListenerRole
from tests.fakes import FakeSink, FakeUpstream

_API = Grant()


class _SlowKeyStore(LocalKeyStore):
    """One that has to ask somebody else; ``is_asked`` is set when it is asked to spend a key."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()

    async def spend(self, token: str) -> None:
        self.is_asked.set()
        await asyncio.sleep(0)
        await super().spend(token)


class _SlowQuota(LocalKeyQuota):
    """Counts in one step, after a while."""

    async def reserve_place(self, key_id: str, reservation: Reservation) -> None:
        await asyncio.sleep(0)
        await super().reserve_place(key_id, reservation)


class _House:
    """A service whose keys and quotas take their time."""

    def __init__(
        self,
        *,
        max_calls: int = 20,
        max_calls_per_key: int = 10,
        max_listeners: int = 3,
        max_listeners_per_key: int = 9,
    ) -> None:
        limits = CallLimits(max_calls=max_calls, max_listeners_per_call=max_listeners, call_limit_s=3600.0)
        self.registry = Registry(self._new_upstream, limits)
        self.keys = _SlowKeyStore()
        quotas = Quotas(
            _SlowQuota(max_calls_per_key, what="calls", code="too_many_calls"),
            _SlowQuota(max_listeners_per_key, what="listeners", counts_api_keys=True),
            _SlowQuota(2, what="agents"),
        )
        self.agents = AgentQueue(Limits())
        self.calls = CallService(self.registry, self.keys, quotas, agents=self.agents)

    def _new_upstream(self, info: CallInfo) -> FakeUpstream:
        return FakeUpstream()

    async def mint(self, key_id: str, *, is_single_use: bool = False, purpose: KeyPurpose = KeyPurpose.CLIENT) -> Grant:
        grant = Grant(key_id=key_id, purpose=purpose, is_single_use=is_single_use)
        minted = await self.keys.find(await self.keys.mint(grant, ttl_s=60))
        assert minted is not None
        return minted.grant

    async def open(self, grant: Grant = _API) -> SocketPlace:
        return await self.calls.open_with_socket(Terms(model="parrot", key_id=grant.key_id, token=grant.token))

    async def owned(self, grant: Grant = _API) -> tuple[str, SocketHandle, FakeSink]:
        sink = FakeSink()
        handle = await (await self.open(grant)).attach(sink)
        assert handle is not None
        return self.registry.sessions[-1].info.id, handle, sink

    async def open_many(self, grants: list[Grant]) -> list[str]:
        """Asks for a call with each at once; the refusals' codes, and an empty one for each that was opened."""

        async def attempt(grant: Grant) -> str:
            try:
                await self.open(grant)
            except BridgeError as error:
                return error.code
            return ""

        return await asyncio.gather(*map(attempt, grants))


async def test_a_key_sees_its_own_calls_only() -> None:
    """A call of another key is as unknown as one that does not exist; the API keys see all."""
    house = _House()
    async with house.registry:
        one, two = await house.mint("key_1"), await house.mint("key_2")
        mine, _, _ = await house.owned(one)
        other, _, _ = await house.owned(two)
        assert [call.id for call in await house.calls.list_calls(one)] == [mine]
        assert [call.id for call in await house.calls.list_calls(_API)] == [mine, other]
        assert (await house.calls.show_call(one, mine)).id == mine
        for call_id in (other, "rtc_nobody"):
            with pytest.raises(UnknownCall):
                await house.calls.show_call(one, call_id)
            with pytest.raises(UnknownCall):
                await house.calls.hang_up(one, call_id)
            with pytest.raises(UnknownCall):
                await house.calls.place_for_listener(one, call_id, ListenerRole.OBSERVER, STOCK, dialect=Dialect.GA)
        await house.calls.hang_up(one, mine)
        assert [call.id for call in await house.calls.list_calls(_API)] == [other]


async def test_a_key_for_attaching_ends_no_call() -> None:
    """It shows the call that it is for, and hangs it up no more than a call of somebody else."""
    house = _House()
    async with house.registry:
        call_id, _, _ = await house.owned()
        key = Grant(key_id="key_1", purpose=KeyPurpose.CLIENT, call_id=call_id)
        assert (await house.calls.show_call(key, call_id)).id == call_id
        with pytest.raises(Forbidden):
            await house.calls.hang_up(key, call_id)
        assert len(house.registry.sessions) == 1


async def test_a_refusal_costs_a_single_use_key_nothing() -> None:
    """The key is spent when there is a place for its call, and not before; a second call is refused."""
    house = _House(max_calls=1)
    async with house.registry:
        call_id, _, _ = await house.owned()
        grant = await house.mint("key_1", is_single_use=True)
        for _ in range(3):
            with pytest.raises(OverLimit):
                await house.open(grant)
        await house.calls.hang_up(_API, call_id)
        place = await house.open(grant)
        place.give_up()
        with pytest.raises(Unauthorized):
            await house.open(grant)
        await house.open()  # what was refused holds no place


async def test_the_last_places_are_given_once() -> None:
    """Of many who ask while keys and quotas are looked up, as many get in as there are places."""
    house = _House(max_calls=3)
    async with house.registry:
        grants = [await house.mint(f"key_{number}") for number in range(12)]
        refusals = await house.open_many(grants)
        assert sorted(refusals) == [""] * 3 + ["too_many_calls"] * 9
        assert len(house.registry.sessions) == 3


async def test_a_quota_holds_for_those_who_ask_at_once() -> None:
    """A key has no more calls than its quota; when they are over it has as many again."""
    house = _House(max_calls_per_key=2)
    async with house.registry as registry:
        grant = await house.mint("key_1")
        for _ in range(2):
            refusals = await house.open_many([grant] * 6)
            assert sorted(refusals) == [""] * 2 + ["too_many_calls"] * 4
            assert len(registry.sessions) == 2
            with pytest.raises(OverLimit, match="This key already has 2 calls"):
                await house.calls.require_room("key_1")
            await house.calls.require_room("key_2")
            registry.close_all("hangup", code=1000)
        await house.calls.require_room("key_1")


async def test_a_single_use_is_had_once_by_many_at_once() -> None:
    """One of them gets the call; the others leave nothing behind."""
    house = _House(max_calls=12)
    async with house.registry as registry:
        grant = await house.mint("key_1", is_single_use=True)
        refusals = await house.open_many([grant] * 9)
        assert sorted(refusals) == [""] + ["invalid_api_key"] * 8
        assert len(registry.sessions) == 1
        assert await house.open_many([_API] * 12) == [""] * 11 + ["too_many_calls"]


async def test_no_call_begins_behind_the_drain() -> None:
    """A daemon that begins to stop while a key is looked up refuses the call that it is for."""
    house = _House()
    async with house.registry as registry:
        grant = await house.mint("key_1")
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(house.open_many([grant]))
            await house.keys.is_asked.wait()
            registry.stop_accepting()
        assert opening.result() == [Draining.code]
        assert registry.sessions == []


async def test_who_leaves_while_the_key_is_looked_up_leaves_nothing() -> None:
    """A request that is cancelled gives its place back."""
    house = _House(max_calls=1)
    async with house.registry as registry:
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(house.open(await house.mint("key_1")))
            await house.keys.is_asked.wait()
            opening.cancel()
        assert registry.sessions == []
        await house.open()


async def test_an_owner_that_does_not_come_ends_its_call() -> None:
    """A place that is given up takes the call with it; a listener's leaves the call alone."""
    house = _House()
    async with house.registry as registry:
        place = await house.open()
        [session] = registry.sessions
        other = await house.calls.place_for_listener(
            _API, session.info.id, ListenerRole.OBSERVER, STOCK, dialect=Dialect.GA
        )
        other.give_up()
        assert registry.sessions == [session]
        place.give_up()
        assert registry.sessions == []


async def test_a_call_that_ends_during_the_upgrade() -> None:
    """Whoever comes too late is told that the call has ended; that is no error."""
    house = _House()
    async with house.registry:
        call_id, _, _ = await house.owned()
        place = await house.calls.place_for_listener(_API, call_id, ListenerRole.OBSERVER, STOCK, dialect=Dialect.GA)
        await house.calls.hang_up(_API, call_id)
        sink = FakeSink()
        assert await place.attach(sink) is None
        assert sink.closed == (1000, "call ended")


async def test_the_last_listener_is_let_in_once() -> None:
    """Two who found room before their upgrade: one has the place, the other is refused behind it."""
    house = _House(max_listeners=1)
    async with house.registry:
        call_id, _, _ = await house.owned()
        places = [
            await house.calls.place_for_listener(_API, call_id, ListenerRole.OBSERVER, STOCK, dialect=Dialect.GA)
            for _ in range(2)
        ]
        assert await places[0].attach(FakeSink()) is not None
        with pytest.raises(OverLimit):
            await places[1].attach(FakeSink())


async def test_each_key_has_so_many_listeners() -> None:
    """Over all calls, watchers included; each that is gone, or did not come, makes room for another."""
    house = _House(max_listeners=9, max_listeners_per_key=2)

    async def place(call_id: str) -> SocketPlace:
        return await house.calls.place_for_listener(_API, call_id, ListenerRole.OBSERVER, STOCK, dialect=Dialect.GA)

    async with house.registry:
        call_ids = [(await house.owned())[0] for _ in range(2)]
        listening = await (await place(call_ids[0])).attach(FakeSink())
        watching = await house.calls.place_for_watcher(_API, Choices())
        assert listening is not None
        with pytest.raises(OverLimit, match="This key already has 2 listeners"):
            await place(call_ids[1])
        listening.detach("client_closed")
        listening.detach("client_closed")
        other = await place(call_ids[1])
        with pytest.raises(OverLimit):
            await house.calls.place_for_watcher(_API, Choices())
        watching.give_up()
        other.give_up()
        assert [await place(call_ids[0]) for _ in range(2)]
        with pytest.raises(OverLimit):
            await place(call_ids[0])


async def test_each_key_has_so_many_agents() -> None:
    """However many come at once; a refusal leaves a single-use key as it is, and API keys have no such limit."""
    house = _House()
    async with house.registry:
        grant = await house.mint("key_1", purpose=KeyPurpose.AGENT)
        found = await asyncio.gather(
            *(house.calls.place_for_agent(grant, None) for _ in range(5)), return_exceptions=True
        )
        places = [place for place in found if not isinstance(place, BaseException)]
        assert len(places) == 2
        assert sum(isinstance(refusal, OverLimit) for refusal in found) == 3
        once = await house.mint("key_1", is_single_use=True, purpose=KeyPurpose.AGENT)
        with pytest.raises(OverLimit):
            await house.calls.place_for_agent(once, None)
        handles = [await place.attach(FakeSink()) for place in places]
        assert house.agents.waiting == 2
        for handle in handles:
            assert handle is not None
            handle.detach("client_closed")
        assert house.agents.waiting == 0
        await house.calls.place_for_agent(once, None)
        with pytest.raises(Unauthorized):
            await house.calls.place_for_agent(once, None)
        for _ in range(4):
            await house.calls.place_for_agent(_API, None)
        await house.calls.place_for_agent(grant, None)  # what was refused holds no place


async def test_an_agent_comes_for_a_call_that_there_is() -> None:
    """A call that is unknown is refused, one that ends during the upgrade closes the socket; a key names one call."""
    house = _House()
    async with house.registry:
        call_id, _, _ = await house.owned()
        with pytest.raises(UnknownCall):
            await house.calls.place_for_agent(_API, "rtc_nobody")
        with pytest.raises(UnknownCall):
            await house.calls.place_for_agent(Grant(key_id="key_1", purpose=KeyPurpose.AGENT, call_id="rtc_1"), call_id)
        place = await house.calls.place_for_agent(_API, call_id)
        await house.calls.hang_up(_API, call_id)
        sink = FakeSink()
        assert await place.attach(sink) is None
        assert sink.closed == (1000, "call ended")
        assert house.agents.waiting == 0


async def test_what_a_socket_says_and_how_it_leaves() -> None:
    """Text is taken, a binary message is answered, one that is too long closes the socket; its owner's end ends all."""
    house = _House()
    async with house.registry as registry:
        call_id, owner, sink = await house.owned()
        work = Work(asyncio.get_running_loop())
        await owner.receive_text('{"type": "input_audio_buffer.append", "audio": "AAA="}', work)
        assert sink.closed is None
        owner.refuse_binary()
        assert sink.types[-1] == "error"
        place = await house.calls.place_for_listener(_API, call_id, ListenerRole.CONTROLLER, STOCK, dialect=Dialect.GA)
        heard = FakeSink()
        other = await place.attach(heard)
        assert other is not None
        other.refuse_long(99)
        assert heard.closed is not None
        other.detach("message_too_big")
        assert len(registry.sessions) == 1
        owner.detach("client_closed")
        assert registry.sessions == []


async def test_a_watcher_hears_of_calls_and_says_nothing() -> None:
    """First which run, then which begin and end; whatever it says is refused, and it may go at any time."""
    house = _House()
    async with house.registry as registry:
        await house.open()
        sink = FakeSink()
        watcher = await (await house.calls.place_for_watcher(_API, Choices())).attach(sink)
        assert watcher is not None
        assert [len(event["calls"]) for event in sink.of_type("bridge.calls")] == [1]
        await house.open()
        await watcher.receive_text("{}", Work(asyncio.get_running_loop()))
        watcher.refuse_binary()
        assert sink.types[1:] == ["bridge.call.opened", "error", "error"]
        watcher.detach("client_closed")
        registry.close_all("hangup", code=1000)
        assert len(sink.types) == 4
        with pytest.raises(Forbidden):
            await house.calls.place_for_watcher(await house.mint("key_1"), Choices())
