"""Simultaneous telephone calls on one core: ``python -m benchmarks.telephony [--calls 100] [--seconds 20]``.

Starts ``bridge serve`` as a process of its own, on the last core, and plays so many Twilio calls to it from this one,
on the others: each caller says a sentence, hears it back, and begins again, all of them out of step. The carrier's side
buffers and plays as Twilio does and counts what came too late: a frame that was not there when it was to be played,
though more of the same answer followed. The embedded engine listens to every call and answers all of them.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import urllib.request
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop
from tqdm import tqdm

from bridge.client.carriers import silence_of
from bridge.client.phone import Dialling, Phone, dial
from bridge.media.convert import SoundEncoder
from bridge.wire.audio import G711_ULAW

__all__ = ["main", "measure"]

_SPEECH = Path(__file__).parents[1] / "tests" / "data" / "speech.wav"
_SENTENCE_S, _PAUSE_S = 2.2, 3.8  # the pause holds the turn's end and the answer
_FRAME_S = 0.02
_TOKEN, _PUBLIC = "benchmark-token", "https://bridge.example.com"
_STARTS_PER_S = 20
_SLOTS = 4


@dataclass(slots=True)
class _Caller:
    phone: Phone
    ahead: int
    """By so many frames of the others."""
    heard: int = 0
    """Frames of the answers."""


@contextlib.asynccontextmanager
async def _daemon(calls: int, core: int) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A daemon on free ports, pinned to one core, and its process."""
    settings = ("--port", "0", "--udp-port", "0", "--max-calls", str(calls), "--engine", "parrot",
                "--public-url", _PUBLIC, "--twilio-auth-token", _TOKEN, "--log-level", "error")  # fmt: skip
    command = [sys.executable, "-m", "bridge", "serve", *settings]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        watched = psutil.Process(process.pid)
        watched.cpu_affinity([core])
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield next(word for word in line.split() if word.startswith("http")), watched
    finally:
        process.terminate()
        process.terminate()  # the second one ends the grace period
        await process.wait()


def _waited_s(process: psutil.Process) -> float:
    """How long it was kept from its core by others: what is late then is not its fault (proc(5), schedstat)."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


def _late_ms(url: str) -> int:
    """For how long the bridge believes that carriers had nothing to play although it had."""
    with urllib.request.urlopen(f"{url}v1/calls", timeout=10) as response:
        return sum(call["peer"]["late_ms"] for call in json.load(response)["data"])


def _sentence() -> list[bytes]:
    """Frames of µ-law: a few words, and the pause in which they are answered."""
    with wave.open(str(_SPEECH)) as source:
        pcm = source.readframes(int(_SENTENCE_S * source.getframerate()))
    encoder = SoundEncoder(G711_ULAW)
    silence = silence_of(G711_ULAW)
    sound = encoder.push(pcm) + encoder.flush() + silence * int(_PAUSE_S / _FRAME_S)
    return [sound[at : at + len(silence)] for at in range(0, len(sound) - len(silence) + 1, len(silence))]


async def measure(calls: int, seconds: float, *, shows_progress: bool = True) -> dict[str, float]:
    """The figures, after so many seconds with all calls up."""
    sentence, silence = _sentence(), silence_of(G711_ULAW)
    callers: list[_Caller] = []
    stop = asyncio.Event()
    cores = sorted(os.sched_getaffinity(0))
    core, others = cores[-1], cores[:-1] or cores
    stall_s = 0.0

    async def talk() -> None:
        """One clock for all callers, who speak in slots as carriers' packets come: not all at the same moment."""
        nonlocal stall_s
        loop = asyncio.get_running_loop()
        began = loop.time()
        for slot in itertools.count():
            due = began + slot * _FRAME_S / _SLOTS
            if stop.is_set():
                break
            stall_s = max(stall_s, loop.time() - due)
            await asyncio.sleep(due - loop.time())
            for caller in callers[slot % _SLOTS :: _SLOTS]:
                frame = sentence[(slot // _SLOTS + caller.ahead) % len(sentence)]
                caller.heard += await caller.phone.tick(frame) != silence

    os.sched_setaffinity(0, others)
    with contextlib.suppress(PermissionError):  # first in line for the cores, and the daemon after us
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        async with (
            _daemon(calls, core) as (url, process),
            contextlib.AsyncExitStack() as up,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(talk())
            dialling = Dialling(carrier="twilio", url=url, secret=_TOKEN, public_url=_PUBLIC)
            for number in tqdm(range(calls), desc="dialling", unit="call", disable=None if shows_progress else True):
                phone = await up.enter_async_context(dial(dialling))
                callers.append(_Caller(phone, ahead=number * len(sentence) // calls))
                await asyncio.sleep(1 / _STARTS_PER_S)
            await asyncio.sleep(_SENTENCE_S)
            waited_s = _waited_s(process)
            before, heard = process.cpu_times(), sum(caller.heard for caller in callers)
            late = sum(caller.phone.carrier.late_frames for caller in callers)
            stall_s, began = 0.0, asyncio.get_running_loop().time()
            with tqdm(total=round(seconds), desc="speaking", unit="s", disable=None if shows_progress else True) as bar:
                for _ in range(round(seconds)):
                    await asyncio.sleep(1)
                    bar.update()
            elapsed = asyncio.get_running_loop().time() - began
            after = process.cpu_times()
            figures = {
                "calls": sum(not caller.phone.ended.is_set() for caller in callers),
                "seconds": round(elapsed, 1),
                "frames_heard": sum(caller.heard for caller in callers) - heard,
                "late_frames": sum(caller.phone.carrier.late_frames for caller in callers) - late,
                "late_ms_by_the_bridge": await asyncio.to_thread(_late_ms, url),
                "complaints": sum(len(caller.phone.carrier.complaints) for caller in callers),
                "carriers_stall_ms": round(1000 * stall_s),
                "callers_answered": sum(caller.heard > 0 for caller in callers),
                "cpu_percent_of_core": round(100 * (sum(after[:2]) - sum(before[:2])) / elapsed, 1),
                "kept_from_core_percent": round(100 * (_waited_s(process) - waited_s) / elapsed, 1),
                "threads": process.num_threads(),
                "rss_mb": round(process.memory_info().rss / 1e6, 1),
            }
            stop.set()
    finally:
        os.sched_setaffinity(0, cores)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return figures


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="Simultaneous telephone calls on one core.")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(arguments.calls, arguments.seconds))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
