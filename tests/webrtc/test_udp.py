"""The socket of all media: what is read first, what is too old, and that others have their turn."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from bridge.burst import Burst
from bridge.webrtc.mux import Mux
from bridge.webrtc.udp import MAX_AGE_S, MediaSocket
from tests.machine import scaled

RTP = bytes([0x80, 111]) + bytes(30)
RTCP = bytes([0x80, 200]) + bytes(30)
STUN = bytes([0, 1]) + bytes(18)
DTLS = bytes([23, 0xFE, 0xFD]) + bytes(30)
LIMIT_S = scaled(8)


class Listening:
    """A media socket whose clocks are set by hand, what it hands on, and a stranger's socket that sends to it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.now = 100.0
        self.ahead_s = 0.0
        self.mux = Mux(lambda: self.now)
        self.mux.receive_burst = self._take  # type: ignore[method-assign]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)
        udp.bind(("127.0.0.1", 0))
        self.address = udp.getsockname()
        self.media = MediaSocket(udp, self.mux, clock=lambda: self.now, wall=lambda: time.time() + self.ahead_s)
        self.stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stranger.setblocking(False)
        self.stranger.bind(("127.0.0.1", 0))
        self._news = asyncio.Event()

    def _take(self, datagrams: Sequence[tuple[bytes, Any]], burst: Burst) -> None:
        self.received += [data for data, _ in datagrams]
        self._news.set()

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.stranger.sendto(datagram, self.address)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    listening = Listening()
    yield listening
    listening.media.close()
    listening.media.close()
    listening.stranger.close()


@pytest.mark.parametrize("waited_s", [MAX_AGE_S + 0.1, 10.0])
async def test_sound_that_is_too_old_is_dropped(listening: Listening, waited_s: float) -> None:
    """Behind a pause of the process STUN and DTLS that waited are taken; sound that did is counted and lost."""
    listening.send(*[RTP, RTCP] * 50, STUN, *[RTP] * 10, DTLS)
    listening.now += waited_s
    listening.ahead_s = waited_s
    await listening.until(2)
    assert listening.received == [STUN, DTLS]
    assert listening.mux.drops == {"too_old": 110}
    listening.ahead_s = 0.0
    listening.send(RTP)
    await listening.until(3)
    assert listening.received[2:] == [RTP]


@pytest.mark.parametrize(
    ("late_s", "ahead_s"), [(0.0, 0.0), (MAX_AGE_S - 0.2, MAX_AGE_S - 0.2), (5.0, 0.0), (5.0, -3600.0), (0.0, 3600.0)]
)
async def test_what_is_young_enough_is_taken(listening: Listening, late_s: float, ahead_s: float) -> None:
    """All is taken in its order after a short pause, behind a long one, and if the wall clock is set meanwhile."""
    sent = [RTP + number.to_bytes(2) for number in range(100)]
    listening.send(*sent)
    listening.now += late_s
    listening.ahead_s = ahead_s
    await listening.until(100)
    assert listening.received == sent
    assert listening.mux.drops == {}


@pytest.mark.parametrize("late_s", [0.0, 5.0])
async def test_others_have_their_turn(listening: Listening, late_s: float) -> None:
    """A flood is read a few datagrams at a time."""
    listening.now += late_s
    listening.send(*[STUN] * 200)
    turns: list[int] = []
    loop = asyncio.get_running_loop()

    def turn() -> None:
        turns.append(len(listening.received))
        if len(listening.received) < 200:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await listening.until(200)
    steps = [after - before for before, after in zip(turns, [*turns[1:], 200], strict=True)]
    assert max(steps) <= 64


async def test_what_cannot_be_sent_is_lost(listening: Listening) -> None:
    """A datagram that the system does not take is counted, and the next one goes."""
    listening.media.sendto(b"x", ("127.0.0.1", 0))
    listening.media.sendto(bytes(70_000), listening.stranger.getsockname())
    listening.media.sendto(b"well", listening.stranger.getsockname())
    async with asyncio.timeout(LIMIT_S):
        assert await asyncio.get_running_loop().sock_recv(listening.stranger, 100) == b"well"
    assert listening.mux.drops == {"send_error": 2}
    listening.media.close()
    listening.media.sendto(b"late", listening.stranger.getsockname())
    assert listening.media.is_closing()
