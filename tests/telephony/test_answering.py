"""What comes while a carrier's call is being opened, as when its key is looked up elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from bridge.api.gate import Gate
from bridge.calls.handles import CarrierCall
from bridge.calls.keys import LocalKeyStore
from bridge.calls.moving import CarrierConnection, Receive
from bridge.calls.quotas import LocalQuotas
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.config import TelephonySettings
from bridge.context import CallContext
from bridge.telephony.audiosocket.connection import AudioSocketConnection
from bridge.telephony.audiosocket.dialect import HANG_UP, IDENTITY, SOUND, frame
from bridge.telephony.carrier_calls import CarrierCalls, Trust
from bridge.telephony.dialect import CallStarted
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.leg import CarrierLeg, CarrierLine
from bridge.telephony.twilio.dialect import TWILIO_DIALECT
from bridge.wire.audio import G711_ULAW
from bridge.wire.stats import Transport
from tests.fakes import FakeUpstream
from tests.machine import scaled

_LIMIT_S = scaled(15.0)
_UUID = "40325ec2-5efd-4bd3-805f-53576e581d13"
_FRAMES = [bytes([number, 0]) * 160 for number in range(1, 60)]


class _SlowService(CallService):
    """Opens carriers' calls when it ``may``; ``asked`` counts how often it was asked to."""

    may: asyncio.Event
    asked: asyncio.Semaphore

    async def open_with_carrier(self, terms: Terms, carrier: Transport, *, comes_back: bool = False) -> CarrierCall:
        self.asked.release()
        await self.may.wait()
        return await super().open_with_carrier(terms, carrier, comes_back=comes_back)


class _Line:
    """A connection that writes down how it was closed."""

    buffered_bytes = 0

    def __init__(self) -> None:
        self.closed: tuple[int, str] | None = None

    def write_messages(self, messages: list[str | bytes]) -> None: ...

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


class _Connection(AudioSocketConnection):
    """One whose end is told of."""

    on_lost: Callable[[], None]

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.on_lost()


class _House:
    """All that a carrier's call needs, and a port of AudioSocket."""

    def __init__(self) -> None:
        self.upstreams: list[FakeUpstream] = []
        self.registry = Registry(
            lambda info: self._new_upstream(), CallLimits(max_calls=5, max_listeners_per_call=1, call_limit_s=3600.0)
        )
        keys = LocalKeyStore()
        self.service = _SlowService(self.registry, keys, LocalQuotas.of(calls=5))
        self.service.may, self.service.asked = asyncio.Event(), asyncio.Semaphore(0)
        self.calls = CarrierCalls(
            TelephonySettings(),
            self.service,
            keys,
            on_hang_up=self._hung_up,
            transfer=self._transfer,
            queue_limit_s=600,
        )
        self.port = 0
        self.lost = asyncio.Event()
        """A connection's end was seen."""

    def _new_upstream(self) -> FakeUpstream:
        self.upstreams.append(FakeUpstream())
        return self.upstreams[-1]

    def _hung_up(self, carrier: str, started: CallStarted, context: CallContext) -> None: ...

    async def _transfer(self, line: CarrierLine, started: CallStarted, target_uri: str) -> Sequence[str | bytes]:
        raise NotImplementedError

    async def asked(self) -> None:
        async with asyncio.timeout(_LIMIT_S):
            await self.service.asked.acquire()


@asynccontextmanager
async def _running() -> AsyncIterator[_House]:
    house = _House()
    trust = Trust(secrets=(_UUID,), needs_token=True)
    async with house.registry, house.calls, asyncio.TaskGroup() as tasks:

        def connect() -> _Connection:
            connection = _Connection(house.calls, trust, Gate(10, 10), tasks)
            connection.on_lost = house.lost.set
            return connection

        server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
        house.port = server.sockets[0].getsockname()[1]
        try:
            yield house
        finally:
            server.close()


def _sound(number: int) -> bytes:
    return frame(SOUND, _FRAMES[number])


