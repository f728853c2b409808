"""Runs peers: a task for each one's life, and one clock for the sound of all.

The clock has ten slots in its 20 ms, and each peer has its place in one of them. Encoding takes longer than all else,
so no packet that comes in waits for more than a tenth of the peers to be served, or for a few. The clock wakes the
process only for slots that have peers; a process without peers sleeps. If the clock takes much of the
process's time, all encoders try less hard until it takes little. That saves a quarter of the time and costs a tenth of
a point of quality.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from bridge.burst import Burst
from bridge.log import get_logger
from bridge.media.opus import COMPLEXITY, LEAST_COMPLEXITY
from bridge.media.pacer import FRAME_MS, Pacer
from bridge.webrtc.peer import Peer
from bridge.webrtc.udp import MAX_AGE_S

__all__ = ["PeerClock", "PeerRunner"]

_log = get_logger("webrtc")

_SLOTS = 10
_SLOTS_IN_ORDER = (0, 5, 2, 7, 4, 9, 1, 6, 3, 8)  # of use: the first few are far apart
_FEW_PEERS = 8  # that share a slot before the next one is used: a millisecond of encoding
_REPORT_ROUNDS = 100 // FRAME_MS
_WATCH_ROUNDS = 1000 // FRAME_MS
_WEIGHED_TURNS = 500  # turns in a second
_STALL_S = 0.25  # a longer time between two turns is the process's doing, not the peers'
_MAX_STOOD_STILL_S = 60.0
_BUSY, _CALM = 0.35, 0.2  # parts of the time; further apart than what a change of complexity saves


class PeerClock:
    """Serves peers in turn: each has its place in one of the slots, and a turn serves one slot.

    All times are in seconds, on the clock that ``start`` is given the time of.
    """

    def __init__(self) -> None:
        self.complexity = COMPLEXITY
        """The complexity with which all peers' sound is encoded."""
        self.judged_until = 0.0
        """The time by which loss is judged, which is behind ``now`` for a while after the process stood still."""
        self.stood_still_s = 0.0
        """How long the process has stood still lately, which is no peer's silence."""
        self._slots: list[list[Peer]] = [[] for _ in range(_SLOTS)]
        self._pacer = Pacer(slots=_SLOTS)
        self._busy_s = 0.0
        self._turned_at = 0.0
        self._turns = 0
        self._steps = 1  # of the pacer, between the last turn and the next

    @property
    def has_peers(self) -> bool:
        """Whether there is anybody to serve."""
        return any(self._slots)

    @property
    def late_ticks(self) -> int:
        """The number of ticks of 20 ms that were left out because the process stood still."""
        return self._pacer.late_ticks

    @property
    def due(self) -> float:
        """The time of the next turn."""
        return self._pacer.due

    def start(self, now: float) -> float:
        """Starts the clock, or starts it again; returns when its first turn is due."""
        self.judged_until = self._turned_at = now
        self.stood_still_s = 0.0
        return self._pacer.start(now)

    def add(self, peer: Peer) -> None:
        """Gives a peer its place, in a slot with few peers if one is in use, or else in that with the fewest."""
        peer.rtp.outbound.set_complexity(self.complexity)
        slots = [self._slots[number] for number in _SLOTS_IN_ORDER]
        with_room = [slot for slot in slots if 0 < len(slot) < _FEW_PEERS]
        (with_room[0] if with_room else min(slots, key=len)).append(peer)

    def remove(self, peer: Peer) -> None:
        """Takes a peer out of its slot."""
        next(slot for slot in self._slots if peer in slot).remove(peer)

    def turn(self, now: float, peer_timeout_s: float) -> None:
        """Serves the peers of the next slot; one that was not heard for ``peer_timeout_s`` is lost."""
        if behind := self._pacer.begin(now):
            for slot in self._slots:
                for peer in slot:
                    peer.rtp.outbound.skip(behind)
        self.judge(now)
        rounds, number = divmod(self._turns, _SLOTS)
        self._turns += 1
        is_report, is_watch = rounds % _REPORT_ROUNDS == 0, rounds % _WATCH_ROUNDS == 0
        for peer in tuple(self._slots[number]):
            peer.rtp.tick(self.judged_until)
            if is_report:
                peer.rtp.report(now)
            if is_watch:
                peer.watch(now - self.stood_still_s, peer_timeout_s)

    def end(self, took_s: float) -> float:
        """Ends a turn that took so long, whatever happened in it; returns when the next one is due.

        Turns that would serve nobody are left out. Once a second it sets how hard encoders try in the next one, by how
        much of the last one the turns took.
        """
        self._busy_s += took_s
        served, slots = self._turns - 1, self._slots
        self._steps = next((step for step in range(1, _SLOTS) if slots[(served + step) % _SLOTS]), _SLOTS)
        self._turns = served + self._steps
        if served // _WEIGHED_TURNS != self._turns // _WEIGHED_TURNS:
            self._weigh()
        return self._pacer.leave_out(self._steps - 1)

    def judge(self, now: float) -> None:
        """Notes the time, with allowance for the time that the process stood still.

        After the process stood still, packets wait in the socket, and nobody is judged by what was not read yet. The
        time by which loss is judged catches up at twice its pace, and the packets are read meanwhile. It is never
        further behind than the oldest sound that is still read. The time that the process stood still does not count as
        a peer's silence; it is forgotten as time goes on.
        """
        caught_up = self.judged_until + 2 * self._steps * self._pacer.step_s
        self.judged_until = max(min(now, caught_up), now - MAX_AGE_S)
        elapsed_s, self._turned_at = now - self._turned_at, now
        if elapsed_s > _STALL_S:
            self.stood_still_s = min(self.stood_still_s + elapsed_s - _STALL_S, _MAX_STOOD_STILL_S)
        else:
            self.stood_still_s = max(0.0, self.stood_still_s - elapsed_s)

    def _weigh(self) -> None:
        share, self._busy_s = self._busy_s / (_WEIGHED_TURNS * self._pacer.step_s), 0.0
        is_saving = share > (_BUSY if self.complexity == COMPLEXITY else _CALM)
        complexity = LEAST_COMPLEXITY if is_saving else COMPLEXITY
        if complexity != self.complexity:
            self.complexity = complexity
            _log.info("peer.complexity", complexity=complexity, busy_percent=round(100 * share))
            for slot in self._slots:
                for peer in slot:
                    peer.rtp.outbound.set_complexity(complexity)


