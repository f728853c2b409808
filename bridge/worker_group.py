"""The workers of one machine, as each of them knows the others: how many there are, which live, and where.

The supervisor tells it at each change, so that it is known without Redis.
"""

from collections.abc import Callable

from msgspec import Struct

__all__ = ["WorkerGroup", "WorkerState"]


class WorkerState(Struct, frozen=True, kw_only=True):
    """One worker, as the supervisor tells the others of it."""

    number: int
    """Its place among the workers, from 0. A process that is started again has the same."""
    is_serving: bool = False
    pid: int = 0
    node_id: str = ""
    """The name of the node that it is; empty before it serves."""
    url: str = ""
    """The address at which the other workers reach it; empty before it serves."""
    restarts: int = 0
    """How often it was started again because it had died."""


class WorkerGroup:
    """The workers of this machine, as the worker with this ``number`` knows them."""

    def __init__(self, number: int, count: int, started_at: float) -> None:
        self.number = number
        self.count = count
        """The number of workers that there should be."""
        self.started_at = started_at
        """The time at which their supervisor was started."""
        self.workers: list[WorkerState] = [WorkerState(number=each) for each in range(count)]
        """All workers, this one included, by their number."""
        self.log_lines_dropped = 0
        """The lines of the log that the supervisor had to drop, because nobody read them."""
        self.is_leaving = False
        """Whether all workers are about to stop, and not this one alone."""
        self.tell_reloaded: Callable[[], None] = lambda: None
        """Is called when a request has had this worker read the settings again, so that the others do as well."""

    @property
    def others(self) -> list[WorkerState]:
        """The other workers that serve."""
        return [worker for worker in self.workers if worker.is_serving and worker.number != self.number]

    def leaves_with(self, node_id: str) -> bool:
        """Returns whether that node is a worker of this machine that stops together with this one."""
        return self.is_leaving and any(worker.node_id == node_id for worker in self.workers)
