"""One thread for slow work, shared by all sessions: the event loop never waits for it, and it never hoards work."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from bridge.errors import OverLimit

__all__ = ["Worker"]

_NICENESS = 10

_T = TypeVar("_T")


class Worker:
    """Does one job after the other, in order; at most ``limit`` of them wait or run."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_yield_to_others)
        self._jobs: set[asyncio.Future[Any]] = set()

    def submit(self, job: Callable[[], _T]) -> "asyncio.Future[_T]":
        """The job's result, once it is there; cancelled before its turn, the job is never done.

        A full worker answers with ``OverLimit``.
        """
        if len(self._jobs) >= self._limit:
            raise OverLimit(f"The engine is busy: {self._limit} jobs are waiting for its {self._name}.")
        future = asyncio.get_running_loop().run_in_executor(self._executor, job)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        return future

    async def aclose(self) -> None:
        """Drops what has not begun, and waits for what has; may be called twice."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)


def _yield_to_others() -> None:
    """Lowers the priority of the thread where a system can (Linux), so that sound under way goes before recognition."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
