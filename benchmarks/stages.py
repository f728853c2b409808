"""Where the microseconds go: ``python -m benchmarks.stages [--mode mic|both|passed] [--calls 60]``.

The load of ``benchmarks.sessions`` on a daemon, and py-spy looking at its stack 500 times a second. It halts the daemon
to look: without that it misses most of what happens inside libraries. Every sample counts for the innermost room that
it is in; the daemon's CPU time per packet, shared out by samples, is the table. A system call counts for who makes it:
the event loop receives, sinks and sockets send.
"""

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.kit.load import Weather
from benchmarks.kit.output import run
from benchmarks.sessions import run_points

__all__ = ["main"]

_PY_SPY = str(Path(sys.executable).with_name("py-spy"))
_RATE_HZ = 500
_STAGES = (
    ("write to the WebSocket", r"SocketSink\.(send_message|write_frame|write_messages) "),
    ("send a datagram", r"(MediaSocket|TcpLine)\.sendto |(IceLite|IceFull)\.send_datagram "),
    ("Opus: decode", r"OpusDecoder\."),
    ("Opus: encode", r"OpusEncoder\."),
    ("SRTP", r"pylibsrtp/|bridge/webrtc/srtp"),
    ("reorder, time, count", r"bridge/media/(inbound|rtp|passing|red)\.py"),
    ("queue, ledger, packet", r"bridge/media/(outbound|playback|extensions|history)\.py"),
    ("RTCP", r"bridge/media/(reports|rtcp)\.py"),
    ("event text, fan-out, replay", r"bridge/(session|wire|media/convert)"),
    ("upstream", r"bridge/upstream/"),
    ("who a datagram is from; the clock; bursts", r"bridge/(webrtc/|burst)|aioice/"),
    ("WebSocket: parse what comes", r"uvicorn/|websockets/|bridge/api/"),
)
_REST = "event loop: wait, receive datagrams"


def stages_of(samples: str) -> Counter[str]:
    """py-spy's raw samples, one stack and its count a line, by stage."""
    counted: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        for frame in reversed(stack.split(";")):
            stage = next((name for name, pattern in _STAGES if re.search(pattern, f"{frame} ")), None)
            if stage is not None:
                counted[stage] += int(count)
                break
        else:
            counted[_REST] += int(count)
    return counted


def table(samples: Counter[str], us_per_packet: float) -> str:
    """Markdown, the dearest first."""
    total = samples.total()
    rows = [f"| {stage} | {us_per_packet * count / total:.1f} |" for stage, count in samples.most_common()]
    return "\n".join(["| stage | µs per packet |", "|---|---|", *rows, f"| together | {us_per_packet:.1f} |"])


async def _measure(mode: str, calls: int, seconds: float) -> tuple[dict[str, Any], str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples"

        async def watch(pid: int) -> None:
            command = [_PY_SPY, "record", "--rate", str(_RATE_HZ), "--duration", str(round(seconds)),
                       "--format", "raw", "--output", str(file), "--pid", str(pid)]  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            with contextlib.suppress(asyncio.CancelledError):
                await process.wait()

        counts = {"bridge": [calls]}
        figures = await run_points(mode, counts, seconds=seconds, windows=1, weather=Weather(), watch=watch)
        return figures["bridge"][0], file.read_text()


def main() -> None:
    """Prints the table, or the figures as JSON."""
    parser = argparse.ArgumentParser(description="Where the microseconds of a packet go.")
    parser.add_argument("--mode", choices=("mic", "both", "passed"), default="mic")
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true", help="figures instead of the table")
    arguments = parser.parse_args()
    point, samples = run(_measure(arguments.mode, arguments.calls, arguments.seconds))
    counted = stages_of(samples)
    if arguments.json:
        sys.stdout.write(json.dumps({**point, "samples": counted}) + "\n")
    else:
        sys.stdout.write(table(counted, point["us_per_packet"]) + "\n")


if __name__ == "__main__":
    main()
