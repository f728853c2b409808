"""The one clock of all peers: who is served when, and what a delay costs."""

import asyncio
import itertools

import pytest

from bridge.webrtc.runner import PeerClock, PeerRunner
from bridge.webrtc.udp import MAX_AGE_S
from tests.webrtc.calling import WITHIN_S


class Outbound:
    """What was skipped, and how hard its encoder is to try."""

    def __init__(self) -> None:
        self.skipped = 0
        self.complexity = -1

    def skip(self, ticks: int) -> None:
        self.skipped += ticks

    def set_complexity(self, complexity: int) -> None:
        self.complexity = complexity


class Ticked:
    """A peer, and its RTP session, that notes when it is served, and lives until it is hung up."""

    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.judged: list[float] = []
        self.watched: list[float] = []
        self.reports = 0
        self.rtp = self
        self.outbound = Outbound()
        self.enough, self.gone = asyncio.Event(), asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self, *, connect_timeout_s: float, close_deadline_s: float, open_channel: str | None) -> None:
        await self._ended.wait()
        self.gone.set()

    def hang_up(self, reason: str) -> None:
        self._ended.set()

    def tick(self, now: float) -> None:
        self.ticks.append(asyncio.get_running_loop().time())
        self.judged.append(now)
        if len(self.ticks) == 30:
            self.enough.set()

    def report(self, now: float) -> None:
        self.reports += 1

    def watch(self, now: float, timeout_s: float) -> None:
        self.watched.append(now)


def a_round(clock: PeerClock, peers: list[Ticked]) -> list[int]:
    """How many of the peers each turn of the next 20 ms serves."""
    served = []
    until = clock.due + 0.0199
    while clock.due < until:
        before = sum(len(peer.judged) for peer in peers)
        step(clock)
        served.append(sum(len(peer.judged) for peer in peers) - before)
    return served


def step(clock: PeerClock, took_s: float = 0.0) -> None:
    """The next turn, in time."""
    clock.turn(clock.due, 10)
    clock.end(took_s)


def started(*peers: Ticked) -> PeerClock:
    clock = PeerClock()
    clock.start(100.0)
    for peer in peers:
        clock.add(peer)  # type: ignore[arg-type]
    return clock


async def test_peers_take_turns() -> None:
    """Each peer has its tick once in 20 ms, a tenth of the peers at a time or eight, and all of them equally often."""
    async with PeerRunner() as runner:
        peers = [Ticked() for _ in range(20)]
        for peer in peers:
            runner.run(peer)  # type: ignore[arg-type]
        async with asyncio.timeout(WITHIN_S):
            for peer in peers:
                await peer.enough.wait()
        counts = [len(peer.ticks) for peer in peers]
        assert max(counts) - min(counts) <= 1
        took = peers[0].ticks[29] - peers[0].ticks[0]
        assert 29 * 0.020 - 0.1 <= took
        assert {peer.reports for peer in peers} <= {6, 7}
        assert sorted(a_round(runner.clock, peers)) == [4, 8, 8]
    assert runner.peers == set()
    assert sum(a_round(runner.clock, peers)) == 0


async def test_many_peers_take_turns_in_tenths() -> None:
    """No packet waits for more than a tenth of the peers to be served."""
    peers = [Ticked() for _ in range(200)]
    assert a_round(started(*peers), peers) == [20] * 10


async def test_the_first_slots_are_far_apart() -> None:
    """A few peers wake the process rarely, and at equal times."""
    peers = [Ticked() for _ in range(16)]
    clock = started(*peers)
    a_round(clock, peers)
    dues = [clock.due]
    for _ in range(4):
        step(clock)
        dues.append(clock.due)
    assert [round(after - before, 6) for before, after in itertools.pairwise(dues)] == [0.01] * 4


