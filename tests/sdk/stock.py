"""Stock SDK clients of a daemon: whatever reaches one is judged by the SDK's own types."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

from aiortc import RTCSessionDescription
from openai import AsyncOpenAI
from openai.types.beta.realtime import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, ValidationError
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.event_log import EventLog
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply

__all__ = [
    "BETA",
    "GA",
    "Judge",
    "Judged",
    "SdkPeer",
    "event_names",
    "listening",
    "speak",
    "stock_client",
    "without_repeats",
]


def event_names(union: Any) -> dict[str, type[BaseModel]]:
    """The members of one of the SDK's unions of events, by name."""
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(union)[0])}


class Judge:
    """Finds fault with an event where the SDK's type of its name would: a field missing, null or of a wrong type."""

    def __init__(self, union: Any) -> None:
        self._kinds = event_names(union)

    def complaint(self, event: dict[str, Any]) -> str | None:
        """What is wrong with ``event``; None where nothing is."""
        if event["type"] == "transcription_session.created":  # which the SDK has left out; its session is the same
            event = {**event, "type": "transcription_session.updated"}
        kind = self._kinds.get(event["type"])
        if kind is None:
            return f"{event['type']}: unknown to this SDK"
        if not event.get("event_id"):
            return f"{event['type']}: no event_id"
        if event["type"] == "transcription_session.updated":  # required, says the type; never there, says its docstring
            event = {**event, "session": {**event["session"], "client_secret": {"value": "", "expires_at": 0}}}
        try:
            kind.model_validate(event)
        except ValidationError as error:
            return f"{event['type']}: {error}"
        return None


GA, BETA = Judge(RealtimeServerEvent), Judge(BetaServerEvent)


class Judged(EventLog):
    """The events of one connection, each judged when it came."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.complaints: list[str] = []
        self._judge = judge

    def add(self, text: str | bytes) -> None:
        complaint = self._judge.complaint(json.loads(text))
        if complaint is not None:
            self.complaints.append(complaint)
        super().add(text)


@asynccontextmanager
async def listening(connection: Any, judge: Judge = GA) -> AsyncIterator[Judged]:
    """Reads all that comes over an SDK's connection, which is closed in the end; nothing wrong may have come."""
    log = Judged(judge)

    async def read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                raw = await connection.recv_bytes()
                assert connection.parse_event(raw).type == json.loads(raw)["type"]
                log.add(raw)

    reading = asyncio.create_task(read())
    try:
        await log.wait(lambda: bool(log.events), "greeting")
        yield log
    finally:
        await connection.close()
        await reading
    assert log.complaints == [], log.complaints
    ids = [event["event_id"] for event in log.events]
    assert len(set(ids)) == len(ids)


def stock_client(url: str, *, api_key: str = "sk-test") -> AsyncOpenAI:
    """The SDK's client, told nothing but where the daemon is; beta needs to be told of ``ws:`` as well."""
    base = f"{url}v1"
    return AsyncOpenAI(api_key=api_key, base_url=base, websocket_base_url=base.replace("http", "ws", 1), max_retries=0)


async def speak(connection: Any, sound: bytes, *, piece_bytes: int = 9600) -> None:
    """Appends ``sound``, much faster than it plays."""
    for at in range(0, len(sound), piece_bytes):
        piece = base64.b64encode(sound[at : at + piece_bytes]).decode()
        await connection.input_audio_buffer.append(audio=piece)


def without_repeats(names: list[str]) -> list[str]:
    """Deltas that follow one another are one."""
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


class SdkPeer(RealPeer):
    """A caller whose offer goes through the SDK's ``calls.create``."""

    def __init__(self, url: str, client: AsyncOpenAI, **options: Any) -> None:
        super().__init__(url)
        self._client = client
        self._options = options

    async def _connect(self) -> None:
        connection = self._connection
        connection.addTrack(self.microphone)
        await connection.setLocalDescription(await connection.createOffer())
        answer = await self._client.realtime.calls.create(sdp=connection.localDescription.sdp, **self._options)
        response = answer.response
        self.reply = Reply(response.status_code, dict(response.headers), answer.content)
        await connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        await self._is_open.wait()
        await self.until("session.created")
