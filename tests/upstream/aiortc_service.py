"""A Realtime service over WebRTC as anybody would build one on aiortc: it answers offers, hears and speaks.

It knows nothing of ``output_audio_buffer`` events, and says that an answer is done as soon as it has begun to play it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import av
from aiortc import (
    MediaStreamError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)

from bridge.wire.server_events import encode
from bridge.wire.sessions import default_session
from tests.end_to_end.real_peer import Microphone
from tests.end_to_end.sound import pcm_of, resample, samples_of
from tests.machine import scaled

__all__ = ["AiortcCall", "AiortcService"]

_RATE_HZ = 48_000
_LIMIT_S = scaled(10.0)

Event = dict[str, Any]


class AiortcCall:
    """One call: what has come, and the means to answer."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.heard_s_at: list[float] = []
        """How much had been heard when each of the events came; s."""
        self.voice = Microphone()
        self.channel: RTCDataChannel | None = None
        self._heard: list[bytes] = []
        self._news = asyncio.Event()
        self._answers = 0

    @property
    def heard(self) -> bytes:
        """All that came out of the receiver, PCM16 24 kHz mono."""
        return pcm_of(resample(samples_of(b"".join(self._heard)), _RATE_HZ, 24_000))

    def say(self, name: str, **fields: Any) -> None:
        """A server event."""
        assert self.channel is not None
        self.channel.send(json.dumps({"type": name, "event_id": "event_theirs", **fields}))

    async def hear(self, name: str, number: int = 1) -> Event:
        """The ``number``-th client event of this name."""
        async with asyncio.timeout(_LIMIT_S):
            while len(found := [event for event in self.events if event["type"] == name]) < number:
                self._news.clear()
                await self._news.wait()
        return found[number - 1]

    async def answer(self, pcm: bytes, *, is_whole: bool = True) -> None:
        """A spoken answer; every event of it is said before its sound has been played, the last ones if it is whole."""
        self._answers += 1
        number = self._answers
        place = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "output_index": 0}
        part = {**place, "content_index": 0}
        item = {"id": f"item_{number}", "type": "message", "role": "assistant", "content": []}
        output = {"response_id": f"resp_{number}", "output_index": 0}
        response = {"id": f"resp_{number}", "object": "realtime.response", "status": "in_progress", "output": []}
        self.say("response.created", response=response)
        self.say("response.output_item.added", item=item, **output)
        self.say("conversation.item.added", item=item, previous_item_id=None)
        self.say("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
        self.say("response.output_audio_transcript.delta", delta="words", **part)
        if is_whole:
            self.say("response.output_audio.done", **part)
            self.say("response.output_audio_transcript.done", transcript="words", **part)
            self.say("response.content_part.done", part={"type": "audio", "transcript": "words"}, **part)
            done = {**item, "status": "completed", "content": [{"type": "output_audio", "transcript": "words"}]}
            self.say("response.output_item.done", item=done, **output)
            self.say("conversation.item.done", item=done, previous_item_id=None)
            self.say("response.done", response={**response, "status": "completed", "output": [done]})
        await self.voice.speak(pcm)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """The caller opened it; the session begins."""
        self.channel = channel
        channel.on("message", self._on_message)
        config = default_session(session_id="sess_theirs", model="theirs", expires_at=1)
        self.say("session.created", session=json.loads(encode(config)))

    async def record(self, track: MediaStreamTrack) -> None:
        """Until the track ends."""
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                self._heard.append(frame.to_ndarray()[0, ::2].tobytes())

    def _on_message(self, text: str) -> None:
        self.events.append(json.loads(text))
        self.heard_s_at.append(len(self._heard) * 0.020)
        self._news.set()


class AiortcService:
    """``calls`` holds the calls, in the order in which they were offered."""

    def __init__(self, *, is_deaf: bool) -> None:
        self.calls: list[AiortcCall] = []
        self.url = ""
        self._tasks = asyncio.TaskGroup()
        self._is_deaf = is_deaf
        self._recordings: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def serving(cls, *, is_deaf: bool = False) -> AsyncIterator["AiortcService"]:
        """On a free port of loopback; ``is_deaf``: answers, and is gone."""
        service = cls(is_deaf=is_deaf)
        async with service._tasks:
            server = await asyncio.start_server(service._answer, "127.0.0.1", 0)
            service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime/calls"
            try:
                yield service
            finally:
                server.close()
                for call in service.calls:
                    await call.connection.close()
                for recording in service._recordings:
                    recording.cancel()
                await server.wait_closed()

    async def call(self, number: int) -> AiortcCall:
        """The ``number``-th call, once it is there."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.calls) < number:
                self._news.clear()
                await self._news.wait()
        return self.calls[number - 1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        offer = (await reader.readexactly(length)).decode()
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        call = AiortcCall(connection)
        connection.on("datachannel", call.on_channel)
        connection.on("track", lambda track: self._recordings.append(self._tasks.create_task(call.record(track))))
        connection.addTrack(call.voice)
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        self.calls.append(call)
        self._news.set()
        answer = connection.localDescription.sdp.encode()
        if self._is_deaf:
            await connection.close()
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nConnection: close\r\n")
        writer.write(b"Location: /v1/realtime/calls/rtc_theirs\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()
