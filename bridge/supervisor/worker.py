"""The worker's side: a daemon whose supervisor tells it what to do, and is told of its states."""

import asyncio
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bridge import log as logging
from bridge.config import Config
from bridge.config.load import Sources
from bridge.config.workers import settings_of_worker
from bridge.daemon import Daemon
from bridge.errors import ConfigError
from bridge.ports import GivenSocket
from bridge.serve import Launch, run
from bridge.supervisor import messages
from bridge.supervisor.messages import (
    ALIVE_EVERY_S,
    Alive,
    Assignment,
    Failed,
    Reload,
    Reloaded,
    Replaced,
    Serving,
    Stop,
    Stopping,
    Table,
)
from bridge.worker_group import WorkerGroup

__all__ = ["serve_as_worker"]

_log = logging.get_logger("supervisor")

_ASSIGNED_WITHIN_S = 30.0


def serve_as_worker(config: Config, sources: Sources, connection: socket.socket) -> int:
    """Serves as one of several workers until the supervisor says otherwise, or SIGTERM; returns the exit code."""
    faulthandler.enable()  # the supervisor makes lines of the log of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor decides
    connection.settimeout(_ASSIGNED_WITHIN_S)
    assignment, sockets, log = messages.receive_assignment(connection)
    connection.setblocking(False)
    worker_group = WorkerGroup(assignment.number, assignment.count, assignment.started_at)
    supervisor = _Supervisor(connection, worker_group, log)
    is_terminal = assignment.is_terminal
    with logging.LineWriter(sys.stderr.fileno(), is_terminal=is_terminal) as stream:
        logging.configure(config.log.log_format, config.log.log_level, stream, keys={"worker": assignment.number})
        try:
            return run(_own(config, assignment.number), _launch(assignment, sockets, sources, supervisor), stream)
        except ConfigError as error:
            messages.send_message(connection, Failed(message=error.message, param=error.param or "workers"))
            return 2


def _launch(
    assignment: Assignment, sockets: list[socket.socket], sources: Sources, supervisor: "_Supervisor"
) -> Launch:
    named = zip(assignment.ports, sockets, strict=True)
    return Launch(
        manager=supervisor,
        read_settings=lambda: settings_of_worker(sources.load(), assignment.number),
        given=[GivenSocket(each, name, is_optional=True) for name, each in named],
        replaces=assignment.replaces,
        worker_group=supervisor.worker_group,
        supervisor=supervisor,
    )


def _own(config: Config, number: int) -> Config:
    """Returns the worker's settings, and makes the folder for its recordings."""
    own = settings_of_worker(config, number)
    folder = own.recording.record_dir
    if folder is not None and Path(folder).parent.is_dir():
        try:
            Path(folder).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"record_dir: cannot make {folder}: {error.strerror}", param="record_dir") from None
    return own


class _Supervisor:
    """The supervisor, as its worker sees it: the ``Manager`` that is told, and the ``SupervisorLink`` that commands."""

    def __init__(self, connection: socket.socket, worker_group: WorkerGroup, log: int) -> None:
        self.worker_group = worker_group
        self._log = log
        worker_group.tell_reloaded = lambda: self._tell(Reloaded())
        self._connection = connection
        self._daemon: Daemon | None = None
        self._stop: Callable[[], None] = lambda: None
        self._reload: Callable[[], None] = lambda: None

    def announce_serving(self, daemon: Daemon, stop: Callable[[], None], reload: Callable[[], None]) -> None:
        """Begins to listen to the supervisor; see ``SupervisorLink``."""
        self._daemon, self._stop, self._reload = daemon, stop, reload
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._listen)
        self._say_alive()

    def ready(self, status: str) -> None:
        """See ``Manager``."""
        daemon = self._daemon
        assert daemon is not None, "it has begun"
        self._tell(
            Serving(
                url=daemon.url,
                node_id=daemon.node_id,
                node_url=daemon.node_url,
                udp_port=daemon.endpoint.port,
                engine=daemon.engine,
                drain_s=daemon.drain_s,
            )
        )

    def reloading(self) -> None:
        """See ``Manager``; the supervisor has said so itself."""

    def replaced(self, pid: int, drain_s: float) -> None:
        """See ``Manager``."""
        self._tell(Replaced(pid=pid, drain_s=drain_s))

    def stopping(self, calls: int, drain_s: float) -> None:
        """See ``Manager``."""
        self._tell(Stopping(calls=calls, drain_s=drain_s))

    def _say_alive(self) -> None:
        """Says so again and again, for as long as the event loop runs."""
        self._tell(Alive())
        asyncio.get_running_loop().call_later(ALIVE_EVERY_S, self._say_alive)

    def _tell(self, message: messages.FromWorker) -> None:
        messages.send_message(self._connection, message)

    def _listen(self) -> None:
        try:
            message = messages.receive_message(self._connection)
        except BlockingIOError:
            return
        except msgspec.MsgspecError as error:  # a supervisor of another version
            _log.warning("supervisor.message_unreadable", reason=str(error))
            return
        match message:
            case Table(workers=workers, log_lines_dropped=dropped):
                self.worker_group.workers, self.worker_group.log_lines_dropped = workers, dropped
            case Reload():
                self._reload()
            case Stop():
                self.worker_group.is_leaving = True
                self._stop()
            case None:  # whoever starts a supervisor again needs the ports
                asyncio.get_running_loop().remove_reader(self._connection.fileno())
                for number in (sys.stdout.fileno(), sys.stderr.fileno()):  # nobody reads the pipe any more
                    os.dup2(self._log, number)
                _log.error("supervisor.lost")
                self.worker_group.is_leaving = True
                self._stop()
