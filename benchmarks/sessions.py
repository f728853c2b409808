"""How many calls one core carries, by this bridge and by others: ``python -m benchmarks.sessions``.

Every server is a process of its own and meets the same load: real WebRTC peers that speak (``benchmarks.kit.load``),
each with one WebSocket. What is compared is the CPU time of the server's process alone, per packet of a caller's. All
stand side by side and are measured by turns, one window each, so that the ratios of a round are those of one minute.

- ``mic``: a caller's sound becomes append events of 20 ms on the WebSocket of a listener. Nobody answers (the embedded
  engine with turn detection off); reordering, counters, the replay and all else are on, as they always are.
- ``both``: the WebSocket is an agent's. It gets the same events, and the sound that it answers with goes to the caller.
- ``passed``: the bridge calls a service over WebRTC, and Opus passes between caller and service both ways.

``--servers`` says which are compared (``benchmarks.sessions_servers``); ``benchmarks.sessions_pion`` says in what the
server in Go does the same work, and in what it does not.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.kit.load import Weather
from benchmarks.kit.output import COLOURS, add_output_flags, new_picture, run, save
from benchmarks.kit.priority import first_in_line
from benchmarks.kit.sampling import CPU_TICK_S, cpu_s, machine
from benchmarks.sessions_servers import SERVERS, Server, ServerMissingError, is_in, make_ready, start

__all__ = ["main", "measure", "run_points"]

_MODES = ("mic", "both", "passed")
_PACKETS_PER_S = 50
_AT_ONCE = 8  # calls that are being set up
_WARM_UP_S = 14.0  # by then receiver reports have said that nothing is lost
_SETTLE_S = 2.0  # behind a pause, in which another server was measured
_MB = 1024 * 1024

Figures = dict[str, Any]
Watch = Callable[[int], Awaitable[None]]


class _Measured:
    """One server in one mode: its calls become more, and it is measured in windows."""

    def __init__(self, server: Server, mode: str) -> None:
        self.points: list[Figures] = []
        self._server = server
        self._mode = mode
        self._name = f"{mode}, {server.name}"
        self._process = server.program.figures
        self._base = self._process.memory_info().rss
        self._windows: list[dict[str, float]] = []

    async def grow(self, calls: int, warm_up_s: float) -> None:
        """Has so many calls, which have spoken for a while."""
        load, process = self._server.load, self._process
        before_s, more = cpu_s(process), calls - len(load.peers)
        await self._set_up(more)
        set_up_s = max(cpu_s(process) - before_s, CPU_TICK_S) / more
        fresh = process.memory_info().rss
        self.points.append({
            "calls": calls,
            "set_ups_per_core_s": round(1 / set_up_s, 1),
            "mb_per_call": round((fresh - self._base) / calls / _MB, 3),
            "base_mb": round(self._base / _MB, 1),
        })  # fmt: skip
        self._windows.clear()
        await self._server.speak(True)
        await asyncio.sleep(warm_up_s)
        await self._server.speak(False)

    async def _set_up(self, calls: int) -> None:
        room = asyncio.Semaphore(_AT_ONCE)
        with tqdm(total=calls, desc=f"{self._name}, dialling", unit="call", leave=False, disable=None) as bar:

            async def one() -> None:
                async with room:
                    await self._server.open_call(self._server.load)
                bar.update()

            await asyncio.gather(*(one() for _ in range(calls)))

    async def window(self, seconds: float, watch: Watch | None) -> None:
        """All speak, and once they are at it, so many seconds count; raises ``RuntimeError`` if a caller is lost."""
        clock = self._server.load.clock
        await self._server.speak(True)
        await asyncio.sleep(_SETTLE_S)
        clock.late_s = 0.0
        watching = None if watch is None else asyncio.ensure_future(watch(self._process.pid))
        before = await self._count()
        for _ in tqdm(range(round(seconds)), desc=self._name, unit="s", leave=False, disable=None):
            await asyncio.sleep(1)
        spent_s, sent, heard, received = (b - a for a, b in zip(before, await self._count(), strict=True))
        if watching is not None:
            await watching
        await self._server.speak(False)
        self._server.load.check()
        self._windows.append({
            "us_per_packet": 1e6 * spent_s / sent,
            "heard_percent": 100 * heard / sent,
            "answered_percent": 100 * received / sent,
            "load_late_ms": 1000 * clock.late_s,
        })  # fmt: skip

    async def _count(self) -> tuple[float, int, int, int]:
        peers, heard = self._server.load.peers, await self._server.heard()
        return cpu_s(self._process), sum(peer.sent for peer in peers), heard, sum(peer.received for peer in peers)

    def costs(self) -> list[float]:
        """Microseconds per packet in each window of this number of calls."""
        return [each["us_per_packet"] for each in self._windows]

    def end_point(self) -> None:
        """Adds what the windows have told."""
        us, point = statistics.median(self.costs()), self.points[-1]
        point |= {
            "calls_per_core": round(1e6 / us / _PACKETS_PER_S, 1),
            "us_per_packet": round(us, 1),
            "us_per_packet_of_each_window": [round(cost, 1) for cost in self.costs()],
            "heard_percent": round(statistics.mean(each["heard_percent"] for each in self._windows), 1),
            "answered_percent": round(statistics.mean(each["answered_percent"] for each in self._windows), 1),
            "mb_per_call_after_speech": round(
                (self._process.memory_info().rss - self._base) / point["calls"] / _MB, 3
            ),
            "threads": self._process.num_threads(),
            "load_late_ms": round(max(each["load_late_ms"] for each in self._windows), 1),
        }  # fmt: skip

    async def require_sound(self) -> None:
        """Raises ``RuntimeError`` if what comes through is not what is said."""
        await self._server.speak(True)
        await asyncio.sleep(_SETTLE_S)
        try:
            await self._server.load.require_sound(is_answered=self._mode != "mic")
        except (RuntimeError, TimeoutError) as error:
            calls = self.points[-1]["calls"]
            reason = str(error) or "the sound did not come in time"
            raise RuntimeError(f"{self._name}: {reason}; are {calls} calls too many for this machine?") from None
        await self._server.speak(False)


async def run_points(
    mode: str, counts: Mapping[str, Sequence[int]], *, seconds: float, windows: int, weather: Weather,
    warm_up_s: float = _WARM_UP_S, watch: Watch | None = None
) -> Figures:  # fmt: skip
    """The points of each server under so many calls, then more, and the ratios of its costs to the others'.

    ``watch`` is told the server's process at the beginning of each window.
    """
    ratios: dict[tuple[str, str], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        servers = {name: _Measured(await start(name, mode, weather, stack), mode) for name in counts}
        for step in range(max(map(len, counts.values()))):
            measured = {name: server for name, server in servers.items() if step < len(counts[name])}
            for name, server in measured.items():
                await server.grow(counts[name][step], warm_up_s)
            for _ in range(windows):
                for server in measured.values():
                    await server.window(seconds, watch)
            for server in measured.values():
                server.end_point()
            for name, other in itertools.permutations(measured, 2):
                costs = zip(measured[name].costs(), measured[other].costs(), strict=True)
                ratios.setdefault((name, other), []).extend(theirs / ours for ours, theirs in costs)
        if weather.is_fair:
            for server in servers.values():
                await server.require_sound()
    figures: Figures = {name: server.points for name, server in servers.items()}
    if ratios:
        figures["times_the_calls_of"] = {name: {} for name in servers}
    for (name, other), each in ratios.items():
        figures["times_the_calls_of"][name][other] = {
            "median": round(statistics.median(each), 2), "least": round(min(each), 2), "most": round(max(each), 2)
        }  # fmt: skip
    return figures


async def measure(
    *, calls: Mapping[str, list[int]], servers: Sequence[str], baseline_calls: list[int], seconds: float, windows: int,
    weather: Weather, warm_up_s: float = _WARM_UP_S
) -> Figures:  # fmt: skip
    """All figures: of each mode each server's points, and how many times the calls of each other one it carries."""
    figures: Figures = {"machine": machine()}
    for server in servers:
        if versions := await make_ready(server):
            figures["machine"][server] = versions
    for mode in calls:
        counts = {server: calls[mode] if server != "aiortc" else baseline_calls for server in servers}
        counts = {server: numbers for server, numbers in counts.items() if numbers and is_in(server, mode)}
        figures[mode] = await run_points(
            mode, counts, seconds=seconds, windows=windows, weather=weather, warm_up_s=warm_up_s
        )
    return figures


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description="How many calls one core carries, by this bridge and by others.")
    for mode, default in (("mic", "50,150,300"), ("both", "40,80"), ("passed", "50,100,150")):
        what = f"numbers of calls at which servers are measured in the mode {mode}; empty: not at all"
        parser.add_argument(f"--{mode}", default=default, help=what)
    what = f"which are measured, by turns: {','.join(SERVERS)}, or some of them"
    parser.add_argument("--servers", default="bridge,aiortc", help=what)
    parser.add_argument("--baseline-calls", default="16,24", help="numbers of calls for aiortc, which carries fewer")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--windows", type=int, default=3, help="of each server at each number of calls")
    parser.add_argument("--warm-up-s", type=float, default=_WARM_UP_S)
    parser.add_argument("--loss-percent", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    add_output_flags(parser)
    arguments = parser.parse_args()
    servers = arguments.servers.split(",")
    if unknown := sorted(set(servers) - set(SERVERS)):
        parser.error(f"--servers: there is no {', '.join(map(repr, unknown))}")
    try:
        with first_in_line():
            figures = run(
                measure(
                    calls={mode: numbers for mode in _MODES if (numbers := _numbers(getattr(arguments, mode)))},
                    servers=servers,
                    baseline_calls=_numbers(arguments.baseline_calls),
                    seconds=arguments.seconds,
                    windows=arguments.windows,
                    warm_up_s=arguments.warm_up_s,
                    weather=Weather(arguments.loss_percent, arguments.jitter_ms, arguments.seed),
                )
            )
    except ServerMissingError as missing:
        sys.exit(f"benchmarks sessions: {missing}")
    sys.stdout.write(json.dumps(figures) + "\n")
    save(arguments, figures, _draw)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _draw(figures: Figures, path: str) -> None:
    """A bar for each server and mode, at the number of calls of which it carries the most."""
    modes = [mode for mode in _MODES if mode in figures]
    picture = new_picture(10, 3.6)
    names = {"mic": "microphone → append events", "both": "both ways", "passed": "Opus passed on"}
    for axes, mode in zip(picture.subplots(1, len(modes), squeeze=False)[0], modes, strict=True):
        there = [server for server in COLOURS if figures[mode].get(server)]
        points = [(server, max(figures[mode][server], key=lambda point: point["calls_per_core"])) for server in there]
        bars = axes.bar(
            [f"{server}\n{point['calls']} calls" for server, point in points],
            [point["calls_per_core"] for _, point in points],
            color=[COLOURS[server] for server, _ in points],
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_title(names[mode], fontsize=10)
        axes.tick_params(labelsize=7)
    picture.supylabel("calls per core", fontsize=9)
    picture.savefig(path)


if __name__ == "__main__":
    main()
