"""A stored recording on its way to a client that does not take all of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from bridge.api.live import RecordingResponse


class _Recording:
    status = 200
    headers: Mapping[str, str] = {"content-type": "audio/wav"}

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"sound"


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_the_service_is_left_as_soon_as_the_client_has_gone(taken: int) -> None:
    """Whether it goes before the first byte or in the middle."""
    closed: list[bool] = []
    stack = AsyncExitStack()
    stack.callback(closed.append, True)
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        if sent == taken:
            raise OSError
        sent += 1

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    with pytest.raises(ClientDisconnect):
        await RecordingResponse(_Recording(_endless()), stack)(scope, receive, send)
    assert closed == [True]
