"""The command ``bridge check``: its flags, what it shows before and after the rows, and the files that it writes."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bridge.client.address import DEFAULT_MODEL, CallFailed
from bridge.client.check import report
from bridge.client.check.rows import ROWS
from bridge.client.check.runner import Outcome, chosen, run, speech_s
from bridge.client.check.steps import Row
from bridge.client.check.target import CheckTarget
from bridge.client.flags import check_out
from bridge.client.screen import BOLD, ProgressBar, painter, printable
from bridge.client.sound import PHRASE, read_sound
from bridge.client.where import add_where_flags, key_of, url_of

__all__ = ["DESCRIPTION", "add_check_flags", "run_check"]

DESCRIPTION = """\
Checks, row by row, how much of the protocol a Realtime server implements, and shows what was sent, what was wanted and
what came. A row passes, fails, or is not supported: the server itself says that it does not implement this.

The exit code is 0 if no row failed.
"""
_INTERRUPTED = 130  # the exit code that shells give a SIGINT
_MAX_SPEECH_S = 120.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))


def add_check_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge check``."""
    parser.usage = "bridge check [URL] [FLAGS]"
    add_where_flags(parser, url_help="server or API root")
    add = parser.add_argument
    add("--model", help=f"default: {DEFAULT_MODEL}, or gpt-live-1 for the Live API")
    add("--dialect", choices=("ga", "beta", "live"), default="ga", help="dialect of the protocol (default: ga)")
    add("--transport", choices=("websocket", "webrtc"), default="websocket", help="default: websocket")
    add(
        "--header",
        action="append",
        type=_header,
        default=[],
        metavar="NAME:VALUE",
        help="header for every request, as gateways may need; repeatable",
    )
    add(
        "--only",
        action="append",
        default=[],
        metavar="GROUP",
        help=f"a group ({', '.join(_GROUPS)}) or a row; repeatable",
    )
    add(
        "--max-seconds",
        type=float,
        default=_MAX_SPEECH_S,
        metavar="S",
        help=f"maximum amount of speech to send, in seconds; rows beyond it are not run (default: {_MAX_SPEECH_S:g})",
    )
    add(
        "--jobs",
        type=int,
        choices=range(1, 17),
        default=1,
        metavar="N",
        help="number of rows to run at a time, at most 16 (default: 1)",
    )
    add("--list", action="store_true", help="list the rows without connecting")
    add("--json", metavar="FILE", help="write all results as JSON")
    add("--junit", metavar="FILE", help="write a JUnit report")
    add("--html", metavar="FILE", help="write a self-contained HTML page")


def run_check(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Runs the rows that the flags choose, and returns the exit code: 0 if none failed."""
    try:
        key = key_of(arguments, environ)
    except CallFailed as failure:
        return _complain(failure.message)
    target = CheckTarget(
        url_of(arguments, environ),
        key,
        arguments.model,
        arguments.dialect,
        arguments.transport,
        dict(arguments.header),
    )
    known = {*_GROUPS, *(row.id for row in ROWS)}
    if unknown := [name for name in arguments.only if name not in known]:
        arguments.usage_error(f"--only {unknown[0]}: there is no such group or row; --list shows them")
    rows = chosen(target, arguments.only)
    paint = painter(sys.stdout)
    if arguments.list:
        for row in rows:
            sys.stdout.write(f"{row.id:<32} {row.says}\n")
        return 0
    if not rows:
        arguments.usage_error(f"no such row applies to {target.dialect} over {target.transport}")
    outcomes: list[Outcome] = []
    try:
        for file in (arguments.json, arguments.junit, arguments.html):
            check_out(file)
        sys.stdout.write(f"{paint(BOLD, _announce(target, rows))}\n\n")
        phrase = read_sound(PHRASE)
        with ProgressBar(total=len(rows), desc="rows", unit="row") as bar, new_runner() as runner:

            def told(outcome: Outcome) -> None:
                outcomes.append(outcome)
                bar.update(1)
                for text in report.line(outcome, paint):
                    bar.write(text, file=sys.stdout)
                sys.stdout.flush()

            runner.run(run(target, rows, phrase, max_speech_s=arguments.max_seconds, jobs=arguments.jobs, told=told))
    except CallFailed as failure:
        return _complain(failure.message)
    except KeyboardInterrupt:
        _write(arguments, target, outcomes)
        return _INTERRUPTED
    sys.stdout.write(f"\n{paint(BOLD, report.summary(outcomes))}\n")
    return _write(arguments, target, outcomes) or int(any(outcome.verdict == "fail" for outcome in outcomes))


def _announce(target: CheckTarget, rows: Sequence[Row]) -> str:
    place = target.address.socket.partition("?")[0]
    transport = "WebRTC" if target.transport == "webrtc" else "WebSocket"
    words = f"{len(rows)} rows against {place}, {target.dialect} over {transport}, {speech_s(rows):.0f} s of speech."
    is_here = urlsplit(place).hostname in _LOOPBACK
    return printable(
        words if is_here else f"{words} A service that charges for sessions or speech will charge for this."
    )


def _write(arguments: argparse.Namespace, target: CheckTarget, outcomes: Sequence[Outcome]) -> int:
    """Writes the files that are asked for, and returns the exit code: 1 if one cannot be written."""
    writers = {"json": report.as_json, "junit": report.as_junit, "html": report.as_html}
    try:
        for name, write in writers.items():
            if path := getattr(arguments, name):
                Path(path).write_text(write(target, outcomes))
    except OSError as error:
        return _complain(f"{error.filename} cannot be written: {error.strerror}.")
    return 0


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator or not name.strip() or not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError("a header is NAME:VALUE")
    return name.strip(), value.strip()


def _complain(message: str) -> int:
    sys.stderr.write(f"bridge check: {printable(message)}\n")
    return 1
