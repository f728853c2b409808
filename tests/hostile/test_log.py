"""Standard error that nobody reads, and strangers who make the daemon complain."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.conftest import STOP_LIMIT_S
from tests.hostile.stage import Target, attacked, serve
from tests.hostile.strangers import garbage_requests

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture
def unread(flags: tuple[str, ...], tmp_path: Path) -> Iterator[Target]:
    """A daemon whose standard error is a pipe that is full."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(write_end, b"\n" * 4096):
            pass
    os.set_blocking(write_end, True)
    try:
        with serve(tmp_path / "log", *flags, "--log-level", "debug", stderr=write_end) as target:
            yield target
    finally:
        os.close(read_end)
        os.close(write_end)


async def test_log_that_nobody_reads(unread: Target) -> None:
    """Calls go on, and SIGTERM ends it; what could not be told is lost."""
    outcome = await attacked(unread, garbage_requests, 3000)
    outcome.require_harmless()
    assert outcome.answer == {"400": 3000}
    unread.process.terminate()
    assert unread.process.wait(STOP_LIMIT_S) == 0


async def test_bad_requests_are_tallied(target: Target) -> None:
    """Thousands of them make a line or two a second."""
    outcome = await attacked(target, garbage_requests, 3000)
    outcome.require_harmless()
    lines = [line for line in target.log_lines() if line["event"] == "api.bad_request"]
    assert 0 < sum(line["count"] for line in lines) <= 3000
    assert len(lines) <= outcome.seconds + 2
