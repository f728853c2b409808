"""``bridge serve`` that notes how late its loop is: ``python -m benchmarks.lateness [options of bridge serve]``.

A timer is due every 5 ms, and how late it comes is the loop's lag. The garbage collector's pauses are noted as well. At
each SIGUSR1 one line of JSON goes to standard output, with what was since the line before.
"""

import asyncio
import gc
import json
import signal
import sys
import time

from bridge import cli
from bridge.daemon import Daemon

__all__: list[str] = []

_START = Daemon.__aenter__
_EVERY_S = 0.005


class _Watch:
    """The lags and pauses since they were told last, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lags: list[float] = []
        self._pauses: list[float] = []
        self._paused_at = 0.0
        self._due = loop.time() + _EVERY_S
        loop.call_at(self._due, self._tick)
        gc.callbacks.append(self._collect)

    def tell(self) -> None:
        lags, pauses = sorted(self._lags) or [0.0], self._pauses  # by numpy, the first time would be a lag of its own
        told = {
            "loop_lag_p50_ms": round(1000 * lags[len(lags) // 2], 2),
            "loop_lag_p99_ms": round(1000 * lags[len(lags) * 99 // 100], 2),
            "loop_lag_most_ms": round(1000 * lags[-1], 1),
            "gc_pauses": len(pauses),
            "gc_pause_most_ms": round(1000 * max(pauses, default=0.0), 2),
            "gc_pauses_sum_ms": round(1000 * sum(pauses), 2),
        }
        self._lags.clear()
        self._pauses.clear()
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    def _tick(self) -> None:
        now = time.monotonic()  # the loop's own time stands still in a turn
        self._lags.append(now - self._due)
        self._due = max(self._due + _EVERY_S, now)
        self._loop.call_at(self._due, self._tick)

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._paused_at = time.perf_counter()
        else:
            self._pauses.append(time.perf_counter() - self._paused_at)


async def _start(daemon: Daemon) -> Daemon:
    await _START(daemon)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, _Watch(loop).tell)
    return daemon


if __name__ == "__main__":
    Daemon.__aenter__ = _start  # type: ignore[assignment, method-assign]
    cli.main(["serve", *sys.argv[1:]])
