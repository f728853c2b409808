"""Stock Live clients whose calls a Realtime service answers: each transport on either side, with real speech."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import pytest

from bridge.config.answering import NamedUpstream
from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import EventLog
from tests.end_to_end.sound import samples_of
from tests.end_to_end.web import open_socket
from tests.sdk.live import MODEL, LivePeer, append_sound, live_listening, output_pcm
from tests.sdk.stock import stock_client
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_PAUSE = bytes(48 * 1000)
_QUIET_BYTES = 48 * 600
_LOUD = 500
_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_WORKS_ITSELF: Any = {"type": "responses", "responses": {"model": "gpt-5"}}
_CALLS_TOOLS: Any = {"type": "responses", "responses": {"model": "gpt-5", "tools": [_WEATHER]}}
_APPLICATION_WORKS: Any = {"type": "client"}

Way = Literal["websocket", "webrtc"]


class _SocketCaller:
    """A caller over the SDK's WebSocket."""

    def __init__(self, connection: Any, log: EventLog) -> None:
        self.log = log
        self._connection = connection

    @property
    def heard(self) -> bytes:
        return output_pcm(self.log)

    async def speak(self, pcm: bytes) -> None:
        await append_sound(self._connection, pcm)

    async def send(self, **event: Any) -> None:
        await self._connection.send(event)


class _PeerCaller:
    """A caller over WebRTC, whose offer goes through the SDK."""

    def __init__(self, peer: LivePeer) -> None:
        self.log: EventLog = peer
        self._peer = peer

    @property
    def heard(self) -> bytes:
        return self._peer.heard

    async def speak(self, pcm: bytes) -> None:
        await self._peer.speak(pcm)

    async def send(self, **event: Any) -> None:
        self._peer.send(event)


class _Call:
    """A caller, the SDK's sideband of the same session, and a listener, which is told when an answer was played."""

    def __init__(self, caller: _SocketCaller | _PeerCaller, sideband: EventLog, listener: EventLog) -> None:
        self.caller = caller
        self.log = caller.log
        self.sideband = sideband
        self._listener = listener
        self._answers = self._heard_bytes = 0

    async def answer(self) -> bytes:
        """What the caller has heard since the last answer, as soon as another one was played and has reached it."""
        self._answers += 1
        await self._listener.until("output_audio_buffer.stopped", number=self._answers)
        told = len(output_pcm(self.sideband))
        await self.sideband.wait(lambda: len(output_pcm(self.sideband)) > told + _QUIET_BYTES, "silence behind it")
        heard = self.caller.heard[self._heard_bytes :]
        self._heard_bytes += len(heard)
        return heard

    async def close(self) -> Any:
        """Ends the session; its last event."""
        await self.caller.send(type="session.close", event_id="bye")
        await self.sideband.until("session.closed")
        return await self.log.until("session.closed")


@asynccontextmanager
async def _calling(daemon: Daemon, way: Way, delegation: Any) -> AsyncIterator[_Call]:
    """A Live call that has begun, with a sideband; the SDK's types find no fault with what both are told."""
    session: Any = {"model": MODEL, "instructions": "Be kind.", "delegation": delegation}
    async with stock_client(daemon.url) as sdk:
        if way == "websocket":
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session=session)
                session_id = (await log.until("session.started"))["session"]["id"]
                async with _beside(sdk, session_id) as sideband, _listening(daemon, session_id) as listener:
                    yield _Call(_SocketCaller(connection, log), sideband, listener)
        else:
            async with LivePeer(daemon.url, sdk, session) as peer:
                session_id = peer.session_id
                async with _beside(sdk, session_id) as sideband, _listening(daemon, session_id) as listener:
                    yield _Call(_PeerCaller(peer), sideband, listener)
            assert peer.judge.complaints == []
            assert peer.of("session.output_audio.delta", "session.input_audio.append") == []


@asynccontextmanager
async def _beside(sdk: Any, session_id: str) -> AsyncIterator[EventLog]:
    async with sdk.live.sideband.connect(session_id=session_id) as connection:
        async with live_listening(connection, is_sideband=True) as log:
            await log.until("session.started")
            yield log


def _listening(daemon: Daemon, call_id: str) -> AbstractAsyncContextManager[EventLog]:
    return open_socket(daemon.url, f"call_id={call_id}")


@asynccontextmanager
async def _before(service: Daemon, way: Way) -> AsyncIterator[Daemon]:
    """A bridge whose model for Live clients is the Realtime model of ``service``."""
    url = f"{service.url}v1/realtime"
    url = f"{url}/calls" if way == "webrtc" else url.replace("http", "ws", 1)
    theirs = NamedUpstream(url=url, models=(MODEL,), model="gpt-realtime-2.1")
    async with Daemon(config_for_tests(upstreams={"theirs": theirs})) as daemon:
        yield daemon
    assert service.registry.sessions == []


def _words(log: EventLog, side: str) -> str:
    return "".join(event["delta"] for event in log.of(f"session.{side}_transcript.delta"))


def _is_nearly(words: str, said: str) -> bool:
    """Whether all words but one were understood: on a busy machine, sound in real time has gaps."""
    understood = Counter(re.findall(r"\w+", words.lower()))
    wanted = Counter(re.findall(r"\w+", said.lower()))
    return (wanted - understood).total() <= 1


