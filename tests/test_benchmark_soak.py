"""The soak as people run it, small; and its judgement."""

import math

import pytest

from benchmarks import soak
from benchmarks.soak_calls import KINDS


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Once, on the loop that it is meant for."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_the_soak_runs() -> None:
    """A short one has calls of each kind and listeners beside them, and leaves no task, descriptor or call behind."""
    figures = await soak.measure(6, 0.4, every_s=1.0)
    happened = figures["happened"]
    assert all(happened[f"{kind}.opened"] >= 2 for kind in KINDS), happened
    assert happened["listeners.events"] > 100
    assert {name for name in happened if "failed" in name} <= {name for name in happened if "listeners" in name}
    assert figures["calls_up"] > 5
    assert [fault for fault in figures["faults"] if "rises" not in fault] == []  # too short for a trend
    assert {"rss_mb", "malloc_used_mb", "threads", "descriptors", "tasks"} == figures["trends"].keys()
    assert len(figures["samples"]) >= 10


def _judged(values: list[float], small: float = 4.0) -> bool:
    return bool(soak.trend([10.0 * number for number in range(len(values))], values, small)["is_flat"])


def test_what_rises_is_told_from_what_only_swings() -> None:
    """Swings, a fall and a small rise are flat; a creep is not, once it exceeds twice the scatter about it."""
    swings = [100 + 5 * math.sin(number) for number in range(300)]
    assert _judged(swings)
    assert _judged([value - number / 10 for number, value in enumerate(swings)])
    assert _judged([100 + number / 100 for number in range(300)])
    assert not _judged([100 + number / 50 for number in range(300)])
    assert not _judged([value + number / 20 for number, value in enumerate(swings)])


def test_a_creep_in_steps_is_a_trend() -> None:
    """One descriptor more every few minutes is seen."""
    assert not _judged([70 + number // 40 for number in range(300)], 3.0)
