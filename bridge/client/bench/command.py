"""The command ``bridge bench``: its flags, what it shows before and after the calls, and the files that it writes.

The table goes to standard output, with ``--json -`` to standard error. Bars are shown only on a terminal.
"""

import argparse
import asyncio
import gc
import importlib.util
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from bridge import __version__
from bridge.client.address import CallFailed, parse_address
from bridge.client.bench.load import Bench, Load
from bridge.client.bench.table import table
from bridge.client.call import Plan
from bridge.client.flags import add_server_flags, check_out, read_plan
from bridge.client.screen import BOLD, Bar, painter, printable
from bridge.client.sound import PHRASE

__all__ = ["DESCRIPTION", "add_bench_flags", "run_bench"]

DESCRIPTION = """\
Makes several calls at once to a Realtime server and measures how it bears them. Each call connects, waits until all
have, speaks in real time, waits for the answer, listens to it, and does so again for each turn.

Measured are the time to connect (first request to session.created or the open data channel), from the last sound that
was spoken (and from the server's speech_stopped) to the first of the answer (a delta over WebSocket, a packet that can
be heard over WebRTC), from session.update to its reply, gaps in the answers, lost packets, and what went wrong.

The exit code is 0 only if every call came through: all of its turns were answered.
"""
_INTERRUPTED = 130  # the exit code that shells give a SIGINT
_DEFAULTS = Load()
_MOST_CALLS = 1000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge bench``."""
    parser.usage = "bridge bench [URL] [FLAGS]"
    add_server_flags(
        parser, sound_help='sound file to speak, in any format (default: "Hello, please count to five.", 1.6 s)'
    )
    add = parser.add_argument
    add("--calls", type=_calls, default=_DEFAULTS.calls, metavar="N", help=f"at once (default: {_DEFAULTS.calls})")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--turns",
        type=_turns,
        metavar="M",
        help=f"of each call: it speaks, and is answered (default: {_DEFAULTS.turns})",
    )
    length.add_argument(
        "--seconds",
        type=_positive,
        metavar="S",
        help="take turns for so long instead; a turn that has begun is finished",
    )
    add(
        "--ramp-per-s",
        type=_positive,
        default=_DEFAULTS.ramp_per_s,
        metavar="R",
        help=f"calls to set up in a second (default: {_DEFAULTS.ramp_per_s:g})",
    )
    add(
        "--patience-s",
        type=_positive,
        default=_DEFAULTS.patience_s,
        metavar="S",
        help=f"longest time from the end of the speech to that of the answer (default: {_DEFAULTS.patience_s:g})",
    )
    add("--json", metavar="FILE", help="write all figures, of each call and turn too, as JSON; - is standard output")
    add("--png", metavar="FILE", help="draw the figures; needs matplotlib")


def run_bench(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Makes the calls that the flags describe, and returns the exit code: 0 if every call was answered."""
    out = sys.stderr if arguments.json == "-" else sys.stdout
    paint = painter(out)
    try:
        bench, progress = _prepare(arguments, environ)
    except CallFailed as failure:
        return _complain(failure.message)
    out.write(f"{paint(BOLD, _announce(bench))}\n{_warn(bench)}\n")
    out.flush()
    began_at = datetime.now(UTC)
    is_interrupted = False
    gc.freeze()  # what is here now stays: looking through it again would stop all calls for a moment
    with new_runner() as runner:
        try:
            runner.run(bench.run())
        except KeyboardInterrupt:
            is_interrupted = True
        progress.close()
        report = bench.report()
        for line in table(report, paint):
            out.write(f"{line.rstrip()}\n")
        out.flush()
        code = _save(arguments, bench, began_at) or (0 if report.result == "came_through" else 1)
        if is_interrupted:
            code = _INTERRUPTED
            sys.stderr.write("bridge bench: Hung up.\n")  # said now, because an unanswered offer still takes its time
    return code


