"""The last calls that are over, with their figures and how they ended, for whoever asks afterwards."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from bridge.calls.directory import CallRecord
from bridge.wire.stats import CallResult, CallStats

__all__ = ["EndedCall", "EndedCalls", "LocalEndedCalls", "as_ended"]

_MAX_METADATA = 16
_MAX_VALUE_CHARS = 256


class EndedCall(NamedTuple):
    """A call that is over: whose it was, by what it is found, and its last figures."""

    record: CallRecord
    stats: CallStats


def as_ended(stats: CallStats, result: CallResult, reason: str) -> CallStats:
    """Returns what is remembered of a call.

    Values that a caller may make as long as it likes are cut, and nobody listens any more.
    """
    metadata = list(stats.metadata.items())[:_MAX_METADATA]
    return replace(
        stats,
        metadata={name[:_MAX_VALUE_CHARS]: value[:_MAX_VALUE_CHARS] for name, value in metadata},
        listeners=[],
        ended_at=time.time(),
        result=result,
        reason=reason,
    )


class EndedCalls(Protocol):
    """Remembers calls that are over, for a while."""

    def add_ended_call(self, record: CallRecord, stats: CallStats, result: CallResult, reason: str) -> None:
        """Adds a call that has ended. It returns at once."""
        ...

    async def list(self) -> list[EndedCall]:
        """Returns the calls that are remembered; the one that ended last comes first."""
        ...

    def limit_to(self, limit: int, max_age_s: float) -> None:
        """Sets how many calls are remembered from now on, and for how long."""
        ...


class LocalEndedCalls:
    """The ``EndedCalls`` of one process: up to ``limit`` calls, each for up to ``max_age_s``."""

    def __init__(self, limit: int, max_age_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[tuple[float, EndedCall]] = deque()
        self.limit_to(limit, max_age_s)

    def limit_to(self, limit: int, max_age_s: float) -> None:
        """Sets how many calls are remembered from now on, and for how long."""
        self.limit = limit
        """The number of calls that are remembered."""
        self.max_age_s = max_age_s
        """For how long they are remembered, in seconds."""
        self._forget()

    def add_ended_call(self, record: CallRecord, stats: CallStats, result: CallResult, reason: str) -> None:
        """See ``EndedCalls``."""
        self._calls.append((self._clock(), EndedCall(record, as_ended(stats, result, reason))))
        self._forget()

    async def list(self) -> list[EndedCall]:
        """See ``EndedCalls``."""
        self._forget()
        return [call for _, call in reversed(self._calls)]

    def _forget(self) -> None:
        before = self._clock() - self.max_age_s
        while self._calls and (self._calls[0][0] <= before or len(self._calls) > self.limit):
            self._calls.popleft()
