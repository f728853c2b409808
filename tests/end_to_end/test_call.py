"""One call over WebRTC: what the caller says reaches listeners, what is answered reaches the caller."""

import asyncio

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound, outbound_sound, stream_numbers
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import RATES_HZ, decode, match, resample, samples_of
from tests.end_to_end.web import Reply, open_socket, request
from tests.machine import scaled

_FRAME_S = 0.020
_CONNECT_LIMIT_S = scaled(0.5)  # less than the second after which a lost part of the handshake is sent again
_SPEECH_CODEC_CORRELATION = 0.9  # Opus for speech at 32 kbit/s shapes its input: 0.92 is all that it leaves

_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]
_SPOKEN_ANSWER = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
_PLAYBACK = ["output_audio_buffer.started", "output_audio_buffer.stopped"]


async def _calls(daemon: Daemon) -> list[str]:
    reply = await request("GET", f"{daemon.url}v1/calls")
    return [call["id"] for call in reply.json["data"]]


async def _hang_up(daemon: Daemon, call_id: str) -> Reply:
    return await request("POST", f"{daemon.url}v1/realtime/calls/{call_id}/hangup")


@pytest.mark.parametrize("path", ["v1/realtime/calls", "v1/realtime?model=some-model"])
async def test_offer_is_answered(daemon: Daemon, path: str) -> None:
    """Both doors answer an offer with 201, SDP and the place of the call, and the peer connects at once."""
    async with RealPeer(daemon.url, path=path) as peer:
        assert peer.reply.status == 201
        assert peer.reply.headers["content-type"].partition(";")[0] == "application/sdp"
        assert peer.reply.headers["location"].startswith("/v1/realtime/calls/rtc_")
        assert peer.reply.body.startswith(b"v=0\r\n")
        assert peer.events[0]["type"] == "session.created"
        assert peer.connect_s < _CONNECT_LIMIT_S
        assert await _calls(daemon) == [peer.call_id]


async def test_speech_reaches_listeners_of_each_format(daemon: Daemon, speech_pcm: bytes) -> None:
    """Append events carry what the caller said, whole and in time, in the format that each listener asked for."""
    async with RealPeer(daemon.url) as peer, asyncio.TaskGroup() as reading:
        listening = {name: asyncio.Event() for name in RATES_HZ}
        sounds: dict[str, bytes] = {}

        async def listen(audio_format: str) -> None:
            async with open_socket(daemon.url, f"call_id={peer.call_id}&audio={audio_format}") as listener:
                listening[audio_format].set()
                assert await listener.close_code() == 1000
                appends = listener.of("input_audio_buffer.append")
                assert stream_numbers(appends) == list(range(1, len(appends) + 1))
                sounds[audio_format] = inbound_sound(appends)

        for name in RATES_HZ:
            reading.create_task(listen(name))
        for event in listening.values():
            await event.wait()
        await peer.speak(speech_pcm)
        await _hang_up(daemon, peer.call_id)
    rtp_time_s = peer.microphone.frames * _FRAME_S
    for name, rate_hz in RATES_HZ.items():
        heard = decode(sounds[name], name)
        found = match(heard, resample(samples_of(speech_pcm), 24_000, rate_hz))
        assert abs(len(heard) / rate_hz - rtp_time_s) <= _FRAME_S, name
        assert 0 <= found.lag <= _FRAME_S * rate_hz, name
        assert found.correlation > 0.95, name


async def test_answer_is_heard_by_the_caller(daemon: Daemon, short_pcm: bytes) -> None:
    """The caller hears their own words; the data channel tells of it in the protocol's order and carries no sound."""
    async with (
        RealPeer(daemon.url) as peer,
        open_socket(daemon.url, f"call_id={peer.call_id}&audio=pcm16") as listener,
    ):
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped")
        await listener.until("output_audio_buffer.stopped")
    assert [kind for kind in peer.types if kind not in _PLAYBACK] == ["session.created", *_TURN, *_SPOKEN_ANSWER]
    assert [kind for kind in peer.types if kind in _PLAYBACK] == _PLAYBACK
    assert peer.types.index(_PLAYBACK[0]) > peer.types.index("response.created")
    assert peer.types[-1] == _PLAYBACK[1]
    sound_events = {"input_audio_buffer.append", "response.output_audio.delta"}
    assert [kind for kind in listener.types if kind not in sound_events] == peer.types
    deltas = listener.of("response.output_audio.delta")
    assert stream_numbers(deltas) == list(range(1, len(deltas) + 1))
    answer = samples_of(outbound_sound(deltas))
    assert match(answer, samples_of(short_pcm)).correlation > 0.95
    assert match(samples_of(peer.heard), answer).correlation > _SPEECH_CODEC_CORRELATION


async def test_typed_message_is_answered_over_the_data_channel(daemon: Daemon) -> None:
    """Client events go up the data channel as they do a socket."""
    content = [{"type": "input_text", "text": "Guten Tag"}]
    async with RealPeer(daemon.url) as peer:
        peer.send({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}})
        peer.send({"type": "response.create"})
        assert (await peer.until("response.output_text.done"))["text"] == "You wrote: Guten Tag"
        assert (await peer.until("response.done"))["response"]["status"] == "completed"


async def test_speaking_over_an_answer_stops_it(daemon: Daemon, short_pcm: bytes) -> None:
    """Barge-in: what plays is cleared, and the item is cut to what was heard."""
    async with RealPeer(daemon.url) as peer:
        await peer.speak(short_pcm)
        started = await peer.until("output_audio_buffer.started")
        await peer.speak(short_pcm[: 2 * 24 * 1500])
        cleared = await peer.until("output_audio_buffer.cleared")
        truncated = await peer.until("conversation.item.truncated")
    assert cleared["response_id"] == started["response_id"]
    assert 0 < truncated["audio_end_ms"] < 3000
    assert peer.types.index("output_audio_buffer.cleared") > peer.types.index("output_audio_buffer.started")


@pytest.mark.parametrize(("method", "tail"), [("POST", "/hangup"), ("DELETE", "")])
async def test_call_is_hung_up_over_http(daemon: Daemon, method: str, tail: str) -> None:
    """Either way the peer is gone, listeners are closed with 1000, and the call is known no more."""
    async with RealPeer(daemon.url) as peer, open_socket(daemon.url, f"call_id={peer.call_id}") as listener:
        url = f"{daemon.url}v1/realtime/calls/{peer.call_id}{tail}"
        assert (await request(method, url)).status == 200
        assert await listener.close_code() == 1000
        await asyncio.wait_for(peer.gone.wait(), scaled(5))
        assert await _calls(daemon) == []
        assert (await request(method, url)).status == 404


async def test_caller_hangs_up(daemon: Daemon) -> None:
    """A peer that closes ends its call and closes its listeners."""
    async with RealPeer(daemon.url) as peer, open_socket(daemon.url, f"call_id={peer.call_id}") as listener:
        await peer.hang_up()
        assert await listener.close_code() == 1000
        assert await _calls(daemon) == []
