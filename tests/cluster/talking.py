"""Owners of calls in a cluster: they type, wait until it is noted, and come back to another node."""

import asyncio
from typing import Any

from websockets.exceptions import InvalidHandshake

from tests.cluster.nodes import ADMIN
from tests.cluster.redis import RunningRedis, until
from tests.end_to_end.serving import Serving
from tests.end_to_end.web import EventSocket, open_socket
from tests.machine import scaled

__all__ = ["come_back", "items", "noted", "session_id", "type_text", "typed"]

_LIMIT_S = scaled(15.0)


def typed(text: str, item_id: str) -> dict[str, Any]:
    """A user's message of text."""
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": item_id, "role": "user", "content": content}


async def type_text(socket: EventSocket, text: str, item_id: str) -> None:
    """Says it, and asks for an answer."""
    await socket.send({"type": "conversation.item.create", "item": typed(text, item_id)})
    await socket.send({"type": "response.create"})


def session_id(owner: EventSocket) -> str:
    """The id of its call."""
    found: str = owner.events[0]["session"]["id"]
    return found


async def noted(redis: RunningRedis, call_id: str, text: str) -> None:
    """Waits until the notes in Redis have ``text``."""

    async def is_there() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", redis.port)
        writer.write(f"HGET bridge:call:{{{call_id}}} notes\r\nQUIT\r\n".encode())
        answer = await reader.read()
        writer.close()
        return text.encode() in answer

    await until(is_there)


async def come_back(node: Serving, query: str) -> EventSocket:
    """Comes back as a client does that tries again until it is let in."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        opening = open_socket(node.url, query, first=None, additional_headers=ADMIN)
        try:
            socket = await opening.__aenter__()
        except (InvalidHandshake, OSError):
            assert loop.time() - began < _LIMIT_S
            await asyncio.sleep(0.2)
            continue
        socket.leave = opening.__aexit__  # type: ignore[attr-defined]
        return socket


async def items(socket: EventSocket, *item_ids: str) -> list[str]:
    """What the items say, as the upstream of the call has them."""
    said = []
    for number, item_id in enumerate(item_ids, 1):
        refused = len(socket.of("error"))
        await socket.send({"type": "conversation.item.retrieve", "item_id": item_id})

        def is_answered(number: int = number, refused: int = refused) -> bool:
            return len(socket.of("conversation.item.retrieved")) >= number or len(socket.of("error")) > refused

        await socket.wait(is_answered, f"answer about {item_id}")
        assert len(socket.of("error")) == refused, (item_id, socket.of("error")[-1])
        said.append(socket.of("conversation.item.retrieved")[number - 1]["item"]["content"][0]["text"])
    return said
