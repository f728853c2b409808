"""A WebSocket that we have opened: what its server sends arrives whole and in order, and is bounded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.sliced import SlicedConnection
from tests.machine import scaled


@asynccontextmanager
async def _connected(say: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[SlicedConnection]:
    async with serve(say, "127.0.0.1", 0, compression=None, close_timeout=1) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            asyncio.timeout(scaled(10.0)),
            connect(
                f"ws://127.0.0.1:{port}",
                create_connection=SlicedConnection,
                compression=None,
                max_queue=16,
                close_timeout=1,
                proxy=None,
            ) as connection,
        ):
            yield cast(SlicedConnection, connection)


async def test_everything_arrives_before_the_end() -> None:
    """Thousands of small messages and some long ones, then the goodbye: nothing is lost, though the reader is slow."""
    sent = [str(number) for number in range(5000)] + ["x" * 300_000, "y" * 10_000, "z"]

    async def say(connection: ServerConnection) -> None:
        for text in sent:
            await connection.send(text)

    came = []
    async with _connected(say) as connection:
        async for text in connection:  # until it is closed with 1000
            came.append(text)
            await asyncio.sleep(0)
        assert connection.close_code == 1000
    assert came == sent


async def test_message_of_too_many_fragments() -> None:
    """It ends the connection, as a message that is too long does."""

    async def say(connection: ServerConnection) -> None:
        connection.transport.write(b"\x01\x00" + b"\x00\x00" * 20_000)
        await connection.wait_closed()

    async with _connected(say) as connection:
        with pytest.raises(ConnectionClosed):
            await connection.recv()


async def test_message_in_fragments() -> None:
    """Some fragments are a message."""

    async def say(connection: ServerConnection) -> None:
        await connection.send(str(number) for number in range(1000))

    async with _connected(say) as connection:
        assert await connection.recv() == "".join(map(str, range(1000)))
