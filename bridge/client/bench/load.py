"""Many calls from one process: they begin at a steady pace, and speak once all are connected. Each has its record."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

from bridge.client.address import parse_address
from bridge.client.bench.call import BenchCall
from bridge.client.bench.lag import Lag
from bridge.client.bench.network import Network
from bridge.client.bench.phone import PhoneBenchCall
from bridge.client.bench.record import BenchRecord
from bridge.client.bench.report import Report, report
from bridge.client.call import Plan
from bridge.client.lines import new_runner
from bridge.client.phone_call import PhonePlan
from bridge.webrtc.runner import PeerRunner

__all__ = ["Bench", "Load", "Watch", "run_side_by_side"]

_TURN = 3  # a turn is speech, silence and an answer, each about as long

Watch = Callable[[Literal["connecting", "speaking"], float], None]
"""Is told how many calls have connected or failed, and then how much is over, in turns of all calls or in seconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many calls there are to be, and what each does."""

    calls: int = 5
    turns: int = 2
    seconds: float | None = None
    """How long each call speaks and is answered, instead of ``turns``; its last turn is finished."""
    ramp_per_s: float = 10.0
    """The number of calls that begin in a second."""
    patience_s: float = 60.0
    """How long an answer may take, from the end of what is spoken to the end of the answer."""


class Bench:
    """One benchmark.

    ``run`` makes the calls, once; ``report`` may be called at any time, also after it was cancelled.
    """

    def __init__(
        self,
        plan: Plan | PhonePlan,
        load: Load,
        watch: Watch = lambda stage, done: None,
        *,
        network: Network | None = None,
    ) -> None:
        """``plan`` says what each call does, over which transport or as which carrier.

        ``network`` is what the callers' WebRTC packets go through. Raises ``CallFailed`` if the URL is none.
        """
        if isinstance(plan, Plan):
            parse_address(plan.url, plan.model)
        else:
            parse_address(plan.dialling.url)
        self.plan = plan
        self.load = load
        self.network = network or Network()
        self.lag = Lag()
        self.records = [BenchRecord(number) for number in range(load.calls)]
        self._watch = watch
        self._connected: set[int] = set()
        self._spoken_from: float | None = None

    async def run(self, *, gives_threads: bool = True) -> None:
        """Makes all calls, from the first request to the last hang-up.

        It raises nothing, whatever becomes of the calls. ``gives_threads`` says that the loop gets as many threads as
        the calls need.
        """
        load = self.load
        if gives_threads:
            _give_threads(load.calls)
        is_webrtc = isinstance(self.plan, Plan) and self.plan.transport == "webrtc"
        clock = new_runner() if is_webrtc else nullcontext()
        async with clock as runner, asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(self.lag.run())
            watching = tasks.create_task(self._look_on())
            async with asyncio.TaskGroup() as calls:
                began = time.monotonic()
                for record in self.records:
                    call = self._new_call(record, runner)
                    calls.create_task(
                        call.run(
                            began=began,
                            connected=partial(self._note_connected, record),
                            may_speak=partial(self._may_speak, record),
                            is_over=partial(self._is_over, record),
                        )
                    )
                    await asyncio.sleep(began + (record.number + 1) / load.ramp_per_s - time.monotonic())
            watching.cancel()
            measuring.cancel()

    def _new_call(self, record: BenchRecord, runner: PeerRunner | None) -> BenchCall | PhoneBenchCall:
        plan, patience_s = self.plan, self.load.patience_s
        if isinstance(plan, PhonePlan):
            return PhoneBenchCall(plan, record, patience_s=patience_s)
        return BenchCall(plan, record, patience_s=patience_s, runner=runner, network=self.network)

    def report(self) -> Report:
        """Returns the figures of what has happened so far."""
        return report(self.records, self.lag)

    def _note_connected(self, record: BenchRecord) -> None:
        self._connected.add(record.number)
        if len(self._connected) == self.load.calls and self._spoken_from is None:
            self._spoken_from = time.monotonic()

    def _may_speak(self, record: BenchRecord) -> bool:
        """Waits until all are connected, and then for a part of a turn, so that the calls do not speak in step."""
        if self._spoken_from is None:
            return False
        wait_s = _TURN * self.plan.sound_s * record.number / self.load.calls
        return time.monotonic() >= self._spoken_from + wait_s

    def _is_over(self, record: BenchRecord) -> bool:
        if self.load.seconds is None:
            return len(record.turns) >= self.load.turns
        spoken_s = time.monotonic() - (self._spoken_from or 0.0)
        return bool(record.turns) and spoken_s >= self.load.seconds

    async def _look_on(self) -> None:
        """Tells ``watch`` five times a second."""
        while True:
            await asyncio.sleep(0.2)
            if self._spoken_from is None:
                self._watch("connecting", len(self._connected))
            elif self.load.seconds is None:
                self._watch("speaking", sum(turn.is_answered for record in self.records for turn in record.turns))
            else:
                self._watch("speaking", min(time.monotonic() - self._spoken_from, self.load.seconds))


async def run_side_by_side(first: Bench, second: Bench) -> None:
    """Runs two benchmarks at the same time, so that both servers are measured under the same conditions.

    The calls begin in turn: one to the first server, one to the second. It raises nothing, as ``Bench.run``.
    """
    _give_threads(first.load.calls + second.load.calls)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.run(gives_threads=False))
        await asyncio.sleep(0.5 / first.load.ramp_per_s)
        tasks.create_task(second.run(gives_threads=False))


def _give_threads(calls: int) -> None:
    # An offer waits for its answer in a thread; with too few of them it would wait for the other calls' answers.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(calls + 2))
