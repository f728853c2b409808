"""A Live service as the upstream of a call, over both transports, for each kind of caller."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioice.ice
import pytest

from bridge.config import UpstreamSettings
from bridge.config.answering import NamedUpstream
from bridge.context import CallContext
from bridge.errors import BadEvent, BadRequest
from bridge.session.contracts import LivePassage, Upstream
from bridge.session.info import CallInfo
from bridge.upstream.factory import UpstreamFactory
from bridge.webrtc.runner import PeerRunner
from bridge.wire.audio import PCM16, pcm16_at
from bridge.wire.client_events import read_client_message
from bridge.wire.stats import WEBRTC, WEBSOCKET, Transport
from tests.end_to_end.sound import match, samples_of
from tests.engine.talk import MS, Recorder, silence
from tests.machine import scaled
from tests.upstream.live_service import LiveService

pytestmark = pytest.mark.slow

_LIMIT_S = scaled(10.0)
_MODEL = "gpt-live-1"
_PIECE_MS = 20

Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _peers_use_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's candidates are of 127.0.0.1, which it would leave out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture(scope="session")
def short_pcm(speech_pcm: bytes) -> bytes:
    """The first words of the recording, up to a pause, and the silence that ends a turn: 2.2 s and 0.8 s."""
    return speech_pcm[: MS * 2200] + silence(800)


class _LiveCall:
    """A call on a Live service, as its session sees it: what came by the passage, as turns, and as sound."""

    def __init__(self, upstream: Upstream, passage: LivePassage) -> None:
        self.upstream = upstream
        self.passage = passage
        self.said = Recorder()
        self.told: list[Event] = []
        self._news = asyncio.Event()
        passage.tell(self._take)

    def _take(self, body: Event) -> None:
        self.told.append(body)
        self._news.set()

    async def until_told(self, kind: str, count: int = 1) -> Event:
        """The ``count``-th Live event of this name."""
        async with asyncio.timeout(_LIMIT_S):
            while len(found := [event for event in self.told if event["type"] == kind]) < count:
                self._news.clear()
                await self._news.wait()
        return found[count - 1]

    async def until(self, kind: str, count: int = 1) -> Event:
        """The ``count``-th Realtime event of this name."""
        async with asyncio.timeout(_LIMIT_S):
            return await self.said.until(kind, count)

    def send(self, kind: str, **fields: Any) -> None:
        """A Realtime client's event."""
        self.upstream.receive_client_event(read_client_message(json.dumps({"type": kind, "event_id": "e1", **fields})))

    async def speak(self, pcm: bytes) -> None:
        """In pieces, much faster than real time: the service's time is the sound's."""
        for at in range(0, len(pcm), _PIECE_MS * MS):
            self.upstream.receive_caller_audio(pcm[at : at + _PIECE_MS * MS])
            await asyncio.sleep(0)

    @property
    def sound(self) -> bytes:
        """All that the model has said."""
        return b"".join(self.said.sounds.values())


@asynccontextmanager
async def _calling(
    url: str, transport: Transport | None = None, session: Event | None = None, *, fork: str | None = None, **given: Any
) -> AsyncIterator[_LiveCall]:
    """A call of the factory's own making; ``given`` are fields of the upstream's table."""
    table = NamedUpstream(kind="live", url=url, key="sk-theirs", models=(_MODEL,), **given)
    settings = UpstreamSettings(upstreams={"theirs": table})
    async with PeerRunner() as runner:
        factory = UpstreamFactory(settings, runner, new_engine=lambda context, name: pytest.fail("not the engine"))
        async with factory:
            usual = WEBSOCKET if session is None else Transport("live")
            async with _call_of(factory, transport or usual, session, fork) as call:
                yield call


@asynccontextmanager
async def _call_of(
    factory: UpstreamFactory, transport: Transport, session: Event | None, fork: str | None = None, name: str = "ours"
) -> AsyncIterator[_LiveCall]:
    context = CallContext(call_id=f"live_{name}", session_id=f"sess_{name}")
    info = CallInfo(context, transport=transport, model=_MODEL, started_at=0.0, live=session, live_fork=fork)
    upstream = factory.new_upstream(info)
    assert upstream.live_passage is not None
    call = _LiveCall(upstream, upstream.live_passage)
    upstream.start(call.said, call.said.state)
    try:
        yield call
    finally:
        await upstream.aclose()


