"""The command ``bridge replay``: its flags, and what it shows."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from bridge.client.address import DEFAULT_MODEL, DEFAULT_URL, CallFailed, parse_address
from bridge.client.call import Plan
from bridge.client.flags import check_out
from bridge.client.replay.call import ReplayedCall
from bridge.client.replay.compare import Difference, differences
from bridge.client.replay.recording import Recorded, TimedEvent, read_recording
from bridge.client.screen import BOLD, DIM, RED, painter, printable
from bridge.client.sound import BYTES_PER_MS
from bridge.client.where import KEY_VARIABLES, URL_VARIABLE, key_of, url_of

__all__ = ["DESCRIPTION", "add_replay_flags", "run_replay"]

DESCRIPTION = """\
Repeats a recorded call: sends the caller's sound and the client's events in real time, and shows what differs in the
words, in the order of the events, and in how soon the answers came.

The exit code is 0 if nothing differs, and 1 if something does or if the call failed.
"""
_INTERRUPTED = 130  # the exit code that shells give a SIGINT
_TOLERANCE_MS = 1000.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MOST_SHOWN = 300


def add_replay_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge replay``."""
    parser.usage = "bridge replay RECORDING.jsonl [URL] [FLAGS]"
    add = parser.add_argument
    add("recording", metavar="RECORDING.jsonl", help="the events of a recording, with its sound beside the file")
    add("url", nargs="?", metavar="URL", help=f"server or API root (default: ${URL_VARIABLE}, or {DEFAULT_URL})")
    add("--api-key", metavar="KEY", help=f"default: {' or '.join(f'${name}' for name in KEY_VARIABLES)}")
    add("--transport", choices=("websocket", "webrtc"), default="websocket", help="default: websocket")
    add("--model", help=f"default: the recording's model, or {DEFAULT_MODEL}")
    add(
        "--tolerance-ms",
        type=float,
        default=_TOLERANCE_MS,
        metavar="MS",
        help=f"how much later than in the recording an answer may come (default: {_TOLERANCE_MS:g})",
    )
    add(
        "--min-similarity",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="share of the words that must be the same, from 0 to 1 (default: 1)",
    )
    add("--out", metavar="FILE", help="write what came this time, in the format of a recording's events")
    add("--json", metavar="FILE", help="write the differences as JSON")
    parser.set_defaults(usage_error=parser.error)


def run_replay(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Makes the call again, and returns the exit code: 0 if nothing is different."""
    paint = painter(sys.stdout)
    try:
        for file in (arguments.out, arguments.json):
            check_out(file)
        recorded = read_recording(arguments.recording)
        plan = Plan(
            url=url_of(arguments, environ),
            transport=arguments.transport,
            model=arguments.model,
            api_key=key_of(arguments, environ),
        )
        replay = ReplayedCall(recorded, plan)
        sys.stdout.write(f"{paint(BOLD, _announce(recorded, plan))}\n")
        sys.stdout.flush()
        with new_runner() as runner:
            events = runner.run(replay.run())
    except CallFailed as failure:
        return _complain(failure.message)
    except KeyboardInterrupt:
        sys.stderr.write("bridge replay: Hung up.\n")
        return _INTERRUPTED
    found = differences(
        recorded.events, events, tolerance_ms=arguments.tolerance_ms, min_similarity=arguments.min_similarity
    )
    for difference in found:
        sys.stdout.write(f"{paint(RED, difference.about):<8} {printable(difference.words)}\n")
        for name, text in (("before", difference.before), ("now", difference.now)):
            sys.stdout.write(f"    {paint(DIM, name):<7} {printable(text)[:_MOST_SHOWN] or '–'}\n")
    answers = sum(each.kind == "response.done" for each in events)
    words = f"{len(found)} differences" if found else "Nothing differs"
    sys.stdout.write(f"{paint(BOLD, f'{words}; {answers} answers, {len(events)} events.')}\n")
    return _save(arguments, events, found) or int(bool(found))


def _announce(recorded: Recorded, plan: Plan) -> str:
    place = parse_address(plan.url, plan.model).socket.partition("?")[0]
    sound_s = len(recorded.pcm) / BYTES_PER_MS / 1000
    words = f"{sound_s:.0f} s of a recorded call to {place} over {plan.transport}, {len(recorded.acts)} client events."
    is_here = urlsplit(place).hostname in _LOOPBACK
    return printable(words if is_here else f"{words} A service that charges for speech will charge for this.")


def _save(arguments: argparse.Namespace, events: Sequence[TimedEvent], found: Sequence[Difference]) -> int:
    try:
        if arguments.out:
            lines = (json.dumps({"at_ms": each.at_ms, "event": _silent(each)}) for each in events)
            Path(arguments.out).write_text("".join(f"{line}\n" for line in lines))
        if arguments.json:
            document = {"differences": [asdict(each) for each in found]}
            Path(arguments.json).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        return _complain(f"{error.filename} cannot be written: {error.strerror}.")
    return 0


def _silent(each: TimedEvent) -> dict[str, object]:
    """Returns the event without sound, as recordings have it."""
    if each.kind == "response.output_audio.delta":
        return {**each.event, "delta": ""}
    return each.event


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return number


def _complain(message: str) -> int:
    sys.stderr.write(f"bridge replay: {printable(message)}\n")
    return 1
