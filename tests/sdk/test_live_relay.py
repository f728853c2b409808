"""Stock Live clients of a bridge in front of a Live service, over each transport on either side.

The service is one that was written for tests, or another bridge whose engine speaks Live.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import openai
import pytest

from bridge.config.answering import NamedUpstream
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.sdk.live import MODEL, LivePeer, append_sound, live_listening, output_pcm
from tests.sdk.stock import stock_client
from tests.upstream.live_service import LiveService

pytestmark = pytest.mark.slow

_LIMIT_S = scaled(15.0)
_WORDS = 48 * 2000  # bytes of what is said
_ECHO: Any = {"model": MODEL, "delegation": {"type": "responses", "responses": {"model": "gpt-5"}}}

Way = Literal["websocket", "webrtc"]


@asynccontextmanager
async def _relaying(serve_with: ServeWith, url: str, **given: Any) -> AsyncIterator[Daemon]:
    """A bridge whose Live model is that of the service at ``url``."""
    theirs = NamedUpstream(kind="live", url=url, key="sk-theirs", models=(MODEL,), **given)
    async with serve_with(upstreams={"theirs": theirs}) as daemon:
        yield daemon


async def _by_socket(daemon: Daemon, pcm: bytes) -> float:
    """How alike what the model said is to what was said to it, over a WebSocket."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_ECHO)
            started = await log.until("session.started")
            assert started["session"]["id"].startswith("live_")
            assert started["session"]["audio"]["format"] == {"type": "audio/pcm", "rate": 24_000}
            speaking = asyncio.create_task(_keep_time(connection, pcm))
            await log.until("session.output_transcript.delta")
            await log.wait(lambda: _has_ended(output_pcm(log)), "the end of what it says")
            speaking.cancel()
            await connection.session.close(event_id="mine")
            closed = await log.until("session.closed")
            assert (closed["reason"], closed["session"]["id"]) == ("close_requested", started["session"]["id"])
            await log.is_over.wait()
    assert log.close_code == 1000
    return stretched_likeness(samples_of(output_pcm(log)), samples_of(pcm[:_WORDS]))


async def _by_peer(daemon: Daemon, pcm: bytes) -> float:
    """The same over WebRTC."""
    async with stock_client(daemon.url) as sdk:
        async with LivePeer(daemon.url, sdk, _ECHO) as peer:
            assert "format" not in peer.of("session.started")[0]["session"]["audio"]
            await peer.speak(pcm)  # and nothing behind it: the bridge keeps the model's time
            await peer.until("session.output_transcript.delta")
            await peer.wait(lambda: _has_ended(peer.heard) or len(peer.heard) > 48 * 9000, "the end of what it says")
            peer.send({"type": "session.close", "event_id": "mine"})
            await peer.until("session.closed")
            assert peer.judge.complaints == []
            assert "session.output_audio.delta" not in peer.types
            heard = peer.heard
    return stretched_likeness(samples_of(heard), samples_of(pcm[:_WORDS]))


async def _keep_time(connection: Any, pcm: bytes) -> None:
    """Says ``pcm`` and then silence, in real time and for ever, as a Live client has to."""
    loop = asyncio.get_running_loop()
    due, at = loop.time(), 0
    while True:
        piece = pcm[at : at + 4800]
        at += len(piece)
        await append_sound(connection, piece + bytes(4800 - len(piece)))
        due += 0.1
        await asyncio.sleep(due - loop.time())


def _has_ended(pcm: bytes) -> bool:
    """Whether something was said, and then nothing for half a second."""
    loud = abs(samples_of(pcm).astype("i4")) > 500
    return bool(loud.any()) and len(loud) - int(loud.nonzero()[0][-1]) > 12_000 and int(loud.sum()) > 2_000


_CALLERS = {"websocket": _by_socket, "webrtc": _by_peer}


@pytest.mark.alone
@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
@pytest.mark.parametrize("way_in", ["websocket", "webrtc"])
async def test_each_way_in_with_each_way_out(
    serve_with: ServeWith, short_pcm: bytes, way_in: Way, way_out: Way
) -> None:
    """A stock client over either transport talks with a service over either, and its types find no fault."""
    async with LiveService.serving() as service:
        url = service.socket_url if way_out == "websocket" else service.url
        async with _relaying(serve_with, url) as daemon:
            likeness = await _CALLERS[way_in](daemon, short_pcm)
        model = await service.model(1)
        assert model.is_closed
        assert model.transport == way_out
        assert stretched_likeness(samples_of(bytes(model.heard)), samples_of(short_pcm)) > PLAYED_LIKENESS
    assert likeness > PLAYED_LIKENESS


