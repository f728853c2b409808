"""A daemon in a process of its own for each file of attacks, with every door that a stranger can reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.stage import KEY, Target, serve
from tests.machine import scaled

__all__: list[str] = []

STOP_LIMIT_S = scaled(8.0)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


@pytest.fixture(scope="module")
def flags() -> tuple[str, ...]:
    """Of ``bridge serve``; a file that needs others has a fixture of this name."""
    return (
        *("--api-key", KEY, "--drain-s", "0"),
        *("--telnyx-secret", "telnyx-secret", "--asterisk-secret", "asterisk-secret"),
        *("--audiosocket-port", "0", "--audiosocket-uuid", "40325ec2-5efd-4bd3-805f-53576e581d13"),
    )


@pytest.fixture(scope="module")
def target(flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The daemon that all tests of a file attack; in the end it must still stop as it should."""
    log: Path = tmp_path_factory.mktemp("hostile") / "log"
    with serve(log, *flags) as running:
        yield running
        if running.is_running:
            running.stop(STOP_LIMIT_S)
