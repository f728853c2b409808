"""Stock Live clients of the Python SDK, whose types judge every event that they are told."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
from aiortc import RTCSessionDescription
from openai.types.live.connect_server_event import ConnectServerEvent
from openai.types.live.server_event import ServerEvent
from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.event_log import EventLog
from tests.end_to_end.real_peer import RealPeer
from tests.machine import scaled
from tests.sdk.stock import event_names

__all__ = ["MODEL", "LiveLog", "LivePeer", "append_sound", "live_listening", "output_pcm"]

MODEL = "gpt-live-1"
_OF_SOUND = ("session.input_audio.append", "session.output_audio.delta")


class LiveLog(EventLog):
    """The events of one Live connection, each judged by the SDK's type of its name, without leniency."""

    def __init__(self, union: Any) -> None:
        super().__init__()
        self.complaints: list[str] = []
        self.close_code: int | None = None
        self.is_over = asyncio.Event()
        self._kinds = event_names(union)

    def add(self, text: str | bytes) -> None:
        event = json.loads(text)
        kind = self._kinds.get(event["type"])
        if kind is None:
            self.complaints.append(f"{event['type']}: unknown to this SDK")
        else:
            try:
                kind.model_validate(event, strict=True)
            except ValidationError as error:
                self.complaints.append(f"{event['type']}: {error}")
            extra = event.keys() - kind.model_fields.keys()
            self.complaints += [f"{event['type']}: unknown field {name}" for name in extra]
        if event["type"] in _OF_SOUND and "event_id" in event:
            self.complaints.append(f"{event['type']} has an event_id")
        super().add(text)


class LivePeer(RealPeer):
    """A caller whose offer goes through the SDK's ``live.create``; the SDK's types judge its events.

    With ``fork_of``, the id of a stored session, it goes through ``live.sessions.fork``.
    """

    def __init__(self, url: str, sdk: openai.AsyncOpenAI, session: Any, *, fork_of: str | None = None) -> None:
        super().__init__(url)
        self.session_id = ""
        self.judge = LiveLog(ConnectServerEvent)
        self._sdk = sdk
        self._asked = session
        self._fork_of = fork_of

    async def __aenter__(self) -> "LivePeer":
        await super().__aenter__()
        return self

    def add(self, text: str | bytes) -> None:
        self.judge.add(text)
        super().add(text)

    async def _connect(self) -> None:
        connection = self._connection
        connection.addTrack(self.microphone)
        await connection.setLocalDescription(await connection.createOffer())
        transport: Any = {"type": "webrtc", "sdp": connection.localDescription.sdp}
        self.session_id, answer = await self._make(transport)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await self._is_open.wait()
        await self.until("session.started")

    async def _make(self, transport: Any) -> tuple[str, str]:
        live = self._sdk.live
        if self._fork_of is None:
            made = await live.create(session=self._asked, transport=transport)
            return made.session.id, made.transport.sdp
        forked = await live.sessions.fork(self._fork_of, session=self._asked, transport=transport)
        return forked.session.id, forked.transport.sdp


@asynccontextmanager
async def live_listening(connection: Any, *, is_sideband: bool = False) -> AsyncIterator[LiveLog]:
    """Reads all that comes over a Live connection, which is closed in the end; nothing wrong may have come."""
    log = LiveLog(ConnectServerEvent if is_sideband else ServerEvent)

    async def read() -> None:
        try:
            while True:
                raw = await connection.recv_bytes()
                assert connection.parse_event(raw).type == json.loads(raw)["type"]
                log.add(raw)
        except ConnectionClosed as closed:
            log.close_code = closed.rcvd.code if closed.rcvd is not None else None
        finally:
            log.is_over.set()

    reading = asyncio.create_task(read())
    try:
        yield log
    finally:
        with contextlib.suppress(ConnectionClosed):
            await connection.close()
        async with asyncio.timeout(scaled(10)):
            await reading
    assert log.complaints == [], log.complaints
    ids = [event["event_id"] for event in log.events if event["type"] not in _OF_SOUND]
    assert len(set(ids)) == len(ids)


async def append_sound(connection: Any, sound: bytes, *, piece_bytes: int = 4800) -> None:
    """Appends sound, faster than it plays."""
    for at in range(0, len(sound), piece_bytes):
        await connection.session.input_audio.append(audio=base64.b64encode(sound[at : at + piece_bytes]).decode())


def output_pcm(log: EventLog) -> bytes:
    """All sound that the log has been told of."""
    return b"".join(base64.b64decode(event["delta"]) for event in log.of("session.output_audio.delta"))