@pytest.mark.alone
@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
@pytest.mark.parametrize("way_in", ["websocket", "webrtc"])
async def test_a_bridge_in_front_of_a_bridge(
    serve_with: ServeWith, short_pcm: bytes, way_in: Way, way_out: Way
) -> None:
    """The same with a second bridge in the service's place, whose engine speaks Live."""
    async with serve_with() as engine:
        url = f"{engine.url}v1/live/sessions"
        async with _relaying(serve_with, url if way_out == "webrtc" else url.replace("http", "ws", 1)) as daemon:
            likeness = await _CALLERS[way_in](daemon, short_pcm)
            assert likeness > PLAYED_LIKENESS
        assert engine.registry.sessions == []


async def test_events_pass_as_they_are(serve_with: ServeWith, short_pcm: bytes) -> None:
    """Commands reach the service as they were written, answers the client, and the service judges what is wrong."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
            async with live_listening(connection) as log:
                asked: Any = {"model": MODEL, "instructions": "Squawk.", "store": True, "safety_identifier": "you"}
                await connection.session.start(session=asked, event_id="start")
                started = await log.until("session.started")
                await connection.session.thinking.append(content="Hm.", delegation_id=None, event_id="e1")
                ack = await log.until("session.thinking.appended")
                await connection.session.update(session={"instructions": "Sing."}, event_id="e2")  # type: ignore[typeddict-unknown-key]
                error = (await log.until("error"))["error"]
                await append_sound(connection, short_pcm)
                await log.until("session.usage.updated", number=2)
        model = await service.model(1)
        sent = [event for event in model.events if event.get("event_id") in ("e1", "e2")]
    assert model.session == asked
    assert (started["session"]["instructions"], started["session"]["safety_identifier"]) == ("Squawk.", "you")
    assert ack["client_event_id"] == "e1"
    assert (error["code"], error["param"]) == ("immutable_field_update", "session.instructions")
    assert sent[0] == {"type": "session.thinking.append", "content": "Hm.", "delegation_id": None, "event_id": "e1"}
    assert bytes(model.heard) == short_pcm
    assert bytes(model.said).startswith(output_pcm(log))


async def test_a_start_that_the_service_refuses(serve_with: ServeWith) -> None:
    """Over a socket its error comes as it was written; over WebRTC it is the answer to the offer."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        async with stock_client(daemon.url) as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                wrong: Any = {"model": MODEL, "tools": []}
                await connection.session.start(session=wrong)
                error = (await log.until("error"))["error"]
                await log.is_over.wait()
            assert (error["code"], error["param"]) == ("unknown_parameter", "session.tools")
            assert log.types == ["error"]
            with pytest.raises(openai.APIStatusError) as refused:
                async with LivePeer(daemon.url, sdk, wrong):
                    pass
    assert (refused.value.status_code, refused.value.code) == (400, "unknown_parameter")


