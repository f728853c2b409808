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
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import uvloop
from tqdm import tqdm
from websockets.asyncio.client import connect

from benchmarks.calls import daemon, speech
from benchmarks.fanout import Helper, helper
from benchmarks.fanout_listeners import open_times
from bridge.errors import BridgeError
from bridge.media.playback import Marked, Part, Started, Stopped
from bridge.peer.dial import dial
from bridge.peer.runner import PeerRunner
from bridge.session.roles import Sink

__all__ = ["main", "measure"]

KINDS = {
    "pcm16": "audio=pcm16&tracks=input",
    "pcm16_binary": "audio=pcm16&framing=binary&tracks=input",
    "opus": "audio=opus&tracks=input",
    "opus_binary": "audio=opus&framing=binary&tracks=input",
    "mp3_binary": "audio=mp3&framing=binary&tracks=input",
}
_NO_TURNS = {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}}
_PART = Part("benchmark", "benchmark", 0, 0)
_SETTLE_S = 1.0
_LINGER_S = 11.0  # sound is made on for so long for who may come back, and would count for the next kind


class _Caller:
    """Who speaks all the time."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.call_id = ""

    def post(self, url: str, offer: str) -> bytes:
        """The answer to an offer."""
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(f"{url}/v1/realtime/calls", offer.encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            self.call_id = response.headers["Location"].rpartition("/")[2]
            return bytes(response.read())

    def leg_connected(self) -> None: ...

    def receive_audio(self, pcm: bytes) -> None: ...

    def channel_opened(self, sink: Sink) -> None:
        self.connected.set()

    def receive_text(self, text: str) -> None: ...

    def played(self, event: Started | Stopped | Marked) -> None: ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None: ...


async def measure(
    *, listeners: int, callers: int, seconds: float, rounds: int, linger_s: float = _LINGER_S
) -> dict[str, Any]:
    """All figures."""
    needed_s = rounds * 2 * len(KINDS) * (2 * seconds + 6 * _SETTLE_S + linger_s) + 60
    with tempfile.TemporaryDirectory() as folder:
        memory = f"{folder}/times"
        open_times(memory, is_new=True)
        async with contextlib.AsyncExitStack() as stack:
            service, _ = await stack.enter_async_context(daemon())
            url, process = await stack.enter_async_context(_bridge(service))
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
    caller = _Caller()

    async def signal(offer: str) -> bytes:
        return await asyncio.to_thread(caller.post, url, offer)

    async with dial(runner, caller, signal, queue_limit_s=int(seconds) + 60) as peer:
        await asyncio.wait_for(caller.connected.wait(), 10)
        socket_url = f"ws{url.removeprefix('http')}/v1/realtime?call_id={caller.call_id}"
        async with connect(socket_url, proxy=None) as controller:
            await controller.send(json.dumps(_NO_TURNS))
        spoken = speech()
        for _ in range(int(seconds * 48_000 / len(spoken)) + 1):
            peer.play(_PART, spoken)
        yield socket_url


@contextlib.asynccontextmanager
async def _bridge(service: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """The bridge that is measured, whose upstream is ``service``, over WebRTC."""
    flags = ("--port", "0", "--udp-port", "0", "--upstream", f"{service}/v1/realtime/calls", "--log-level", "error")
    async with helper("bridge", "serve", *flags) as bridge:
        yield next(word for word in (await bridge.ask()).split() if word.startswith("http")).rstrip("/"), bridge.figures


async def _rounds(
    process: psutil.Process, where: str, count: int, memory: str, seconds: float, rounds: int, linger_s: float
) -> dict[str, Any]:
    us: dict[str, list[float]] = {name: [] for name in KINDS}
    sizes: dict[str, int] = {}
    gaps = 0
    for name in tqdm(list(KINDS) * rounds, desc="kinds", leave=False, disable=None):
        without_s, _ = await _window(process, None, seconds)
        async with helper("benchmarks.fanout_listeners", where, str(count), "0", memory, KINDS[name]) as crowd:
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


async def _window(process: psutil.Process, crowd: Helper | None, seconds: float) -> tuple[float, dict[str, Any]]:
    """The process's CPU time in so many seconds, and what the listeners got meanwhile."""
    await asyncio.sleep(_SETTLE_S)
    if crowd is not None:
        await crowd.ask("measure")
    before_s = _cpu_s(process)
    await asyncio.sleep(seconds)
    report = {} if crowd is None else await crowd.report()
    return _cpu_s(process) - before_s, report


def _cpu_s(process: psutil.Process) -> float:
    """Of all its threads; to the nanosecond where Linux tells it, else to the tick."""
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if not threads:
        return float(sum(process.cpu_times()[:2]))
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="What a listener of Opus or MP3 costs against one of PCM16.")
    parser.add_argument("--listeners", type=int, default=100)
    parser.add_argument("--callers", type=int, default=10, help="of whom each has one, where it is alone")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--linger-s", type=float, default=_LINGER_S, help="between two kinds")
    parser.add_argument("--json", help="path of a file for the figures")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(
            measure(
                listeners=arguments.listeners,
                callers=arguments.callers,
                seconds=arguments.seconds,
                rounds=arguments.rounds,
                linger_s=arguments.linger_s,
            )
        )
    sys.stdout.write(json.dumps(figures) + "\n")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
