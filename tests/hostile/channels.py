"""Attacks by a WebRTC peer over its data channel: each function is run by an attacker's process."""

import asyncio
import contextlib
from typing import Any

from tests.end_to_end.real_peer import RealPeer
from tests.hostile.stage import OPERATOR, Address

__all__ = ["channel_flood"]

_EVENTS: dict[str, dict[str, Any]] = {
    "updates": {"type": "session.update", "session": {"type": "realtime"}},
    "questions": {"type": "conversation.item.retrieve", "item_id": "none"},
    "tools": {
        "type": "session.update",
        "session": {"type": "realtime", "tools": [{"type": "function", "name": f"f{n}"} for n in range(3000)]},
    },
}


def channel_flood(address: Address, kind: str, count: int) -> int:
    """So many events at once; how many had been answered when all were, or when that took too long."""
    return asyncio.run(_channel_flood(address, kind, count))


async def _channel_flood(address: Address, kind: str, count: int) -> int:
    async with RealPeer(f"http://127.0.0.1:{address.port}/", headers=OPERATOR) as peer:
        await peer.until("session.created")
        for _ in range(count):
            peer.send(_EVENTS[kind])
        with contextlib.suppress(AssertionError):
            await peer.wait(lambda: len(peer.of("session.updated", "error")) >= count, "answers")
        return len(peer.of("session.updated", "error"))
