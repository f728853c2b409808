"""The fan-out benchmark runs, and what it counts is there."""

import json
import sys
from pathlib import Path

import pytest

from tests.machine import scaled
from tests.processes import ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_small_round(tmp_path: Path) -> None:
    """With a few listeners: all of them hear all in order, both servers deliver as much, frozen ones fall behind."""
    file, picture = tmp_path / "fanout.json", tmp_path / "fanout.png"
    options = ["--listeners", "40", "--seconds", "1", "--rounds", "1", "--fill-s", "40"]
    command = [sys.executable, "-m", "benchmarks.fanout", *options, "--json", str(file), "--png", str(picture)]
    code, out, errors = await ran(*command, limit_s=scaled(100))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures == json.loads(file.read_text())
    assert (figures["listeners"], figures["frozen"]) == (40, 4)
    assert (figures["gaps"], figures["spread"], figures["gaps_beside_frozen"]) == (0, 0, 0)
    assert figures["delivered"] >= 40 * 50
    assert figures["delivered_bare"] == pytest.approx(figures["delivered"], rel=0.1)
    assert figures["ratio"] == pytest.approx(figures["bridge_us_per_event"] / figures["bare_us_per_event"], rel=0.01)
    assert figures["frozen_that_wait"] == [4]
    assert figures["rss_mb_beside_frozen"] < figures["rss_bound_mb"] + 50  # buffers of those that read, too
    assert picture.read_bytes().startswith(b"\x89PNG")
