"""The command ``bridge call`` for a person: flags, events as lines, progress bars, and the figures as a small table.

What people read goes to standard output, with ``--json`` to standard error. Progress bars are shown only on a terminal.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TextIO

import msgspec
from tqdm import tqdm

from bridge.client.address import CallFailed
from bridge.client.call import Call, Summary
from bridge.client.carriers.table import CARRIERS
from bridge.client.flags import add_server_flags, check_out, read_phone_plan, read_plan, transport_of
from bridge.client.phone_call import PhoneCall
from bridge.client.screen import BOLD, DIM, RED, ProgressBar, painter, printable
from bridge.client.sound import write_sound

__all__ = ["add_call_flags", "run_call"]

_INTERRUPTED = 130  # the exit code that shells give a SIGINT
_LONGEST_TEXT = 120
_SHOWN = frozenset(
    {
        "conversation.item.create",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.input_audio_transcription.failed",
        "conversation.item.truncated",
        "error",
        "input_audio_buffer.committed",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "response.audio_transcript.done",
        "response.create",
        "response.created",
        "response.done",
        "response.function_call_arguments.done",
        "response.output_audio_transcript.done",
        "response.output_text.done",
        "response.text.done",
        "session.created",
        "session.update",
        "session.updated",
    }
)


def add_call_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``bridge call``."""
    parser.usage = "bridge call [URL] --in FILE [FLAGS]"
    parser.description = (
        "Makes one call, says what is in a file or a text, and waits for the answer. It shows what happens, and then "
        "figures."
    )
    add_server_flags(parser, sound_help="sound file to speak, in any format and at any rate")
    add = parser.add_argument
    add("--text", help="typed message, sent before the sound; without --in, it is answered at once")
    add("--out", metavar="FILE", help="WAV file for the answer")
    add(
        "--as",
        dest="carrier",
        choices=CARRIERS,
        help="call as a telephone carrier does; for audiosocket give host:port",
    )
    add(
        "--secret",
        metavar="SECRET",
        help="secret that opens the carrier's endpoint (default: the daemon's own environment variable)",
    )
    add(
        "--public-url",
        metavar="URL",
        help="address at which Twilio reaches the bridge (default: $BRIDGE_PUBLIC_URL, or URL)",
    )
    add(
        "--codec",
        metavar="NAME",
        help="codec that the carrier uses, such as PCMA, L16, slin16 (default: its usual one)",
    )
    add("--dtmf", default="", metavar="KEYS", help="keys to press at the beginning of a telephone call")
    add("--listen", action="store_true", help="attach a WebSocket listener to the call and report what it received")
    add(
        "--seconds",
        type=float,
        metavar="N",
        help="longest time the call may take, in seconds (default: the length of the sound plus 60, or 30 by "
        "telephone)",
    )
    add("--events", action="store_true", help="show every event, as JSON")
    add("--json", action="store_true", help="print the figures as one JSON object")


