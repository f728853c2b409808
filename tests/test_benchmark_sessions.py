"""The sessions benchmark runs: every server carries its calls, and what it counts is there."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.stages import stages_of, table
from tests.machine import scaled
from tests.processes import ran


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_small_round(tmp_path: Path) -> None:
    """With a few calls on a poor network: what was sent was heard, both ways and passed on, at aiortc as well."""
    file, picture = tmp_path / "sessions.json", tmp_path / "sessions.png"
    options = ["--mic", "2,4", "--both", "3", "--passed", "3", "--baseline-calls", "2", "--seconds", "2"]
    options += ["--windows", "1", "--warm-up-s", "1", "--jitter-ms", "30", "--json", str(file), "--png", str(picture)]
    command = [sys.executable, "-m", "benchmarks", "sessions", *options]
    code, out, errors = await ran(*command, limit_s=scaled(170))
    assert code == 0, errors
    figures = json.loads(out)
    assert figures == json.loads(file.read_text())
    assert [point["calls"] for point in figures["mic"]["bridge"]] == [2, 4]
    for mode in ("mic", "both", "passed"):
        for point in figures[mode]["bridge"]:
            assert point["heard_percent"] == pytest.approx(100, abs=15)
            assert point["answered_percent"] == pytest.approx(0 if mode == "mic" else 100, abs=15)
            assert point["calls_per_core"] == pytest.approx(20_000 / point["us_per_packet"], rel=0.01)
            assert (point["threads"] < 10, point["set_ups_per_core_s"] > 5) == (True, True)
    for mode in ("mic", "both"):
        (baseline,) = figures[mode]["aiortc"]
        best = max(point["calls_per_core"] for point in figures[mode]["bridge"])
        assert figures[mode]["ratio"] == pytest.approx(best / baseline["calls_per_core"], rel=0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_sample_counts_for_the_innermost_stage() -> None:
    """Of a stack the deepest known frame decides; what is in none is the event loop's."""
    samples = """\
run (asyncio/runners.py:118);Mux.datagram_received (bridge/webrtc/mux.py:70);OpusDecoder._run (bridge/media/opus.py:1) 3
run (asyncio/runners.py:118);Mux.datagram_received (bridge/webrtc/mux.py:70) 2
run (asyncio/runners.py:118);SoundStream._send (bridge/session/stream.py:9);SocketSink.send (bridge/api/socket.py:1) 4
run (asyncio/runners.py:118) 1
"""
    counted = stages_of(samples)
    expected = {
        "write to the WebSocket": 4,
        "Opus: decode": 3,
        "who a datagram is from; the clock": 2,
        "event loop: wait, receive datagrams": 1,
    }
    assert counted == Counter(expected)
    assert table(counted, 50.0).splitlines()[2:4] == ["| write to the WebSocket | 20.0 |", "| Opus: decode | 15.0 |"]
