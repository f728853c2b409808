"""Does anything grow in an hour of calls: ``python -m benchmarks soak [--calls 20] [--minutes 60]``, or ``make soak``.

A daemon in a process of its own carries so many calls at once, over WebRTC, WebSocket and from a simulated Twilio, that
end and begin anew all the while, with listeners that come and go beside each (see ``benchmarks.soak_calls``). Every ten
seconds it is noted what the daemon holds: resident memory, threads and file descriptors by the kernel, asyncio tasks by
the daemon itself (``benchmarks.counted``). The time in which everything fills for the first time does not count. Behind
it a straight line is laid through each figure; its rise from the first to the last sample must be less than twice the
scatter of the samples about it, or less than a small number. The exit code is 1 if one rises, if less than nine tenths
of the calls were up, if something is left when all have gone, or if the daemon does not end with 0.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.kit.output import run
from benchmarks.kit.process import Program, serving
from benchmarks.kit.sampling import cpu_s
from benchmarks.soak_calls import PUBLIC_URL, TWILIO_TOKEN, Callers

__all__ = ["main", "measure", "trend"]

_EVERY_S = 10.0
_FILL_S = 1800.0  # resident memory keeps its highest mark, and reaches a new one ever more rarely
_FILL_SHARE = 1 / 2  # of a run that is too short for that
_SETTLE_S = 60.0
_ENDED_CALLS = 50
"""So many ended calls are listed; the default of 1000 would fill the whole hour long, and look like a leak."""
_MB = 1024 * 1024
_SMALL = {"rss_mb": 4.0, "malloc_used_mb": 4.0, "threads": 1.0, "descriptors": 3.0, "tasks": 3.0}
"""What may rise by so much in any case: less than one call holds."""
_LEFT = {"threads": min(32, (os.cpu_count() or 1) + 4), "descriptors": 2, "tasks": 2}
"""More than before the first call when all have gone; the threads of asyncio's own pool stay."""

Sample = dict[str, float]
Figures = dict[str, Any]


class _Watched:
    """The daemon's process."""

    def __init__(self, program: Program) -> None:
        self.url = f"{program.url}/"
        self._program = program
        self._process = program.process

    async def sample(self) -> Sample:
        """What it holds now."""
        self._process.send_signal(signal.SIGUSR1)
        told = json.loads(await self._program.ask())
        kernel = self._program.figures
        return {
            "rss_mb": round(kernel.memory_info().rss / _MB, 2),
            "threads": kernel.num_threads(),
            "descriptors": kernel.num_fds(),
            "tasks": told["tasks"],
            "calls": told["calls"],
            "peers": told["peers"],
            "malloc_used_mb": round(told.get("malloc_used", 0) / _MB, 2),
            "cpu_s": round(cpu_s(kernel), 2),
        }

    async def stop(self) -> int | None:
        """SIGTERM; its exit code, or None if it has to be killed."""
        self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                return await self._process.wait()
        self._process.kill()
        await self._process.wait()
        return None


@contextlib.asynccontextmanager
async def _daemon(max_calls: int) -> AsyncIterator[_Watched]:
    flags = ("--port", "0", "--udp-port", "0", "--engine", "parrot", "--max-calls", str(max_calls), "--drain-s", "0",
             "--public-url", PUBLIC_URL, "--twilio-auth-token", TWILIO_TOKEN, "--log-level", "error",
             "--max-loop-lag-ms", "0", "--ended-calls", str(_ENDED_CALLS))  # fmt: skip
    async with serving(*flags, program="benchmarks.counted") as program:
        yield _Watched(program)


def trend(at_s: list[float], values: list[float], small: float) -> Figures:
    """The line through ``values``: its rise in all, the scatter about it, and whether that is a trend.

    ``small`` is a rise that is none in any case.
    """
    times, heights = np.asarray(at_s), np.asarray(values)
    slope, base = np.polyfit(times, heights, 1)
    rise = float(slope * (times[-1] - times[0]))
    scatter = float(np.std(heights - (slope * times + base)))
    return {
        "from": round(float(base + slope * times[0]), 2),
        "to": round(float(base + slope * times[-1]), 2),
        "rise": round(rise, 2),
        "scatter": round(scatter, 2),
        "least": round(float(heights.min()), 2),
        "most": round(float(heights.max()), 2),
        "is_flat": rise <= max(small, 2 * scatter),
    }


