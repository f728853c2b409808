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
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.kit.caller import Caller, call, socket_url
from benchmarks.kit.output import run
from benchmarks.kit.process import serving
from benchmarks.kit.sampling import rss_mb
from bridge.engine.voice import Voice
from bridge.media.playback import Part, Played, Started
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner

__all__ = ["main"]

_SAMPLES_PER_S = 24_000
_AUDIBLE = 300  # of 32,768
_PAUSE = bytes(2 * 2 * _SAMPLES_PER_S)
_LIMIT_S = 20
_SENTENCES = ("Hello there.", "Please count to five.", "What time is it?", "Repeat after me, the sky is blue.")


class _Caller(Caller):
    """Speaks, and notes when it began to and when it hears something."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()
        self.heard = asyncio.Event()
        self.began_s = self.heard_s = 0.0

    def receive_leg_audio(self, sound: bytes) -> None:
        is_audible = sound and np.abs(np.frombuffer(sound, "<i2")).max() > _AUDIBLE
        if is_audible and not self.heard.is_set():
            self.heard_s = asyncio.get_running_loop().time()
            self.heard.set()

    def played(self, event: Played) -> None:
        if isinstance(event, Started):
            self.began_s = asyncio.get_running_loop().time()
            self.began.set()


@contextlib.asynccontextmanager
async def _call(url: str, runner: PeerRunner, caller: _Caller) -> AsyncIterator[tuple[Peer, ClientConnection]]:
    """A call, and a socket that sees its events."""
    async with (
        call(url, runner, caller) as peer,
        connect(socket_url(url, f"call_id={caller.call_id}"), proxy=None) as socket,
    ):
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
        "rss_mb": rss_mb(process),
    }


async def _run(turns: int) -> None:
    async with serving("--engine", "local", "--engine-seed", "0") as daemon:
        for silence_ms in (500, 300):
            sys.stdout.write(json.dumps(await _measure(daemon.url, daemon.figures, silence_ms, turns)) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="How soon the embedded engine answers.")
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    run(_run(arguments.turns))


if __name__ == "__main__":
    main()
