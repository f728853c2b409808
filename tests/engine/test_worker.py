"""One thread for slow work."""

import asyncio
import functools
import threading

import pytest

from bridge.engine.worker import Worker
from bridge.errors import OverLimit


async def test_jobs_are_done_one_after_the_other_beside_the_loop() -> None:
    """All in one thread that is not the loop's, in order."""
    worker = Worker("test", limit=10)
    done: list[int] = []

    def note(at: int) -> int:
        done.append(at)
        return threading.get_ident()

    threads = await asyncio.gather(*(worker.submit(functools.partial(note, at)) for at in range(5)))
    assert done == [0, 1, 2, 3, 4]
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    await worker.aclose()


async def test_a_full_worker_refuses_and_recovers() -> None:
    """Beyond its limit a job is refused by name; when one is done there is room again."""
    worker, gate = Worker("voice", limit=2), threading.Event()
    first, second = worker.submit(gate.wait), worker.submit(gate.wait)
    with pytest.raises(OverLimit, match="2 jobs are waiting for its voice"):
        worker.submit(gate.wait)
    gate.set()
    await asyncio.gather(first, second)
    assert await worker.submit(lambda: "done") == "done"
    await worker.aclose()


async def test_a_cancelled_job_is_not_done() -> None:
    """What nobody wants any more costs nothing, unless it has begun."""
    worker, gate = Worker("test", limit=3), threading.Event()
    done: list[str] = []
    running, waiting = worker.submit(gate.wait), worker.submit(lambda: done.append("waiting"))
    waiting.cancel()
    await asyncio.sleep(0)  # the thread is told in the loop's next round
    gate.set()
    await running
    await worker.submit(lambda: done.append("last"))
    assert done == ["last"]
    await worker.aclose()


async def test_closing_waits_for_what_runs_and_drops_the_rest() -> None:
    """The thread is gone when ``aclose`` returns; a second call changes nothing."""
    worker, gate = Worker("test", limit=3), threading.Event()
    running, waiting = worker.submit(gate.wait), worker.submit(gate.wait)
    closing = asyncio.ensure_future(worker.aclose())
    await asyncio.sleep(0)
    gate.set()
    await closing
    await worker.aclose()
    assert await running is True
    assert waiting.cancelled() or not waiting.done()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test_")]
