"""A peer whose datagrams cost much waits for its turn, as a socket does; others come in between."""

import asyncio
import time

import pytest

from bridge import turns
from bridge.webrtc.ice import IceAgent, PacketKind
from tests.machine import scaled

_LIMIT_S = scaled(5.0)


class _Clock:
    """Time that passes only by work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.perf_counter()
        monkeypatch.setattr(turns, "_now", lambda: self.now)


async def _rounds_between(agent: IceAgent, clock: _Clock, count: int, each_s: float) -> list[int]:
    """How many rounds others had until each of the datagrams came, if what it brings takes so long."""
    loop = asyncio.get_running_loop()
    rounds, is_over = 0, False

    def others() -> None:
        nonlocal rounds
        rounds += 1
        if not is_over:
            loop.call_soon(others)

    loop.call_soon(others)
    for number in range(count):
        agent.hand_over(PacketKind.DTLS, b"\x17%d" % number, 0.0)
    seen = []
    async with asyncio.timeout(_LIMIT_S):
        for number in range(count):
            assert await agent.dtls.get() == b"\x17%d" % number
            seen.append(rounds)
            clock.now += each_s
    is_over = True
    return seen


async def test_datagrams_that_cost_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them takes longer than a turn: others have a round between every two of them, and none is lost."""
    seen = await _rounds_between(IceAgent(), _Clock(monkeypatch), 50, 0.010)
    assert all(later > earlier for earlier, later in zip(seen, seen[1:], strict=False)), seen


async def test_datagrams_that_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst that fits into one turn is served at once."""
    assert await _rounds_between(IceAgent(), _Clock(monkeypatch), 5, 0.0001) == [0] * 5


async def test_two_peers_share_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that have had too much get one turn together in each round."""
    clock = _Clock(monkeypatch)
    order: list[str] = []

    async def read(name: str) -> None:
        agent = IceAgent()
        for _ in range(20):
            agent.hand_over(PacketKind.DTLS, b"\x17", 0.0)
        for _ in range(20):
            await agent.dtls.get()
            order.append(name)
            clock.now += 0.010

    async with asyncio.timeout(_LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(read("a"))
        tasks.create_task(read("b"))
    assert order[6:36] == ["a", "b"] * 15 or order[6:36] == ["b", "a"] * 15, order


async def test_a_peer_that_is_closed_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for its turn ends like any other."""
    clock, agent = _Clock(monkeypatch), IceAgent()
    for _ in range(10):
        agent.hand_over(PacketKind.DTLS, b"\x17", 0.0)
    await agent.dtls.get()
    clock.now += 1.0
    reading = asyncio.create_task(agent.dtls.get())
    agent.close()
    async with asyncio.timeout(_LIMIT_S):
        assert await reading == b"\x17"
        assert [await agent.dtls.get() for _ in range(8)] == [b"\x17"] * 8
        with pytest.raises(ConnectionError):
            await agent.dtls.get()
