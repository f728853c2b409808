"""``bridge serve``: the daemon in an event loop of its own, from the start to the signal that stops it."""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import uvloop

from bridge import log as logging
from bridge.config import Config
from bridge.config.load import Sources
from bridge.daemon import Daemon

__all__ = ["serve"]

_LEAVE_S = 5.0
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_OWN_BLOCK_BYTES = 256 * 1024

_log = logging.get_logger("cli")


def serve(config: Config, sources: Sources) -> int:
    """Serves until SIGTERM or SIGINT, with the log on standard error; the exit code.

    ``config`` is what ``sources`` say at the start.
    """
    _give_back_large_blocks()
    with logging.LineWriter(sys.stderr.fileno(), is_terminal=sys.stderr.isatty()) as stream:
        logging.configure(config.log.log_format, config.log.log_level, stream)
        if ignored := sources.ignored:
            _log.warning("config.variables_ignored", variables=ignored)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_run_daemon(config, sources, lambda: stream.dropped))
            _leave_within(_LEAVE_S, code)
    return code


def _give_back_large_blocks() -> None:
    """Each block of 256 KiB or more gets memory of its own, which the system has back as soon as the block is freed.

    By itself glibc moves that limit up to 32 MiB when it sees such blocks come and go: events with pictures would then
    leave holes in the heap that stay with the process. See mallopt(3), M_MMAP_THRESHOLD; only glibc has it.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK_BYTES)


def _leave_within(seconds: float, code: int) -> None:
    """The daemon has stopped; a thread that hangs, on a disk that does not answer, must not keep the process."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


async def _run_daemon(config: Config, sources: Sources, log_lines_dropped: Callable[[], int]) -> int:
    """Serves until SIGTERM or SIGINT; a second one ends the grace period. SIGHUP reads the settings again."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    is_changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, is_changed.set)  # models take seconds to load
    async with Daemon(config, log_lines_dropped=log_lines_dropped, read_settings=sources.load) as daemon:

        def on_signal() -> None:
            if stop.is_set():
                daemon.registry.close_all("server_stopped", code=1001)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        has_terminal = sys.stdin.isatty()

        def on_hang_up() -> None:
            if has_terminal and not os.isatty(sys.stdin.fileno()):  # it is the terminal that has gone
                on_signal()
            else:
                daemon.reload_soon()

        loop.add_signal_handler(signal.SIGHUP, on_hang_up)
        if is_changed.is_set():
            daemon.reload_soon()
        gc.freeze()  # what is here at the start stays: looking through it again would stop all sound for 40 ms
        _greet(config, daemon)
        await stop.wait()
        _log.info("daemon.draining", calls=len(daemon.registry.sessions), grace_s=config.server.drain_s)
    return 0


def _greet(config: Config, daemon: Daemon) -> None:
    """The one line on standard output: where to look; for a person, or as JSON if the log was asked for as JSON."""
    note = "" if config.access.api_key else "  (no API key set: serving this machine only)"
    media = f"media: UDP {daemon.endpoint.port}"
    line = f"bridge is ready: {daemon.url}  {media}  engine: {daemon.engine}{note}"
    if config.log.log_format == "json":
        told = {"event": "daemon.ready", "url": daemon.url, "udp_port": daemon.endpoint.port, "engine": daemon.engine}
        line = json.dumps({**told, "is_open": not config.access.api_key})
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:  # nobody reads it; Python would try again at its end, and fail
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
