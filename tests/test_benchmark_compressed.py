"""The benchmark of compressed listeners runs, and what it counts is there."""

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
    """With a few listeners of each kind: nobody misses anything, and Opus and MP3 take the fewest bytes."""
    file = tmp_path / "compressed.json"
    options = [
        "--listeners",
        "5",
        "--callers",
        "2",
        "--seconds",
        "1",
        "--rounds",
        "1",
        "--linger-s",
        "0",
        "--json",
        str(file),
    ]
    code, out, errors = await ran(sys.executable, "-m", "benchmarks.compressed", *options, limit_s=scaled(100))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures == json.loads(file.read_text())
    assert (figures["listeners"], figures["calls"]) == (5, 2)
    for part in (figures["each"], figures["alone"]):
        assert part["gaps"] == 0
        sizes = part["bytes_per_event"]
        assert (sizes["pcm16_binary"], sizes["mp3_binary"]) == (976, 160)
        assert 0 < sizes["opus_binary"] < sizes["pcm16_binary"] / 4
        assert sizes["opus"] < sizes["pcm16"] / 3
        assert part["us_per_event"].keys() == sizes.keys()