@pytest.mark.parametrize("at_once", [1, 3, 40])
async def test_sound_that_comes_while_a_call_is_opened(at_once: int) -> None:
    """All of it is heard, in its order, however much of it comes with the frame that starts the call."""
    async with _running() as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        first = b"".join(map(_sound, range(at_once)))
        writer.write(frame(IDENTITY, UUID(_UUID).bytes) + first)
        await house.asked()
        writer.write(b"".join(map(_sound, range(at_once, 50))))
        await asyncio.wait_for(reader.readexactly(323), _LIMIT_S)  # it says something meanwhile
        assert house.registry.sessions == []
        house.service.may.set()
        writer.write(b"".join(map(_sound, range(50, len(_FRAMES)))) + frame(HANG_UP))
        async with asyncio.timeout(_LIMIT_S):
            while await reader.read(4096):
                pass
        [upstream] = house.upstreams
        numbers = [number for number, _ in zip(*[iter(bytes(upstream.audio))] * 2, strict=True) if number]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, len(_FRAMES) + 1))
        assert house.registry.sessions == []
        writer.close()


async def test_asterisk_that_leaves_while_its_call_is_opened() -> None:
    """No call is opened for a connection that is gone."""
    async with _running() as house:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(frame(IDENTITY, UUID(_UUID).bytes) + _sound(0))
        await house.asked()
        writer.transport.abort()
        await asyncio.wait_for(house.lost.wait(), _LIMIT_S)
        house.service.may.set()
    assert house.upstreams == []


async def test_two_connections_of_one_call_at_once() -> None:
    """One of them opens the call, and the other takes its place as if the call had come back."""
    async with _running() as house:
        connections = [_Line() for _ in range(2)]
        lines = [CarrierLine(JsonDialect(TWILIO_DIALECT), connection) for connection in connections]
        started = CallStarted("CA1", G711_ULAW)
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(house.calls.answer(line, started, Trust(is_admitted=True))) for line in lines]
            await house.asked()
            house.service.may.set()
        assert answers[0].result() is answers[1].result()
        assert len(house.registry.sessions) == len(house.upstreams) == 1
        assert [connection.closed for connection in connections] == [(1000, "replaced"), None]
        leg = answers[0].result()
        assert isinstance(leg, CarrierLeg)
        leg.hang_up("hangup")


class _CallElsewhere:
    """A call that another process has, as ``CarrierCalls`` sees it; it writes down what is passed on to there."""

    is_running = is_elsewhere = True

    def __init__(self) -> None:
        self.passed: list[str | bytes] = []

    async def find_carrier_call(self, carrier: Transport, carrier_call: str) -> "_CallElsewhere":
        return self

    async def has_heard_of(self, carrier: Transport, carrier_call: str) -> bool:
        return True

    def is_opened_by(self, token: str) -> bool:
        return False

    async def take_over(self, *, comes_back: bool) -> CarrierCall | None:
        return None

    async def reach(self, scope: Mapping[str, Any]) -> bool:
        return True

    async def pass_on(
        self,
        messages: Sequence[str | bytes],
        receive: Receive,
        connection: CarrierConnection,
        *,
        judged_within_s: float,
    ) -> None:
        self.passed += messages


@pytest.mark.parametrize("before", [0, 1, 63, 64, 500])
async def test_what_starts_a_call_is_passed_on_behind_whatever_came_before(before: int) -> None:
    """The process that has the call judges by it; no number of messages in front of it puts that off."""
    start = json.dumps(
        {
            "event": "start",
            "streamSid": "MZ1",
            "start": {
                "streamSid": "MZ1",
                "callSid": "CA1",
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }
    )
    messages = iter(['{"event":"connected"}'] * before + [start])

    async def receive() -> str | bytes | None:
        return next(messages, None)

    async with _running() as house:
        house.service.carrier_calls = call = _CallElsewhere()
        line = CarrierLine(JsonDialect(TWILIO_DIALECT), _Line())
        await house.calls.carry(line, receive, Trust(is_admitted=True), scope={})
    assert call.passed[-1] == start
    assert len(call.passed) == min(before + 1, 64)
