"""A carrier's connection that is passed on to the node that has its call: no side makes the other wait for ever."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.cluster.passing import pass_carrier_on
from tests.machine import scaled

_LIMIT_S = scaled(20.0)
_LONG_S = 60.0


class _Carrier:
    """A carrier that says what the test puts in ``says``; None is its goodbye."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.heard: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None
        self.buffered_bytes = 0

    async def receive(self) -> str | bytes | None:
        return await self.says.get()

    def write_messages(self, messages: list[str | bytes]) -> None:
        self.heard += messages

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)


@asynccontextmanager
async def _node(handle: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[ClientConnection]:
    async with (
        asyncio.timeout(_LIMIT_S),
        serve(handle, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        yield await connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, close_timeout=1)


async def test_what_was_read_comes_first_and_each_side_hears_the_other() -> None:
    """The node's end is the carrier's end, with its code and its words."""

    async def echo(socket: ServerConnection) -> None:
        for _ in range(3):
            await socket.send(await socket.recv())
        await socket.close(1008, "call_over")

    carrier = _Carrier()
    carrier.says.put_nowait("third")
    async with _node(echo) as there:
        await pass_carrier_on(
            there, ["first", b"second"], carrier.receive, carrier, judged_within_s=_LONG_S, on_judged=pytest.fail
        )
    assert carrier.heard == ["first", b"second", "third"]
    assert carrier.closed == (1008, "call_over")


async def test_a_stranger_is_let_in_once_the_node_has_had_time_to_judge() -> None:
    """As long as it may still be turned away there, it counts as a stranger here."""
    judged = asyncio.Event()
    carrier = _Carrier()

    async def keep(socket: ServerConnection) -> None:
        await judged.wait()
        await socket.close()

    async with _node(keep) as there:
        await pass_carrier_on(
            there, ["start"], carrier.receive, carrier, judged_within_s=scaled(0.2), on_judged=judged.set
        )
    assert carrier.closed == (1000, "")


async def test_a_node_that_reads_nothing_is_given_up() -> None:
    """The carrier is told to connect again, instead of waiting for it."""

    async def deaf(socket: ServerConnection) -> None:
        await socket.wait_closed()

    carrier = _Carrier()
    for _ in range(100):
        carrier.says.put_nowait(bytes(200_000))
    async with _node(deaf) as there:
        await pass_carrier_on(
            there,
            [],
            carrier.receive,
            carrier,
            judged_within_s=_LONG_S,
            on_judged=pytest.fail,
            timeout_s=scaled(0.5),
        )
    assert carrier.closed is not None
    assert carrier.closed[0] == 1012


async def test_a_carrier_that_reads_nothing_is_given_up() -> None:
    """The node's sound does not wait for it for ever."""

    async def chatter(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await socket.send("sound")
                await asyncio.sleep(0)

    carrier = _Carrier()
    carrier.buffered_bytes = 1024 * 1024
    async with _node(chatter) as there:
        await pass_carrier_on(
            there,
            [],
            carrier.receive,
            carrier,
            judged_within_s=_LONG_S,
            on_judged=pytest.fail,
            timeout_s=scaled(0.5),
        )
    assert carrier.heard == ["sound"]
    assert carrier.closed is not None
