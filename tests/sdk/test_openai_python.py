"""The stock Python SDK ``openai``, GA: nothing is patched, and its own types judge every event."""

import json
from typing import Any

import openai
import pytest
from openai.types.realtime import ClientSecretCreateResponse
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import RATES_HZ, decode, encode, match, resample, samples_of
from tests.sdk.stock import GA, Judged, SdkPeer, listening, speak, stock_client, without_repeats

_KEY = "sk-the-key-of-the-sdk-tests"
_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_MANUAL: Any = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
_ONE_LONG_TURN: Any = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 3000}}},
}
_SPOKEN_TURN = [
    "session.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.failed",
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
_CALL_TURN = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
_TEXT_TURN = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


async def _type(connection: Any, text: str, **where: Any) -> None:
    content = [{"type": "input_text", "text": text}]
    await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content}, **where)


def _since(log: Judged, event_type: str) -> list[str]:
    return without_repeats(log.types[log.types.index(event_type) :])


async def test_spoken_turn(daemon: Daemon, short_pcm: bytes) -> None:
    """What is said is heard, answered and told in the protocol's order; ids tie the events together."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(
                session={
                    "type": "realtime",
                    "instructions": "Be kind.",
                    "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}},
                }
            )
            await speak(connection, short_pcm)
            done = await log.until("response.done")
    assert without_repeats(log.types) == _SPOKEN_TURN
    assert log.events[0]["session"]["model"] == "gpt-realtime"
    assert log.of("session.updated")[0]["session"]["instructions"] == "Be kind."
    started, stopped, committed = (
        log.of(f"input_audio_buffer.{name}")[0] for name in ("speech_started", "speech_stopped", "committed")
    )
    asked, answered = log.of("conversation.item.added")
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == asked["item"]["id"]
    assert 0 <= started["audio_start_ms"] < stopped["audio_end_ms"] <= len(short_pcm) // 48
    assert asked["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert answered["previous_item_id"] == asked["item"]["id"]
    assert done["response"]["status"] == "completed"
    assert done["response"]["usage"]["total_tokens"] > 0
    assert {e["response_id"] for e in log.of("response.output_audio.delta")} == {done["response"]["id"]}
    assert match(samples_of(outbound_sound(log.events)), samples_of(short_pcm)).correlation > 0.95


async def test_tool_call(daemon: Daemon) -> None:
    """A function is called with arguments that fit its schema; its output is answered."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session={"type": "realtime", "tools": [_WEATHER], "tool_choice": "auto"})
            await _type(connection, "What is the weather?")
            await connection.response.create()
            call = (await log.until("response.done"))["response"]["output"][0]
            assert without_repeats(_since(log, "response.created")) == _CALL_TURN
            done = log.of("response.function_call_arguments.done")[0]
            assert (call["type"], call["name"], done["name"]) == ("function_call", "get_weather", "get_weather")
            assert json.loads(done["arguments"]).keys() == {"city"}
            assert done["call_id"] == call["call_id"]
            await connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            )
            await connection.response.create()
            answer = (await log.until("response.done", number=2))["response"]["output"][0]
    assert "sunny" in answer["content"][0]["text"]


async def test_barge_in(daemon: Daemon, speech_pcm: bytes) -> None:
    """Speech in an answer cancels it; the client cuts the item to what it has played."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_ONE_LONG_TURN)
            await speak(connection, speech_pcm + bytes(48 * 3500))
            delta = await log.until("response.output_audio.delta")
            await speak(connection, speech_pcm[: 48 * 2000])
            await log.until("input_audio_buffer.speech_started", number=2)
            response = (await log.until("response.done"))["response"]
            assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")
            await connection.conversation.item.truncate(item_id=delta["item_id"], content_index=0, audio_end_ms=100)
            truncated = await log.until("conversation.item.truncated")
    assert (truncated["item_id"], truncated["audio_end_ms"]) == (delta["item_id"], 100)
    assert response["output"][0]["status"] == "incomplete"


async def test_response_cancel(daemon: Daemon, speech_pcm: bytes) -> None:
    """A cancel ends the answer with all its done events, and the next one is answered as ever."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_MANUAL)
            await speak(connection, speech_pcm)
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            await log.until("response.output_audio.delta")
            await connection.response.cancel()
            response = (await log.until("response.done"))["response"]
            assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
            assert len(outbound_sound(log.events)) < len(speech_pcm)
            await connection.response.create(response={"output_modalities": ["text"]})
            assert (await log.until("response.done", number=2))["response"]["status"] == "completed"
    assert log.of("error") == []


