"""The command ``bridge bench``: its flags, what it shows before and after the calls, and the files that it writes.

The table goes to standard output, with ``--json -`` to standard error. Bars are shown only on a terminal.
"""

import argparse
import asyncio
import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from bridge import __version__
from bridge.client.address import CallFailed, parse_address
from bridge.client.bench.compare import Ratio, ratio_lines, ratios
from bridge.client.bench.load import Bench, Load, run_side_by_side
from bridge.client.bench.network import Network
from bridge.client.bench.page import as_page
from bridge.client.bench.table import table
from bridge.client.call import Plan
from bridge.client.carriers.table import CARRIERS
from bridge.client.flags import add_server_flags, check_out, read_phone_plan, read_plan, transport_of, transport_of_url
from bridge.client.phone_call import PhonePlan
from bridge.client.screen import BOLD, Painter, ProgressBar, painter, printable
from bridge.client.sound import PHRASE

__all__ = ["DESCRIPTION", "add_bench_flags", "run_bench"]

DESCRIPTION = """\
Makes several calls at once to a Realtime server and measures how well it handles them. Each call connects, waits until
all are connected, and then takes its turns: it speaks in real time, waits for the answer and listens to it.

It measures the time to connect (from the first request to session.created or the open data channel), the time from the
end of the speech (and from the server's speech_stopped) to the first sound of the answer (a delta over WebSocket, an
audible packet over WebRTC), the time from session.update to its reply, gaps in the answers, lost packets, and failures.

With --compare, two servers are measured at the same time, by calls that start alternately, and the times are compared.

The exit code is 0 only if every turn of every call was answered.
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
    add(
        "--calls",
        type=_calls,
        default=_DEFAULTS.calls,
        metavar="N",
        help=f"number of calls at once (default: {_DEFAULTS.calls})",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--turns",
        type=_turns,
        metavar="M",
        help=f"number of turns per call (default: {_DEFAULTS.turns})",
    )
    length.add_argument(
        "--seconds",
        type=_positive,
        metavar="S",
        help="take turns for this long instead; a turn in progress is finished",
    )
    add(
        "--ramp-per-s",
        type=_positive,
        default=_DEFAULTS.ramp_per_s,
        metavar="R",
        help=f"calls to set up per second (default: {_DEFAULTS.ramp_per_s:g})",
    )
    add(
        "--patience-s",
        type=_positive,
        default=_DEFAULTS.patience_s,
        metavar="S",
        help=f"longest time from the end of the speech to the end of the answer (default: {_DEFAULTS.patience_s:g})",
    )
    add("--compare", metavar="URL2", help="measure this server too, at the same time, and compare")
    add("--compare-key", metavar="KEY", help="key for URL2 (default: none)")
    add(
        "--loss",
        type=_percent,
        default=0.0,
        metavar="PERCENT",
        help="share of the caller's packets that is lost, over WebRTC",
    )
    add(
        "--jitter",
        type=_not_negative,
        default=0.0,
        metavar="MS",
        help="maximum delay of the caller's packets, in milliseconds, over WebRTC",
    )
    add(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="seed that decides which packets are lost and delayed (default: 1)",
    )
    add("--as", dest="carrier", choices=CARRIERS, help="call as a telephone carrier does")
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
    add("--codec", metavar="NAME", help="codec that the carrier uses, such as PCMA, L16 (default: its usual one)")
    add("--html", metavar="FILE", help="write a self-contained HTML page")
    add(
        "--json",
        metavar="FILE",
        help="write all figures, including those of each call and turn, as JSON; -: standard output",
    )
    add("--png", metavar="FILE", help="write a chart of the figures; needs matplotlib")


def run_bench(
    arguments: argparse.Namespace, environ: Mapping[str, str], new_runner: Callable[[], asyncio.Runner]
) -> int:
    """Makes the calls that the flags describe, and returns the exit code: 0 if every call was answered."""
    out = sys.stderr if arguments.json == "-" else sys.stdout
    paint = painter(out)
    _refuse_what_does_not_fit(arguments, environ)
    try:
        benches, progress = _prepare(arguments, environ)
    except CallFailed as failure:
        return _complain(failure.message)
    out.write(f"{paint(BOLD, _announce(benches))}\n{_warn(benches)}\n")
    out.flush()
    began_at = datetime.now(UTC)
    is_interrupted = False
    gc.freeze()  # what is here now stays: looking through it again would stop all calls for a moment
    with new_runner() as runner:
        try:
            runner.run(run_side_by_side(*benches) if len(benches) == 2 else benches[0].run())
        except KeyboardInterrupt:
            is_interrupted = True
        progress.close()
        for line in _shown(benches, paint):
            out.write(f"{line.rstrip()}\n")
        out.flush()
        was_well = all(bench.report().result == "came_through" for bench in benches)
        code = _save(arguments, benches, began_at) or (0 if was_well else 1)
        if is_interrupted:
            code = _INTERRUPTED
            sys.stderr.write("bridge bench: Hung up.\n")  # said now, because an unanswered offer still takes its time
    return code


def _refuse_what_does_not_fit(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    if arguments.carrier is not None and arguments.compare:
        arguments.usage_error("--as NAME and --compare cannot be combined: a carrier's secret is for one bridge")
    if arguments.png and arguments.compare:
        arguments.usage_error("--png can only show one server; use --html FILE to show both")
    if (arguments.loss or arguments.jitter) and (
        arguments.carrier is not None or transport_of(arguments, environ) != "webrtc"
    ):
        arguments.usage_error("--loss and --jitter apply to packets, so they need --transport webrtc")


def _prepare(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[list[Bench], "_Progress"]:
    """Prepares everything that can be wrong before the first call; raises ``CallFailed``."""
    if arguments.png and importlib.util.find_spec("matplotlib") is None:
        raise CallFailed("--png draws with matplotlib, which is not installed: pip install matplotlib")
    for file in (arguments.png, arguments.json, arguments.html):
        check_out(file)
    arguments.sound = arguments.sound or PHRASE
    load = Load(
        calls=arguments.calls,
        turns=arguments.turns or _DEFAULTS.turns,
        seconds=arguments.seconds,
        ramp_per_s=arguments.ramp_per_s,
        patience_s=arguments.patience_s,
    )
    progress = _Progress(load)
    if arguments.carrier is not None:
        return [Bench(read_phone_plan(arguments, environ), load, progress.show)], progress
    network = Network(arguments.loss, arguments.jitter, arguments.seed)
    plan = read_plan(arguments, environ)
    benches = [Bench(plan, load, progress.show, network=network)]
    if arguments.compare:
        transport = arguments.transport or transport_of_url(arguments.compare)
        other = replace(plan, url=arguments.compare, transport=transport, api_key=arguments.compare_key)
        benches.append(Bench(other, load, network=network))
    return benches, progress


def _announce(benches: Sequence[Bench]) -> str:
    """Returns a sentence that says what is going to happen."""
    bench = benches[0]
    plan, load = bench.plan, bench.load
    calls = "1 call" if load.calls == 1 else f"{load.calls} calls"
    each = "each " if load.calls > 1 else ""
    if load.seconds is None:
        turns = "1 turn" if load.turns == 1 else f"{load.turns} turns"
        length = f"{turns} {each}({load.calls * load.turns * plan.sound_s:.0f} s of speech in all, and the answers)"
    else:
        length = f"{load.seconds:g} s {each}({load.calls * load.seconds / 60:.1f} minutes in all)"
    if isinstance(plan, PhonePlan):
        transport = f"as {plan.dialling.carrier}"
    else:
        transport = "over WebRTC" if plan.transport == "webrtc" else "over WebSocket"
    places = " and ".join(_place(each.plan) for each in benches)
    words = f"{calls} to {places} {transport}, {length}"
    if len(benches) == 2:
        words += ", to each of them"
    if bench.network.is_bad:
        network = bench.network
        words += f", with {network.loss_percent:g} % loss and {network.jitter_ms:g} ms jitter (seed {network.seed})"
    return printable(f"{words}.")


def _warn(benches: Sequence[Bench]) -> str:
    """Returns a warning of what the calls may cost; empty for servers on this machine."""
    is_here = all(urlsplit(_place(bench.plan)).hostname in _LOOPBACK for bench in benches)
    return "" if is_here else "A service that charges for speech will charge for this. Press Ctrl-C to stop.\n"


def _place(plan: Plan | PhonePlan) -> str:
    """Returns the endpoint without its query, which may hold a key."""
    if isinstance(plan, PhonePlan):
        dialling = plan.dialling
        return f"audiosocket://{dialling.url}" if dialling.carrier == "audiosocket" else dialling.http
    address = parse_address(plan.url, plan.model)
    return (address.calls if plan.transport == "webrtc" else address.socket).partition("?")[0]


def _shown(benches: Sequence[Bench], paint: Painter) -> Iterator[str]:
    """Yields the lines of the tables, and of the comparison if there are two."""
    reports = [bench.report() for bench in benches]
    if len(benches) == 1:
        yield from table(reports[0], paint)
        return
    for name, bench, told in zip(("first", "second"), benches, reports, strict=True):
        yield paint(BOLD, f"{name}: {printable(_place(bench.plan))}")
        yield from table(told, paint)
        yield ""
    if found := ratios(*reports):
        yield from ratio_lines(found, paint)


def _save(arguments: argparse.Namespace, benches: Sequence[Bench], began_at: datetime) -> int:
    """Writes the files that are asked for, and returns the exit code: 1 if that fails."""
    try:
        if arguments.json:
            document = _document(benches, began_at)
            text = msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"
            if arguments.json == "-":
                sys.stdout.write(text)
            else:
                Path(arguments.json).write_text(text)
        if arguments.html:
            runs = [(_place(bench.plan), bench.report(), bench.records) for bench in benches]
            Path(arguments.html).write_text(as_page(_announce(benches), runs, _ratios(benches)))
        if arguments.png:
            from bridge.client.bench.picture import draw  # only a picture needs what it imports

            bench = benches[0]
            draw(bench.records, bench.report(), _announce(benches[:1]), arguments.png)
    except OSError as error:
        return _complain(f"{error.filename} cannot be written: {error.strerror}.")
    return 0


def _ratios(benches: Sequence[Bench]) -> list[Ratio]:
    return ratios(*(bench.report() for bench in benches)) if len(benches) == 2 else []


def _document(benches: Sequence[Bench], began_at: datetime) -> dict[str, Any]:
    bench = benches[0]
    head = {
        "bridge": __version__,
        "began_at": began_at.isoformat(timespec="seconds"),
        "speech_s": round(bench.plan.sound_s, 2),
        "load": bench.load,
        "network": bench.network,
    }
    if len(benches) == 1:
        return {**head, **_measured(bench)}
    return {**head, "servers": [_measured(each) for each in benches], "ratios": _ratios(benches)}


def _measured(bench: Bench) -> dict[str, Any]:
    plan = bench.plan
    return {
        "url": _place(plan),
        "transport": plan.dialling.carrier if isinstance(plan, PhonePlan) else plan.transport,
        "report": bench.report(),
        "calls": bench.records,
    }


class _Progress:
    """A bar for each stage, which goes when the next stage begins."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._stage = ""
        self._bar: ProgressBar | None = None

    def show(self, stage: Literal["connecting", "speaking"], done: float) -> None:
        """Shows how much of the stage is over."""
        if stage != self._stage:
            self.close()
            self._stage = stage
            shape = "{l_bar}{bar}| {n:.0f} of {total:.0f} {unit} [{elapsed}]"
            total, unit = self._whole(stage)
            self._bar = ProgressBar(total=total, desc=stage, unit=unit, bar_format=shape)
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


def _percent(text: str) -> float:
    number = _not_negative(text)
    if number >= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to below 100")
    return number


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return number


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
