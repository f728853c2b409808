"""Runs the workers of one machine: starts them, starts them again if they die, and stops them all together.

Theory of operation. The supervisor serves nobody: it imports no media and no HTTP, so that there is little in it that
can fail. It binds the shared ports, and starts each worker as a process of its own with the same command. Each has a
connection to the supervisor, over which it gets its sockets and its orders, and says when it serves. If the supervisor
dies, the workers notice and stop.

A worker that ends without having been told to is started again: the first time almost at once, then after waits that
double. One that serves says every second that its event loop runs; if it has not for ten seconds, it is killed, and
started again as well. A start fails for good if a worker refuses the settings, or does not come up in three attempts.
Later the supervisor goes on as long as one worker serves.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

from bridge.config import Config
from bridge.errors import ConfigError
from bridge.log import LineWriter, get_logger
from bridge.ports import GivenSocket
from bridge.service_manager import ServiceManager
from bridge.supervisor.backoff import Backoff
from bridge.supervisor.messages import ALIVE_EVERY_S, Assignment, FromWorker, Reload, Reloaded, Serving, Stopping, Table
from bridge.supervisor.ports import SharedPorts
from bridge.supervisor.process import WorkerCommand, WorkerProcess, described

__all__ = ["Supervisor"]

_log = get_logger("supervisor")

_FAILED_STARTS = 3
_CLOSE_MARGIN_S = 30.0  # a worker has deadlines of its own for closing


class Supervisor:
    """The supervisor of ``config.cluster.workers`` workers, which all start with ``command``."""

    def __init__(
        self,
        config: Config,
        read_settings: Callable[[], Config],
        manager: ServiceManager,
        stream: LineWriter,
        command: WorkerCommand,
        *,
        look_s: float = ALIVE_EVERY_S,
    ) -> None:
        """Takes what it needs; ``look_s`` is the time between two looks at the workers."""
        self._look_s = look_s
        self._started_at = time.time()
        self._config = config
        self._read_settings = read_settings
        self._manager = manager
        self._stream = stream
        self._command = command
        self._workers = [WorkerProcess(number, self._hear) for number in range(config.cluster.workers)]
        self._all_served = asyncio.Event()
        self._over = asyncio.Event()
        self._refusal: ConfigError | None = None
        """Why the start was refused."""
        self._has_given_up = False
        self._reloading: set[int] = set()
        self._renewing = asyncio.Lock()

    async def run(self, given: Iterable[GivenSocket]) -> int:
        """Runs the workers until SIGTERM or SIGINT, and returns the exit code.

        Raises ``ConfigError`` if they cannot be started at all.
        """
        ports = SharedPorts(self._config, given)
        try:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, sys.stdin.isatty())
            async with asyncio.TaskGroup() as tasks:
                loop.add_signal_handler(signal.SIGUSR2, lambda: tasks.create_task(self._renew()))
                keepers = [tasks.create_task(self._keep(worker, ports)) for worker in self._workers]
                watch = tasks.create_task(self._watch())
                try:
                    await self._first_of(self._all_served, self._over)
                    if not self._over.is_set():
                        self._begin(ports.port)
                    await self._over.wait()
                    await self._end(keepers)
                finally:
                    loop.remove_signal_handler(signal.SIGUSR2)
                    watch.cancel()
        finally:
            ports.close()
        if self._refusal is not None:
            raise self._refusal
        _log.info("supervisor.stopped")
        return 1 if self._has_given_up else 0

    # The life of a worker

    async def _keep(self, worker: WorkerProcess, ports: SharedPorts) -> None:
        """Runs one process after another, until all is over."""
        loop = asyncio.get_running_loop()
        while not self._over.is_set():
            how = await self._run_once(worker, ports)
            self._reloaded(worker)
            self._tell_all()
            if self._over.is_set():
                return
            if worker.is_leaving and how == described(0):
                _log.info("supervisor.worker_ended", worker=worker.number)
                worker.backoff = Backoff()
                continue
            wait_s = worker.backoff.ended(loop.time())
            _log.error("supervisor.worker_died", worker=worker.number, how=how, again_in_s=wait_s)
            self._judge(worker, how)
            try:
                async with asyncio.timeout(wait_s):
                    await self._over.wait()
            except TimeoutError:
                worker.restarts += 1

    async def _run_once(self, worker: WorkerProcess, ports: SharedPorts) -> str:
        """Runs one process, and returns in words how it has ended, or why it could not be started."""
        try:
            sockets = ports.of_worker(worker.number)
            assignment = Assignment(
                number=worker.number,
                count=len(self._workers),
                started_at=self._started_at,
                is_terminal=self._stream.isatty(),
                replaces=False,
                ports=list(sockets),
            )
            return described(await worker.run(self._command, assignment, list(sockets.values())))
        except OSError as error:  # no memory or no descriptor is left
            return error.strerror or str(error)
        except ConfigError as error:
            return error.message

    def _judge(self, worker: WorkerProcess, how: str) -> None:
        """Gives up if it is of no use to go on."""
        if not self._all_served.is_set():
            if worker.failed is not None:
                self._refusal = self._refusal or ConfigError(worker.failed.message, param=worker.failed.param)
            elif worker.backoff.failed_starts >= _FAILED_STARTS:
                self._refusal = self._refusal or ConfigError(
                    f"workers: worker {worker.number} could not start in {_FAILED_STARTS} attempts "
                    f"({how}): see the log for its last output",
                    param="workers",
                )
        elif all(each.backoff.failed_starts >= _FAILED_STARTS for each in self._workers):
            _log.error("supervisor.gave_up", how=how)
            self._has_given_up = True
        if self._refusal is not None or self._has_given_up:
            self._over.set()

    def _hear(self, worker: WorkerProcess, message: FromWorker) -> None:
        """Handles what a worker says."""
        match message:
            case Serving():
                if not worker.backoff.is_serving:
                    worker.backoff.serves(asyncio.get_running_loop().time())
                    worker.has_served.set()
                    _log.info("supervisor.worker_serves", worker=worker.number, node=message.node_id)
                self._reloaded(worker)
                if all(each.serving is not None for each in self._workers):
                    self._all_served.set()
            case Stopping(calls=calls, drain_s=drain_s) if self._over.is_set():
                self._manager.stopping(calls, drain_s)
            case Reloaded():
                for each in self._workers:
                    if each is not worker:
                        each.tell(Reload())
        self._tell_all()

    def _tell_all(self) -> None:
        """Tells all workers of all."""
        table = Table(workers=[each.state for each in self._workers], log_lines_dropped=self._stream.dropped)
        for each in self._workers:
            each.tell(table)

    async def _watch(self) -> None:
        """Looks after workers that hang. Tells all of them, for their metrics, if lines of the log were dropped."""
        told = 0
        while True:
            await asyncio.sleep(self._look_s)
            for each in self._workers:
                each.look()
            if self._stream.dropped != told:
                told = self._stream.dropped
                self._tell_all()

    async def _renew(self) -> None:
        """Has one worker after the other end, and start again with the code that is installed now."""
        async with self._renewing:
            for worker in self._workers:
                if self._over.is_set():
                    return
                worker.has_served.clear()
                worker.terminate()
                await self._first_of(worker.has_served, self._over)

    # The life of all

    def _begin(self, port: int) -> None:
        """Says that all workers serve."""
        serving = [each.serving for each in self._workers if each.serving is not None]
        _greet(self._config, serving)
        _log.info("supervisor.serving", url=serving[0].url, workers=len(serving), port=port)
        self._tell_ready()

    def _tell_ready(self) -> None:
        url = next((each.serving.url for each in self._workers if each.serving is not None), "")
        self._manager.ready(f"Serving at {url} with {len(self._workers)} workers")

    def _stop(self) -> None:
        """Stops all workers; the second time, running calls are closed."""
        if self._over.is_set():
            for worker in self._workers:
                worker.stop()
        self._over.set()

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        """Has all workers drain, and returns when they have ended; one that hangs is killed."""
        drain_s = max((each.serving.drain_s for each in self._workers if each.serving is not None), default=0.0)
        self._manager.stopping(0, drain_s)
        _log.info("supervisor.draining", grace_s=drain_s)
        for worker in self._workers:
            worker.stop()
        await asyncio.wait(keepers, timeout=drain_s + self._config.server.close_deadline_s + _CLOSE_MARGIN_S)
        for worker in self._workers:
            worker.kill()
        await asyncio.wait(keepers)

    def _hang_up(self, had_terminal: bool) -> None:
        """Has all workers read the settings again; if the terminal has gone, nobody asks for that."""
        if had_terminal and not os.isatty(sys.stdin.fileno()):
            self._stop()
            return
        self._manager.reloading()
        self._reloading = {each.number for each in self._workers if each.serving is not None}
        for worker in self._workers:
            worker.tell(Reload())
        self._compare()

    def _reloaded(self, worker: WorkerProcess) -> None:
        """Notes that one worker has read the settings, or is gone; the last one makes the reload complete."""
        if worker.number in self._reloading:
            self._reloading.discard(worker.number)
            if not self._reloading:
                self._tell_ready()

    def _compare(self) -> None:
        """Says in the log if there should be another number of workers, which needs a restart."""
        try:
            wanted = self._read_settings().cluster.workers
        except ConfigError:
            return  # each worker says so
        if wanted != len(self._workers):
            _log.warning("config.restart_needed", settings=["workers"])

    @staticmethod
    async def _first_of(*events: asyncio.Event) -> None:
        """Returns as soon as one of the events has happened."""
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(event.wait()) for event in events]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()


def _greet(config: Config, serving: list[Serving]) -> None:
    """Writes the one line on standard output, which says where to look."""
    url, engine, udp_ports = serving[0].url, serving[0].engine, [each.udp_port for each in serving]
    if config.log.log_format == "json":
        told = {"event": "daemon.ready", "url": url, "udp_port": udp_ports[0], "udp_ports": udp_ports}
        line = json.dumps({**told, "engine": engine, "is_open": not config.access.api_key, "workers": len(serving)})
    else:
        note = "" if config.access.api_key else "  (no API key set: serving this machine only)"
        media = f"media: UDP {', '.join(map(str, udp_ports))}"
        line = f"bridge is ready: {url}  {media}  engine: {engine}  workers: {len(serving)}{note}"
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:  # nobody reads it; Python would try again at exit, and fail
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
