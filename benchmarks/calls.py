"""How many calls one core carries: ``python -m benchmarks.calls [--calls 20] [--seconds 10] [--engine local]``.

Starts ``bridge serve`` as a process of its own, makes so many real WebRTC calls to it from this one, each with its
caller speaking and one WebSocket listener that takes the sound as PCM16 append events, and divides the CPU time of the
daemon's process by the calls. The embedded engine listens to every call all the while (voice detection included). With
pauses in the speech, of 0 to twice ``pause-s``, it takes turns with each of them.
"""

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop
from tqdm import tqdm
from websockets.asyncio.client import connect

from bridge.errors import BridgeError
from bridge.media.playback import Part, Played
from bridge.peer.dial import dial
from bridge.peer.runner import PeerRunner
from bridge.session.roles import Sink

__all__ = ["daemon", "main", "speech"]

_SPEECH = Path(__file__).parents[1] / "tests" / "data" / "speech.wav"
_PART = Part("benchmark", "benchmark", 0, 0)


@dataclass(slots=True)
class _Caller:
    """One caller; hears, and does not listen."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    call_id: str = ""
    appended: int = 0
    gaps_s: list[float] = field(default_factory=list)
    _appended_s: float | None = None

    def append(self) -> None:
        """An append event has come."""
        now = time.monotonic()
        self.appended += 1
        if self._appended_s is not None:
            self.gaps_s.append(now - self._appended_s)
        self._appended_s = now

    def leg_connected(self) -> None:
        self.connected.set()

    def receive_audio(self, pcm: bytes) -> None: ...

    def channel_opened(self, sink: Sink) -> None: ...

    def receive_text(self, text: str) -> None: ...

    def played(self, event: Played) -> None: ...

    def leg_closed(self, reason: str, error: BridgeError | None) -> None: ...


@contextlib.asynccontextmanager
async def daemon(engine: str = "parrot") -> AsyncIterator[tuple[str, psutil.Process]]:
    """A daemon on free ports, and its process."""
    flags = ["--port", "0", "--udp-port", "0", "--max-calls", "1000", "--engine", engine]
    command = [sys.executable, "-m", "bridge", "serve", *flags]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield next(word for word in line.split() if word.startswith("http")).rstrip("/"), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.terminate()  # the second one ends the grace period
        await process.wait()


async def _call(url: str, runner: PeerRunner, caller: _Caller, pause_s: float, stop: asyncio.Event) -> None:
    """One call with its listener, from offer to hang-up."""

    def post(offer: str) -> bytes:
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(f"{url}/v1/realtime/calls", offer.encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            caller.call_id = response.headers["Location"].rpartition("/")[2]
            return bytes(response.read())

    async def signal(offer: str) -> bytes:
        return await asyncio.to_thread(post, offer)

    async with dial(runner, caller, signal) as peer:
        await asyncio.wait_for(caller.connected.wait(), 10)
        address = f"ws{url.removeprefix('http')}/v1/realtime?call_id={caller.call_id}&audio=pcm16"
        async with connect(address, proxy=None) as listener:
            for _ in range(20):
                peer.play(_PART, bytes(48 * random.randrange(int(2000 * pause_s) + 1)) + speech())
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        if b"input_audio_buffer.append" in await listener.recv(decode=False):
                            caller.append()


def speech() -> bytes:
    """A few seconds of a person speaking, PCM16 24 kHz mono."""
    with wave.open(str(_SPEECH)) as source:
        return bytes(source.readframes(source.getnframes()))


async def _measure(calls: int, seconds: int, *, engine: str, pause_s: float) -> dict[str, float]:
    stop = asyncio.Event()
    async with daemon(engine) as (url, process), PeerRunner() as runner, asyncio.TaskGroup() as group:
        callers = [_Caller() for _ in range(calls)]
        for caller in tqdm(callers, desc="dialling", unit="call", disable=None):
            group.create_task(_call(url, runner, caller, pause_s, stop))
            await asyncio.wait_for(caller.connected.wait(), 20)
        await asyncio.sleep(2)
        before, counted = process.cpu_times(), sum(caller.appended for caller in callers)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in tqdm(range(seconds), desc="speaking", unit="s", disable=None):
            await asyncio.sleep(1)
        elapsed = loop.time() - start
        after = process.cpu_times()
        appended = sum(caller.appended for caller in callers) - counted
        gaps_s = sorted(gap for caller in callers for gap in caller.gaps_s)
        figures = {
            "calls": calls,
            "seconds": round(elapsed, 1),
            "append_events_per_call_per_s": round(appended / calls / elapsed, 1),
            "append_gap_p99_ms": round(1000 * gaps_s[len(gaps_s) * 99 // 100], 1),
            "cpu_percent_of_core": round(100 * (sum(after[:2]) - sum(before[:2])) / elapsed, 1),
            "threads": process.num_threads(),
            "rss_mb": round(process.memory_info().rss / 1e6, 1),
        }
        stop.set()
    figures["calls_per_core"] = round(100 * calls / figures["cpu_percent_of_core"], 1)
    return figures


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="How many calls one core carries.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--engine", choices=("local", "parrot"), default="parrot")
    parser.add_argument("--pause-s", type=float, default=0.0)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measuring = _measure(arguments.calls, arguments.seconds, engine=arguments.engine, pause_s=arguments.pause_s)
        figures = runner.run(measuring)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
