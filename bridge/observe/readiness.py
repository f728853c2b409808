"""``GET /readyz``: whether a new call would be served, and if not, why. ``/healthz`` says only that the process lives.

What the process knows of itself is asked each time. An upstream or a disk has to be tried, which is done at most once
in a few seconds, however many ask, and within a bounded time.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.api.operation import Operation
from bridge.log import get_logger
from bridge.observe.worker_pages import WORKERS_READY, WorkerLink
from bridge.wire.stats import DaemonStats

__all__ = ["READY", "Check", "Readiness", "ReadinessChecks", "disk_probe"]

_log = get_logger("observe")

_PATH = "/readyz"
_FRESH_S = 5.0
_LIMIT_S = 5.0

Probe = Callable[[], Awaitable[str | None]]
"""Tries something, and returns what is wrong with it; None if nothing is."""


class Check(Struct, frozen=True):
    """One thing that a new call needs; ``reason`` says what is wrong with it, and is null if nothing is."""

    name: str
    is_ok: bool
    reason: str | None = None


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether a new call would be served, which is so if each of the checks is well.

    Several workers of one machine are ready if one of them is.
    """

    object: str = "bridge.readiness"
    is_ready: bool
    checks: list[Check]


READY = Operation(
    method="get",
    path=_PATH,
    summary="Whether a new call would be served. If not, the status is 503, and the body says why.",
    response=Readiness,
    is_public=True,
)


class ReadinessChecks:
    """The checks of one daemon. ``probes`` are by name, and their last result counts for ``fresh_s``."""

    def __init__(
        self,
        daemon: Callable[[], DaemonStats],
        probes: dict[str, Probe],
        *,
        fresh_s: float = _FRESH_S,
        limit_s: float = _LIMIT_S,
        workers: WorkerLink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With ``workers`` the other workers of this machine are asked if this one would not serve a call."""
        self._workers = workers
        self._daemon = daemon
        self._probes = probes
        self._fresh_s = fresh_s
        self._limit_s = limit_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._probed: list[Check] = []
        self._probed_at = -float("inf")
        self._was_ready = True

    async def report(self) -> Readiness:
        """Returns whether a new call would be served now."""
        async with self._lock:
            if self._clock() - self._probed_at >= self._fresh_s:
                async with asyncio.TaskGroup() as tasks:
                    trying = [tasks.create_task(self._try(name, probe)) for name, probe in self._probes.items()]
                self._probed = [task.result() for task in trying]
                self._probed_at = self._clock()
        stats = self._daemon()
        draining = "The server is about to stop and accepts no new calls." if stats.is_draining else None
        late = f"The event loop is {stats.loop_lag_ms:.0f} ms late." if stats.is_overloaded else None
        checks = [_check("draining", draining), _check("load", late), *self._probed]
        report = Readiness(is_ready=all(check.is_ok for check in checks), checks=checks)
        self._tell(report)
        return report

    def route(self) -> Route:
        """Makes the route of readiness. It asks for no key, since load balancers have none."""

        async def serve(request: Request) -> Response:
            report = await self._report_of_workers()
            headers = {"Cache-Control": "no-store"}
            status = 200 if report.is_ready else 503
            return Response(msgspec.json.encode(report), status, headers, media_type="application/json")

        return Route(_PATH, serve, methods=["GET"])

    def workers_route(self, workers: WorkerLink) -> Route:
        """Makes the route by which the other workers ask whether this one would serve a call."""

        async def serve(request: Request) -> Response:
            await workers.admit(request)
            return Response(msgspec.json.encode(await self.report()), media_type="application/json")

        return Route(WORKERS_READY, serve, methods=["GET"])

    async def _report_of_workers(self) -> Readiness:
        """Returns whether a new call would be served by this process, or else by another worker of this machine."""
        report = await self.report()
        if report.is_ready or self._workers is None:
            return report
        of_workers = [(self._workers.group.number, report)]
        for worker, told in await self._workers.ask_others(WORKERS_READY):
            of_workers.append((worker.number, msgspec.json.decode(told, type=Readiness)))
        checks = [
            Check(f"worker {number}: {check.name}", check.is_ok, check.reason)
            for number, each in sorted(of_workers, key=lambda one: one[0])
            for check in each.checks
            if each.is_ready or not check.is_ok
        ]
        return Readiness(is_ready=any(each.is_ready for _, each in of_workers), checks=checks)

    async def _try(self, name: str, probe: Probe) -> Check:
        try:
            async with asyncio.timeout(self._limit_s):
                return _check(name, await probe())
        except TimeoutError:
            return _check(name, f"No answer within {self._limit_s:g} s.")
        except Exception as error:
            _log.error("observe.probe_failed", check=name, exc_info=error)
            return _check(name, "The check itself failed; see the server's log.")

    def _tell(self, report: Readiness) -> None:
        if report.is_ready is self._was_ready:
            return
        self._was_ready = report.is_ready
        if report.is_ready:
            _log.info("observe.ready")
        else:
            _log.warning("observe.not_ready", reasons={one.name: one.reason for one in report.checks if not one.is_ok})


def disk_probe(folder: str, free_bytes: int, thread: ThreadPoolExecutor) -> Probe:
    """Makes a probe that asks, in ``thread``, whether the file system of ``folder`` has ``free_bytes`` left.

    A disk that does not answer keeps that thread, and is not asked again until it does.
    """
    asked: asyncio.Future[str | None] | None = None

    def ask() -> str | None:
        found = os.statvfs(folder)
        left = found.f_bavail * found.f_frsize
        return None if left >= free_bytes else f"The disk for recordings has only {left // 2**20} MiB left."

    async def probe() -> str | None:
        nonlocal asked
        if asked is None or asked.done():
            asked = asyncio.get_running_loop().run_in_executor(thread, ask)
        try:
            return await asyncio.shield(asked)
        except OSError as error:
            return f"The directory for recordings cannot be used: {error.strerror}."

    return probe


def _check(name: str, reason: str | None) -> Check:
    return Check(name, reason is None, reason)
