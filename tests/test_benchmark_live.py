"""The benchmark of the bridge's own delay as people run it, small."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from benchmarks import live

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(60)]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Once, on the loop that it is meant for."""
    return "asyncio", {"use_uvloop": True}


async def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two calls each: every packet is found again as an event, and has a delay and a distance from the one before."""
    with capture_logs():  # they would stand between the figures
        figures = await live.measure(2, 2, 2)
    delay, spacing = map(json.loads, capsys.readouterr().out.splitlines())
    assert figures == [delay, spacing]
    assert delay["calls"] == spacing["calls"] == 2
    assert delay["events"] > 2 * 2 * 50 * 0.8
    assert delay["event_delay_p50_ms"] > 0
    assert 0 < delay["cpu_percent_of_core"] <= 100
    assert 0 < delay["loop_lag_p50_ms"] <= delay["loop_lag_p99_ms"] <= delay["loop_lag_most_ms"]
    assert delay["gc_pauses"] >= 0
    assert spacing["packets"] > 2 * 2 * 50 * 0.8
    assert spacing["spacing_error_p50_ms"] >= 0
    live.draw(figures, str(tmp_path / "live.png"))
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")
