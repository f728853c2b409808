"""Datagrams that an older process's calls get by way of the newest one."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.webrtc.forwarding import DatagramForwarder, DatagramInlet
from bridge.webrtc.ice import Address
from bridge.webrtc.mux import Mux
from tests.machine import scaled

RTP = bytes([0x80, 111]) + b"\n" + bytes(29)
STUN = bytes([0, 1]) + bytes(18)
DTLS = bytes([23, 0xFE, 0xFD]) + bytes(30)
LIMIT_S = scaled(8)


class _Process(asyncio.DatagramProtocol):
    """An older one, and the end by which it is reached."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address]] = []
        self._news = asyncio.Event()
        self.inlet, self.end = DatagramInlet.new(self)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))
        self._news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        self.inlet.close()
        self.end.close()


@pytest.fixture
async def processes() -> Any:
    """Two older ones."""
    made = [_Process(), _Process()]
    yield made
    for process in made:
        process.close()


@pytest.fixture
def mux(processes: list[_Process]) -> Iterator[Mux]:
    """The newest one's, which has no calls."""
    mux = Mux(lambda: 100.0)
    mux.forwarder = DatagramForwarder([process.end for process in processes], mux.drops)
    yield mux
    mux.forwarder.close()


@pytest.mark.parametrize("address", [("192.0.2.7", 4711), ("2001:db8::7", 4711, 0, 3)])
async def test_what_nobody_knows_reaches_each_elder(mux: Mux, processes: list[_Process], address: Address) -> None:
    """Sound, handshakes and checks, whole, with the address that they came from; nothing is counted as dropped."""
    sent = [STUN, DTLS, RTP, RTP]
    for datagram in sent:
        mux.datagram_received(datagram, address)
    for process in processes:
        await process.until(len(sent))
        assert process.received == [(datagram, address) for datagram in sent]
    assert mux.drops == {}


async def test_what_is_no_media_is_dropped_here(mux: Mux, processes: list[_Process]) -> None:
    """Neither what is nothing, nor what is longer than any packet, nor what came over a connection."""
    mux.datagram_received(b"\xff" * 40, ("192.0.2.7", 4711))
    mux.datagram_received(RTP + bytes(1500), ("192.0.2.7", 4711))
    mux.datagram_received(RTP, ("192.0.2.7", 4711, "tcp"))
    assert mux.drops == {"unknown_kind": 2, "unknown_source": 1}


async def test_an_elder_that_ends_is_forgotten(mux: Mux, processes: list[_Process]) -> None:
    """The others get what comes; when the last one is gone, datagrams are dropped and counted as ever."""
    first, second = processes
    first.inlet.close()
    mux.datagram_received(RTP, ("192.0.2.7", 4711))
    await second.until(1)
    second.inlet.close()
    for _ in range(2):
        mux.datagram_received(RTP, ("192.0.2.7", 4711))
    assert mux.drops == {"unknown_source": 2}


async def test_an_elder_that_reads_nothing_costs_nobody_else(processes: list[_Process]) -> None:
    """What it has no room for is lost and counted; the other one gets all."""
    stopped, reading = processes
    asyncio.get_running_loop().remove_reader(stopped.inlet._line.fileno())
    drops: Counter[str] = Counter()
    forwarder = DatagramForwarder([stopped.end, reading.end], drops)
    count = 0
    while not drops:
        forwarder.forward(RTP, ("192.0.2.7", 4711))
        count += 1
        await reading.until(count)
    assert drops == {"forward_busy": 1}
    assert count > 100
    forwarder.close()