async def test_a_live_client_is_relayed_as_it_speaks(short_pcm: bytes) -> None:
    """Over a WebSocket the session is asked for as it was written, events pass as they are, sound as it comes."""
    asked = {"model": _MODEL, "instructions": "Squawk.", "delegation": {"type": "client"}}
    async with LiveService.serving() as service, _calling(service.socket_url, session=asked) as call:
        started = await call.until_told("session.started")
        model = await service.model(1)
        assert (model.session, service.keys) == (asked, ["Bearer sk-theirs"])
        assert started["session"]["id"] == model.id
        assert started["session"]["audio"]["format"] == {"type": "audio/pcm", "rate": 24_000}
        await call.speak(short_pcm)
        await call.until_told("session.output_transcript.delta")
        await call.speak(silence(3000))
        call.passage.receive_live_client_event(
            {"type": "session.thinking.append", "event_id": "e7", "content": "x", "delegation_id": None}
        )
        assert (await call.until_told("session.thinking.appended"))["client_event_id"] == "e7"
        assert bytes(model.heard) == short_pcm + silence(3000)
        assert call.sound == bytes(model.said)  # to the byte, silence included
        call.passage.receive_live_client_event({"type": "session.close", "event_id": "e8"})
        closed = await call.until_told("session.closed")
        assert (closed["reason"], closed["client_event_id"]) == ("close_requested", "e8")
        async with asyncio.timeout(_LIMIT_S):
            await call.said.until_closed()
        assert call.said.closed == [None]


async def test_sound_has_the_format_that_the_session_names(short_pcm: bytes) -> None:
    """A session at 16 kHz gets and gives 16 kHz, and nobody resamples."""
    asked = {"model": _MODEL, "audio": {"format": {"type": "audio/pcm", "rate": 16_000}}}
    async with LiveService.serving() as service, _calling(service.socket_url, session=asked) as call:
        await call.until_told("session.started")
        assert call.upstream.input_format is call.upstream.output_format is pcm16_at(16_000)
        await call.speak(short_pcm)
        call.passage.receive_live_client_event({"type": "session.close"})
        await call.until_told("session.closed")
        assert bytes((await service.model(1)).heard) == short_pcm


async def test_a_caller_over_webrtc_on_a_service_over_a_socket(short_pcm: bytes) -> None:
    """What only WebRTC has is left out, the format is put in and not shown, and the caller sees what it asked for."""
    asked = {
        "model": _MODEL,
        "client": {"data_channel": {"allowed_client_events": "all"}},
        "idle_timeout_s": 30,
        "wake_policy": {"type": "speech"},
        "audio": {"output": {"voice": "cedar"}},
    }
    async with LiveService.serving() as service, _calling(service.socket_url, WEBRTC, asked) as call:
        started = await call.until_told("session.started")
        sent = (await service.model(1)).session
        assert sent == {
            "model": _MODEL,
            "audio": {"output": {"voice": "cedar"}, "format": {"type": "audio/pcm", "rate": 24_000}},
        }
        assert started["session"]["audio"] == {"output": {"voice": "cedar"}}
        assert started["session"]["client"] == asked["client"]


async def test_model_time_goes_on_without_sound(short_pcm: bytes) -> None:
    """A caller over WebRTC who falls silent, or never speaks, stops no time: silence is sent in its place."""
    async with LiveService.serving() as service, _calling(service.socket_url, WEBRTC, {"model": _MODEL}) as call:
        began = asyncio.get_running_loop().time()
        await call.until_told("session.usage.updated", 2)
        elapsed_ms = 1000 * (asyncio.get_running_loop().time() - began)
        model = await service.model(1)
        assert not any(model.heard)
        assert 2000 <= model.ms <= elapsed_ms + 300
        await call.speak(short_pcm)  # all at once: it is heard in real time
        await call.until_told("session.output_transcript.delta")
        heard = match(samples_of(bytes(model.heard)), samples_of(short_pcm))
        assert heard.correlation > 0.99


async def test_a_service_over_webrtc(short_pcm: bytes) -> None:
    """The session goes with the offer, without a format; events come by the channel, sound by the track."""
    asked = {"model": _MODEL, "audio": {"format": {"type": "audio/pcm", "rate": 24_000}}}
    async with LiveService.serving() as service, _calling(service.url, session=asked) as call:
        started = await call.until_told("session.started")
        model = await service.model(1)
        assert (model.transport, model.session) == ("webrtc", {"model": _MODEL})
        assert started["session"]["audio"]["format"] == {"type": "audio/pcm", "rate": 24_000}
        await call.speak(short_pcm)
        await call.until_told("session.output_transcript.delta", 4)
        call.passage.receive_live_client_event({"type": "session.close"})
        await call.until_told("session.closed")
        assert match(samples_of(bytes(model.heard)), samples_of(short_pcm)).correlation > 0.8
        assert match(samples_of(call.sound), samples_of(short_pcm[: 1000 * MS])).correlation > 0.5


