"""Tests that are stopped clean up, and what they start can be stopped."""

import re
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import IGNORING_INTERRUPTS, clean_environ, ran

pytestmark = pytest.mark.slow

_STUCK = """
import asyncio, gc, os, signal, subprocess, sys
import pytest
from tests.processes import started

@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}

async def test_guilty():
    async with started(sys.executable, "-c", "input()", stdin=subprocess.PIPE) as process:
        print(f"started={process.pid}")
        await asyncio.Event().wait()

async def test_innocent():
    gc.collect()
"""
_INTERRUPTED = """
import re
import signal, subprocess, sys

def test_child():
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == -signal.SIGINT
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: the tests that are stopped have loops of their own."""
    return "asyncio"


async def _pytest(folder: Path, source: str, *options: str, before: tuple[str, ...] = ()) -> str:
    """What a run of its own says about tests of this source."""
    (folder / "test_these.py").write_text(source)
    plugins = ("tests.stopping", "no:randomly", "no:cacheprovider")
    chosen = [word for name in plugins for word in ("-p", name)]
    command = (sys.executable, "-m", "pytest", "-c", "pyproject.toml", *chosen, "-v", *options, str(folder))
    _, out, errors = await ran(*before, *command, environ=clean_environ(TEST_SLOWNESS="1"))
    return out + errors


async def test_a_test_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its programs are gone, and the next test in its loop runs as ever."""
    said = await _pytest(tmp_path, _STUCK, "--timeout", "0.5")
    assert "2 failed, 2 passed" in said, said
    assert len(re.findall(r"^E +AssertionError: The test had not ended after 1 s\.$", said, re.MULTILINE)) == 2
    started = [int(line.removeprefix("started=")) for line in said.splitlines() if line.startswith("started=")]
    assert len(started) == 2
    assert [pid for pid in started if psutil.pid_exists(pid)] == []


async def test_programs_can_be_interrupted_wherever_the_tests_were_started(tmp_path: Path) -> None:
    """What tests start gets SIGINT back, if it was ignored where they were started, as ``nohup`` and CI runners do."""
    said = await _pytest(tmp_path, _INTERRUPTED, before=IGNORING_INTERRUPTS)
    assert "1 passed" in said, said
