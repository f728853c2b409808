"""Simultaneous telephone calls on one core: ``python -m benchmarks.telephony [--calls 100] [--seconds 20] [--as all]``.

Starts ``bridge serve`` as a process of its own, on the last core, and plays so many calls to it from this one, on the
others: each caller says a sentence, hears it back, and begins again, all of them out of step. They are Twilio's, or
with ``--as all`` of each carrier that there is, in turn, or of those that are named. The carrier's side buffers and
plays as that carrier does and counts what came too late: a frame that was not there when it was to be played, though
more of the same answer followed. Who has no buffer (``unbuffered``) hears each delay, of this process's own clock as
well, and is counted apart. The embedded engine listens to every call and answers all of them.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tqdm import tqdm

from benchmarks.kit.carriers import CARRIERS, Lines
from benchmarks.kit.output import run
from benchmarks.kit.priority import first_in_line
from benchmarks.kit.process import serving
from benchmarks.kit.sampling import cpu_s, kept_from_core_s, rss_mb
from benchmarks.kit.sound import speech
from bridge.client.carriers.contract import silence_of
from bridge.client.phone import Phone, dial
from bridge.media.convert import SoundEncoder
from bridge.wire.audio import SESSION_HZ, AudioFormat

__all__ = ["main", "measure"]

_SENTENCE_S, _PAUSE_S = 2.2, 3.8  # the pause holds the turn's end and the answer
_FRAME_S = 0.02
_UNBUFFERED = ("infobip", "audiosocket")  # get each frame at its time
_STARTS_PER_S = 20
_SLOTS = 4


@dataclass(slots=True)
class _Caller:
    carrier: str
    phone: Phone
    ahead: int
    """By so many frames of the others."""
    sentence: Sequence[bytes]
    silence: bytes
    """Of the answer."""
    heard: int = 0
    """Frames of the answers."""


def _late_ms(url: str) -> int:
    """For how long the bridge believes that carriers had nothing to play although it had."""
    with urllib.request.urlopen(f"{url}/v1/calls", timeout=10) as response:
        return sum(call["peer"]["late_ms"] for call in json.load(response)["data"])


@cache
def _sentence(audio_format: AudioFormat) -> list[bytes]:
    """Frames of a few words, and the pause in which they are answered."""
    pcm = speech()[: int(_SENTENCE_S * SESSION_HZ) * 2]
    encoder = SoundEncoder(audio_format)
    silence = silence_of(audio_format)
    sound = encoder.push(pcm) + encoder.flush()
    sound += silence[: -len(sound) % len(silence)] + silence * int(_PAUSE_S / _FRAME_S)
    return [sound[at : at + len(silence)] for at in range(0, len(sound), len(silence))]


def _late(callers: list[_Caller]) -> Counter[str]:
    """Late frames so far, by carrier."""
    late: Counter[str] = Counter()
    for caller in callers:
        late[caller.carrier] += caller.phone.carrier.late_frames
    return late


async def measure(
    calls: int, seconds: float, *, carriers: Sequence[str] = ("twilio",), shows_progress: bool = True
) -> dict[str, object]:
    """The figures, after so many seconds with all calls up."""
    lines = Lines()
    callers: list[_Caller] = []
    stop = asyncio.Event()
    cores = sorted(os.sched_getaffinity(0))
    core, others = cores[-1], cores[:-1] or cores
    stall_s = 0.0
    flags = ("--max-calls", str(calls), "--engine", "parrot", *lines.flags)

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
                frame = caller.sentence[(slot // _SLOTS + caller.ahead) % len(caller.sentence)]
                caller.heard += await caller.phone.tick(frame) != caller.silence

    os.sched_setaffinity(0, others)
    try:
        async with (
            serving(*flags, core=core) as daemon,
            contextlib.AsyncExitStack() as up,
            asyncio.TaskGroup() as tasks,
        ):
            process = daemon.figures
            tasks.create_task(talk())
            for number in tqdm(range(calls), desc="dialling", unit="call", disable=None if shows_progress else True):
                carrier = carriers[number % len(carriers)]
                dialling = await asyncio.to_thread(lines.dialling, carrier, daemon.url)
                phone = await up.enter_async_context(dial(dialling))
                sentence, silence = _sentence(phone.carrier.audio_format), silence_of(phone.carrier.answer_format)
                ahead = number * len(sentence) // calls
                callers.append(_Caller(carrier, phone, ahead=ahead, sentence=sentence, silence=silence))
                await asyncio.sleep(1 / _STARTS_PER_S)
            await asyncio.sleep(_SENTENCE_S)
            waited_s = kept_from_core_s(process)
            before, heard = cpu_s(process), sum(caller.heard for caller in callers)
            late = _late(callers)
            stall_s, began = 0.0, asyncio.get_running_loop().time()
            with tqdm(total=round(seconds), desc="speaking", unit="s", disable=None if shows_progress else True) as bar:
                for _ in range(round(seconds)):
                    await asyncio.sleep(1)
                    bar.update()
            elapsed = asyncio.get_running_loop().time() - began
            after = cpu_s(process)
            late = _late(callers) - late
            figures: dict[str, object] = {
                "carriers": len(set(carriers)),
                "calls": sum(not caller.phone.ended.is_set() for caller in callers),
                "seconds": round(elapsed, 1),
                "frames_heard": sum(caller.heard for caller in callers) - heard,
                "late_frames": sum(count for name, count in late.items() if name not in _UNBUFFERED),
                "late_frames_unbuffered": sum(late[name] for name in _UNBUFFERED),
                "late_ms_by_the_bridge": await asyncio.to_thread(_late_ms, daemon.url),
                "complaints": sum(len(caller.phone.carrier.complaints) for caller in callers),
                "carriers_stall_ms": round(1000 * stall_s),
                "callers_answered": sum(caller.heard > 0 for caller in callers),
                "cpu_percent_of_core": round(100 * (after - before) / elapsed, 1),
                "kept_from_core_percent": round(100 * (kept_from_core_s(process) - waited_s) / elapsed, 1),
                "threads": process.num_threads(),
                "rss_mb": rss_mb(process),
            }
            stop.set()
    finally:
        os.sched_setaffinity(0, cores)
    return figures


def main() -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description="Simultaneous telephone calls on one core.")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--as",
        dest="carriers",
        default="twilio",
        metavar="NAMES",
        help=f"whose calls, with commas between them, or all: {', '.join(CARRIERS)}",
    )
    arguments = parser.parse_args()
    carriers = CARRIERS if arguments.carriers == "all" else tuple(arguments.carriers.split(","))
    if unknown := sorted(set(carriers) - set(CARRIERS)):
        parser.error(f"--as: no carrier is called {', '.join(unknown)}")
    with first_in_line():
        figures = run(measure(arguments.calls, arguments.seconds, carriers=carriers))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
