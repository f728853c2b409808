"""The benchmark of telephone calls, small: it measures what it says."""

import json
import sys

import pytest

from tests.processes import ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
async def test_a_few_calls_are_measured() -> None:
    """Each caller is answered in real time, and nobody complains; one JSON line tells it."""
    command = (sys.executable, "-m", "benchmarks.telephony", "--calls", "5", "--seconds", "6")
    code, out, errors = await ran(*command)
    assert code == 0, errors
    [line] = out.splitlines()
    figures = json.loads(line)
    assert (figures["calls"], figures["callers_answered"], figures["complaints"]) == (5, 5, 0)
    assert 5 * 50 < figures["frames_heard"] <= 5 * 50 * figures["seconds"]
    assert figures["late_ms_by_the_bridge"] >= 0
    assert 0 < figures["cpu_percent_of_core"] < 100
