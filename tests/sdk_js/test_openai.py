"""The npm package ``openai``: a Realtime session over WebSocket, client secrets, and a call's sideband."""

import asyncio
import json
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bridge.daemon import Daemon
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.real_peer import Microphone
from tests.end_to_end.sound import RATES_HZ, decode, match, resample, samples_of
from tests.sdk_js.node import WriteSound, played_through, scenario

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(20, func_only=True)]

_SCRIPT = "openai_ws.mjs"
_MEDIA_TYPES = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_TURN = (
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
)


@pytest.mark.parametrize("audio_format", RATES_HZ)
async def test_spoken_turn_is_answered(
    talking_to: dict[str, Any], write_sound: WriteSound, speech_pcm: bytes, audio_format: str
) -> None:
    """Speech in each of the formats makes a turn, its events come in order, and the answer is that speech again."""
    inputs = {"format": _MEDIA_TYPES[audio_format], "sound": write_sound(audio_format)}
    log = await played_through(_SCRIPT, "spokenTurn", **inputs, **talking_to)
    assert log.refusals == []
    assert [kind for kind in dict.fromkeys(log.types) if kind in _TURN] == list(_TURN)
    answer = decode(outbound_sound(log.events), audio_format)
    spoken = resample(samples_of(speech_pcm), 24_000, RATES_HZ[audio_format])
    assert match(answer, spoken).correlation > 0.99
    assert log.of("sdk.closed") == [{"type": "sdk.closed", "code": 1000}]


async def test_tool_is_called_and_its_output_answered(talking_to: dict[str, Any]) -> None:
    """The call carries its name, its id and arguments of the schema; its output is answered."""
    log = await played_through(_SCRIPT, "toolRoundTrip", **talking_to)
    assert log.refusals == []
    call = log.of("response.function_call_arguments.done")[0]
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "example"})
    assert "".join(e["delta"] for e in log.of("response.function_call_arguments.delta")) == call["arguments"]
    assert '"blue over example"' in log.of("response.output_text.done")[0]["text"]


async def test_answer_is_cancelled_and_truncated(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """A cancel ends the response where it stands; what the caller did not hear is cut off."""
    log = await played_through(_SCRIPT, "cancelAndTruncate", sound=write_sound("pcm16"), **talking_to)
    assert log.refusals == []
    response = log.of("response.done")[0]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert log.of("conversation.item.truncated")[0]["audio_end_ms"] == 100


async def test_mistakes_are_errors_that_the_sdk_understands(talking_to: dict[str, Any]) -> None:
    """Each mistake is one error with its code, path and the event that it answers; the session goes on."""
    log = await played_through(_SCRIPT, "errors", **talking_to)
    assert log.of("sdk.not_recognised") == []
    assert [(e["event_id"], e["code"], e["param"]) for e in log.of("sdk.error")] == [
        ("mine_1", "response_cancel_not_active", None),
        ("mine_2", "input_audio_buffer_commit_empty", None),
        ("mine_3", "invalid_value", "session.audio.output.speed"),
        ("mine_4", "invalid_value", "item_id"),
    ]
    assert log.of("response.output_text.done")[0]["text"] == "You wrote: still there?"


async def test_flat_session_is_told_apart(talking_to: dict[str, Any]) -> None:
    """A setting that only beta had is answered by ``unknown_parameter`` and its path, not taken and forgotten."""
    log = await played_through(_SCRIPT, "flatSession", **talking_to)
    assert [(e["event_id"], e["code"], e["param"]) for e in log.of("sdk.error")] == [
        ("mine", "unknown_parameter", "session.voice")
    ]
    assert log.of("session.updated") == []


async def test_client_secret_opens_its_session(talking_to: dict[str, Any]) -> None:
    """A key minted by ``clientSecrets.create`` stands for the session that it was minted with."""
    log = await played_through(_SCRIPT, "clientSecret", **talking_to)
    assert log.refusals == []
    (secret,) = log.of("sdk.secret")
    assert secret["value"].startswith("ek_")
    assert secret["session"]["object"] == "realtime.session"
    assert log.of("session.created")[0]["session"]["instructions"] == "Be brief."


async def test_transcription_session_only_listens(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """``intent: "transcription"`` opens a session of that type, which commits turns and never answers."""
    log = await played_through(_SCRIPT, "transcription", sound=write_sound("pcm16"), **talking_to)
    assert log.refusals == []
    assert log.of("session.created")[0]["session"]["type"] == "transcription"
    assert "response.created" not in log.types


async def test_wrong_key_is_refused(talking_to: dict[str, Any]) -> None:
    """Over HTTP the SDK raises its authentication error, over WebSocket it names the status."""
    log = await played_through(_SCRIPT, "wrongKey", **talking_to)
    (refused,) = log.of("sdk.refused")
    assert (refused["status"], refused["code"]) == (401, "invalid_api_key")
    assert "401" in log.of("sdk.error")[0]["message"]


async def test_sideband_follows_steers_and_ends_a_call(
    talking_to: dict[str, Any], tls_daemon: Daemon, short_pcm: bytes
) -> None:
    """``calls.create`` places the call, a socket by ``callID`` hears and steers it, ``calls.hangup`` ends both."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel, microphone = peer.createDataChannel("oai-events"), Microphone()
    is_open, is_gone = asyncio.Event(), asyncio.Event()
    channel.on("open", is_open.set)
    channel.on("close", is_gone.set)
    peer.addTrack(microphone)
    await peer.setLocalDescription(await peer.createOffer())
    try:
        async with scenario(_SCRIPT, "sideband", sdp=peer.localDescription.sdp, **talking_to) as log:
            answer = await log.until("sdk.answer")
            await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            await is_open.wait()
            await log.until("session.created")
            await microphone.speak(short_pcm)
            await is_gone.wait()
    finally:
        await peer.close()
    assert log.refusals == []
    assert answer["callID"].startswith("rtc_")
    assert log.of("session.created")[0]["session"]["instructions"] == "Be brief."
    assert log.of("session.updated")[0]["session"]["instructions"] == "Be silent."
    assert log.types.index("output_audio_buffer.stopped") > log.types.index("output_audio_buffer.started")
    assert log.of("response.output_text.done")[0]["text"] == "You wrote: from the server"
    assert [refused["status"] for refused in log.of("sdk.refused")] == [404, 404]
    assert tls_daemon.registry.sessions == []
