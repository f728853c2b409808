"""A bridge's endpoint on loopback, and calls to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from typing import Protocol

import aioice.ice
import pytest

from bridge.media.opus import find_libopus
from bridge.webrtc.endpoint import Endpoint
from tests.webrtc.calling import LOOPBACK, Caller, Calls, LoopWatch, Patch, Stranger

__all__ = ["Appearing", "Placing"]


@pytest.fixture(scope="session", autouse=True)
def _libopus_is_found() -> None:
    """The first look for libopus reads directories, which an event loop must not wait for."""
    find_libopus()


@pytest.fixture(autouse=True)
def _loopback_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves loopback out of its candidates; here it is all there is."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [LOOPBACK])


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """The bridge's socket."""
    async with Endpoint(LOOPBACK, 0) as endpoint:
        yield endpoint


class Placing(Protocol):
    """Gives a connected caller; ``is_connected=False`` one that has not offered yet."""

    async def __call__(self, endpoint: Endpoint, *, is_connected: bool = True, patch: Patch = str) -> Caller: ...


class Appearing(Protocol):
    """Gives a socket of its own that knows the endpoint's port."""

    async def __call__(self, endpoint: Endpoint) -> Stranger: ...


@pytest.fixture
async def place_call() -> AsyncIterator[Placing]:
    """Makes callers, whose connections are closed at the end."""
    async with AsyncExitStack() as stack:

        async def place(endpoint: Endpoint, *, is_connected: bool = True, patch: Patch = str) -> Caller:
            caller = Caller(endpoint)
            stack.push_async_callback(caller.pc.close)
            if is_connected:
                await caller.connect(patch)
            return caller

        yield place


@pytest.fixture
async def new_stranger() -> AsyncIterator[Appearing]:
    """Makes strangers, whose sockets are closed at the end."""
    with ExitStack() as stack:

        async def appear(endpoint: Endpoint) -> Stranger:
            loop = asyncio.get_running_loop()
            remote = (LOOPBACK, endpoint.port)
            transport, stranger = await loop.create_datagram_endpoint(Stranger, remote_addr=remote)
            stack.callback(transport.close)
            return stranger

        yield appear


@pytest.fixture
async def loop_watch() -> AsyncIterator[LoopWatch]:
    """Measures how long the loop is blocked."""
    watch = LoopWatch()
    yield watch
    watch.stop()


@pytest.fixture
async def calls(endpoint: Endpoint, place_call: Placing, loop_watch: LoopWatch) -> Calls:
    """Two live calls."""
    victim, witness = await place_call(endpoint), await place_call(endpoint)
    await victim.works()
    loop_watch.reset()
    return Calls(victim, witness, loop_watch)
