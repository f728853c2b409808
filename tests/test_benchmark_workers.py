"""The benchmark of clusters and workers runs: each server carries its calls, and Redis is asked."""

import json
import sys
from pathlib import Path

import pytest

from tests.machine import scaled
from tests.processes import ran

pytestmark = pytest.mark.foreign


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_small_round(tmp_path: Path) -> None:
    """With a few calls: every server is measured, the first one against itself, and every node has its share."""
    file = tmp_path / "workers.json"
    options = ["--calls", "4", "--seconds", "1", "--windows", "1", "--json", str(file)]
    code, out, errors = await ran(sys.executable, "-m", "benchmarks", "workers", *options, limit_s=scaled(230))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures == json.loads(file.read_text())
    assert [each["server"] for each in figures["cluster"]] == ["alone", "cluster"]
    assert [sum(each["calls_by_node"]) for each in figures["workers"]] == [4, 4, 4]
    assert [len(each["calls_by_node"]) for each in figures["workers"]] == [1, 2, 2]
    for kind in ("cluster", "workers"):
        assert figures[kind][0]["ratio"] == 1.0
        assert all(each["us_per_packet"] > 0 for each in figures[kind])
    assert figures["redis"]["commands_per_call_begun"] > 1
