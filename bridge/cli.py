"""The command line: ``bridge serve`` runs the daemon; ``bridge call`` and ``bridge bench`` call any Realtime server."""

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading

import uvloop

from bridge import __version__
from bridge import log as logging
from bridge.client.bench.command import DESCRIPTION, add_bench_flags, run_bench
from bridge.client.terminal import add_call_flags, run_call
from bridge.config import Config, add_flags, load
from bridge.daemon import Daemon
from bridge.errors import ConfigError

__all__ = ["main"]

_LEAVE_S = 5.0

_log = logging.get_logger("cli")


def main(argv: list[str] | None = None) -> None:
    """Runs one command; exits with 0, or with 2 and one line where a setting is wrong."""
    _heed_interrupts()
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(arguments.run(arguments))
    except ConfigError as error:
        sys.exit(_complain(error.message))


def _heed_interrupts() -> None:
    """Takes SIGINT back if it was ignored where the program was started: shells do so in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bridge", description="A WebRTC-to-WebSocket bridge for the Realtime API.")
    parser.add_argument("--version", action="version", version=f"bridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the daemon")
    serve.add_argument("--config", metavar="FILE", help="TOML file of settings")
    add_flags(serve)
    serve.set_defaults(run=_serve)
    call = commands.add_parser("call", help="make a call: say something to a Realtime server and hear its answer")
    add_call_flags(call)
    call.set_defaults(run=_call)
    bench = commands.add_parser(
        "bench",
        help="make many calls at once to a Realtime server, and measure",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_bench_flags(bench)
    bench.set_defaults(run=_bench)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    config = load(vars(arguments), os.environ, arguments.config)
    with logging.LineWriter(sys.stderr.fileno(), is_terminal=sys.stderr.isatty()) as stream:
        logging.configure(config.log_format, config.log_level, stream)
        with _new_runner() as runner:
            code = runner.run(_run_daemon(config))
            _leave_within(_LEAVE_S, code)
    return code


def _leave_within(seconds: float, code: int) -> None:
    """The daemon has stopped; a thread that hangs, on a disk that does not answer, must not keep the process."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _call(arguments: argparse.Namespace) -> int:
    logging.configure("auto", "error")
    return run_call(arguments, os.environ, _new_runner)


def _bench(arguments: argparse.Namespace) -> int:
    logging.configure("auto", "error")
    return run_bench(arguments, os.environ, _new_runner)


def _new_runner() -> asyncio.Runner:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run_daemon(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; a second one ends the grace period."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with Daemon(config) as daemon:

        def on_signal() -> None:
            if stop.is_set():
                daemon.registry.close_all("server_stopped", code=1001)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        gc.freeze()  # what is here at the start stays: looking through it again would stop all sound for 40 ms
        _greet(config, daemon)
        await stop.wait()
        _log.info("daemon.draining", calls=len(daemon.registry.sessions), grace_s=config.drain_s)
    return 0


def _greet(config: Config, daemon: Daemon) -> None:
    """The one line for a person: where to look."""
    note = "" if config.api_key else "  (no API key set: serving this machine only)"
    media = f"media: UDP {daemon.endpoint.port}"
    print(f"bridge is ready: {daemon.url}  {media}  engine: {daemon.engine}{note}", flush=True)


def _complain(message: str) -> int:
    print(f"bridge: {message}", file=sys.stderr)
    return 2
