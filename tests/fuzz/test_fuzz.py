"""Each target of fuzzing, with the same cases in every run; ``make nightly`` has a million new ones of each."""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import events, media, signalling
from tests.fuzz.oracle import Checked, Target, lines_changed, reduced, values_changed
from tests.machine import scaled
from tests.processes import ran

_TARGETS = {**media.TARGETS, **signalling.TARGETS, **events.TARGETS}
_LIMIT_S = scaled(60.0)
_PLANTED = """
import argparse, pathlib, sys
from tests.fuzz import __main__ as fuzz
from tests.fuzz.oracle import Target

def run(data):
    assert data.count(b"a") < 2

target = Target(run, lambda: [b"a", b"bc"])
arguments = argparse.Namespace(case=None, runs=20000, seed=1, findings=pathlib.Path(sys.argv[1]))
fuzz.run_target("planted", target, arguments)
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop waits for a process is nothing to it."""
    return "asyncio"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(_TARGETS))
async def test_strange_input_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Whatever comes of a message, it is no error but the project's own, and takes less than 50 ms."""
    command = (sys.executable, "-m", "tests.fuzz", name, "--findings", str(tmp_path))
    code, out, errors = await ran(*command, limit_s=_LIMIT_S)
    assert code == 0, errors[-3000:]
    assert out.startswith(f"{name}: {_TARGETS[name].everyday_runs} cases")


@pytest.mark.parametrize("name", sorted(_TARGETS))
def test_it_begins_with_real_messages(name: str) -> None:
    """What cases are made from is there, and none of it is a finding."""
    seeds = _TARGETS[name].seeds()
    assert seeds
    for seed in seeds:
        _TARGETS[name].run(seed)


def test_all_targets_can_be_chosen() -> None:
    """Each has a name on the command line."""
    assert sorted(_TARGETS) == fuzz.TARGETS


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """It ends the run, is reduced to what matters, and is kept in a file."""
    code, out, errors = await ran(sys.executable, "-c", _PLANTED, str(tmp_path), limit_s=_LIMIT_S)
    assert code != 0
    assert "planted: " not in out
    assert "b'aa'" in errors
    assert b"a" in (tmp_path / "fuzz-planted.case").read_bytes()


def test_a_slow_case_is_a_finding() -> None:
    """Time counts as errors do; what was slow once alone does not."""
    waits: Iterator[float] = iter([0.2, 0.0, 0.2, 0.2, 0.2])

    def run(data: bytes) -> None:
        until = time.process_time() + next(waits)
        while time.process_time() < until:
            pass

    checked = Checked(Target(run, lambda: []), slowness=1.0)
    checked(b"slow once")
    with pytest.raises(AssertionError, match="a case took 2"):
        checked(b"slow")
    assert checked.cases == 2


def test_a_case_is_reduced_to_what_fails_in_the_same_way() -> None:
    """Another fault on the way is not taken for it."""

    def run(data: bytes) -> None:
        if len(data) < 3:
            raise ValueError("another")
        assert b"x" not in data

    least = reduced(run, b"0123456789x0123456789")
    assert len(least) == 3
    assert b"x" in least
    assert reduced(run, b"nothing wrong") == b"nothing wrong"


def test_cases_are_made_of_what_is_known() -> None:
    """A case depends on its seed alone, differs from what it was made of, and mostly is still JSON, or lines."""
    events_of = [b'{"type": "a", "b": {"c": [1, 2]}}', b'{"type": "d"}']
    change = values_changed(events_of)
    made = [change(events_of[0], random.Random(seed)) for seed in range(50)]
    assert made == [change(events_of[0], random.Random(seed)) for seed in range(50)]
    assert len(set(made)) > 25
    assert change(b"no JSON", random.Random(1)).startswith(b"{")
    lines = lines_changed([b"v=0\r\na=b c", b"m=audio"])
    assert len({lines(b"v=0\r\na=b c", random.Random(seed)) for seed in range(50)}) > 10
