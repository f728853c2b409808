"""An agent as anybody would write one: a plain WebSocket client that answers calls with the caller's own words."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

__all__ = ["ParrotAgent", "attached_agent"]

_PAUSE_BYTES = 2 * 24 * 400
_LOUD = 300


class ParrotAgent:
    """Hears one call; a pause behind speech ends a turn, and the turn is said again."""

    def __init__(self, socket: ClientConnection) -> None:
        self.heard: list[dict[str, Any]] = []
        """Every event that came, sound excepted."""
        self._socket = socket
        self._sound = b""
        self._turns = 0

    async def run(self) -> None:
        """Until the call is over."""
        try:
            async for text in self._socket:
                event = json.loads(text)
                if event["type"] == "input_audio_buffer.append":
                    await self._hear(base64.b64decode(event["audio"]))
                else:
                    self.heard.append(event)
                    await self._obey(event)
        except ConnectionClosed:
            pass

    async def _hear(self, sound: bytes) -> None:
        self._sound += sound
        samples = np.abs(np.frombuffer(self._sound, "<i2").astype(np.int32))
        loud = np.flatnonzero(samples > _LOUD)
        if loud.size and 2 * (len(samples) - loud[-1]) > _PAUSE_BYTES:
            turn, self._sound = self._sound[2 * int(loud[0]) :], b""
            await self._answer(turn)

    async def _obey(self, event: dict[str, Any]) -> None:
        if event["type"] == "session.update":
            session = {**self.heard[0]["session"], **event["session"]}
            await self._say("session.updated", session=session)
        elif event["type"] == "conversation.item.create":
            await self._say("conversation.item.added", item=event["item"], previous_item_id=None)
            await self._say("conversation.item.done", item=event["item"], previous_item_id=None)

    async def _answer(self, turn: bytes) -> None:
        self._turns += 1
        ids = {"response_id": f"resp_{self._turns}", "item_id": f"item_{self._turns}", "output_index": 0}
        part = {**ids, "content_index": 0}
        item: dict[str, Any] = {"id": ids["item_id"], "type": "message", "role": "assistant", "content": []}
        response: dict[str, Any] = {
            "id": ids["response_id"],
            "object": "realtime.response",
            "status": "in_progress",
            "output": [],
            "output_modalities": ["audio"],
        }
        await self._say("response.created", response=response)
        await self._say("response.output_item.added", item=item, **{k: v for k, v in ids.items() if k != "item_id"})
        await self._say("conversation.item.added", item=item, previous_item_id=None)
        await self._say("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
        await self._say("response.output_audio_transcript.delta", delta="your words", **part)
        for at in range(0, len(turn), 9600):
            delta = base64.b64encode(turn[at : at + 9600]).decode()
            await self._say("response.output_audio.delta", delta=delta, **part)
        await self._say("response.output_audio.done", **part)
        await self._say("response.output_audio_transcript.done", transcript="your words", **part)
        await self._say("response.content_part.done", part={"type": "audio", "transcript": "your words"}, **part)
        done = {**item, "status": "completed", "content": [{"type": "output_audio", "transcript": "your words"}]}
        await self._say("response.output_item.done", item=done, **{k: v for k, v in ids.items() if k != "item_id"})
        await self._say("conversation.item.done", item=done, previous_item_id=None)
        await self._say("response.done", response={**response, "status": "completed", "output": [done]})

    async def _say(self, name: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": name, "event_id": "event_of_agent", **fields}))


@asynccontextmanager
async def attached_agent(base_url: str, query: str = "role=agent") -> AsyncIterator[ParrotAgent]:
    """Waits for a call of the daemon at ``base_url``."""
    url = base_url.replace("http", "ws", 1) + f"v1/realtime?{query}"
    async with connect(url) as socket, asyncio.TaskGroup() as group:
        agent = ParrotAgent(socket)
        running = group.create_task(agent.run())
        yield agent
        running.cancel()