def run_call(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Makes the call that the flags describe, and returns the exit code: 0 if there was an answer."""
    if arguments.carrier is not None and (arguments.sound is None or arguments.text or arguments.listen):
        arguments.usage_error(
            "a telephone call consists of sound only: --as NAME needs --in FILE, without --text and --listen"
        )
    if arguments.sound is None and arguments.text is None:
        arguments.usage_error("say something: give --in FILE or --text MESSAGE")
    if arguments.listen and transport_of(arguments, environ) != "webrtc":
        arguments.usage_error("--listen needs a call to which it can attach: --transport webrtc")
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout, shows_all=arguments.events)
    call: Call | PhoneCall | None = None
    code, error, saved = 0, "", ""
    try:
        check_out(arguments.out)
        if arguments.carrier is not None:
            phone_plan = replace(read_phone_plan(arguments, environ), keys=arguments.dtmf, timeout_s=arguments.seconds)
            call = PhoneCall(phone_plan, terminal)
        else:
            plan = read_plan(arguments, environ)
            plan = replace(plan, text=arguments.text, listen=arguments.listen, timeout_s=arguments.seconds)
            call = Call(plan, terminal)
        with new_runner() as runner:
            runner.run(call.run())
    except CallFailed as failure:
        code, error = 1, failure.message
    except KeyboardInterrupt:
        code, error = _INTERRUPTED, "Hung up."
    terminal.close()
    if call is None:
        return terminal.fail(error, code)
    if arguments.out and (pcm := call.answer.pcm if isinstance(call, Call) else call.answer):
        try:
            write_sound(arguments.out, pcm)
            saved = arguments.out
        except CallFailed as failure:
            code, error = code or 1, error or failure.message
    summary = call.summary()
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    elif summary.connect_ms is not None:
        terminal.show(summary, saved)
    return terminal.fail(error, code) if error else code


class Terminal:
    """Shows a call as it goes; a ``Watcher``."""

    def __init__(self, out: TextIO, *, shows_all: bool) -> None:
        self._out = out
        self._shows_all = shows_all
        self._paint = painter(out)
        self._deltas: Counter[str] = Counter()
        self._deltas_at = 0.0
        self._stage = ""
        self._bar: ProgressBar | None = None

    def event(self, at_s: float, event: dict[str, Any], *, is_ours: bool) -> None:
        """Shows an event on one line. Deltas are counted, and shown as soon as something else comes."""
        kind = str(event["type"])
        arrow = "→" if is_ours else "←"
        if self._shows_all:
            self._line(at_s, arrow, printable(json.dumps(_shortened(event), ensure_ascii=False)))
        elif kind.endswith(".delta"):
            self._deltas[kind] += 1
            self._deltas_at = at_s
        elif kind in _SHOWN:
            self._flush_deltas()
            text = f"{kind:<42} {self._paint(RED if kind == 'error' else DIM, _detail(event))}"
            self._line(at_s, arrow, text.rstrip())

    def note(self, at_s: float, text: str) -> None:
        """Shows a note about something that is no event."""
        self._line(at_s, "·", self._paint(BOLD, text))

    def progress(self, stage: Literal["speaking", "listening"], done_s: float, total_s: float | None) -> None:
        """Shows a bar for each stage, which goes when the next stage begins."""
        if stage != self._stage:
            self.close()
            self._stage = stage
            shape = "{l_bar}{bar}| {n:.1f} of {total:.1f} s" if total_s else "{desc}: {n:.1f} s"
            self._bar = ProgressBar(total=total_s, desc=stage, bar_format=shape)
        if self._bar is not None and done_s > self._bar.n:
            self._bar.update(done_s - self._bar.n)

    def close(self) -> None:
        """Removes the bar."""
        self._flush_deltas()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def show(self, summary: Summary, saved: str) -> None:
        """Shows the figures, aligned."""
        rows = [row for row in _rows(summary, saved) if row[1]]
        width = max(len(name) for name, _ in rows)
        self._out.write("\n")
        for name, text in rows:
            self._out.write(f"  {self._paint(DIM, name.ljust(width))}  {text}\n")

    def fail(self, message: str, code: int = 1) -> int:
        """Says why, in one line; returns the exit code."""
        self.close()
        sys.stderr.write(f"bridge call: {printable(message)}\n")
        return code

    def _flush_deltas(self) -> None:
        for kind, count in self._deltas.items():
            self._line(self._deltas_at, "←", f"{printable(kind):<42} {self._paint(DIM, f'× {count}')}")
        self._deltas.clear()

    def _line(self, at_s: float, arrow: str, text: str) -> None:
        line = f"{self._paint(DIM, f'{at_s:8.3f}')} {arrow} {text}"
        if self._bar is None:
            self._out.write(f"{line}\n")
            self._out.flush()
        else:
            tqdm.write(line, file=self._out)


def _detail(event: dict[str, Any]) -> str:
    """Returns the few words of an event that matter, as one line."""
    match event:
        case {"error": {"message": message, **rest}}:
            detail = f"{rest.get('code') or rest.get('type') or ''}: {message}"
        case {"session": {"instructions": str(words)}, "type": "session.update"}:
            detail = f'"{words}"'
        case {"session": {"model": model}}:
            detail = f"{model}"
        case {"audio_start_ms": ms} | {"audio_end_ms": ms}:
            detail = f"at {ms / 1000:.2f} s of the sound"
        case {"name": name, "arguments": arguments}:
            detail = f"{name}({arguments})"
        case {"transcript": str(words)} | {"text": str(words)}:
            detail = f'"{words}"'
        case {"item": {"role": role, "content": [{"text": words}, *_]}}:
            detail = f'{role}: "{words}"'
        case {"type": "response.done", "response": {"status": status, "status_details": {"reason": reason}}}:
            detail = f"{status}: {reason}"
        case {"type": "response.done", "response": {"status": status}}:
            detail = f"{status}"
        case _:
            detail = ""
    line = printable(detail)
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _shortened(value: Any) -> Any:
    """Returns an event with its sound cut off: seconds of base64 are of no use to a reader."""
    match value:
        case {**members}:
            cut = {"audio", "delta"}
            return {
                key: f"{inner[:40]}… ({len(inner)} characters)"
                if key in cut and isinstance(inner, str) and len(inner) > 400
                else _shortened(inner)
                for key, inner in members.items()
            }
        case [*items]:
            return [_shortened(item) for item in items]
    return value


def _rows(summary: Summary, saved: str) -> list[tuple[str, str]]:
    """Returns the name and text of each figure. Figures without text are left out."""
    packets = ""
    if summary.packets is not None:
        packets = f"{summary.packets} received, {summary.sent} sent"
    heard = summary.listener
    listener = ""
    if heard is not None:
        listener = heard.note or f"{heard.events} events, but no sound: this server does not pass sound on to listeners"
    if heard is not None and heard.append_events:
        listener = (
            f"{heard.append_events} append events, {heard.append_ms / 1000:.2f} s of the caller; "
            f"{heard.delta_events} deltas, {heard.delta_ms / 1000:.2f} s of the answer"
        )
    answer = f"{summary.answer_s:.2f} s" if summary.answer_s else ""
    return [
        ("call", summary.call_id or ""),
        ("connect", _ms(summary.connect_ms)),
        ("first audio", _ms(summary.first_audio_ms)),
        ("spoken", f"{summary.spoken_s:.2f} s" if summary.spoken_s else ""),
        ("answer", f"{answer}, saved as {saved}" if saved else answer),
        ("text", printable(summary.text)),
        ("function", printable("; ".join(f"{call.name}({call.arguments})" for call in summary.function_calls))),
        ("packets", packets),
        ("lost" if summary.packets is not None else "late", "" if summary.lost is None else str(summary.lost)),
        ("jitter", "" if summary.jitter_ms is None else f"{summary.jitter_ms:g} ms"),
        ("events", str(summary.events)),
        ("listener", listener),
        ("missing", str(heard.missing) if heard is not None and heard.append_events else ""),
    ]


def _ms(value: int | None) -> str:
    return "" if value is None else f"{value} ms"