async def test_manual_turns(daemon: Daemon, short_pcm: bytes) -> None:
    """Without turn detection nothing happens by itself; commit makes an item, clear forgets, create answers."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_MANUAL)
            await speak(connection, short_pcm)
            await connection.input_audio_buffer.clear()
            await log.until("input_audio_buffer.cleared")
            assert log.types == ["session.created", "session.updated", "input_audio_buffer.cleared"]
            assert log.of("session.updated")[0]["session"]["audio"]["input"]["turn_detection"] is None
            await speak(connection, short_pcm)
            await connection.input_audio_buffer.commit()
            committed = await log.until("input_audio_buffer.committed")
            await connection.response.create(response={"metadata": {"turn": "manual"}})
            done = await log.until("response.done")
    assert _since(log, "input_audio_buffer.committed")[:4] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert committed["previous_item_id"] is None
    assert done["response"]["metadata"] == {"turn": "manual"}
    assert outbound_sound(log.events) == short_pcm


@pytest.mark.parametrize(("law", "name"), [("audio/pcmu", "g711_ulaw"), ("audio/pcma", "g711_alaw")])
async def test_g711(daemon: Daemon, short_pcm: bytes, law: str, name: str) -> None:
    """Either law, both ways: 8 kHz, a byte for each sample."""
    session: Any = {
        "type": "realtime",
        "audio": {"input": {"format": {"type": law}}, "output": {"format": {"type": law}}},
    }
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=session)
            await speak(connection, encode(short_pcm, name), piece_bytes=160)
            await log.until("response.done")
    assert log.of("session.updated")[0]["session"]["audio"]["output"]["format"] == {"type": law}
    answer = decode(outbound_sound(log.events), name)
    source = resample(samples_of(short_pcm), 24_000, RATES_HZ[name])
    assert abs(len(answer) - len(source)) < RATES_HZ[name]
    assert match(answer, source).correlation > 0.95


async def test_typed_text(daemon: Daemon) -> None:
    """Text in, text out; items are placed, retrieved and deleted."""
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await _type(connection, "second")
            await _type(connection, "first", previous_item_id="root")
            first, second = (await log.until("conversation.item.added", number=2)), log.of("conversation.item.added")[0]
            assert first["previous_item_id"] is None
            await connection.conversation.item.retrieve(item_id=second["item"]["id"])
            assert (await log.until("conversation.item.retrieved"))["item"] == second["item"]
            await connection.conversation.item.delete(item_id=first["item"]["id"])
            assert (await log.until("conversation.item.deleted"))["item_id"] == first["item"]["id"]
            await connection.response.create()
            done = await log.until("response.done")
    assert _since(log, "response.created") == _TEXT_TURN
    assert log.of("response.output_text.done")[0]["text"] == "You wrote: second"
    assert log.of("response.content_part.done")[0]["part"] == {"type": "text", "text": "You wrote: second"}
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": "You wrote: second"}]


async def test_errors(daemon: Daemon, short_pcm: bytes) -> None:
    """Each refusal is one error event that names its cause; the session lives on and loses nothing."""
    refused: list[tuple[Any, str, str | None]] = [
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
        ({"type": "response.cancel"}, "response_cancel_not_active", None),
        ({"type": "conversation.item.delete", "item_id": "item_none"}, "invalid_value", "item_id"),
        ({"type": "conversation.item.retrieve"}, "missing_required_parameter", "item_id"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_audio", "audio"),
        ({"type": "no.such.event"}, "invalid_value", "type"),
        (
            {
                "type": "session.update",
                "session": {
                    "type": "realtime",
                    "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}},
                },
            },
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
    ]
    async with stock_client(daemon.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_MANUAL)
            for number, (event, code, param) in enumerate(refused, 1):
                message: Any = {**event, "event_id": f"mine_{number}"}
                await connection.send(message)
                error = (await log.until("error", number=number))["error"]
                assert error.keys() == {"type", "code", "message", "param", "event_id"}
                assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
                assert error["event_id"] == f"mine_{number}"
            await speak(connection, short_pcm)
            await connection.input_audio_buffer.commit()
            await connection.response.create()
            await connection.response.create(event_id="too_soon")
            busy = (await log.until("error", number=len(refused) + 1))["error"]
            assert (busy["code"], busy["event_id"]) == ("conversation_already_has_active_response", "too_soon")
            await log.until("response.done")
    assert outbound_sound(log.events) == short_pcm


async def test_transcription_session(daemon: Daemon, short_pcm: bytes) -> None:
    """``intent=transcription`` listens, says that it has no words for it, and never answers."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.realtime.connect(extra_query={"intent": "transcription"}) as connection,
        listening(connection) as log,
    ):
        transcription: Any = {"model": "gpt-4o-mini-transcribe", "language": "en"}
        await connection.session.update(
            session={"type": "transcription", "audio": {"input": {"transcription": transcription}}}
        )
        await speak(connection, short_pcm)
        failed = await log.until("conversation.item.input_audio_transcription.failed")
        await connection.response.create()
        await log.until("error")
    session = log.of("session.updated")[0]["session"]
    assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
    assert session["audio"]["input"]["transcription"] == transcription
    assert failed["item_id"] == log.of("input_audio_buffer.committed")[0]["item_id"]
    assert log.of("response.created") == []


