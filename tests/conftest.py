"""What every test may use: both event loops, a watch for blocking calls, and a recording of speech.

If Hypothesis makes up the cases, they are the same 500 each time, so that a change is to blame when one fails;
``HYPOTHESIS_PROFILE=nightly`` makes it 20,000 that are new each night, ``check`` the first 50 of the same 500, and
``quick`` the first 10.
"""

import asyncio
import functools
import gc
import os
import wave
from collections import Counter
from collections.abc import Callable, Generator, Iterator
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

_TESTS = Path(__file__).parent
_DATA = _TESTS / "data"
_CASES = {"quick": 10, "check": 50, "everyday": 500, "nightly": 20_000}
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--one-loop`` halves the async tests."""
    parser.addoption("--one-loop", action="store_true", help="run async tests on uvloop alone, as bridge itself does")


@pytest.hookimpl(trylast=True)  # pytest-randomly has shuffled them
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Chooses, limits and orders the tests.

    ``--one-loop`` leaves half of the async tests out. So many cases as by night may take longer than other tests. The
    files that take longest come first: a process runs a whole file, and none should be left with a long one at the end.
    """
    if config.getoption("one_loop"):
        second = [item for item in items if _is_on_second_loop(item)]
        config.hook.pytest_deselected(items=second)
        items[:] = [item for item in items if not _is_on_second_loop(item)]
    if _profile == "nightly":
        for item in items:
            item.add_marker(pytest.mark.timeout(_NIGHTLY_LIMIT_S))
    lengths: Counter[Path] = Counter()
    for item in items:
        is_long = any(map(item.get_closest_marker, ("slow", "browser", "foreign")))
        lengths[item.path] += 50 if is_long else 1  # guessed
    items.sort(key=lambda item: -lengths[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay in one process, and so do all that drive a browser or change the machine's network.

    A browser gives up what it is fetching (``net::ERR_NETWORK_CHANGED``) whenever an interface comes or goes.
    """
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Scheduler(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "network" if _is_of_the_network(file) else file

    return Scheduler(config, log) if config.getoption("dist") == "loadfile" else None


@functools.cache
def _is_of_the_network(file: str) -> bool:
    """Whether tests of this file drive a browser, or make interfaces of the network."""
    return file.startswith("tests/foreign/") or "mark.browser" in (_TESTS.parent / file).read_text()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nobody looks for garbage among the tests while they are collected, nor afterwards, for all of them stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _is_on_second_loop(item: pytest.Item) -> bool:
    """Whether it is the run on asyncio's own loop of a test that runs on uvloop too."""
    return (
        isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("anyio_backend") is False
    )


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
