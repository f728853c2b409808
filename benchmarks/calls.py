"""How many calls one core carries: ``python -m benchmarks.calls [--calls 20] [--seconds 10] [--engine local]``.

Starts ``bridge serve`` as a process of its own, makes so many real WebRTC calls to it from this one, each with its
caller speaking and one WebSocket listener that takes the sound as PCM16 append events, and divides the CPU time of the
daemon's process by the calls. The embedded engine listens to every call all the while (voice detection included). With
pauses in the speech, of 0 to twice ``pause-s``, it takes turns with each of them. What the process holds besides what
it held before them is divided by the calls as well; ``--seconds 60 --pause-s 5`` makes that a call's memory. One call
comes and goes before that, because what a process loads for its first call is not a call's.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time

from tqdm import tqdm
from websockets.asyncio.client import connect

from benchmarks.kit.caller import PART, Caller, call, socket_url
from benchmarks.kit.output import run
from benchmarks.kit.process import Program, serving
from benchmarks.kit.sampling import cpu_s, rss_mb
from benchmarks.kit.sound import speech
from bridge.webrtc.runner import PeerRunner

__all__ = ["main"]

_FIRST_CALL_S = 6.0  # in which it speaks, and is answered
_DAEMON = ("--port", "0", "--udp-port", "0", "--log-level", "error", "--max-calls", "1000")


class _Caller(Caller):
    """One caller; counts what its listener gets."""

    def __init__(self) -> None:
        super().__init__()
        self.appended = 0
        self.gaps_s: list[float] = []
        self._appended_s: float | None = None

    def append(self) -> None:
        """An append event has come."""
        now = time.monotonic()
        self.appended += 1
        if self._appended_s is not None:
            self.gaps_s.append(now - self._appended_s)
        self._appended_s = now


async def _call(url: str, runner: PeerRunner, caller: _Caller, pause_s: float, stop: asyncio.Event) -> None:
    """One call with its listener, from offer to hang-up."""
    async with (
        call(url, runner, caller) as peer,
        connect(socket_url(url, f"call_id={caller.call_id}&audio=pcm16"), proxy=None) as listener,
    ):
        for _ in range(20):
            peer.play(PART, bytes(48 * random.randrange(int(2000 * pause_s) + 1)) + speech())
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    if b"input_audio_buffer.append" in await listener.recv(decode=False):
                        caller.append()


async def _make_first_call(url: str, runner: PeerRunner) -> None:
    """One call that comes and goes."""
    caller, stop = _Caller(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_call(url, runner, caller, 0.5, stop))
        await asyncio.wait_for(caller.connected.wait(), 20)
        await asyncio.sleep(_FIRST_CALL_S)
        stop.set()


async def _measure(calls: int, seconds: int, *, engine: str, pause_s: float) -> dict[str, float]:
    stop = asyncio.Event()
    async with (
        serving(*_DAEMON, "--engine", engine, program="benchmarks.counted") as daemon,
        PeerRunner() as runner,
        asyncio.TaskGroup() as group,
    ):
        process = daemon.figures
        await _make_first_call(daemon.url, runner)
        held_before = await _held_mb(daemon)
        callers = [_Caller() for _ in range(calls)]
        for caller in tqdm(callers, desc="dialling", unit="call", disable=None):
            group.create_task(_call(daemon.url, runner, caller, pause_s, stop))
            await asyncio.wait_for(caller.connected.wait(), 20)
        await asyncio.sleep(2)
        before, counted = cpu_s(process), sum(caller.appended for caller in callers)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in tqdm(range(seconds), desc="speaking", unit="s", disable=None):
            await asyncio.sleep(1)
        elapsed = loop.time() - start
        after = cpu_s(process)
        appended = sum(caller.appended for caller in callers) - counted
        gaps_s = sorted(gap for caller in callers for gap in caller.gaps_s)
        figures = {
            "calls": calls,
            "seconds": round(elapsed, 1),
            "append_events_per_call_per_s": round(appended / calls / elapsed, 1),
            "append_gap_p99_ms": round(1000 * gaps_s[len(gaps_s) * 99 // 100], 1),
            "cpu_percent_of_core": round(100 * (after - before) / elapsed, 1),
            "threads": process.num_threads(),
            "rss_mb": rss_mb(process),
        }
        for name, held in (await _held_mb(daemon)).items():
            figures[f"{name}_per_call"] = round((held - held_before[name]) / calls, 3)
        stop.set()
    figures["calls_per_core"] = round(100 * calls / figures["cpu_percent_of_core"], 1)
    return figures


async def _held_mb(daemon: Program) -> dict[str, float]:
    """Resident memory of the daemon, and what its C library has given out, in millions of bytes."""
    daemon.process.send_signal(signal.SIGUSR1)
    told = json.loads(await daemon.ask())
    return {"rss_mb": rss_mb(daemon.figures), "malloc_used_mb": told.get("malloc_used", 0) / 1e6}


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="How many calls one core carries.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--engine", choices=("local", "parrot"), default="parrot")
    parser.add_argument("--pause-s", type=float, default=0.0)
    arguments = parser.parse_args()
    figures = run(_measure(arguments.calls, arguments.seconds, engine=arguments.engine, pause_s=arguments.pause_s))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
