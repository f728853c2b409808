"""What a listener of Opus or MP3 costs against one of PCM16: ``python -m benchmarks compressed [--listeners 100]``.

Callers over WebRTC, passed on to another bridge, and WebSocket listeners of one kind at a time: so many to one call,
and one to each call. The CPU time of the bridge's process beyond what it took just before, without them, for each
delivered event. Everybody has a process of their own, and listeners see that nothing is missing. Prints JSON.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import psutil
from tqdm import tqdm
from websockets.asyncio.client import connect

from benchmarks.fanout_listeners import open_times
from benchmarks.kit.caller import NO_TURNS, PART, Caller, call, socket_url
from benchmarks.kit.output import add_output_flags, run, save
from benchmarks.kit.process import Program, running, serving
from benchmarks.kit.sampling import fine_cpu_s
from benchmarks.kit.sound import speech
from bridge.webrtc.runner import PeerRunner

__all__ = ["main", "measure"]

KINDS = {
    "pcm16": "audio=pcm16&tracks=input",
    "pcm16_binary": "audio=pcm16&framing=binary&tracks=input",
    "opus": "audio=opus&tracks=input",
    "opus_binary": "audio=opus&framing=binary&tracks=input",
    "mp3_binary": "audio=mp3&framing=binary&tracks=input",
}
_SETTLE_S = 1.0
_LINGER_S = 11.0  # sound is made on for so long for who may come back, and would count for the next kind


async def measure(
    *, listeners: int, callers: int, seconds: float, rounds: int, linger_s: float = _LINGER_S
) -> dict[str, Any]:
    """All figures."""
    needed_s = rounds * 2 * len(KINDS) * (2 * seconds + 6 * _SETTLE_S + linger_s) + 60
    with tempfile.TemporaryDirectory() as folder:
        memory = f"{folder}/times"
        open_times(memory, is_new=True)
        async with contextlib.AsyncExitStack() as stack:
            service = await stack.enter_async_context(serving("--engine", "parrot"))
            upstream = ("--upstream", f"{service.url}/v1/realtime/calls")  # over WebRTC
            bridge = await stack.enter_async_context(serving(*upstream))
            url, process = bridge.url, bridge.figures
            runner = await stack.enter_async_context(PeerRunner())
            urls = [await stack.enter_async_context(_call(url, runner, needed_s))]
            figures: dict[str, Any] = {"listeners": listeners, "calls": callers}
            figures["each"] = await _rounds(process, urls[0], listeners, memory, seconds, rounds, linger_s)
            urls += [await stack.enter_async_context(_call(url, runner, needed_s)) for _ in range(callers - 1)]
            figures["alone"] = await _rounds(process, ",".join(urls), callers, memory, seconds, rounds, linger_s)
            return figures


@contextlib.asynccontextmanager
async def _call(url: str, runner: PeerRunner, seconds: float) -> AsyncIterator[str]:
    """A call in which somebody speaks for so long; the address at which to listen to it."""
    caller = Caller()
    async with call(url, runner, caller, queue_limit_s=int(seconds) + 60) as peer:
        address = socket_url(url, f"call_id={caller.call_id}")
        async with connect(address, proxy=None) as controller:
            await controller.send(json.dumps({"type": "session.update", "session": NO_TURNS}))
        spoken = speech()
        for _ in range(int(seconds * 48_000 / len(spoken)) + 1):
            peer.play(PART, spoken)
        yield address


async def _rounds(
    process: psutil.Process, where: str, count: int, memory: str, seconds: float, rounds: int, linger_s: float
) -> dict[str, Any]:
    us: dict[str, list[float]] = {name: [] for name in KINDS}
    sizes: dict[str, int] = {}
    gaps = 0
    for name in tqdm(list(KINDS) * rounds, desc="kinds", leave=False, disable=None):
        without_s, _ = await _window(process, None, seconds)
        async with running("benchmarks.fanout_listeners", where, str(count), "0", memory, KINDS[name]) as crowd:
            await crowd.ask()
            spent_s, report = await _window(process, crowd, seconds)
        us[name].append(1e6 * (spent_s - without_s) / max(1, report["messages"]))
        sizes[name] = round(report["bytes"] / max(1, report["messages"]))
        gaps += report["gaps"]
        await asyncio.sleep(linger_s)
    medians = {name: statistics.median(values) for name, values in us.items()}
    return {
        "gaps": gaps,
        "bytes_per_event": sizes,
        "us_per_event": {name: round(value, 2) for name, value in medians.items()},
        "ratio": round(medians["opus"] / medians["pcm16"], 3),
        "ratio_binary": round(medians["opus_binary"] / medians["pcm16_binary"], 3),
    }


async def _window(process: psutil.Process, crowd: Program | None, seconds: float) -> tuple[float, dict[str, Any]]:
    """The process's CPU time in so many seconds, and what the listeners got meanwhile."""
    await asyncio.sleep(_SETTLE_S)
    if crowd is not None:
        await crowd.ask("measure")
    before_s = fine_cpu_s(process)
    await asyncio.sleep(seconds)
    report = {} if crowd is None else await crowd.report()
    return fine_cpu_s(process) - before_s, report


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="What a listener of Opus or MP3 costs against one of PCM16.")
    parser.add_argument("--listeners", type=int, default=100)
    parser.add_argument("--callers", type=int, default=10, help="of whom each has one, where it is alone")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--linger-s", type=float, default=_LINGER_S, help="between two kinds")
    add_output_flags(parser, can_draw=False)
    arguments = parser.parse_args()
    figures = run(
        measure(
            listeners=arguments.listeners,
            callers=arguments.callers,
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            linger_s=arguments.linger_s,
        )
    )
    sys.stdout.write(json.dumps(figures) + "\n")
    save(arguments, figures)


if __name__ == "__main__":
    main()
