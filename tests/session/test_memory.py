"""What a call holds after a minute of conversation with the parrot, with a listener and what is kept for one."""

import asyncio
import tracemalloc
from collections import deque

import pytest

from bridge.context import CallContext
from bridge.engine import answer
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.media.contracts import LegOwner
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.wire.audio import PCM16
from bridge.wire.choices import Choices
from bridge.wire.message import EncodedMessage
from bridge.wire.sessions import default_session
from bridge.wire.stats import WEBRTC, ListenerRole
from tests.fakes import FakeClock, FakeLeg, FakeSink
from tests.machine import scaled

MS = 48  # bytes of PCM16 at 24 kHz
FRAME_MS = 20
TURNS = 6


class Sink(FakeSink):
    """A socket whose client reads everything, and keeps nothing but the number of answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0
        self.news = asyncio.Event()

    def send_message(self, message: EncodedMessage) -> None:
        if message.payload.startswith(b'{"type":"response.done"'):
            self.answers += 1
            self.news.set()

    async def until_answered(self, count: int) -> None:
        async with asyncio.timeout(scaled(20)):
            while self.answers < count:
                self.news.clear()
                await self.news.wait()


class Leg(FakeLeg):
    """A peer that keeps what waits to be heard, and nothing of what it has heard."""

    def __init__(self, owner: LegOwner) -> None:
        super().__init__(owner)
        self.waiting: deque[bytes] = deque()

    def play(self, part: Part, sound: bytes) -> bool:
        self.waiting.append(sound)
        return True


async def test_a_minute_of_conversation(speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times the caller speaks for 3 s and is silent for 7 s, with the noise of a room; the parrot repeats each.

    Ten seconds of the caller are kept for who comes back, which are 0.48 MB. The answer is what the caller said, and is
    in memory once, although the conversation, the replay and the leg have it. All else is small.
    """
    monkeypatch.setattr(answer, "_INTERVAL_S", 0.0)
    clock = FakeClock(100.0)
    context = CallContext(call_id="rtc_1", session_id="sess_1")
    noise = b"\x01\x00\xff\xff" * (7000 * MS // 4)
    spoken = speech_pcm[: 3000 * MS] + noise
    tracemalloc.start()
    try:
        session = Session(
            CallInfo(context, transport=WEBRTC, model="parrot", started_at=0.0),
            Engine(Parrot(), context),
            limits=Limits(),
            max_listeners=1,
            on_closed=lambda session: None,
            clock=clock,
        )
        session.start(default_session(session_id="sess_1", model="parrot", expires_at=0))
        port = session.legs.new_port()
        leg = Leg(port)
        session.legs.connect_leg(leg, port)
        leg.connect(FakeSink())
        sink = Sink()
        session.audience.attach(sink, role=ListenerRole.OBSERVER, choices=Choices(audio=PCM16))
        before = tracemalloc.get_traced_memory()[0]
        most = 0
        for turn in range(TURNS):
            leg.waiting.clear()  # the answer before has been heard
            for at in range(0, len(spoken), FRAME_MS * MS):
                leg.speak(bytes(memoryview(spoken)[at : at + FRAME_MS * MS]))
                clock.now += FRAME_MS / 1000
                most = max(most, tracemalloc.get_traced_memory()[0] - before)
            await sink.until_answered(turn + 1)
            most = max(most, tracemalloc.get_traced_memory()[0] - before)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sink.answers == TURNS
    assert 480_000 < held < 950_000
    assert most < 1_100_000  # while a turn is open, and as it ends
