"""All sessions of a process: within limits, found by id, and ended before it ends."""

import asyncio
import json

import pytest
from openai.types.websocket_reconnection import is_recoverable_close
from structlog.testing import capture_logs

from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.errors import Draining, OverLimit, UnknownCall
from bridge.session.contracts import Downstream
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.session.state import SessionState
from bridge.wire.server_events import ServerEvent
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import WEBRTC, WEBSOCKET, ListenerRole, Transport
from tests.fakes import FakeLeg, FakeSink, FakeUpstream
from tests.machine import scaled


class House:
    """A registry, and the upstreams that it made."""

    def __init__(self, *, max_calls: int = 5, call_limit_s: float = 3600.0) -> None:
        self.upstreams: list[FakeUpstream] = []
        self.registry = Registry(
            self._new_upstream,
            CallLimits(max_calls=max_calls, max_listeners_per_call=3, call_limit_s=call_limit_s),
        )

    def _new_upstream(self, info: CallInfo) -> FakeUpstream:
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    def open(self, transport: Transport = WEBSOCKET) -> Session:
        return self.registry.open(Terms(model="parrot"), transport=transport)

    def owned(self) -> tuple[Session, FakeSink]:
        session, sink = self.open(), FakeSink()
        session.audience.attach(sink, role=ListenerRole.OWNER)
        return session, sink


async def test_a_call_is_found_by_its_id() -> None:
    """A WebRTC call has a call id, a socket session only its session's; an unknown one is refused."""
    house = House()
    async with house.registry as registry:
        call, session = house.open(WEBRTC), house.open()
        assert call.info.id.startswith("rtc_")
        assert registry.find(call.info.id) is call
        assert session.info.id == session.info.session_id
        assert registry.find(session.info.session_id) is session
        assert registry.sessions == [call, session]
        with pytest.raises(UnknownCall) as caught:
            registry.find("rtc_nobody" * 100)
        assert caught.value.code == "call_id_not_found"
        assert len(caught.value.message) < 150


async def test_a_session_starts_with_its_configuration() -> None:
    """The default has the session's id, model and end; a configuration that is given is taken."""
    house = House(call_limit_s=600)
    async with house.registry as registry:
        session = house.open()
        config = session.state.config
        assert (config.id, config.model) == (session.info.session_id, "parrot")
        assert config.expires_at == int(session.info.started_at + 600)
        asked = registry.open(
            Terms(update=SessionRequest.of(SessionConfig(instructions="sing"))), transport=WEBSOCKET
        ).state.config
        assert (asked.instructions, asked.tool_choice) == ("sing", "auto")
        given = SessionConfig(instructions="dance")
        keyed = registry.open(Terms(config=SessionRequest.of(given)), transport=WEBSOCKET).state.config
        assert (keyed.instructions, keyed.tool_choice) == ("dance", "auto")


async def test_a_key_may_shorten_a_call() -> None:
    """The longest duration of the key ends the call before the server's own limit; so does its idle timeout."""
    house = House()
    async with house.registry as registry:
        short = registry.open(Terms(max_duration_s=0.01), transport=WEBSOCKET)
        idle = registry.open(Terms(idle_timeout_s=0.01), transport=WEBSOCKET)
        await short.lifetime.closed.wait()
        await idle.lifetime.closed.wait()


async def test_the_number_of_calls_is_limited() -> None:
    """One more than allowed is refused with 429; when a call has ended, its place is free."""
    house = House(max_calls=2)
    async with house.registry as registry:
        first, _ = house.open(), house.open(WEBRTC)
        with pytest.raises(OverLimit, match="2 calls") as caught:
            house.open()
        assert (caught.value.http_status, caught.value.code) == (429, "too_many_calls")
        assert len(house.upstreams) == 2
        first.close("hangup")
        house.open()
        assert len(registry.sessions) == 2


