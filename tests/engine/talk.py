"""A conversation with the real engine: everything it says is recorded."""

import asyncio
import base64
import itertools
import json
from typing import Any

import pytest

from bridge.engine.mind import Mind
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.errors import BadEvent, BridgeError
from bridge.media.playback import Part
from bridge.session.state import SessionState
from bridge.wire.client_events import read_client_message
from bridge.wire.server_events import Body, ServerEvent, encode
from bridge.wire.sessions import default_session
from tests.fakes import CONTEXT, JsonEvent

__all__ = [
    "AUDIO",
    "MS",
    "SPOKEN_ANSWER",
    "WRITTEN_ANSWER",
    "Recorder",
    "Talk",
    "silence",
    "turns",
    "without_repeats",
]

MS = 48
"""Bytes of PCM16 at 24 kHz."""
AUDIO = "(audio)"
"""Stands in the record for a piece of sound."""


SPOKEN_ANSWER = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    AUDIO,
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
WRITTEN_ANSWER = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


def silence(duration_ms: int) -> bytes:
    return bytes(duration_ms * MS)


class Recorder:
    """A session that only listens: events as they were when they came, pieces of sound among them."""

    def __init__(self) -> None:
        self.state = SessionState(default_session(session_id="sess_1", model="parrot", expires_at=0))
        self.events: list[JsonEvent] = []
        self.sounds: dict[str, bytes] = {}
        """By item."""
        self.closed: list[BridgeError | None] = []
        self._news = asyncio.Event()

    def deliver_event(self, event: ServerEvent, body: Body | None = None) -> None:
        self.state.follow(event)
        self._record(json.loads(encode(event if body is None else body)))

    def deliver_audio(self, part: Part, pcm: bytes) -> None:
        self.state.has_spoken = True
        self.sounds[part.item_id] = self.sounds.get(part.item_id, b"") + pcm
        self._record({"type": AUDIO, "response_id": part.response_id, "item_id": part.item_id})

    def upstream_changed(self) -> None:
        pass

    def upstream_closed(self, error: BridgeError | None) -> None:
        self.closed.append(error)
        self._news.set()

    async def until_closed(self) -> None:
        """Waits until the upstream is gone."""
        while not self.closed:
            self._news.clear()
            await self._news.wait()

    def _record(self, event: JsonEvent) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def types(self) -> list[str]:
        return [str(event["type"]) for event in self.events]

    def of_type(self, name: str) -> list[JsonEvent]:
        return [event for event in self.events if event["type"] == name]

    async def until(self, name: str, count: int = 1) -> JsonEvent:
        """Waits until the ``count``th event of this name has come."""
        while len(self.of_type(name)) < count:
            self._news.clear()
            await self._news.wait()
        return self.of_type(name)[count - 1]


class Talk:
    """The engine, and what a caller and a client do with it."""

    def __init__(self, mind: Mind | None = None, /, **session: object) -> None:
        self.said = Recorder()
        self.mind = mind or Parrot()
        self.engine = Engine(self.mind, CONTEXT)
        self.engine.start(self.said, self.said.state)
        self.spoken = b""
        if session:
            self.send("session.update", session=session)

    def send(self, name: str, **fields: Any) -> None:
        if name == "session.update":
            fields["session"] = {"type": "realtime", **fields["session"]}
        self.engine.receive_client_event(read_client_message(json.dumps({"type": name, **fields})))

    def refusal(self, name: str, **fields: Any) -> BadEvent:
        """Sends what must be refused, and changes nothing that can be seen."""
        before = len(self.said.events)
        with pytest.raises(BadEvent) as caught:
            self.send(name, **fields)
        assert self.said.types[before:] == []
        return caught.value

    def speak(self, pcm: bytes, *, piece_ms: int = 20) -> None:
        self.spoken += pcm
        for at in range(0, len(pcm), piece_ms * MS):
            self.engine.receive_caller_audio(pcm[at : at + piece_ms * MS])

    def type(self, text: str) -> str:
        """A typed message; its id."""
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        return str(self.said.of_type("conversation.item.added")[-1]["item"]["id"])

    def sound_of(self, item_id: str) -> bytes | None:
        """What the engine has of an item's sound."""
        item = self.retrieve(item_id)
        [part] = item["content"]
        return base64.b64decode(part["audio"]) if "audio" in part else None

    def retrieve(self, item_id: str) -> dict[str, Any]:
        self.send("conversation.item.retrieve", item_id=item_id)
        item: dict[str, Any] = self.said.events.pop()["item"]
        return item

    async def answer(self, count: int = 1) -> dict[str, Any]:
        """The ``count``th response, once it is done."""
        response: dict[str, Any] = (await self.said.until("response.done", count))["response"]
        return response


def turns(**settings: object) -> dict[str, object]:
    """A session's ``audio`` with this turn detection."""
    return {"input": {"turn_detection": {"type": "server_vad", **settings}}}


def without_repeats(names: list[str]) -> list[str]:
    return [name for name, _ in itertools.groupby(names)]
