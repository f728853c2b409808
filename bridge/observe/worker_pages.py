"""Puts the metrics of all workers of a machine on one page, and asks the others whether they would serve a call.

Whichever worker is asked answers for all. It asks each of the others over the link between nodes, and every series gets
the label ``worker``. Series of a worker that does not answer are left out, as Prometheus expects of what is gone; when
it is back they begin at zero, which ``rate`` knows how to take. ``bridge_worker_up`` says which workers serve.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from starlette.requests import Request

from bridge.log import get_logger
from bridge.worker_group import WorkerGroup, WorkerState

__all__ = [
    "WORKERS_LOAD",
    "WORKERS_METRICS",
    "WORKERS_READY",
    "WorkerLink",
    "WorkersPage",
    "worker_families",
    "written",
]

_log = get_logger("observe")

WORKERS_LOAD = "/cluster/load"
"""The path at which a worker tells the others its samples of the last hour."""

WORKERS_METRICS = "/cluster/metrics"
"""The path at which a worker tells the others its metrics."""

WORKERS_READY = "/cluster/ready"
"""The path at which a worker tells the others whether it would serve a call."""

_LABEL = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLink:
    """The way from one worker to the others."""

    group: WorkerGroup
    ask: Callable[[str, str, str], Coroutine[Any, Any, bytes | None]]
    """Asks the node with this name, at this URL, for this path, and returns its answer; None if there is none."""
    admit: Callable[[Request], Awaitable[object]]
    """Raises if a request does not come from another node."""

    async def ask_others(self, path: str) -> list[tuple[WorkerState, bytes]]:
        """Returns what the other workers answer, without those that do not answer in time."""
        async with asyncio.TaskGroup() as tasks:
            asking = [
                (worker, tasks.create_task(self.ask(worker.node_id, worker.url, path))) for worker in self.group.others
            ]
        return [(worker, told) for worker, task in asking if (told := task.result()) is not None]


class _Sample(Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(Struct, frozen=True, array_like=True):
    name: str
    meaning: str
    type: str
    unit: str
    samples: list[_Sample]


_encoder = msgspec.msgpack.Encoder()  # JSON has no infinity
_decoder = msgspec.msgpack.Decoder(list[_Family])


def written(registry: CollectorRegistry) -> bytes:
    """Returns the metrics of one worker in the form in which workers tell each other."""
    return _encoder.encode(
        [
            _Family(
                family.name,
                family.documentation,
                family.type,
                family.unit,
                [_Sample(each.name, dict(each.labels), float(each.value)) for each in family.samples],
            )
            for family in registry.collect()
        ]
    )


class WorkersPage(Collector):
    """One page of the metrics of all workers: of this one, and of ``others`` as they have written them."""

    def __init__(self, group: WorkerGroup, own: CollectorRegistry, others: Sequence[tuple[WorkerState, bytes]]) -> None:
        self._group = group
        self._own = own
        self._others = others

    def collect(self) -> Iterable[Metric]:
        """Yields the families, each once, with the samples of all workers."""
        families: dict[str, Metric] = {}
        for number, told in self._told():
            for one in told:
                family = families.get(one.name)
                if family is None:
                    family = families[one.name] = Metric(one.name, one.documentation, one.type, one.unit)
                family.samples += [_of_worker(each, number) for each in one.samples]
        return [*families.values(), *worker_families(self._group)]

    def _told(self) -> Iterator[tuple[int, Iterable[Metric]]]:
        yield self._group.number, self._own.collect()
        for worker, text in self._others:
            try:
                yield worker.number, [_metric(family) for family in _decoder.decode(text)]
            except msgspec.MsgspecError as error:  # a version that says it in another way
                _log.warning("observe.worker_unreadable", worker=worker.number, reason=str(error))


def _metric(family: _Family) -> Metric:
    metric = Metric(family.name, family.meaning, family.type, family.unit)
    metric.samples = [Sample(each.name, each.labels, each.value) for each in family.samples]
    return metric


def _of_worker(sample: Sample, number: int) -> Sample:
    return Sample(sample.name, {**sample.labels, _LABEL: str(number)}, sample.value)


def worker_families(group: WorkerGroup) -> Iterator[Metric]:
    """Yields the metrics of the workers as such, as the supervisor tells of them."""
    up = GaugeMetricFamily("bridge_worker_up", "1 if the worker serves.", labels=[_LABEL])
    restarts = CounterMetricFamily(
        "bridge_worker_restarts", "How often the worker was restarted after it died.", labels=[_LABEL]
    )
    for worker in group.workers:
        up.add_metric([str(worker.number)], worker.is_serving)
        restarts.add_metric([str(worker.number)], worker.restarts)
    yield up
    yield restarts
    yield CounterMetricFamily(
        "bridge_supervisor_log_lines_dropped",
        "Lines of all workers' logs that the supervisor dropped because they were not read in time.",
        group.log_lines_dropped,
    )