@pytest.mark.parametrize("is_webrtc", [False, True])
async def test_a_session_that_is_refused(is_webrtc: bool) -> None:
    """The service's own error reaches the client, as it was written, and ends the call; nothing is tried again."""
    async with LiveService.serving() as service:
        url = service.url if is_webrtc else service.socket_url
        async with _calling(url, session={"model": _MODEL, "tools": []}) as call:
            async with asyncio.timeout(_LIMIT_S):
                await call.said.until_closed()
            (error,) = call.said.closed
            assert error is not None
            assert (error.code, error.param) == ("unknown_parameter", "session.tools")
            assert len(service.keys) == 1
            if not is_webrtc:
                told = await call.until_told("error")
                assert told["error"]["message"] == "Unknown parameter: 'session.tools'."


async def test_a_client_that_is_gone_costs_nothing() -> None:
    """Its session is closed at the service, so that nobody pays for what nobody hears."""
    async with LiveService.serving() as service:
        async with _calling(service.socket_url, session={"model": _MODEL}) as call:
            await call.until_told("session.started")
        model = await service.model(1)
        assert model.is_closed
        assert [event["type"] for event in model.events] == ["session.close"]


async def test_a_stored_session_that_is_lost_goes_on_in_a_fork(short_pcm: bytes) -> None:
    """Its client hears an ``info``, the times and the usage go on, and the session has the id that it had."""
    asked = {"model": _MODEL, "store": True}
    async with LiveService.serving() as service, _calling(service.socket_url, session=asked) as call:
        await call.until_told("session.started")
        await call.speak(silence(2000))
        await call.until_told("session.usage.updated", 2)
        first = await service.model(1)
        service.cut(first)
        await call.until_told("info")
        second = await service.model(2)
        assert second.parent is first
        await call.speak(short_pcm + silence(2000))
        words = await call.until_told("session.input_transcript.delta")
        assert words["start_ms"] >= 2000
        usage = await call.until_told("session.usage.updated", 3)
        assert usage["usage"]["seconds"] > 2.5
        assert call.said.closed == []
        assert [event["type"] for event in call.told].count("session.started") == 1


async def test_a_session_that_is_not_stored_is_lost() -> None:
    """Its client is told so, by an error and by the ``session.closed`` that the service could not say."""
    async with LiveService.serving() as service, _calling(service.socket_url, session={"model": _MODEL}) as call:
        await call.until_told("session.started")
        service.cut(await service.model(1))
        closed = await call.until_told("session.closed")
        assert closed["reason"] == "connection_lost"
        assert closed["session"]["id"] == service.models[0].id
        assert [event["type"] for event in call.told][-2:] == ["error", "session.closed"]
        async with asyncio.timeout(_LIMIT_S):
            await call.said.until_closed()
        assert len(service.models) == 1


async def test_forks_and_recordings_by_the_ids_that_clients_know(short_pcm: bytes) -> None:
    """A client names the call; the service is asked by its own id, and gives the recording, or a part of it."""
    asked = {"model": _MODEL, "store": True}
    async with LiveService.serving() as service, PeerRunner() as runner:
        table = NamedUpstream(kind="live", url=service.socket_url, models=(_MODEL,))
        settings = UpstreamSettings(upstreams={"theirs": table})
        factory = UpstreamFactory(settings, runner, new_engine=lambda context, name: pytest.fail("not the engine"))
        async with factory:
            async with _call_of(factory, Transport("live"), asked) as call:
                await call.until_told("session.started")
                await call.speak(short_pcm)
                await call.until_told("session.usage.updated")
            async with _call_of(factory, Transport("live"), {}, "live_ours", "fork") as call:
                await call.until_told("session.started")
                assert (await service.model(2)).parent is service.models[0]
            whole = service.models[0].recording
            async with factory.live_sessions.content("live_ours") as content:
                assert (content.status, b"".join([chunk async for chunk in content.chunks])) == (200, whole)
            async with factory.live_sessions.content("live_ours", range_header="bytes=4-7") as content:
                assert (content.status, b"".join([chunk async for chunk in content.chunks])) == (206, whole[4:8])
                assert content.headers["content-range"] == f"bytes 4-7/{len(whole)}"


async def test_a_realtime_client_where_it_was_asked_for(short_pcm: bytes) -> None:
    """It hears ``session.created`` at once, sets the session with its first update, and gets turns and answers."""
    async with LiveService.serving() as service, _calling(service.socket_url, live_compat=True) as call:
        await call.until("session.created")
        assert service.models == []
        call.send("session.update", session={"type": "realtime", "instructions": "Squawk."})
        model = await service.model(1)
        assert model.session["instructions"] == "Squawk."
        assert (await call.until("session.updated"))["session"]["instructions"] == "Squawk."
        await call.speak(short_pcm)
        await call.until("input_audio_buffer.speech_started")
        await call.until("response.done")
        await call.until("conversation.item.input_audio_transcription.completed")
        (completed,) = call.said.of_type("conversation.item.input_audio_transcription.completed")
        assert completed["transcript"] == "words words"
        done = call.said.of_type("response.done")[0]["response"]
        assert done["output"][0]["content"][0]["transcript"].startswith("squawk")
        assert match(samples_of(call.sound), samples_of(short_pcm)).correlation > 0.9