async def test_who_else_hears_a_relayed_session(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A sideband hears both sides with their times, a listener the Realtime events that are made of the session."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        async with stock_client(daemon.url) as sdk:
            async with LivePeer(daemon.url, sdk, {"model": MODEL}) as peer:
                listening = open_socket(daemon.url, f"call_id={peer.session_id}&audio=pcm16")
                async with (
                    sdk.live.sideband.connect(session_id=peer.session_id) as connection,
                    live_listening(connection, is_sideband=True) as sideband,
                    listening as listener,
                ):
                    await sideband.until("session.started")
                    await peer.speak(short_pcm)
                    await listener.until("input_audio_buffer.speech_started")
                    await sideband.until("session.output_transcript.delta")
                    await listener.until("response.output_audio_transcript.delta")
                    await sideband.wait(lambda: _has_ended(output_pcm(sideband)), "the end of what it says")
                    await connection.session.close()
                    await sideband.until("session.closed")
        said = samples_of(bytes((await service.model(1)).said))
    assert stretched_likeness(samples_of(output_pcm(sideband)), said) > 0.9  # silence is left out of what is late
    times = [(event["start_ms"], event["end_ms"]) for event in sideband.of("session.output_audio.delta")]
    assert all(start_ms < end_ms for start_ms, end_ms in times)
    assert times == sorted(times)
    assert sideband.of("session.input_audio.append")
    assert {"response.created", "response.output_audio.delta"} <= set(listener.types)


async def test_forks_and_the_recording(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A stored session is forked by the id that clients know, and its recording is had whole and in parts."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        async with stock_client(daemon.url) as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session={"model": MODEL, "store": True})
                session_id = (await log.until("session.started"))["session"]["id"]
                await append_sound(connection, short_pcm)
                await log.until("session.usage.updated", number=2)
                await connection.session.close()
                await log.until("session.closed")
            async with sdk.live.forks.connect(session_id=session_id) as fork, live_listening(fork) as forked:
                await fork.session.start(session={})
                assert (await forked.until("session.started"))["session"]["id"] != session_id
            first, second = service.models
            assert second.parent is first
            address = f"{daemon.url}v1/live/sessions/{session_id}/content"
            whole = await request("GET", address)
            part = await request("GET", address, headers={"Range": "bytes=8-11"})
            unknown = await request("GET", address.replace(session_id, "live_nobody"))
        assert (whole.status, whole.body) == (200, first.recording)
        assert (part.status, part.body) == (206, b"WAVE")
        assert (unknown.status, json.loads(unknown.body)["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize("way_out", ["websocket", "webrtc"])
async def test_a_stored_session_is_forked_over_webrtc(serve_with: ServeWith, short_pcm: bytes, way_out: Way) -> None:
    """A peer goes on from what a socket had begun: it is heard and answered, and its page's limits count."""
    async with LiveService.serving() as service:
        url = service.socket_url if way_out == "websocket" else service.url
        async with _relaying(serve_with, url) as daemon, stock_client(daemon.url) as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session={"model": MODEL, "store": True})
                session_id = (await log.until("session.started"))["session"]["id"]
                await connection.session.close()
                await log.until("session.closed")
            limits = {"data_channel": {"allowed_client_events": ["session.close"]}}
            async with LivePeer(daemon.url, sdk, {"store": True, "client": limits}, fork_of=session_id) as peer:
                await peer.speak(short_pcm)
                await peer.until("session.output_transcript.delta")
                await peer.wait(lambda: _has_ended(peer.heard) or len(peer.heard) > 48 * 9000, "the end of it")
                peer.send({"type": "session.input_audio.mute", "event_id": "hush"})
                refused = (await peer.until("error"))["error"]
                peer.send({"type": "session.close"})
                closed = await peer.until("session.closed")
                assert peer.judge.complaints == []
                heard = peer.heard
            with pytest.raises(openai.NotFoundError):
                async with LivePeer(daemon.url, sdk, {}, fork_of="live_nobody"):
                    pass
        first, second = service.models
        assert (second.parent, second.transport) == (first, way_out)
        assert second.session == {"store": True} if way_out == "webrtc" else second.session["store"] is True
        assert stretched_likeness(samples_of(bytes(second.heard)), samples_of(short_pcm)) > PLAYED_LIKENESS
    assert peer.session_id not in (session_id, "")
    assert closed["session"]["id"] == peer.session_id
    assert (refused["code"], refused["client_event_id"]) == ("event_not_allowed", "hush")
    assert stretched_likeness(samples_of(heard), samples_of(short_pcm[:_WORDS])) > PLAYED_LIKENESS


async def test_keys_open_the_models_that_they_name(serve_with: ServeWith) -> None:
    """A page's key that stands for another model opens no Live session with one of its own choice."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        minted = await request(
            "POST",
            f"{daemon.url}v1/realtime/client_secrets",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"session": {"type": "realtime", "model": MODEL}}),
        )
        key = minted.json["value"]
        async with openai.AsyncOpenAI(api_key=key, base_url=f"{daemon.url}v1") as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session={"model": "gpt-live-1.1"})
                await log.until("session.started")
        assert (await service.model(1)).session["model"] == MODEL


async def test_keys_delegate_to_the_models_that_they_name(serve_with: ServeWith, short_pcm: bytes) -> None:
    """The model that works behind a key's session is the key's or the operator's choice, and never the page's."""
    theirs: dict[str, Any] = {"type": "responses", "responses": {"model": "gpt-5-pro"}}
    given: dict[str, Any] = {"live_backend_model": "gpt-5-mini"}
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url, **given) as daemon:
        own: dict[str, Any] = {"type": "responses", "responses": {"model": "gpt-5-nano"}}
        for number, (delegation, model) in enumerate((({}, "gpt-5-mini"), ({"delegation": own}, "gpt-5-nano")), 1):
            key = await _page_key(daemon, delegation)
            async with openai.AsyncOpenAI(api_key=key, base_url=f"{daemon.url}v1") as sdk:
                async with sdk.live.connect() as connection, live_listening(connection) as log:
                    asked: Any = {"model": MODEL, "delegation": theirs, "store": True}
                    await connection.session.start(session=asked)
                    session_id = (await log.until("session.started"))["session"]["id"]
                    assert (await service.model(2 * number - 1)).session["delegation"]["responses"]["model"] == model
                    await connection.session.update(session={"delegation": theirs})  # type: ignore[typeddict-item]
                    refused = (await log.until("error"))["error"]
                    assert (refused["code"], refused["param"]) == ("forbidden", "session.delegation.responses.model")
                    await append_sound(connection, short_pcm)
                    await connection.session.close()
                    await log.until("session.closed")
                async with sdk.live.forks.connect(session_id=session_id) as fork, live_listening(fork) as forked:
                    await fork.session.start(session={"delegation": theirs})  # type: ignore[typeddict-item]
                    await forked.until("session.started")
                    assert "gpt-5-pro" not in json.dumps((await service.model(2 * number)).session)


async def test_keys_delegate_to_no_model_if_none_is_named(serve_with: ServeWith) -> None:
    """Neither the key nor the operator names one: the page is told so."""
    async with LiveService.serving() as service, _relaying(serve_with, service.socket_url) as daemon:
        async with openai.AsyncOpenAI(api_key=await _page_key(daemon, {}), base_url=f"{daemon.url}v1") as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session=_ECHO)
                refused = (await log.until("error"))["error"]
                assert (refused["code"], refused["param"]) == ("forbidden", "session.delegation.responses.model")
        assert service.models == []


async def test_keys_name_no_tools_that_the_service_runs(serve_with: ServeWith) -> None:
    """A page has functions of its own, at the start and later; an MCP server is for whoever mints its key."""
    hosted: dict[str, Any] = {"type": "mcp", "server_label": "x", "server_url": "https://elsewhere.example"}
    function: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"tools": []}}

    def delegation(*tools: dict[str, Any]) -> Any:
        return {"type": "responses", "responses": {"model": "gpt-5-mini", "tools": list(tools)}}

    async with (
        LiveService.serving() as service,
        _relaying(serve_with, service.socket_url, live_backend_model="gpt-5-mini") as daemon,
    ):
        async with openai.AsyncOpenAI(api_key=await _page_key(daemon, {}), base_url=f"{daemon.url}v1") as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(
                    session={"model": MODEL, "store": True, "delegation": delegation(function)}
                )
                session_id = (await log.until("session.started"))["session"]["id"]
                assert (await service.model(1)).session["delegation"]["responses"]["tools"] == [function]
                await connection.session.update(session={"delegation": delegation(function, hosted)})
                refused = (await log.until("error"))["error"]
                assert refused["code"] == "forbidden"
                assert refused["param"] == "session.delegation.responses.tools[1].type"
            async with sdk.live.forks.connect(session_id=session_id) as fork, live_listening(fork) as forked:
                await fork.session.start(session={"delegation": delegation(hosted)})
                assert (await forked.until("error"))["error"]["code"] == "forbidden"
        async with openai.AsyncOpenAI(api_key=await _page_key(daemon, {}), base_url=f"{daemon.url}v1") as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session={"model": MODEL, "delegation": delegation(hosted)})
                refused = (await log.until("error"))["error"]
                assert refused["param"] == "session.delegation.responses.tools[0].type"
        key = await _page_key(daemon, {"delegation": delegation(hosted)})
        async with openai.AsyncOpenAI(api_key=key, base_url=f"{daemon.url}v1") as sdk:
            async with sdk.live.connect() as connection, live_listening(connection) as log:
                await connection.session.start(session={"model": MODEL})
                await log.until("session.started")
                assert (await service.model(2)).session["delegation"]["responses"]["tools"] == [hosted]


async def _page_key(daemon: Daemon, session: dict[str, Any]) -> str:
    minted = await request(
        "POST",
        f"{daemon.url}v1/realtime/client_secrets",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"session": {"type": "realtime", "model": MODEL, **session}}),
    )
    return str(minted.json["value"])