async def measure(calls: int, minutes: float, *, every_s: float = _EVERY_S, seed: int = 1) -> Figures:
    """The figures of a run; ``faults`` is empty if nothing grew."""
    loop = asyncio.get_running_loop()
    seconds = minutes * 60
    fill_s = min(_FILL_S, seconds * _FILL_SHARE)
    samples: list[Sample] = []
    async with _daemon(calls * 2) as watched:
        before = await watched.sample()
        callers = Callers(watched.url, seed=seed)
        calling = asyncio.ensure_future(callers.run(calls))
        began = loop.time()
        with tqdm(total=round(seconds), desc=f"{calls} calls", unit="s", disable=None) as bar:
            while (passed := loop.time() - began) < seconds:
                await asyncio.wait((calling,), timeout=min(every_s, seconds - passed))
                if calling.done():
                    await calling
                sample = await watched.sample()
                sample["at_s"] = round(loop.time() - began, 1)
                samples.append(sample)
                bar.update(round(loop.time() - began) - bar.n)
                bar.set_postfix({name: sample[name] for name in ("rss_mb", "calls", "tasks", "descriptors")})
        callers.stop()
        await calling
        after = await _settled(watched, before)
        code = await watched.stop()
    counted = [sample for sample in samples if sample["at_s"] >= fill_s]
    at_s = [sample["at_s"] for sample in counted]
    trends = {name: trend(at_s, [sample[name] for sample in counted], small) for name, small in _SMALL.items()}
    up = float(np.mean([sample["calls"] for sample in counted]))
    faults = [f"{name} rises by {line['rise']}" for name, line in trends.items() if not line["is_flat"]]
    faults += [
        f"{after[name]:g} {name}, {before[name]:g} before" for name in _LEFT if after[name] > before[name] + _LEFT[name]
    ]
    faults += [f"{after['calls']:g} calls are left"] if after["calls"] else []
    faults += [f"only {up:.1f} calls were up"] if up < 0.9 * calls else []
    faults += [f"exit code {code}"] if code != 0 else []
    spent_s = samples[-1]["cpu_s"] - samples[0]["cpu_s"]
    return {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "libc": "-".join(platform.libc_ver()),
        },
        "calls": calls,
        "minutes": round(samples[-1]["at_s"] / 60, 1),
        "counted_from_minute": round(fill_s / 60, 1),
        "calls_up": round(up, 1),
        "cpu_percent_of_core": round(100 * spent_s / (samples[-1]["at_s"] - samples[0]["at_s"]), 1),
        "trends": trends,
        "before": before,
        "after": after,
        "exit_code": code,
        "happened": dict(sorted(callers.counts.items())),
        "faults": faults,
        "samples": samples,
    }


async def _settled(watched: _Watched, before: Sample) -> Sample:
    """What is held when all calls have gone, those too that may come back; or after a while."""
    for _ in range(round(_SETTLE_S)):
        sample = await watched.sample()
        if not sample["calls"] and all(sample[name] <= before[name] + more for name, more in _LEFT.items()):
            break
        await asyncio.sleep(1)
    return sample


def _table(figures: Figures) -> str:
    lines = ["| | from | to | rise | scatter | least | most |", "|---|---|---|---|---|---|---|"]
    for name, line in figures["trends"].items():
        cells = (line[column] for column in ("from", "to", "rise", "scatter", "least", "most"))
        lines.append(f"| {name} | " + " | ".join(f"{cell:g}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, writes the figures and prints a table; exits with 1 if something grew."""
    parser = argparse.ArgumentParser(description="Does anything grow in an hour of calls.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=_EVERY_S)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes the figures there")
    arguments = parser.parse_args()
    figures = run(measure(arguments.calls, arguments.minutes, every_s=arguments.every_s, seed=arguments.seed))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(_table(figures) + "\n" + json.dumps({k: v for k, v in figures.items() if k != "samples"}) + "\n")
    sys.exit("soak: " + "; ".join(figures["faults"]) if figures["faults"] else 0)


if __name__ == "__main__":
    main()
