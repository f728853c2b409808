"""A translation service that behaves as the documents of Realtime translations say, on a real socket.

It knows no language: the sound that comes back is the sound that came, some frames later, and each second of it has a
word. Time passes for it with sound alone.
"""

import asyncio
import base64
import binascii
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.machine import scaled

__all__ = ["FRAME_BYTES", "MODEL", "PATH", "Translation", "TranslationService"]

MODEL = "gpt-realtime-translate"
PATH = "/v1/realtime/translations"
FRAME_BYTES = 9600
"""200 ms of PCM16 at 24 kHz."""

_BEHIND = 2
"""How many frames the translation comes behind the sound."""
_FRAMES_PER_WORD = 5
_LIMIT_S = scaled(10.0)
_UPDATABLE = {"": {"audio"}, "audio": {"input", "output"}, "audio.input": {"transcription", "noise_reduction"},
              "audio.output": {"language"}, "audio.input.transcription": {"model"},
              "audio.input.noise_reduction": {"type", "strength"}}  # fmt: skip


@dataclass(eq=False)
class Translation:
    """One connection: what it was asked for, what it has heard, and how it ended."""

    socket: ServerConnection
    model: str
    authorization: str
    audio: dict[str, Any] = field(default_factory=lambda: {"input": {}, "output": {"language": "es"}})
    heard: bytearray = field(default_factory=bytearray)
    events: list[dict[str, Any]] = field(default_factory=list)
    """What clients have said but sound."""
    was_closed: bool = False
    """Whether ``session.close`` has come, and was answered to the end."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _spoken: int = 0
    _ids: Any = field(default_factory=itertools.count)
    _said_words: int = 0
    _heard_words: int = 0

    async def run(self) -> None:
        """From the greeting to the end."""
        try:
            await self.say("session.created", session=self.session)
            while not self.was_closed:
                await self._take(await self.socket.recv())
            await self.socket.close(1000)
        except ConnectionClosed:
            pass
        finally:
            self.ended.set()
            self._news.set()

    async def until_heard(self, seconds: float) -> None:
        """Until so much sound has come."""
        async with asyncio.timeout(_LIMIT_S + 2 * seconds):
            while len(self.heard) < 48_000 * seconds:
                self._news.clear()
                await self._news.wait()

    @property
    def session(self) -> dict[str, Any]:
        return {"id": "sess_theirs", "type": "translation", "model": self.model, "expires_at": 1, "audio": self.audio}

    async def say(self, name: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": name, "event_id": f"event_theirs_{next(self._ids)}", **fields}))

    async def _refuse(self, event: dict[str, Any], code: str, message: str, param: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        await self.say("error", error={**error, "event_id": event.get("event_id")})

    async def _take(self, text: str | bytes) -> None:
        event = json.loads(text)
        if event["type"] == "session.input_audio_buffer.append":
            await self._hear(event)
            return
        self.events.append(event)
        if event["type"] == "session.update":
            wrong = _wrong_field(event.get("session"))
            if wrong is not None:
                await self._refuse(event, "unknown_parameter", f"Unknown parameter: '{wrong}'.", wrong)
                return
            for side, changes in event["session"].get("audio", {}).items():
                self.audio[side] = {**self.audio.get(side, {}), **changes}
            await self.say("session.updated", session=self.session)
        elif event["type"] == "session.close":
            await self._finish()
        else:
            await self._refuse(event, "invalid_value", f"Unknown event type: '{event['type']}'.", "type")
        self._news.set()

    async def _hear(self, event: dict[str, Any]) -> None:
        try:
            sound = binascii.a2b_base64(event["audio"], strict_mode=True)
        except ValueError:
            await self._refuse(event, "invalid_value", "The audio is not base64.", "audio")
            return
        if len(sound) % 2:
            await self._refuse(event, "invalid_audio", "The audio has half a sample.", "audio")
            return
        self.heard += sound
        self._news.set()
        while len(self.heard) // FRAME_BYTES - self._spoken > _BEHIND:
            await self._speak(bytes(self.heard[self._spoken * FRAME_BYTES : (self._spoken + 1) * FRAME_BYTES]))

    async def _speak(self, frame: bytes) -> None:
        elapsed_ms = 200 * self._spoken
        self._spoken += 1
        about = {"elapsed_ms": elapsed_ms, "sample_rate": 24_000, "channels": 1, "format": "pcm16"}
        await self.say("session.output_audio.delta", delta=base64.b64encode(frame).decode(), **about)
        if self._spoken % _FRAMES_PER_WORD == 0:
            await self._say_word(elapsed_ms, frame)

    async def _say_word(self, elapsed_ms: int, frame: bytes) -> None:
        """A word for a second with a voice in it; nothing for silence."""
        second = self.heard[max(0, self._spoken - _FRAMES_PER_WORD) * FRAME_BYTES : self._spoken * FRAME_BYTES]
        if np.abs(np.frombuffer(bytes(second), "<i2")).max(initial=0) < 500:
            return
        self._said_words += 1
        word = f"{self.audio['output']['language']}{self._said_words} "
        await self.say("session.output_transcript.delta", delta=word, elapsed_ms=elapsed_ms)
        if self.audio["input"].get("transcription"):
            self._heard_words += 1
            await self.say("session.input_transcript.delta", delta=f"word{self._heard_words} ", elapsed_ms=elapsed_ms)

    async def _finish(self) -> None:
        while self._spoken * FRAME_BYTES < len(self.heard):
            await self._speak(bytes(self.heard[self._spoken * FRAME_BYTES : (self._spoken + 1) * FRAME_BYTES]))
        await self.say("session.output_transcript.delta", delta="(end)", elapsed_ms=200 * self._spoken)
        await self.say("session.closed")
        self.was_closed = True


class TranslationService:
    """``translations`` are the connections so far."""

    def __init__(self, key: str) -> None:
        self.translations: list[Translation] = []
        self.url = ""
        """As a bridge has it in its settings: without the path of translations."""
        self._key = key
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def serving(cls, key: str = "sk-theirs") -> AsyncIterator["TranslationService"]:
        """A service that wants ``key``."""
        service = cls(key)
        async with serve(
            service._handle, "127.0.0.1", 0, process_request=service._judge, close_timeout=0.1, compression=None
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            service.url = f"ws://127.0.0.1:{port}/v1/realtime"
            yield service

    async def translation(self, number: int = 1) -> Translation:
        """The ``number``-th connection, once it is there."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.translations) < number:
                self._news.clear()
                await self._news.wait()
        return self.translations[number - 1]

    def _judge(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        if parts.path != PATH or "model" not in parse_qs(parts.query):
            return connection.respond(HTTPStatus.NOT_FOUND, "there is nothing here\n")
        if request.headers.get("Authorization") != f"Bearer {self._key}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no such key\n")
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        model = parse_qs(urlsplit(socket.request.path).query)["model"][0]
        translation = Translation(socket, model, socket.request.headers.get("Authorization", ""))
        self.translations.append(translation)
        self._news.set()
        with suppress(ConnectionClosed):
            await translation.run()


def _wrong_field(session: Any, path: str = "") -> str | None:
    """The first field of an update that a translation does not have, or that may not change."""
    if not isinstance(session, dict):
        return None
    for name, value in session.items():
        if name not in _UPDATABLE.get(path, set()):
            return f"session.{path}.{name}" if path else f"session.{name}"
        wrong = _wrong_field(value, f"{path}.{name}" if path else name)
        if wrong is not None:
            return wrong
    return None
