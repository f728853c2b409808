"""Live over WebRTC: the offer goes through the stock SDK's ``live.create``, events through the data channel."""

from typing import Any

import openai
import pytest

from bridge.daemon import Daemon
from tests.sdk.live import MODEL, LivePeer, live_listening
from tests.sdk.stock import stock_client

_ECHO: Any = {"model": MODEL, "delegation": {"type": "responses", "responses": {"model": "gpt-5"}}}


async def test_a_call_over_webrtc_with_a_sideband(daemon: Daemon, short_pcm: bytes) -> None:
    """The page hears by its track and reads no sound; a sideband hears both sides, and ends the session."""
    async with stock_client(daemon.url) as sdk, LivePeer(daemon.url, sdk, _ECHO) as peer:
        async with sdk.live.sideband.connect(session_id=peer.session_id) as beside:
            async with live_listening(beside, is_sideband=True) as seen:
                await seen.until("session.started")
                await peer.microphone.speak(short_pcm)
                await peer.wait(lambda: "words" in str(peer.of("session.output_transcript.delta")), "words")
                await seen.wait(lambda: "words" in str(seen.of("session.output_transcript.delta")), "words")
                await beside.session.close()
                closed = await seen.until("session.closed")
                await peer.until("session.closed")
                await peer.gone.wait()
                await seen.is_over.wait()
    assert peer.session_id.startswith("live_")
    assert peer.judge.complaints == []
    assert closed["session"]["id"] == peer.session_id
    assert "format" not in closed["session"]["audio"]
    assert peer.of("session.output_audio.delta", "session.input_audio.append") == []
    assert len(seen.of("session.output_audio.delta")) > 10
    assert len(seen.of("session.input_audio.append")) > 10
    assert seen.close_code == 1000


async def test_a_page_gets_what_its_session_grants(daemon: Daemon) -> None:
    """Of the server's events only those that are chosen reach the page, and it sends only what it may."""
    granted = {
        "allowed_client_events": ["session.input_audio.mute"],
        "allowed_server_events": [{"type": "session.started"}, {"type": "session.input_audio.muted"}],
    }
    session = {**_ECHO, "client": {"data_channel": granted}}
    async with stock_client(daemon.url) as sdk, LivePeer(daemon.url, sdk, session) as peer:
        peer.send({"type": "session.input_audio.unmute", "event_id": "no"})
        error = (await peer.until("error"))["error"]
        peer.send({"type": "session.input_audio.append", "audio": ""})
        await peer.until("error", number=2)
        peer.send({"type": "session.input_audio.mute"})
        await peer.until("session.input_audio.muted")
    assert (error["code"], error["client_event_id"]) == ("event_not_allowed", "no")
    assert peer.of("info")[0]["code"] == "data_channel_permissions"
    assert peer.judge.complaints == []
    assert set(peer.types) == {"info", "session.started", "session.input_audio.muted", "error"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"session": _ECHO, "transport": {"type": "sip", "sdp": "v=0"}}, "transport.type"),
        ({"session": _ECHO, "transport": {"type": "webrtc", "sdp": "v=0"}}, "transport.sdp"),
        ({"session": {**_ECHO, "wake_policy": {"type": "speech"}}, "transport": {"type": "webrtc"}}, "transport.sdp"),
        ({"session": {}, "transport": {"type": "webrtc", "sdp": "OFFER"}}, "session.model"),
        ({"session": {**_ECHO, "idle_timeout_s": 5}, "transport": {"type": "webrtc", "sdp": "OFFER"}},
         "session.idle_timeout_s"),
        ({"session": {**_ECHO, "audio": {"format": {"type": "audio/pcmu", "rate": 8000}}},
          "transport": {"type": "webrtc", "sdp": "OFFER"}}, "session.audio.format"),
    ],
)  # fmt: skip
async def test_an_offer_that_does_not_fit_is_refused(daemon: Daemon, offer: str, body: Any, param: str) -> None:
    """What is wrong is named, and no call is made."""
    if body["transport"].get("sdp") == "OFFER":
        body = {**body, "transport": {**body["transport"], "sdp": offer}}
    async with stock_client(daemon.url) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.live.create(**body)
    assert caught.value.param == param
    assert daemon.registry.sessions == []
