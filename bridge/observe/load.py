"""``GET /v1/load``: samples of the last hour, for a page that draws them. Prometheus knows more, for those who have it.

Theory of operation. Every five seconds the calls are read as the metrics read them, some at a time. What has grown
since then becomes one sample of a ring that holds an hour, so nothing is done here for a packet. A page that comes back
says which sample it had last, and gets the later ones. Of several workers, whichever is asked asks the others, and adds
up what all of them say.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge import __version__
from bridge.api.operation import Operation
from bridge.errors import BadRequest
from bridge.log import get_logger
from bridge.observe.labels import OTHER
from bridge.observe.load_report import LoadReport, LoadSample, slot_of
from bridge.observe.metrics import Metrics
from bridge.observe.worker_load import added
from bridge.observe.worker_pages import WORKERS_LOAD, WorkerLink
from bridge.wire.stats import DaemonStats

__all__ = ["LOAD", "LoadHistory", "LoadQuery"]

_log = get_logger("observe")

_PATH = "/v1/load"
_EVERY_S = 5.0
_KEPT_S = 3600.0
_MOST_REASONS = 64
_REFUSING = frozenset({401, 403, 429, 503})
_CONNECTION_LIMIT = "connection_limit"
_decoder = msgspec.json.Decoder(LoadReport)
_NOT_A_NUMBER = "'after' must be a number, the time of a sample."


class LoadQuery(Struct, frozen=True):
    """The query of ``GET /v1/load``: which samples are wanted."""

    after: Annotated[float, Meta(description="time of a sample: only later ones are returned")] | None = None


LOAD = Operation(
    method="get",
    path=_PATH,
    summary="The last hour in samples of five seconds, and the present state of the process, or of all workers. Needs "
    "an API key.",
    response=LoadReport,
    query=LoadQuery,
)


class LoadHistory:
    """Keeps the samples of the last hour.

    ``async with`` owns the task that takes them. What blocks is done in ``thread``.
    """

    def __init__(
        self,
        metrics: Metrics,
        daemon: Callable[[], DaemonStats],
        thread: ThreadPoolExecutor,
        *,
        workers: WorkerLink | None = None,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """With ``workers`` the report is that of all workers of this machine."""
        self._workers = workers
        self._metrics = metrics
        self._daemon = daemon
        self._thread = thread
        self._every_s = every_s
        self._clock = clock
        self._samples: deque[LoadSample] = deque(maxlen=max(1, round(_KEPT_S / every_s)))
        self._refused: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._busy_s, self._at = time.process_time(), clock()
        self._started_at = self._at
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "LoadHistory":
        await self._tasks.__aenter__()
        self._sampling = self._tasks.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._sampling.cancel()
        await self._tasks.__aexit__(None, None, None)

    def count_refusal(self, status: int, code: str) -> None:
        """Counts a request that was answered with ``status``, if that refuses it; ``code`` says why.

        An answer without a code of the bridge's was no refusal of the bridge's.
        """
        if status in _REFUSING and code != OTHER:
            self._refused[code if code in self._refused or len(self._refused) < _MOST_REASONS else OTHER] += 1

    async def sample(self) -> None:
        """Takes a sample now."""
        daemon = self._daemon()
        levels = await self._metrics.read_calls()
        memory_bytes = await asyncio.get_running_loop().run_in_executor(self._thread, _memory_bytes)
        refused = self._all_refused(daemon)
        totals = Counter(
            packets=round(self._metrics.total("bridge_rtp_packets_received")),
            lost=round(self._metrics.total("bridge_rtp_packets_lost")),
            late=round(self._metrics.total("bridge_rtp_packets_late")),
            concealed_ms=round(self._metrics.total("bridge_rtp_concealed_seconds")),
            telephone_late_ms=round(self._metrics.total("bridge_telephony_input_late_seconds")),
            answers=self._metrics.waits.count,
            waited_ms=round(1000 * self._metrics.waits.sum_s),
            **{f"refused {reason}": count for reason, count in refused.items()},
        )
        grown, self._before = totals - self._before, totals  # a Counter's difference has only what is above zero
        busy_s, at = time.process_time(), self._clock()
        elapsed_s = max(at - self._at, 1e-3)
        percent = 100 * (busy_s - self._busy_s) / elapsed_s
        self._busy_s, self._at = busy_s, at
        trips_ms = levels.round_trips_ms
        self._samples.append(
            LoadSample(
                at=at,
                calls=levels.calls.total(),
                listeners=levels.listeners.total(),
                loop_lag_ms=round(daemon.loop_lag_ms, 2),
                processor_percent=round(percent, 1),
                memory_bytes=memory_bytes,
                packets=grown["packets"],
                lost=grown["lost"],
                late=grown["late"],
                concealed_ms=grown["concealed_ms"],
                telephone_late_ms=grown["telephone_late_ms"],
                round_trips=len(trips_ms),
                round_trip_ms=round(sum(trips_ms) / len(trips_ms), 1) if trips_ms else None,
                worst_round_trip_ms=round(max(trips_ms), 1) if trips_ms else None,
                queued_ms=levels.longest_queue_ms,
                answers=grown["answers"],
                answer_ms=round(grown["waited_ms"] / grown["answers"], 1) if grown["answers"] else None,
                refused={reason: grown[f"refused {reason}"] for reason in refused if grown[f"refused {reason}"]},
            )
        )

    def report(self, after: float | None = None) -> LoadReport:
        """Returns what this process knows now, with the samples that are later than ``after``."""
        daemon = self._daemon()
        return LoadReport(
            version=__version__,
            started_at=self._started_at,
            now=self._clock(),
            every_s=self._every_s,
            samples=[sample for sample in self._samples if after is None or sample.at > after],
            refused=dict(self._all_refused(daemon)),
            daemon=daemon,
        )

    def route(self, admit: Callable[[Request], Awaitable[object]]) -> Route:
        """Makes the route of the load; ``admit`` raises if the request may not see what concerns all calls."""

        async def serve(request: Request) -> Response:
            await admit(request)
            body = msgspec.json.encode(await self._report_of_workers(_after(request)))
            return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

        return Route(_PATH, serve, methods=["GET"])

    def workers_route(self, workers: WorkerLink) -> Route:
        """Makes the route by which the other workers ask this one for its samples."""

        async def serve(request: Request) -> Response:
            await workers.admit(request)
            return Response(msgspec.json.encode(self.report(_after(request))), media_type="application/json")

        return Route(WORKERS_LOAD, serve, methods=["GET"])

    async def _report_of_workers(self, after: float | None) -> LoadReport:
        """Returns what all workers know, or this process by itself."""
        if self._workers is None:
            return self.report(after)
        since = None if after is None else after - self._every_s  # a sample is told at the end of its slot
        others = []
        for worker, told in await self._workers.ask_others(
            WORKERS_LOAD if since is None else f"{WORKERS_LOAD}?after={since}"
        ):
            try:
                others.append(_decoder.decode(told))
            except msgspec.MsgspecError as error:  # a version that says it in another way
                _log.warning("observe.worker_unreadable", worker=worker.number, reason=str(error))
        started_at = self._workers.group.started_at
        return added(self.report(since), others, started_at=started_at, after=after)

    async def _run(self) -> None:
        while True:
            try:
                await self.sample()
            except Exception as error:
                _log.error("observe.sample_failed", exc_info=error)
            now = self._clock()
            middle_of_next = (slot_of(now, self._every_s) + 1.5) * self._every_s
            await asyncio.sleep(middle_of_next - now)

    def _all_refused(self, daemon: DaemonStats) -> Counter[str]:
        """Returns the number of refusals by their reason.

        A carrier's reasons have its name in front, such as ``NAME.invalid_signature``.
        """
        refused = self._refused + Counter(daemon.telephony.refused)
        if daemon.connections_refused:
            refused[_CONNECTION_LIMIT] = daemon.connections_refused
        return refused


def _after(request: Request) -> float | None:
    said = request.query_params.get("after")
    if said is None:
        return None
    try:
        after = float(said)
    except ValueError:
        raise BadRequest(_NOT_A_NUMBER, param="after") from None
    if after != after:  # NaN is the one float that does not equal itself
        raise BadRequest(_NOT_A_NUMBER, param="after")
    return after


def _memory_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as told:
            return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