async def test_client_secret(serve_with: ServeWith) -> None:
    """A secret stands for its session, as often as wanted, and mints no other."""
    async with serve_with(api_key=(_KEY,)) as daemon, stock_client(daemon.url, api_key=_KEY) as sdk:
        raw = await sdk.realtime.client_secrets.with_raw_response.create(
            expires_after={"anchor": "created_at", "seconds": 30},
            session={"type": "realtime", "model": "gpt-realtime-mini", "instructions": "Mine."},
        )
        secret = ClientSecretCreateResponse.model_validate(raw.http_response.json())
        assert secret.value.startswith("ek_")
        async with stock_client(daemon.url, api_key=secret.value) as client:
            for _ in range(2):
                async with client.realtime.connect(model="gpt-realtime-mini") as connection:
                    async with listening(connection) as log:
                        assert log.events[0]["session"]["instructions"] == "Mine."
            with pytest.raises(openai.PermissionDeniedError):
                await client.realtime.client_secrets.create()


async def test_wrong_key(serve_with: ServeWith) -> None:
    """The SDK's own exceptions, with the protocol's code."""
    async with serve_with(api_key=(_KEY,)) as daemon, stock_client(daemon.url, api_key="sk-wrong") as sdk:
        with pytest.raises(openai.AuthenticationError) as refused:
            await sdk.realtime.client_secrets.create()
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(InvalidStatus) as closed:
            async with sdk.realtime.connect(model="gpt-realtime"):
                pass
    assert closed.value.response.status_code == 401


@pytest.mark.parametrize(
    "options", [{}, {"session": {"type": "realtime", "instructions": "Grüße."}}], ids=["raw", "form"]
)
async def test_call_with_sideband(daemon: Daemon, short_pcm: bytes, options: Any) -> None:
    """An offer through the SDK, raw or in a form; a sideband hears and steers the call; a hang-up ends both."""
    async with stock_client(daemon.url) as sdk, SdkPeer(daemon.url, sdk, **options) as peer:
        assert peer.reply.status == 201
        async with sdk.realtime.connect(call_id=peer.call_id) as connection, listening(connection) as log:
            assert log.events[0]["session"] == peer.events[0]["session"]
            if options:
                assert log.events[0]["session"]["instructions"] == "Grüße."
            await connection.session.update(session={"type": "realtime", "instructions": "From aside."})
            assert (await peer.until("session.updated"))["session"]["instructions"] == "From aside."
            await peer.speak(short_pcm)
            await log.until("output_audio_buffer.started")
            await log.until("response.done")
            await connection.output_audio_buffer.clear()
            await log.until("output_audio_buffer.cleared")
            await log.until("conversation.item.truncated")
            await peer.until("output_audio_buffer.cleared")
            await sdk.realtime.calls.hangup(peer.call_id)
            await peer.gone.wait()
    assert [complaint for event in peer.events if (complaint := GA.complaint(event))] == []
    assert "response.output_audio.delta" not in peer.types
    assert "response.output_audio.done" in peer.types
    assert [t for t in peer.types if not t.startswith("output_audio_buffer")][1:] == [
        t for t in log.types if not t.startswith("output_audio_buffer")
    ][1:]


async def test_call_played_to_its_end(daemon: Daemon, short_pcm: bytes) -> None:
    """Without an interruption ``stopped`` follows when all has been heard."""
    async with stock_client(daemon.url) as sdk, SdkPeer(daemon.url, sdk) as peer:
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.stopped")
    assert peer.types.index("response.done") < peer.types.index("output_audio_buffer.stopped")
    assert "output_audio_buffer.cleared" not in peer.types


async def test_a_call_that_is_not_there(daemon: Daemon) -> None:
    """Whatever is to become of it: it is not found."""
    async with stock_client(daemon.url) as sdk:
        for refused in (
            sdk.realtime.calls.accept("rtc_1", type="realtime"),
            sdk.realtime.calls.reject("rtc_1"),
            sdk.realtime.calls.refer("rtc_1", target_uri="tel:+15550001111"),
            sdk.realtime.calls.hangup("rtc_1"),
        ):
            with pytest.raises(openai.NotFoundError) as unknown:
                await refused
            assert unknown.value.code == "call_id_not_found"
