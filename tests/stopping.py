"""How a test is stopped that takes too long, and how the programs that tests start can be stopped.

A test with a loop is cancelled inside it, so that each ``async with`` and ``finally`` of it does its work. An alarm
would break the loop off from outside: the test's programs and sockets would stay, and fail the next test. The alarm of
pytest-timeout comes some seconds later, for a test that blocks its loop.
"""

import asyncio
import functools
import inspect
import signal
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
import pytest_timeout

from tests.machine import SLOWNESS, scaled

__all__ = ["pytest_configure", "pytest_pyfunc_call", "pytest_report_header", "pytest_timeout_set_timer"]

_CLEANUP_S = scaled(5.0)
_LIMIT_S = pytest.StashKey[float]()


def pytest_configure() -> None:
    """Programs that tests start can be interrupted.

    A shell without job control starts what runs in the background with SIGINT ignored, some CI runners do so as well,
    and what is ignored is inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """How slow the machine is."""
    return f"slowness of this machine: {SLOWNESS:g}"


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """The limit grows with the slowness of the machine, and the alarm leaves time to clean up."""
    item.stash[_LIMIT_S] = scaled(settings.timeout)
    settings = settings._replace(timeout=item.stash[_LIMIT_S] + _CLEANUP_S)
    pytest_timeout.pytest_timeout_set_timer(item, settings)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test with a loop ends in it."""
    if inspect.iscoroutinefunction(pyfuncitem.obj) and _LIMIT_S in pyfuncitem.stash:
        pyfuncitem.obj = _limited(pyfuncitem.obj, pyfuncitem.stash[_LIMIT_S])
    return (yield)


def _limited(test: Callable[..., Awaitable[object]], limit_s: float) -> Callable[..., Awaitable[object]]:
    @functools.wraps(test)
    async def limited(**arguments: Any) -> None:
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                await test(**arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise AssertionError(f"The test had not ended after {limit_s:g} s.") from error

    return limited
