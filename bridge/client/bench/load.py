"""Many calls from one process: set up at a pace, speaking once all are connected, each with its record."""

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
from bridge.client.bench.record import BenchRecord
from bridge.client.bench.report import Report, report
from bridge.client.call import Plan
from bridge.client.lines import new_runner

__all__ = ["Bench", "Load", "Watch"]

_TURN = 3  # times its speech, with the silence behind it and an answer that is no longer

Watch = Callable[[Literal["connecting", "speaking"], float], None]
"""Is told how many calls have connected (or failed to), then how many of all turns, or seconds, are over."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much there is to be."""

    calls: int = 5
    turns: int = 2
    seconds: float | None = None
    """How long each call is to speak and be answered, instead of ``turns``; its last turn is finished."""
    ramp_per_s: float = 10.0
    """Calls that are begun in a second."""
    patience_s: float = 60.0
    """How long an answer may take, from the end of what is spoken to its own end."""


class Bench:
    """``run`` makes the calls, once; ``report`` is there at any time, also after it was cancelled."""

    def __init__(self, plan: Plan, load: Load, watch: Watch = lambda stage, done: None) -> None:
        parse_address(plan.url, plan.model)
        self.plan = plan
        self.load = load
        self.lag = Lag()
        self.records = [BenchRecord(number) for number in range(load.calls)]
        self._watch = watch
        self._connected: set[int] = set()
        self._spoken_from: float | None = None

    async def run(self) -> None:
        """From the first call to the last hang-up; raises nothing, whatever becomes of the calls."""
        load = self.load
        # An offer waits for its answer in a thread; with too few of them it would wait for the other calls' answers.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(load.calls + 2))
        clock = new_runner() if self.plan.transport == "webrtc" else nullcontext()
        async with clock as runner, asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(self.lag.run())
            watching = tasks.create_task(self._look_on())
            async with asyncio.TaskGroup() as calls:
                began = time.monotonic()
                for record in self.records:
                    call = BenchCall(self.plan, record, patience_s=load.patience_s, runner=runner)
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

    def report(self) -> Report:
        """The figures of what has happened so far."""
        return report(self.records, self.lag)

    def _note_connected(self, record: BenchRecord) -> None:
        self._connected.add(record.number)
        if len(self._connected) == self.load.calls and self._spoken_from is None:
            self._spoken_from = time.monotonic()

    def _may_speak(self, record: BenchRecord) -> bool:
        """When all are connected; not all at once, but spread over about a turn, so that they get out of step."""
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