def _prepare(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Bench, "_Progress"]:
    """Prepares everything that can be wrong before the first call; raises ``CallFailed``."""
    if arguments.png and importlib.util.find_spec("matplotlib") is None:
        raise CallFailed("--png draws with matplotlib, which is not installed: pip install matplotlib")
    check_out(arguments.png)
    check_out(arguments.json)
    arguments.sound = arguments.sound or PHRASE
    load = Load(
        calls=arguments.calls,
        turns=arguments.turns or _DEFAULTS.turns,
        seconds=arguments.seconds,
        ramp_per_s=arguments.ramp_per_s,
        patience_s=arguments.patience_s,
    )
    progress = _Progress(load)
    return Bench(read_plan(arguments, environ), load, progress.show), progress


def _announce(bench: Bench) -> str:
    """Returns a sentence that says what is going to happen."""
    plan, load = bench.plan, bench.load
    calls = "1 call" if load.calls == 1 else f"{load.calls} calls"
    each = "each " if load.calls > 1 else ""
    if load.seconds is None:
        turns = "1 turn" if load.turns == 1 else f"{load.turns} turns"
        length = f"{turns} {each}({load.calls * load.turns * plan.sound_s:.0f} s of speech in all, and the answers)"
    else:
        length = f"{load.seconds:g} s {each}({load.calls * load.seconds / 60:.1f} minutes in all)"
    transport = "WebRTC" if plan.transport == "webrtc" else "WebSocket"
    return printable(f"{calls} to {_place(plan)} over {transport}, {length}.")


def _warn(bench: Bench) -> str:
    """Returns a warning of what the calls may cost; empty for a server on this machine."""
    is_here = urlsplit(_place(bench.plan)).hostname in _LOOPBACK
    return "" if is_here else "A service that charges for speech charges for this. Ctrl-C ends it.\n"


def _place(plan: Plan) -> str:
    """Returns the endpoint without its query, which may hold a key."""
    address = parse_address(plan.url, plan.model)
    return (address.calls if plan.transport == "webrtc" else address.socket).partition("?")[0]


def _save(arguments: argparse.Namespace, bench: Bench, began_at: datetime) -> int:
    """Writes the files that are asked for, and returns the exit code: 1 if that fails."""
    try:
        if arguments.json:
            text = msgspec.json.format(msgspec.json.encode(_document(bench, began_at)), indent=1).decode() + "\n"
            if arguments.json == "-":
                sys.stdout.write(text)
            else:
                Path(arguments.json).write_text(text)
        if arguments.png:
            from bridge.client.bench.picture import draw  # only a picture needs what it imports

            draw(bench.records, bench.report(), _announce(bench), arguments.png)
    except OSError as error:
        return _complain(f"{error.filename} cannot be written: {error.strerror}.")
    return 0


def _document(bench: Bench, began_at: datetime) -> dict[str, Any]:
    plan, load = bench.plan, bench.load
    return {
        "bridge": __version__,
        "began_at": began_at.isoformat(timespec="seconds"),
        "url": _place(plan),
        "transport": plan.transport,
        "speech_s": round(plan.sound_s, 2),
        "load": load,
        "report": bench.report(),
        "calls": bench.records,
    }


class _Progress:
    """A bar for each stage, which goes when the next stage begins."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stage = ""
        self._bar: Bar | None = None

    def show(self, stage: Literal["connecting", "speaking"], done: float) -> None:
        """Shows how much of the stage is over."""
        if stage != self._stage:
            self.close()
            self._stage = stage
            shape = "{l_bar}{bar}| {n:.0f} of {total:.0f} {unit} [{elapsed}]"
            total, unit = self._whole(stage)
            self._bar = Bar(total=total, desc=stage, unit=unit, bar_format=shape)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def _whole(self, stage: str) -> tuple[float, str]:
        load = self._load
        if stage == "connecting":
            return load.calls, "calls"
        return (load.calls * load.turns, "turns") if load.seconds is None else (load.seconds, "s")

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _calls(text: str) -> int:
    return _whole(text, _MOST_CALLS)


def _turns(text: str) -> int:
    return _whole(text, 1_000_000)


def _whole(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {most}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _complain(message: str) -> int:
    sys.stderr.write(f"bridge bench: {printable(message)}\n")
    return 1