@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
@pytest.mark.parametrize("way_in", ["websocket", "webrtc"])
async def test_each_way_in_with_each_way_out(
    models: Local, say: Callable[[str], bytes], way_in: Way, way_out: Way
) -> None:
    """Who calls is understood and answered, what is appended as commentary is spoken, and the end tells the usage."""
    async with Daemon(config_for_tests(engine="local"), local=models) as service, _before(service, way_out) as daemon:
        async with _calling(daemon, way_in, _WORKS_ITSELF) as call:
            await call.caller.speak(say("Repeat after me, the sky is blue.") + _PAUSE)
            answer = await call.answer()
            assert [session.stats().upstream.name for session in daemon.registry.sessions] == ["theirs"]
            await call.caller.send(
                type="session.commentary.append", content="The light is green.", delegation_id=None, event_id="say"
            )
            appended = await call.log.until("session.commentary.appended")
            commentary = await call.answer()
            await call.log.until("session.input_transcript.delta")
            await call.caller.send(type="session.input_audio.mute", event_id="hush")
            muted = await call.log.until("session.input_audio.muted")
            closed = await call.close()
    assert _is_nearly((await models.listen(answer)).text, "The sky is blue.")
    assert _is_nearly((await models.listen(commentary)).text, "The light is green.")
    for log in (call.log, call.sideband):
        assert _is_nearly(_words(log, "input"), "Repeat after me, the sky is blue.")
        first, last = _words(log, "output").split(". ")
        assert (_is_nearly(first, "The sky is blue."), last) == (True, "The light is green.")
        assert log.of("error") == []
    assert (appended["client_event_id"], muted["client_event_id"]) == ("say", "hush")
    assert (closed["reason"], closed["session"]["model"]) == ("close_requested", MODEL)
    assert closed["usage"]["seconds"] >= 3


@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
async def test_the_application_does_what_is_delegated(serve_with: ServeWith, short_pcm: bytes, way_out: Way) -> None:
    """The service calls a function, of which a Live client sees a delegation, and hears its result spoken of."""
    async with serve_with() as service, _before(service, way_out) as daemon:
        async with _calling(daemon, "websocket", _APPLICATION_WORKS) as call:
            await call.caller.speak(short_pcm)
            delegation = (await call.log.until("session.delegation.created"))["delegation"]
            await call.caller.send(
                type="session.commentary.append", content="It is sunny.", delegation_id=delegation["id"], event_id="it"
            )
            appended = await call.log.until("session.commentary.appended")
            await call.log.wait(lambda: "It is sunny." in _words(call.log, "output"), "the result")
            closed = await call.close()
    assert delegation == {"id": delegation["id"], "type": "delegation", "target": "client"}
    assert appended["client_event_id"] == "it"
    assert closed["reason"] == "close_requested"
    assert call.log.of("error") == []


@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
async def test_a_responses_model_calls_a_function(serve_with: ServeWith, short_pcm: bytes, way_out: Way) -> None:
    """Tools become the service's, its calls events of the Responses API; outputs and ``response.create`` go back."""
    async with serve_with() as service, _before(service, way_out) as daemon:
        async with _calling(daemon, "websocket", _CALLS_TOOLS) as call:
            await call.caller.speak(short_pcm)
            await call.log.wait(lambda: "response.completed" in _nested(call.log), "the end of the response")
            item = next(event["event"]["item"] for event in call.log.of("response.event") if "item" in event["event"])
            output = {"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"}
            await call.caller.send(type="response.item.create", item=output)
            await call.caller.send(type="response.create")
            await call.log.wait(lambda: "sunny" in _words(call.log, "output"), "the answer")
    assert _nested(call.log) == ["response.created", "response.output_item.done", "response.completed"]
    assert (item["name"], json.loads(item["arguments"]).keys()) == ("get_weather", {"city"})
    assert call.log.of("error") == []


def _nested(log: EventLog) -> list[str]:
    return [event["event"]["type"] for event in log.of("response.event")]


async def test_speech_stops_the_answer(serve_with: ServeWith, speech_pcm: bytes) -> None:
    """The stream is silent as soon as the service hears the caller, and the service cuts the item at what was heard."""
    async with serve_with() as service, _before(service, "websocket") as daemon:
        async with _calling(daemon, "websocket", _WORKS_ITSELF) as call:
            (inside,) = service.registry.sessions
            async with _listening(service, inside.info.id) as listener:
                await call.caller.speak(speech_pcm[: 48 * 2200] + bytes(48 * 800))
                await call.log.wait(lambda: _loud_samples(call.caller.heard) > 24 * 300, "an answer")
                await call.caller.speak(speech_pcm[: 48 * 600])
                truncated = await listener.until("conversation.item.truncated")
                await call.log.wait(lambda: not _loud_samples(call.caller.heard[-48 * 400 :]), "silence")
    assert 0 < truncated["audio_end_ms"] < 2200
    assert _loud_samples(call.caller.heard) < _loud_samples(speech_pcm[: 48 * 2200])


def _loud_samples(pcm: bytes) -> int:
    return int((abs(samples_of(pcm).astype("i4")) > _LOUD).sum())
