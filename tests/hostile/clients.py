"""Attacks by whoever has a key, over the doors that it opens: each function is run by an attacker's process."""

import asyncio
import json
from collections import Counter

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.hostile.stage import OPERATOR, Address

__all__ = ["big_items"]

_OPTIONS = {"compression": None, "proxy": None, "max_size": None, "additional_headers": OPERATOR}


_BIG = {
    "sound": lambda megabytes: {"type": "input_audio", "audio": "AAAA" * (megabytes << 18)},
    "pictures": lambda megabytes: {
        "type": "input_image",
        "image_url": "data:image/png;base64," + "A" * (megabytes << 20),
    },
}


def big_items(address: Address, kind: str, megabytes: int, count: int, conversations: int) -> dict[str, int]:
    """Messages with sound or pictures of so many megabytes each; what was answered, by type or error code."""
    return asyncio.run(_big_items(address, kind, megabytes, count, conversations))


async def _big_items(address: Address, kind: str, megabytes: int, count: int, conversations: int) -> dict[str, int]:
    item = {"type": "message", "role": "user", "content": [_BIG[kind](megabytes)]}
    event = json.dumps({"type": "conversation.item.create", "item": item})
    seen: Counter[str] = Counter()

    async def converse() -> None:
        url = f"ws://127.0.0.1:{address.port}/v1/realtime?model=any"
        async with connect(url, **_OPTIONS) as socket:  # type: ignore[arg-type]
            await socket.recv()
            for _ in range(count):
                await socket.send(event)
                answer = json.loads(await socket.recv())
                while answer["type"] not in ("error", "conversation.item.done"):
                    answer = json.loads(await socket.recv())
                seen[answer["error"]["code"] if answer["type"] == "error" else answer["type"]] += 1

    async def until_closed() -> None:
        try:
            await converse()
        except ConnectionClosed as error:
            seen[f"closed {error.rcvd.code if error.rcvd else 1006}"] += 1

    await asyncio.gather(*(until_closed() for _ in range(conversations)))
    return dict(seen)
