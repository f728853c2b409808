"""How soon the embedded engine answers: ``python -m benchmarks.answer [--turns 12]``.

Starts ``bridge serve`` as a process of its own, calls it over WebRTC, speaks to it with its own voice in real time, and
takes the time from the end of the speech until the first sound of the answer is heard. Prints one JSON line for each
length of the silence that ends a turn.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
import uvloop
from tqdm import tqdm
from websockets.asyncio.client import ClientConnection, connect

from bridge.errors import BridgeError
from bridge.media.playback import Marked, Part, Started, Stopped
from bridge.peer.dial import dial
from bridge.peer.peer import Peer
from bridge.peer.runner import PeerRunner
from bridge.session.roles import Sink
from bridge.upstream.engine.voice import Voice

__all__ = ["main"]

_SAMPLES_PER_S = 24_000
_AUDIBLE = 300  # of 32,768
_PAUSE = bytes(2 * 2 * _SAMPLES_PER_S)
_LIMIT_S = 20
_SENTENCES = ("Hello there.", "Please count to five.", "What time is it?", "Repeat after me, the sky is blue.")


class _Caller:
    """Speaks, and notes when it began to and when it hears something."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.began = asyncio.Event()
        self.heard = asyncio.Event()
        self.began_s = self.heard_s = 0.0

    def leg_connected(self) -> None:
        self.connected.set()

    def receive_audio(self, pcm: bytes) -> None:
        is_audible = pcm and np.abs(np.frombuffer(pcm, "<i2")).max() > _AUDIBLE
        if is_audible and not self.heard.is_set():
            self.heard_s = asyncio.get_running_loop().time()
            self.heard.set()

    def channel_opened(self, sink: Sink) -> None: ...

    def receive_text(self, text: str) -> None: ...

    def played(self, event: Started | Stopped | Marked) -> None:
        if isinstance(event, Started):
            self.began_s = asyncio.get_running_loop().time()
            self.began.set()

    def leg_closed(self, reason: str, error: BridgeError | None) -> None: ...


@contextlib.asynccontextmanager
async def _daemon() -> AsyncIterator[tuple[str, psutil.Process]]:
    """A daemon on free ports, and its process."""
    flags = ["--port", "0", "--udp-port", "0", "--engine", "local", "--engine-seed", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "serve", *flags, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield next(word for word in line.split() if word.startswith("http")).rstrip("/"), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.terminate()  # the second one ends the grace period
        await process.wait()


@contextlib.asynccontextmanager
async def _call(url: str, runner: PeerRunner, caller: _Caller) -> AsyncIterator[tuple[Peer, ClientConnection]]:
    """A call, and a socket that sees its events."""
    location = ""

    def post(offer: str) -> bytes:
        nonlocal location
        request = urllib.request.Request(
            f"{url}/v1/realtime/calls", offer.encode(), {"Content-Type": "application/sdp"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            location = response.headers["Location"]
            return bytes(response.read())

    async def signal(offer: str) -> bytes:
        return await asyncio.to_thread(post, offer)

    async with dial(runner, caller, signal) as peer:
        await asyncio.wait_for(caller.connected.wait(), _LIMIT_S)
        address = f"ws{url.removeprefix('http')}/v1/realtime?call_id={location.rpartition('/')[2]}"
        async with connect(address, proxy=None) as socket:
            yield peer, socket


async def _until(socket: ClientConnection, event_type: str) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while json.loads(await socket.recv())["type"] != event_type:
            pass


async def _turn(caller: _Caller, peer: Peer, socket: ClientConnection, speech: bytes, *, at: int) -> float:
    """Seconds from the end of the speech to the first sound of the answer."""
    audible = np.flatnonzero(np.abs(np.frombuffer(speech, "<i2")) > _AUDIBLE)
    caller.began.clear()
    caller.heard.clear()
    peer.play(Part(f"turn_{at}", f"turn_{at}", 0, 0), speech + _PAUSE)
    peer.end(f"turn_{at}")
    async with asyncio.timeout(_LIMIT_S):
        await caller.began.wait()
        await caller.heard.wait()
    await _until(socket, "output_audio_buffer.stopped")
    return caller.heard_s - caller.began_s - float(audible[-1]) / _SAMPLES_PER_S


async def _measure(url: str, process: psutil.Process, silence_ms: int, turns: int) -> dict[str, Any]:
    voice = Voice(seed=0)
    speeches = [voice.say(sentence) for sentence in _SENTENCES]
    caller = _Caller()
    async with PeerRunner() as runner, _call(url, runner, caller) as (peer, socket):
        detection = {"type": "server_vad", "silence_duration_ms": silence_ms}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        await socket.send(json.dumps({"type": "session.update", "session": session}))
        await _until(socket, "session.updated")
        progress = tqdm(range(turns), desc=f"{silence_ms} ms of silence", unit="turn", disable=None)
        waits = [1000 * await _turn(caller, peer, socket, speeches[at % len(speeches)], at=at) for at in progress]
    return {
        "silence_ms": silence_ms,
        "turns": turns,
        "median_ms": round(statistics.median(waits)),
        "slowest_ms": round(max(waits)),
        "fastest_ms": round(min(waits)),
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
    }


async def _run(turns: int) -> None:
    async with _daemon() as (url, process):
        for silence_ms in (500, 300):
            sys.stdout.write(json.dumps(await _measure(url, process, silence_ms, turns)) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="How soon the embedded engine answers.")
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments.turns))


if __name__ == "__main__":
    main()
