"""A server that hears and speaks over a real socket, with the engine's own models behind it."""

import asyncio
import io
import json
import re
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bridge.engine.local import Local

__all__ = ["SpeechService"]

_ODD = 4801  # bytes of a packet: samples are cut in the middle


class SpeechService:
    """``spoken`` and ``heard`` hold what was asked; ``faults`` are answered first, one a request."""

    def __init__(self, models: Local) -> None:
        self.url = ""
        self.spoken: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self.faults: list[bytes] = []
        self.voices: list[Any] = []
        self.hangs = False
        """Whether it says nothing behind a fault, and does not hang up."""
        self.streams = False
        """Whether transcripts stream."""
        self._models = models

    @classmethod
    @asynccontextmanager
    async def serving(cls, models: Local) -> AsyncIterator["SpeechService"]:
        service = cls(models)
        server = await asyncio.start_server(service._handle, "127.0.0.1", 0)
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield service
        finally:
            server.close()
            await server.wait_closed()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if self.faults:
                writer.write(self.faults.pop(0))
                if self.hangs:
                    await writer.drain()
                    await reader.read()  # until the client has had enough
            elif head.startswith("GET /v1/audio/voices "):
                text = json.dumps({"voices": self.voices}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text)
            elif head.startswith("POST /v1/audio/speech "):
                await self._speak(json.loads(body), writer)
            else:
                assert head.startswith("POST /v1/audio/transcriptions "), head
                boundary = headers["content-type"].partition("boundary=")[2]
                await self._hear(_fields(body, boundary.encode()), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _speak(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.spoken.append(asked)
        assert asked["response_format"] == "pcm"
        pcm = await self._models.say(asked["input"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nConnection: close\r\n\r\n")
        for at in range(0, len(pcm), _ODD):
            writer.write(pcm[at : at + _ODD])
            await writer.drain()

    async def _hear(self, fields: dict[str, bytes], writer: asyncio.StreamWriter) -> None:
        self.heard.append({name: value.decode() for name, value in fields.items() if name != "file"})
        with wave.open(io.BytesIO(fields["file"])) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
            pcm = file.readframes(file.getnframes())
        words = (await self._models.listen(pcm)).text
        if self.streams and fields.get("stream") == b"true":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            for delta in re.findall(r"\S+\s*", words):
                event = json.dumps({"type": "transcript.text.delta", "delta": delta})
                writer.write(f"data: {event}\n\n".encode())
                await writer.drain()
            done = json.dumps({"type": "transcript.text.done", "text": words})
            writer.write(f"data: {done}\n\ndata: [DONE]\n\n".encode())
            return
        text = json.dumps({"text": words}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(text) + text)


def _fields(body: bytes, boundary: bytes) -> dict[str, bytes]:
    fields = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.decode().partition('name="')[2].partition('"')[0]
        fields[name] = value.removesuffix(b"\r\n")
    return fields
