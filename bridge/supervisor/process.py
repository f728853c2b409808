"""One worker, as its supervisor sees it: a process, what it says of itself, and what it writes."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import msgspec

from bridge.log import get_logger
from bridge.supervisor import messages
from bridge.supervisor.backoff import Backoff
from bridge.supervisor.messages import Alive, Assignment, Failed, Reloaded, Replaced, Serving, Stop, Stopping, ToWorker
from bridge.supervisor.output import Output
from bridge.worker_group import WorkerState

__all__ = ["WorkerCommand", "WorkerProcess", "described"]

_log = get_logger("supervisor")

_ABORTED_AFTER_LOOKS = 10
_KILLED_AFTER_LOOKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """How a worker is started, and where its lines go."""

    words: Sequence[str]
    environ: Mapping[str, str]
    write: Callable[[str], object]
    """Takes lines for the log, as the worker has written them."""
    is_json: bool
    """Whether each line of the log is JSON."""


class WorkerProcess:
    """The worker with this ``number``: one process after another. ``on_news`` is called for whatever it says."""

    def __init__(self, number: int, on_news: Callable[["WorkerProcess", messages.FromWorker], None]) -> None:
        self.number = number
        self.backoff = Backoff()
        self.restarts = 0
        self.serving: Serving | None = None
        """What the present process has said of itself last; None before it serves, and after its end."""
        self.failed: Failed | None = None
        """Why the last process has refused to start."""
        self.has_served = asyncio.Event()
        """Is set when a process begins to serve."""
        self.is_leaving = False
        """Whether the present process takes no more calls: it stops, or another process has taken over from it."""
        self._on_news = on_news
        self._is_stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._connection: socket.socket | None = None
        self._silent_looks = 0
        """How often it was looked at since it has said anything."""

    @property
    def state(self) -> WorkerState:
        """What the other workers are told of it."""
        serving, process = self.serving, self._process
        return WorkerState(
            number=self.number,
            is_serving=serving is not None and not self.is_leaving,
            pid=0 if process is None else process.pid,
            node_id="" if serving is None else serving.node_id,
            url="" if serving is None else serving.node_url,
            restarts=self.restarts,
        )

    async def run(self, command: WorkerCommand, assignment: Assignment, sockets: Sequence[socket.socket]) -> int:
        """Starts a process, and returns its exit code when it has ended. ``sockets`` are sent to it, and closed here.

        If this is cancelled, the process is killed.
        """
        here, there = messages.new_connection()
        output = Output(command.write, self._tell_output, is_json=command.is_json)
        environ = {**command.environ, messages.ENVIRONMENT: f"{os.getpid()}:{there.fileno()}"}
        self.failed, self.is_leaving = None, False
        try:
            with closing(there):
                try:
                    process = await asyncio.create_subprocess_exec(
                        *command.words,
                        stdin=DEVNULL,
                        stdout=output.end,
                        stderr=output.end,
                        pass_fds=(there.fileno(),),
                        env=environ,
                    )
                finally:
                    os.close(output.end)
            self._process = process
            return await self._follow(process, here, assignment, sockets)
        finally:
            output.finish()
            here.close()
            for each in sockets:
                each.close()
            self._connection = self._process = self.serving = None

    async def _follow(
        self,
        process: asyncio.subprocess.Process,
        connection: socket.socket,
        assignment: Assignment,
        sockets: Sequence[socket.socket],
    ) -> int:
        """Tells the process who it is, listens to it, and returns its exit code; kills it if this is cancelled."""
        self._connection = connection
        loop = asyncio.get_running_loop()
        loop.add_reader(connection.fileno(), self._listen)
        _log.info("supervisor.worker_started", worker=self.number, pid=process.pid)
        if self._is_stopping:  # it was told so while the process was being started
            process.terminate()
        try:
            with suppress(OSError):  # it has ended already, and its exit code says how
                messages.send_assignment(connection, assignment, sockets, sys.stderr.fileno())
            for each in sockets:
                each.close()
            return await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            loop.remove_reader(connection.fileno())
            while self._listen():
                pass

    def tell(self, message: ToWorker) -> None:
        """Sends the process a message, if there is one that serves."""
        if self._connection is not None and self.serving is not None:
            messages.send_message(self._connection, message)

    def stop(self) -> None:
        """Has the process stop together with all others; one that does not serve yet ends at once."""
        self._is_stopping = True
        if self.serving is not None:
            self.tell(Stop())
        else:
            self.terminate()

    def terminate(self) -> None:
        """Has the process stop alone: its calls go on at the others."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Kills the process, if there is one."""
        if self._process is not None:
            _log.error("supervisor.worker_killed", worker=self.number, pid=self._process.pid)
            self._process.kill()

    def look(self) -> None:
        """Ends a process that serves and hangs: it has not said for ten looks that its event loop runs.

        To be called as often as it says so. Looks are counted, and not seconds, because the supervisor may have stood
        still together with it. First comes a signal at which it writes where it hangs; one that is stopped gets none.
        """
        if self._process is None or self.serving is None:
            return
        self._silent_looks += 1
        if self._silent_looks == _ABORTED_AFTER_LOOKS:
            _log.error("supervisor.worker_hangs", worker=self.number, pid=self._process.pid)
            self._process.send_signal(signal.SIGABRT)
        elif self._silent_looks == _KILLED_AFTER_LOOKS:
            self.kill()

    def _listen(self) -> bool:
        """Takes one message; returns whether there may be more."""
        assert self._connection is not None, "it is listened to"
        try:
            message = messages.receive_message(self._connection)
        except BlockingIOError:
            return False
        except msgspec.MsgspecError as error:  # the code was changed under a running supervisor
            _log.warning("supervisor.message_unreadable", worker=self.number, reason=str(error))
            return True
        self._silent_looks = 0
        match message:
            case Alive():
                return True
            case Serving():
                self.serving = message
            case Failed():
                self.failed = message
            case Stopping() | Replaced():
                self.is_leaving = True
            case Reloaded():
                pass
            case _:  # it has ended, or is about to
                asyncio.get_running_loop().remove_reader(self._connection.fileno())
                return False
        self._on_news(self, message)
        return True

    def _tell_output(self, text: str) -> None:
        _log.warning("supervisor.worker_output", worker=self.number, text=text)


def described(code: int) -> str:
    """Returns in words how a process has ended."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