async def test_a_closed_session_is_forgotten_and_its_upstream_closed() -> None:
    """Nothing is left of a call that ended."""
    house = House()
    async with house.registry as registry:
        session = house.open(WEBRTC)
        port = session.legs.new_port()
        leg = FakeLeg(port)
        session.legs.connect_leg(leg, port)
        leg.connect()
        leg.vanish("peer_closed")
        assert registry.sessions == []
        with pytest.raises(UnknownCall):
            registry.find(session.info.id)
    assert house.upstreams[0].closed == 1


async def test_the_registry_ends_what_still_runs() -> None:
    """Leaving it closes every session with 1001, after which the SDKs come back too, and every upstream."""
    house = House()
    async with house.registry:
        _, sink = house.owned()
        call = house.open(WEBRTC)
        port = call.legs.new_port()
        leg = FakeLeg(port)
        call.legs.connect_leg(leg, port)
    assert sink.closed == (1001, "server_stopped")
    assert leg.reason == "server_stopped"
    assert [upstream.closed for upstream in house.upstreams] == [1, 1]
    assert house.registry.sessions == []


async def test_draining_takes_no_new_calls_and_lets_the_running_ones_end() -> None:
    """While it drains, a call that ends by itself is not cut; then the drain is over at once."""
    house = House()
    async with house.registry as registry:
        session, sink = house.owned()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(registry.drain(3600))
            await asyncio.sleep(0)
            assert registry.admission.is_draining
            with pytest.raises(Draining) as caught:
                house.open()
            assert (caught.value.http_status, caught.value.code) == (503, "server_draining")
            assert sink.closed is None
            session.close("hangup")
        assert sink.closed == (1000, "hangup")


async def test_draining_cuts_what_takes_too_long() -> None:
    """After the grace period the rest is closed with 1012, after which the SDKs connect again."""
    house = House()
    async with house.registry as registry:
        _, sink = house.owned()
        await registry.drain(0.01)
        assert sink.closed == (1012, "server_draining")
        assert is_recoverable_close(sink.closed[0])
        assert registry.sessions == []


async def test_a_call_ends_at_its_limit() -> None:
    """The longest time that a call may take: everyone is told, and its place is free."""
    house = House(call_limit_s=0.01)
    async with house.registry as registry:
        session, sink = house.owned()
        await session.lifetime.closed.wait()
        assert sink.types[-1] == "error"
        assert sink.closed == (1001, "Your session hit the maximum duration of 0.01 seconds.")
        assert registry.sessions == []


class _Follower:
    """Writes down what it is told of calls, and fails at each."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, event: ServerEvent, text: bytes) -> None:
        self.told.append(str(json.loads(text)["type"]))
        raise RuntimeError("no")


async def test_who_follows_all_calls_may_fail() -> None:
    """A failure costs a follower that event, and nobody else anything: it hears of the next call."""
    house, follower = House(), _Follower()
    with capture_logs() as lines:
        async with house.registry:
            house.registry.events.subscribe(follower)
            for _ in range(2):
                house.open().close("hangup")
    assert follower.told == ["bridge.call.opened", "bridge.call.closed"] * 2
    assert [line["event"] for line in lines].count("registry.consumer_failed") == 4


class _Broken(FakeUpstream):
    """One that cannot begin."""

    def start(self, downstream: Downstream, state: SessionState) -> None:
        raise RuntimeError("no")


async def test_a_call_that_cannot_begin_is_not_there() -> None:
    """Whatever fails behind the registration, nothing is left of the call, nor of its place."""
    limits = CallLimits(max_calls=1, max_listeners_per_call=3, call_limit_s=3600.0)
    async with Registry(lambda info: _Broken(), limits) as registry:
        for _ in range(2):
            with pytest.raises(RuntimeError):
                registry.open(Terms(model="parrot"), transport=WEBSOCKET)
            async with asyncio.timeout(scaled(5)):
                while registry.sessions:  # noqa: ASYNC110 (until the reaper has seen it)
                    await asyncio.sleep(0)
