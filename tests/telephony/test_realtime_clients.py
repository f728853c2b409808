"""Telephone exchanges that are Realtime clients themselves: they dial ``/v1/realtime``, and no carrier's endpoint.

Both are played here as their sources have them: VoiSmart's mod_openai_audio_stream of FreeSWITCH
(``openai_audio_streamer_glue.cpp``), and jambonz' verb ``llm`` (``openai_s2s.js``).
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec import to_builtins
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.daemon import Daemon
from bridge.wire import items
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import EventLog
from tests.end_to_end.sound import match, samples_of
from tests.machine import scaled
from tests.telephony.calling import gone
from tests.upstream.service import Service, Visit

_KEY = "sk-exchange"
_FRAME = 960  # 20 ms of PCM16 at 24 kHz
_LIMIT_S = scaled(15.0)


class _Exchange(EventLog):
    """A client that keeps what comes; ``dialling`` makes one."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def read(self) -> None:
        """Until the socket is closed."""
        try:
            async for message in self.connection:
                self.add(message)
        except ConnectionClosed:
            pass

    async def send(self, name: str, **fields: Any) -> None:
        """A client event."""
        await self.connection.send(json.dumps({"type": name, **fields}))

    async def speak(self, pcm: bytes) -> None:
        """An append for each 20 ms, and the silence by which a turn is known to be over."""
        for at in range(0, len(pcm) + 60 * _FRAME, _FRAME):
            frame = pcm[at : at + _FRAME].ljust(_FRAME, b"\0")
            await self.send("input_audio_buffer.append", audio=base64.b64encode(frame).decode())

    def sound(self, name: str) -> bytes:
        """Of all deltas so far."""
        return b"".join(base64.b64decode(event["delta"]) for event in self.of(name))


@asynccontextmanager
async def _dialling(daemon: Daemon, query: str, **headers: str) -> AsyncIterator[_Exchange]:
    url = f"{daemon.url.replace('http', 'ws', 1)}v1/realtime?{query}"
    headers = {"Authorization": f"Bearer {_KEY}", **headers}
    async with connect(url, additional_headers=headers, compression="deflate", max_size=None, proxy=None) as connection:
        exchange = _Exchange(connection)
        reading = asyncio.create_task(exchange.read())
        try:
            yield exchange
        finally:
            await connection.close()
            await reading


# FreeSWITCH: mod_openai_audio_stream


async def test_freeswitch_is_answered(serve_with: ServeWith, short_pcm: bytes) -> None:
    """It sends sound at once, with no session.update, and plays GA's deltas at 24 kHz; its queue is emptied in time."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        async with _dialling(daemon, "model=gpt-realtime-2.1") as exchange:
            await exchange.speak(short_pcm)
            await exchange.until("response.done")
            heard = exchange.sound("response.output_audio.delta")
            assert match(samples_of(heard), samples_of(short_pcm)).correlation > 0.9
            names = exchange.types
            assert names.index("input_audio_buffer.speech_started") < names.index("response.output_audio.delta")
            assert [name for name in names if "error" in name] == []
        await gone(daemon)


async def test_freeswitch_comes_back_as_another_session(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A connection that broke in mid-answer is another session with us: the first one does not stay, and both end."""
    async with serve_with(api_key=(_KEY,), resume_grace_s=0) as daemon:
        async with _dialling(daemon, "model=gpt-realtime-2.1") as first:
            await first.speak(short_pcm)
            await first.until("response.output_audio.delta")
            first.connection.transport.abort()
        async with _dialling(daemon, "model=gpt-realtime-2.1") as second:
            await second.until("session.created")
            assert second.of("session.created")[0]["session"]["id"] != first.of("session.created")[0]["session"]["id"]
            await second.speak(short_pcm)
            await second.until("response.done")
            assert second.sound("response.output_audio.delta")
        await gone(daemon)


