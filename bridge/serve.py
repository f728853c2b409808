"""``bridge serve``: the daemon in an event loop of its own, from the start to the signal that stops it."""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import uvloop

from bridge import log as logging
from bridge.config import Config
from bridge.config.load import Sources
from bridge.daemon import Daemon
from bridge.handover import Predecessor
from bridge.ports import GivenSocket, Ports
from bridge.service_manager import ServiceManager, given_sockets
from bridge.worker_group import WorkerGroup

__all__ = ["Manager", "SupervisorLink", "Launch", "run", "serve"]

_LEAVE_S = 5.0
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_OWN_BLOCK_BYTES = 64 * 1024  # more than a message or a packet takes, less than two seconds of a turn

_log = logging.get_logger("cli")


class Manager(Protocol):
    """Whoever is told of the states of this process: a ``ServiceManager``, or a supervisor."""

    def ready(self, status: str) -> None:
        """Is told that the daemon serves, or goes on serving."""
        ...

    def reloading(self) -> None:
        """Is told that the settings are read again; ``ready`` follows."""
        ...

    def replaced(self, pid: int, drain_s: float) -> None:
        """Is told that another process has taken over."""
        ...

    def stopping(self, calls: int, drain_s: float) -> None:
        """Is told that the daemon takes no more calls, and how long it may take over those that run."""
        ...


class SupervisorLink(Protocol):
    """The supervisor of a worker, which tells it what a signal tells a process that is by itself."""

    def announce_serving(self, daemon: Daemon, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        """Says that ``daemon`` serves. From now on ``stop`` and ``reload`` are called when the supervisor says so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The way in which a process has been started: what it got, and whom it tells of its states."""

    manager: Manager
    read_settings: Callable[[], Config]
    given: list[GivenSocket]
    replaces: bool
    """Whether it takes over from the process that serves at the same address."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """The environment of a successor which this process starts."""
    worker_group: WorkerGroup | None = None
    supervisor: SupervisorLink | None = None
    """The supervisor, if the process is one of several workers."""


def serve(config: Config, sources: Sources, *, replace: bool = False) -> int:
    """Serves until SIGTERM, SIGINT or another process takes over, and returns the exit code.

    The log goes to standard error. ``config`` is what ``sources`` say at the start. With ``replace`` it takes over from
    the process that serves at the same address, if there is one.
    """
    environ = dict(os.environ)
    launch = Launch(
        given=given_sockets(os.environ),
        manager=ServiceManager(os.environ),
        read_settings=sources.load,
        replaces=replace,
        environ=environ,
    )
    with logging.LineWriter(sys.stderr.fileno(), is_terminal=sys.stderr.isatty()) as stream:
        logging.configure(config.log.log_format, config.log.log_level, stream)
        if ignored := sources.ignored:
            _log.warning("config.variables_ignored", variables=ignored)
        return run(config, launch, stream)


def run(config: Config, launch: Launch, stream: logging.LineWriter) -> int:
    """Runs the daemon in an event loop of its own, until it stops, and returns the exit code.

    ``stream`` is the log's, which is set up already.
    """
    _give_back_large_blocks()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Service(config, launch, lambda: stream.dropped).run())
        _leave_within(_LEAVE_S, code)
    return code


def _give_back_large_blocks() -> None:
    """Gives each block of 64 KiB or more memory of its own, which the system gets back as soon as the block is freed.

    By itself glibc moves that limit up to 32 MiB when it sees such blocks come and go: events with pictures, and the
    turns of many callers, would then leave holes in the heap that stay with the process. A block of its own grows in
    place, too. See mallopt(3), M_MMAP_THRESHOLD; only glibc has it.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK_BYTES)


