"""The benchmark of telephone calls, small: it measures what it says."""

import json
import sys

import pytest

from bridge.client.carriers.table import CARRIERS
from tests.processes import ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
async def test_calls_of_all_carriers_at_once() -> None:
    """Each caller is answered in real time, and nobody complains; no frame is late where the carrier has a buffer."""
    calls = len(CARRIERS)
    command = (sys.executable, "-m", "benchmarks.telephony", "--as", "all", "--calls", str(calls), "--seconds", "6")
    code, out, errors = await ran(*command)
    assert code == 0, errors
    [line] = out.splitlines()
    figures = json.loads(line)
    for name in ("carriers", "calls", "callers_answered"):
        assert figures[name] == calls
    assert (figures["complaints"], figures["late_frames"], figures["late_ms_by_the_bridge"]) == (0, 0, 0)
    assert figures["late_frames_unbuffered"] >= 0
    assert calls * 50 < figures["frames_heard"] <= calls * 50 * figures["seconds"]
    assert 0 < figures["cpu_percent_of_core"] < 100