async def test_a_wrong_key_is_told_before_the_upgrade(serve_with: ServeWith) -> None:
    """The module raises its event of a failed connection with this status."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        with pytest.raises(InvalidStatus) as refused:
            async with _dialling(daemon, "model=gpt-realtime-2.1", Authorization="Bearer wrong"):
                pass
        assert refused.value.response.status_code == 401


# jambonz: llm


_BETA = {"OpenAI-Beta": "realtime=v1"}
_CREATE = {
    "modalities": ["text", "audio"],
    "instructions": "Greet the caller.",
    "voice": "alloy",
    "output_audio_format": "pcm16",
    "temperature": 0.8,
    "max_output_tokens": 4096,
}
_SESSION = {
    "tool_choice": "auto",
    "instructions": "Be brief.",
    "input_audio_transcription": {"model": "whisper-1"},
    "turn_detection": {"type": "server_vad", "threshold": 0.8, "prefix_padding_ms": 300, "silence_duration_ms": 500},
}
_UNASKED = "events=!error,!response.done,!bridge"


def _would_end(exchange: _Exchange) -> list[dict[str, Any]]:
    """What makes the verb give up: any ``error``, and any response that failed."""
    failed = [event for event in exchange.of("response.done") if event["response"]["status"] == "failed"]
    return [*exchange.of("error"), *failed]


@pytest.mark.parametrize(("headers", "prefix"), [(_BETA, "response.audio"), ({}, "response.output_audio")])
async def test_jambonz_is_answered(
    serve_with: ServeWith, short_pcm: bytes, headers: dict[str, str], prefix: str
) -> None:
    """It asks for a greeting before it says what session it wants; from then to the end there is no error."""
    create = _CREATE if headers else {"output_modalities": ["audio"], "instructions": _CREATE["instructions"]}
    session = _SESSION if headers else {"type": "realtime", "instructions": "Be brief."}
    async with serve_with(api_key=(_KEY,)) as daemon:
        async with _dialling(daemon, "model=gpt-4o-realtime-preview-2024-12-17", **headers) as exchange:
            await exchange.send("response.create", response=create)
            await exchange.send("session.update", session=session)
            await exchange.until("session.updated")
            await exchange.until("response.done")
            await exchange.speak(short_pcm)
            await exchange.until("input_audio_buffer.committed")
            await exchange.until(f"{prefix}.done")
            assert match(samples_of(exchange.sound(f"{prefix}.delta")), samples_of(short_pcm)).correlation > 0.9
            assert _would_end(exchange) == []
        await gone(daemon)


class _Breaking:
    """A service whose first connection breaks in mid-answer; the second one answers."""

    def __init__(self) -> None:
        self.visits = 0
        self.is_back = asyncio.Event()

    async def serve(self, visit: Visit) -> None:
        """One connection."""
        self.visits += 1
        await visit.greet()
        if self.visits > 1:
            self.is_back.set()
            await self._take(visit)
        await visit.hear("response.create")
        response = to_builtins(items.Response(id="resp_1", status="in_progress", output_modalities=["audio"]))
        await visit.say("response.created", response=response)
        await visit.cut()

    async def _take(self, visit: Visit) -> None:
        """What the bridge tells it, until that is over; an item is taken, a session is as it is wanted."""
        with suppress(ConnectionClosed):
            while True:
                event = await visit.hear()
                if event["type"] == "session.update":
                    await visit.say("session.updated", session=event["session"])
                elif event["type"] == "conversation.item.create":
                    for name in ("added", "done"):
                        item = {"id": "item_1", "object": "realtime.item", "status": "completed", **event["item"]}
                        await visit.say(f"conversation.item.{name}", item=item, previous_item_id=None)


@pytest.mark.parametrize("query", ["", f"&{_UNASKED}"])
async def test_jambonz_outlives_an_upstream_that_is_lost(serve_with: ServeWith, query: str) -> None:
    """With ``events`` in its path nothing of that kind comes unasked; without, it does, and the verb ends."""
    breaking = _Breaking()
    async with (
        Service.serving(breaking.serve) as service,
        serve_with(api_key=(_KEY,), upstream=service.url, upstream_key="k") as daemon,
        _dialling(daemon, f"model=m{query}", **_BETA) as exchange,
    ):
        await exchange.send("response.create", response=_CREATE)
        await exchange.until("response.created")
        async with asyncio.timeout(_LIMIT_S):
            await breaking.is_back.wait()
        await exchange.send("conversation.item.create", item={
            "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]
        })  # fmt: skip
        await exchange.until("conversation.item.created")
        assert bool(_would_end(exchange)) is not bool(query)
        await exchange.send("session.update", session={"modalities": ["smell"]})  # its own mistake is told all the same
        await exchange.until("error")


async def test_events_is_the_one_choice_of_an_owner(serve_with: ServeWith) -> None:
    """The sound of a session of its own is what its owner has to get; a name that there is not is refused."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        for choice, param in (("audio=opus", b"audio"), ("tracks=input", b"tracks"), ("events=nonsense", b"events")):
            with pytest.raises(InvalidStatus) as refused:
                async with _dialling(daemon, f"model=m&{choice}"):
                    pass
            assert refused.value.response.status_code == 400
            assert json.loads(refused.value.response.body)["error"]["param"] == param.decode()