def _leave_within(seconds: float, code: int) -> None:
    """Ends the process if it does not end by itself, because a thread hangs on a disk that does not answer."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


class _Service:
    """The daemon between its start and its end: what it does for signals, the service manager and another process."""

    def __init__(self, config: Config, launch: Launch, log_lines_dropped: Callable[[], int]) -> None:
        self._config = config
        self._launch = launch
        self._manager = launch.manager
        self._log_lines_dropped = log_lines_dropped
        self._successors: list[subprocess.Popen[bytes]] = []
        """The processes that this one has started. This process has to wait for each of them when it has ended."""

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT; a second one ends the grace period. SIGHUP reads the settings again."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        is_changed = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, is_changed.set)  # set early, because models take seconds to load
        server, launch = self._config.server, self._launch
        part = "" if launch.worker_group is None else str(launch.worker_group.number)
        predecessor = await Predecessor.find(server.host, server.port, part) if launch.replaces else None
        daemon = Daemon(
            self._config,
            log_lines_dropped=self._log_lines_dropped,
            read_settings=launch.read_settings,
            ports=Ports([*(predecessor.given if predecessor is not None else ()), *launch.given]),
            predecessor=predecessor,
            worker_group=launch.worker_group,
        )
        async with daemon:

            def on_signal() -> None:
                if stop.is_set():
                    daemon.registry.close_all("server_stopped", code=1001)
                stop.set()

            loop.add_signal_handler(signal.SIGTERM, on_signal)
            has_terminal = sys.stdin.isatty()

            def tell_ready() -> None:
                self._manager.ready(f"Serving at {daemon.url}")

            def reload() -> None:
                self._manager.reloading()
                daemon.reload_soon(then=tell_ready)

            def on_hang_up() -> None:
                if has_terminal and not os.isatty(
                    sys.stdin.fileno()
                ):  # the terminal has gone, so nobody asks for a reload
                    on_signal()
                else:
                    reload()

            gc.freeze()  # what is here now stays: looking through it again would stop all sound for 40 ms
            if launch.supervisor is not None:
                launch.supervisor.announce_serving(daemon, on_signal, reload)
            else:
                loop.add_signal_handler(signal.SIGINT, on_signal)
                loop.add_signal_handler(signal.SIGHUP, on_hang_up)
                loop.add_signal_handler(signal.SIGUSR2, self._start_successor)
                _greet(self._config, daemon)
            tell_ready()
            if is_changed.is_set():
                reload()
            await self._wait_for_end(daemon, stop)
            drain_s = daemon.drain_s
            calls = len(daemon.registry.sessions)
            if daemon.handover.is_over.is_set():
                self._manager.replaced(daemon.handover.successor, drain_s)
                _log.info("daemon.replaced", pid=daemon.handover.successor, calls=calls)
                await daemon.settle()
            else:
                self._manager.stopping(calls, drain_s)
            _log.info("daemon.draining", calls=len(daemon.registry.sessions), grace_s=drain_s)
        return 0

    def _start_successor(self) -> None:
        """Starts the same command once more, with the code that is installed now; it takes over when it is ready."""
        command = [sys.executable, *sys.orig_argv[1:]]
        if "--replace" not in command:
            command.append("--replace")
        try:
            successor = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._launch.environ, close_fds=True)
        except OSError as error:
            _log.error("daemon.replacement_failed", error=str(error))
        else:
            _log.info("daemon.replacement_started", pid=successor.pid)
            self._successors.append(successor)

    async def _wait_for_end(self, daemon: Daemon, stop: asyncio.Event) -> None:
        """Waits for a signal, or until another process has taken over."""
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(each.wait()) for each in (stop, daemon.handover.is_over)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()


def _greet(config: Config, daemon: Daemon) -> None:
    """Writes the one line on standard output, which says where to look.

    It is for a person, or JSON if the log was asked for as JSON.
    """
    note = "" if config.access.api_key else "  (no API key set: serving this machine only)"
    media = f"media: UDP {daemon.endpoint.port}"
    line = f"bridge is ready: {daemon.url}  {media}  engine: {daemon.engine}{note}"
    if config.log.log_format == "json":
        told = {"event": "daemon.ready", "url": daemon.url, "udp_port": daemon.endpoint.port, "engine": daemon.engine}
        line = json.dumps({**told, "is_open": not config.access.api_key})
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:  # nobody reads it; Python would try again at exit, and fail
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