class PeerRunner:
    """Runs peers and their clock.

    The clock runs while there are peers. Leaving ``async with`` hangs up every peer and waits for them.
    """

    def __init__(
        self, *, connect_timeout_s: float = 10, peer_timeout_s: float = 10, close_deadline_s: float = 2
    ) -> None:
        self.peers: set[Peer] = set()
        self.clock = PeerClock()
        self.connect_timeout_s = connect_timeout_s
        self.peer_timeout_s = peer_timeout_s
        self._close_deadline_s = close_deadline_s
        self._tasks = asyncio.TaskGroup()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "PeerRunner":
        self._loop = asyncio.get_running_loop()
        self.burst = Burst.of(self._loop)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for peer in tuple(self.peers):
            peer.hang_up("server_stopped")
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def run(self, peer: Peer, *, open_channel: str | None = None) -> None:
        """Runs ``peer`` to its end; ``open_channel`` is the label of a data channel that it opens."""
        self.peers.add(peer)
        life = peer.run(
            connect_timeout_s=self.connect_timeout_s,
            close_deadline_s=self._close_deadline_s,
            open_channel=open_channel,
        )

        def forget(_: asyncio.Task[None]) -> None:
            self.peers.discard(peer)
            self.clock.remove(peer)

        self._tasks.create_task(life).add_done_callback(forget)
        self.clock.add(peer)
        if self._timer is None:
            self._timer = self._loop.call_at(self.clock.start(self._loop.time()), self._turn)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what belongs to a peer beside it; it is waited for at the end."""
        self._tasks.create_task(_contained(work))

    def _turn(self) -> None:
        """Serves the peers of the next slot that has some, every 2 ms if all have.

        It catches up after a short delay, and leaves a gap after a long one.
        """
        began, now = time.perf_counter(), self._loop.time()  # the loop's own time stands still in a callback
        self.burst.begin()
        try:
            try:
                self.clock.turn(now, self.peer_timeout_s)
            finally:
                self.burst.finish(now)
        finally:  # whatever happened, the other calls' sound goes on
            due = self.clock.end(time.perf_counter() - began)
            self._timer = self._loop.call_at(due, self._turn) if self.clock.has_peers else None


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    """Runs what belongs to one peer: whatever goes wrong there must not end the others."""
    try:
        await work
    except Exception as error:
        _log.error("peer.work_failed", exc_info=error)
