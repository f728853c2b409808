"""What every test may use: both event loops, a watch for blocking calls, and a recording of speech.

Where Hypothesis makes up the cases, they are the same 500 each time, so that a change is to blame when one fails;
``HYPOTHESIS_PROFILE=nightly`` makes it 20,000 that are new each night, ``quick`` the first 10 of the same 500.
"""

import asyncio
import functools
import os
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from bridge.engine.local import Local
from bridge.engine.voice import Voice
from bridge.log import set_level
from tests.stopping import (
    pytest_configure,
    pytest_pyfunc_call,
    pytest_report_header,
    pytest_timeout_set_timer,
)

__all__ = ["pytest_configure", "pytest_pyfunc_call", "pytest_report_header", "pytest_timeout_set_timer"]

_DATA = Path(__file__).parent / "data"
_ROOT = Path(__file__).parents[1]
_CASES = {"quick": 10, "everyday": 500, "nightly": 20_000}
_NIGHTLY_LIMIT_S = 3600

for _name, _cases in _CASES.items():
    settings.register_profile(
        _name,
        max_examples=_cases,
        derandomize=_name != "nightly",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
_profile = os.environ.get("HYPOTHESIS_PROFILE", "everyday")
settings.load_profile(_profile)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay in one process.

    So many cases as by night take longer than a test may otherwise.
    """
    for item in items:
        file = item.path.relative_to(_ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(file))
        if _profile == "nightly":
            item.add_marker(pytest.mark.timeout(_NIGHTLY_LIMIT_S))


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each async test runs once on asyncio's own loop and once on uvloop."""
    return "asyncio", {"use_uvloop": request.param, "debug": False}


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """In an async test, a blocking call made by ``bridge`` inside the event loop is an error."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with blockbuster_ctx("bridge"):
        yield


@pytest.fixture(scope="session")
def speech_pcm() -> bytes:
    """Real speech: PCM16, 24 kHz, mono."""
    with wave.open(str(_DATA / "speech.wav"), "rb") as recording:
        assert (recording.getframerate(), recording.getsampwidth(), recording.getnchannels()) == (24_000, 2, 1)
        return recording.readframes(recording.getnframes())


@pytest.fixture(scope="session")
def models() -> Iterator[Local]:
    """The engine's ears and voice, loaded once for all tests, with a fixed seed."""
    with asyncio.Runner() as runner:
        local = runner.run(Local(seed=0).__aenter__())
        yield local
        runner.run(local.aclose())


@pytest.fixture(scope="session")
def say() -> Callable[[str], bytes]:
    """Real speech: a sentence as PCM16, 24 kHz, mono, the same to the bit in every run."""
    voice = Voice(seed=0)
    voice.say("Warm up.")  # reads its files
    return functools.cache(voice.say)


@pytest.fixture
def debug_log() -> Iterator[None]:
    """The log has every line, whatever level a daemon of another test has set."""
    before = structlog.get_config()["wrapper_class"]
    set_level("debug")
    yield
    structlog.configure(wrapper_class=before)