async def test_a_realtime_client_where_it_was_not() -> None:
    """It is told where the sessions of a Live model are."""
    with pytest.raises(BadRequest, match="use /v1/live/sessions") as caught:
        async with _calling("ws://127.0.0.1:1/v1/live/sessions"):
            pass
    assert (caught.value.code, caught.value.param) == ("invalid_model", "model")


async def test_what_a_live_session_cannot_do_is_refused_by_name() -> None:
    """Each event and each setting without a counterpart, before the session starts and after."""
    refused: list[tuple[str, Event, str]] = [
        ("input_audio_buffer.commit", {}, "type"),
        ("input_audio_buffer.clear", {}, "type"),
        ("response.cancel", {}, "type"),
        ("conversation.item.truncate", {"item_id": "i", "content_index": 0, "audio_end_ms": 0}, "type"),
        ("conversation.item.delete", {"item_id": "i"}, "type"),
        ("conversation.item.retrieve", {"item_id": "i"}, "type"),
        ("response.create", {"response": {"output_modalities": ["text"]}}, "response.output_modalities"),
        ("response.create", {"response": {"conversation": "none"}}, "response.conversation"),
        (
            "session.update",
            {"session": {"type": "realtime", "output_modalities": ["text"]}},
            "session.output_modalities",
        ),
        (
            "session.update",
            {"session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
            "session.audio.input.turn_detection",
        ),
        (
            "session.update",
            {"session": {"type": "realtime", "tools": [{"type": "function", "name": "f"}]}},
            "session.tools",
        ),
    ]
    async with LiveService.serving() as service, _calling(service.socket_url, live_compat=True) as call:
        for is_started in (False, True):
            for kind, fields, param in refused:
                with pytest.raises(BadEvent) as caught:
                    call.send(kind, **fields)
                assert (caught.value.code, caught.value.param) == ("unsupported_by_live", param), (kind, is_started)
            if not is_started:
                assert service.models == []
                call.send("session.update", session={"type": "realtime"})
                await service.model(1)
                await call.until("session.updated")
        with pytest.raises(BadEvent, match="cannot be changed once the session has started"):
            call.send("session.update", session={"type": "realtime", "instructions": "Others."})


async def test_functions_of_a_realtime_client(short_pcm: bytes) -> None:
    """The backend model calls them; the client's output goes there, and then the model is asked to go on."""
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    asked: Event = {"live_compat": True, "live_backend_model": "gpt-5.2"}
    async with LiveService.serving() as service, _calling(service.socket_url, **asked) as call:
        call.send("session.update", session={"type": "realtime", "tools": tools})
        model = await service.model(1)
        responses = model.session["delegation"]["responses"]
        assert (responses["model"], responses["tools"][0]["name"]) == ("gpt-5.2", "weather")
        await call.speak(short_pcm)
        called = await call.until("response.function_call_arguments.done")
        assert called["name"] == "weather"
        output = {"type": "function_call_output", "call_id": called["call_id"], "output": "sunny"}
        call.send("conversation.item.create", item=output)
        call.send("response.create")
        assert (await service.until(1, "response.item.create"))["item"] == output
        await service.until(1, "response.create")


async def test_a_realtime_client_types(short_pcm: bytes) -> None:
    """Without a backend model typed words are thoughts, and ``response.create`` asks the model to speak."""
    async with LiveService.serving() as service, _calling(service.socket_url, live_compat=True) as call:
        content = [{"type": "input_text", "text": "Hello?"}]
        call.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        call.send("response.create")
        thought = await service.until(1, "session.thinking.append")
        assert (thought["content"], thought["delegation_id"]) == ("The user writes: Hello?", None)
        await service.until(1, "session.commentary.append")
        await call.until("response.done")


async def test_a_telephone_call_goes_on_in_a_new_session(short_pcm: bytes) -> None:
    """Nobody but the bridge knows what was said in it, so a new session is told that."""
    async with LiveService.serving() as service, _calling(service.socket_url, Transport("twilio")) as call:
        await call.until("session.created")
        await call.speak(short_pcm)
        await call.until("response.done")
        await call.until("conversation.item.input_audio_transcription.completed")
        service.cut(await service.model(1))
        again = await service.model(2)
        told = [(item["role"], item["content"][0]["text"]) for item in again.session["input"]]
        assert told[0] == ("user", "words words")
        assert told[1][0] == "assistant"
        assert call.upstream.stats().lost == 1
        assert call.upstream.input_format is PCM16
