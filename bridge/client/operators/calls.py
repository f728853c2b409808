"""The commands ``bridge calls`` and ``bridge hangup``: a table of calls, what is wrong with one, and how to end one."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from bridge.client.address import CallFailed
from bridge.client.operators.api import BridgeApi, CallRow
from bridge.client.operators.quality import judge
from bridge.client.screen import BOLD, DIM, RED, Painter, painter, printable
from bridge.client.where import add_where_flags, key_of, url_of

__all__ = ["CALLS", "HANG_UP", "add_calls_flags", "add_hang_up_flags", "run_calls", "run_hang_up"]

CALLS = """\
Lists running calls, or with --ended the calls that are over, most recent first. SOUND names the figures that are too
high; --why shows all figures and what they say about the cause.

The exit code is 1 if --q found nothing.
"""
HANG_UP = "Ends a call, as its caller would. The caller hears nothing more, and listeners are notified."

_EVERY_S = 2.0
_WIDEST = 36
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def add_calls_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge calls``."""
    parser.usage = "bridge calls [URL] [FLAGS]"
    add_where_flags(parser)
    add = parser.add_argument
    add("--ended", action="store_true", help="list calls that are over")
    add("--q", default="", metavar="TEXT", help="list calls with this telephone number, address, or part of an ID")
    add("--why", action="store_true", help="show each call's figures, and what they say about the cause of bad sound")
    add("--watch", action="store_true", help=f"repeat every {_EVERY_S:g} s, until Ctrl-C")
    add("--json", action="store_true", help="print the bridge's answer as JSON; with --watch, one line each time")


def add_hang_up_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge hangup``."""
    parser.usage = "bridge hangup CALL_ID [URL] [FLAGS]"
    parser.add_argument("call_id", metavar="CALL_ID", help="as `bridge calls` shows it")
    add_where_flags(parser)


def run_calls(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Shows what the flags ask for, once or until it is interrupted, and returns the exit code."""
    try:
        api = BridgeApi(url_of(arguments, environ), key_of(arguments, environ))
        while True:
            body = api.list_calls(arguments.q, ended=arguments.ended)
            calls = api.read_calls(body)
            if arguments.json:
                sys.stdout.write(body.decode().rstrip("\n") + "\n")
            else:
                _show(calls, arguments, api.address.origin)
            sys.stdout.flush()
            if not arguments.watch:
                return 1 if arguments.q and not calls else 0
            time.sleep(_EVERY_S)
    except CallFailed as failure:
        sys.stderr.write(f"bridge calls: {printable(failure.message)}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def run_hang_up(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ends the call, and returns the exit code: 1 if there is no such call."""
    try:
        BridgeApi(url_of(arguments, environ), key_of(arguments, environ)).hang_up(arguments.call_id)
    except CallFailed as failure:
        sys.stderr.write(f"bridge hangup: {printable(failure.message)}\n")
        return 1
    sys.stdout.write(f"{printable(arguments.call_id)} was hung up.\n")
    return 0


def _show(calls: Sequence[CallRow], arguments: argparse.Namespace, origin: str) -> None:
    out = sys.stdout
    paint = painter(out)
    if arguments.watch:
        out.write(_CLEAR if out.isatty() else "")
        out.write(paint(DIM, f"{time.strftime('%H:%M:%S')}  {origin}") + "\n")
    if not calls:
        out.write(_nothing(arguments) + "\n")
    elif arguments.why:
        out.write("\n\n".join("\n".join(_explained(call, paint)) for call in calls) + "\n")
    else:
        out.writelines(f"{line}\n" for line in _table(calls, paint, ended=arguments.ended))


def _nothing(arguments: argparse.Namespace) -> str:
    among = "that are over" if arguments.ended else "that run"
    if not arguments.q:
        return f"There are no calls {among}."
    other = "without --ended: those that run" if arguments.ended else "with --ended: those that are over"
    return f"Nothing is found for {printable(arguments.q)!r} among the calls {among}. Look also {other}."


def _table(calls: Sequence[CallRow], paint: Painter, *, ended: bool) -> Iterator[str]:
    """Yields the lines of a table, whose columns are as wide as their content."""
    of_end = ("ENDED", "RESULT", "REASON") if ended else ("STATE", "LISTENERS")
    head = ["CALL", "FROM", "BY", "LASTED" if ended else "LASTS", *of_end, "UPSTREAM", "SOUND"]
    rows = [_row(call, ended=ended) for call in calls]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    yield paint(BOLD, _line(head, widths))
    for row in rows:
        sound = row[-1]
        line = _line(row, widths)
        yield line if sound == _FINE else line.removesuffix(sound) + paint(RED, sound)


_FINE = "fine"


def _row(call: CallRow, *, ended: bool) -> list[str]:
    if ended:
        ago = "" if call.ended_at is None else f"{_span(time.time() - call.ended_at)} ago"
        of_end = [ago, call.result, call.reason]
    else:
        of_end = [call.state, str(len(call.listeners))]
    high = ", ".join(f"{one.figure.name} {one.shown}" for one in judge(call) if one.is_high)
    short = [call.caller, call.transport, _span(call.seconds), *of_end, call.upstream.name]
    return [printable(call.id), *(printable(text)[:_WIDEST] for text in short), high or _FINE]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _explained(call: CallRow, paint: Painter) -> Iterator[str]:
    """Yields a call's figures, with the high ones in red, and then what these mean."""
    whose = f"from {call.caller}, " if call.caller else ""
    state = f"{call.result}, {call.reason}" if call.ended_at is not None else call.state
    yield paint(BOLD, printable(f"{call.id}  {whose}by {call.transport}, {_span(call.seconds)}: {state}"))
    judged = judge(call)
    name_width = max((len(one.figure.name) for one in judged), default=0)
    value_width = max((len(one.shown) for one in judged), default=0)
    for one in judged:
        line = f"  {one.figure.name.ljust(name_width)}  {one.shown.rjust(value_width)}  {one.figure.meaning}"
        yield paint(RED, f"{line}  HIGH") if one.is_high else line
    causes = [one for one in judged if one.is_high]
    for one in causes:
        yield f"Cause ({one.figure.name}): {one.figure.cause}."
    if not causes:
        yield "No figure is too high: listen to the call (bridge listen), or compare its upstream with another one."


def _span(seconds: float) -> str:
    """Returns a length of time in its two largest units."""
    whole = round(max(0.0, seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
