"""The one clock of all peers: who is served when, and what a delay costs."""

import asyncio
from collections import Counter

from bridge.webrtc.runner import PeerRunner
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


async def test_peers_take_turns() -> None:
    """Each peer has its tick once in 20 ms, a tenth of the peers at a time, and all of them equally often."""
    async with PeerRunner() as runner:
        peers = [Ticked() for _ in range(20)]
        for peer in peers:
            runner.run(peer)  # type: ignore[arg-type]
        assert Counter(map(len, runner._slots)) == {2: 10}
        async with asyncio.timeout(WITHIN_S):
            for peer in peers:
                await peer.enough.wait()
        counts = [len(peer.ticks) for peer in peers]
        assert max(counts) - min(counts) <= 1
        took = peers[0].ticks[29] - peers[0].ticks[0]
        assert 29 * 0.020 - 0.1 <= took
        assert {peer.reports for peer in peers} <= {6, 7}
    assert runner.peers == set()
    assert runner._slots == [[] for _ in range(10)]


async def test_who_comes_finds_the_emptiest_slot() -> None:
    """Where peers have left, the next ones take their places."""
    async with PeerRunner() as runner:
        peers = [Ticked() for _ in range(16)]
        for peer in peers:
            runner.run(peer)  # type: ignore[arg-type]
        peers[0].hang_up("enough")
        peers[4].hang_up("enough")
        async with asyncio.timeout(WITHIN_S):
            await peers[0].gone.wait()
            await peers[4].gone.wait()
        await asyncio.sleep(0)
        for _ in range(6):
            runner.run(Ticked())  # type: ignore[arg-type]
        assert [len(slot) for slot in runner._slots] == [2] * 10


async def test_encoders_try_less_hard_while_the_clock_takes_much_of_the_time() -> None:
    """A busy second makes everyone's encoder cheaper, newcomers' too; only a calm one makes it good again."""
    async with PeerRunner() as runner:
        peer = Ticked()
        runner.run(peer)  # type: ignore[arg-type]
        seen = []
        for share in (0.3, 0.4, 0.25, 0.25, 0.1, 0.3):
            runner._turns, runner._busy_s = 0, 0.0
            runner._weigh(share)
            seen.append(peer.outbound.complexity)
            if share == 0.4:
                second = Ticked()
                runner.run(second)  # type: ignore[arg-type]
                assert second.outbound.complexity == 2
        assert seen == [5, 2, 2, 2, 5, 5]
        assert second.outbound.complexity == 5


async def test_a_process_that_stood_still() -> None:
    """A second that was missed is left out for everyone and counted, not made up for in a burst."""
    async with PeerRunner() as runner:
        peer = Ticked()
        runner.run(peer)  # type: ignore[arg-type]
        runner._advance(runner._pacer.due + 1.001)
        assert (runner.late_ticks, peer.outbound.skipped) == (50, 50)
        runner._advance(runner._pacer.due + 0.020 * 4)
        assert (runner.late_ticks, peer.outbound.skipped) == (50, 50)


async def test_a_machine_that_is_busy_all_the_time() -> None:
    """If the clock is late again and again, it judges loss half a second late at most, and silence at once."""
    async with PeerRunner() as runner:
        peer = Ticked()
        runner.run(peer)  # type: ignore[arg-type]
        now = runner._pacer.due
        for _ in range(6000):
            now += 0.15  # more than it catches up with
            runner._advance(now)
        assert now - peer.judged[-1] <= MAX_AGE_S + 10 * 0.15
        assert now - peer.watched[-1] <= 500 * 0.15  # it looks every 500 turns
        runner._judge(now)
        assert now - runner._judged_until <= MAX_AGE_S
        assert runner._stood_still_s == 0


async def test_a_process_that_was_stopped_for_long() -> None:
    """Peers are not lost for a silence that nobody could hear: that time is taken off, and forgotten in as long."""
    async with PeerRunner() as runner:
        began = runner._turned_at
        runner._judge(began + 15)
        assert 0 <= began + 15 - runner._stood_still_s - began <= 0.3
        for step in range(1, 7501):
            runner._judge(began + 15 + step * 0.002)
        assert runner._stood_still_s == 0
        assert runner._judged_until == began + 30