async def test_a_process_without_peers_sleeps() -> None:
    """Nothing wakes it before there is a peer, nor after the last one has gone; a later one is served all the same."""
    woken = 0
    async with PeerRunner() as runner:
        turn = runner.clock.turn

        def counted(now: float, peer_timeout_s: float) -> None:
            nonlocal woken
            woken += 1
            turn(now, peer_timeout_s)

        runner.clock.turn = counted  # type: ignore[method-assign]
        for _ in range(2):
            woken_before = woken
            await asyncio.sleep(0.1)
            assert woken == woken_before
            peer = Ticked()
            runner.run(peer)  # type: ignore[arg-type]
            async with asyncio.timeout(WITHIN_S):
                await peer.enough.wait()
            peer.hang_up("test")
            async with asyncio.timeout(WITHIN_S):
                await peer.gone.wait()
            await asyncio.sleep(0.04)  # the turn that finds nobody


async def test_who_comes_finds_a_slot_with_room() -> None:
    """Where peers have left, the next ones take their places."""
    peers = [Ticked() for _ in range(16)]
    clock = started(*peers)
    clock.remove(peers[0])  # type: ignore[arg-type]
    clock.remove(peers[4])  # type: ignore[arg-type]
    assert sorted(a_round(clock, peers)) == [6, 8]
    for _ in range(2):
        peers.append(Ticked())
        clock.add(peers[-1])  # type: ignore[arg-type]
    assert a_round(clock, peers) == [8, 8]


async def test_encoders_try_less_hard_while_the_clock_takes_much_of_the_time() -> None:
    """A busy second makes everyone's encoder cheaper, newcomers' too; only a calm one makes it good again."""
    peer, second = Ticked(), Ticked()
    clock = started(peer)
    seen = []
    for share in (0.3, 0.4, 0.25, 0.25, 0.1, 0.3):
        for _ in range(50):
            step(clock, share * 0.020)
        seen.append(peer.outbound.complexity)
        if share == 0.4:
            clock.add(second)  # type: ignore[arg-type]
            assert second.outbound.complexity == 2
    assert seen == [5, 2, 2, 2, 5, 5]
    assert second.outbound.complexity == 5


async def test_a_process_that_stood_still() -> None:
    """A second that was missed is left out for everyone and counted, not made up for in a burst."""
    peer = Ticked()
    clock = started(peer)
    clock.turn(clock.due + 1.001, 10)
    assert (clock.late_ticks, peer.outbound.skipped) == (50, 50)
    clock.turn(clock.due + 0.020 * 4, 10)
    assert (clock.late_ticks, peer.outbound.skipped) == (50, 50)


async def test_loss_is_judged_at_the_time_of_the_turn() -> None:
    """However few turns there are because few peers are there, the time by which loss is judged keeps up."""
    peer = Ticked()
    clock = started(peer)
    for _ in range(100):
        step(clock)
    due = clock.due
    step(clock)
    assert peer.judged[-1] == due
    assert clock.due - due == pytest.approx(0.020)


async def test_a_machine_that_is_busy_all_the_time() -> None:
    """If the clock is late again and again, it judges loss half a second late at most, and silence at once."""
    peer = Ticked()
    clock = started(peer)
    now = clock.due
    for _ in range(6000):
        now += 0.15  # more than it catches up with
        clock.turn(now, 10)
    assert now - peer.judged[-1] <= MAX_AGE_S + 10 * 0.15
    assert now - peer.watched[-1] <= 500 * 0.15  # it looks every 500 turns
    clock.judge(now)
    assert now - clock.judged_until <= MAX_AGE_S
    assert clock.stood_still_s == 0


async def test_a_process_that_was_stopped_for_long() -> None:
    """Peers are not lost for a silence that nobody could hear: that time is taken off, and forgotten in as long."""
    clock, began = PeerClock(), 100.0
    clock.start(began)
    clock.judge(began + 15)
    assert 0 <= 15 - clock.stood_still_s <= 0.3
    for number in range(1, 7501):
        clock.judge(began + 15 + number * 0.002)
    assert clock.stood_still_s == 0
    assert clock.judged_until == began + 30
