"""An upstream that speaks beta only, the bridge's own beta door: clients get GA of it, as the SDK's types judge."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.sdk.stock import listening, speak, stock_client, without_repeats

_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_ONE_LONG_TURN: Any = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 3000}}},
}
_BEGUN = ["response.created", "rate_limits.updated", "response.output_item.added", "conversation.item.added"]
_ENDED = ["response.output_item.done", "conversation.item.done", "response.done"]
_SPOKEN_TURN = [
    "session.created",
    "conversation.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.failed",
    *_BEGUN,
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    *_ENDED,
]
_TEXT_TURN = [
    *_BEGUN,
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    *_ENDED,
]
_CALL_TURN = [*_BEGUN, "response.function_call_arguments.delta", "response.function_call_arguments.done", *_ENDED]


@pytest.fixture
async def bridge(serve_with: ServeWith, daemon: Daemon) -> AsyncIterator[Daemon]:
    """A daemon whose upstream is the beta door of another one."""
    url = f"ws://127.0.0.1:{daemon.port}/v1/realtime"
    async with serve_with(upstream=url, upstream_profile="stepfun") as serving:
        yield serving


async def _type(connection: Any, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})


async def test_spoken_turn(bridge: Daemon, short_pcm: bytes) -> None:
    """What is said is heard, answered and told as a GA service would; settings arrive under their flat names."""
    audio = {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}, "output": {"voice": "verse"}}
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(
                session={"type": "realtime", "instructions": "Be kind.", "audio": audio}  # type: ignore[typeddict-item]
            )
            await speak(connection, short_pcm)
            done = await log.until("response.done")
    assert without_repeats(log.types) == _SPOKEN_TURN
    session = log.of("session.updated")[0]["session"]
    assert (session["type"], session["instructions"]) == ("realtime", "Be kind.")
    assert session["audio"]["output"]["voice"] == "verse"
    assert session["audio"]["input"]["transcription"] == {"model": "gpt-4o-mini-transcribe"}
    asked, answered = log.of("conversation.item.added")
    assert asked["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert answered["previous_item_id"] == asked["item"]["id"]
    assert done["response"]["output"][0]["content"][0]["type"] == "output_audio"
    assert done["response"]["output_modalities"] == ["audio"]
    assert match(samples_of(outbound_sound(log.events)), samples_of(short_pcm)).correlation > 0.95


async def test_typed_turn(bridge: Daemon) -> None:
    """A typed message is answered in text, of which the parts have GA's names."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
            await _type(connection, "one\ntwo")
            await connection.response.create()
            done = await log.until("response.done")
            at = log.types.index("response.created")
    assert without_repeats(log.types[at:]) == _TEXT_TURN
    assert log.of("session.updated")[0]["session"]["output_modalities"] == ["text"]
    [asked, answered] = log.of("conversation.item.done")
    assert asked["item"]["content"] == [{"type": "input_text", "text": "one\ntwo"}]
    assert answered["item"]["content"] == [{"type": "output_text", "text": "You wrote: one\ntwo"}]
    assert done["response"]["output"] == [answered["item"]]


async def test_tool_call(bridge: Daemon) -> None:
    """A function is called, with its name, which beta says elsewhere; its output is answered."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session={"type": "realtime", "tools": [_WEATHER], "tool_choice": "auto"})
            await _type(connection, "What is the weather?")
            await connection.response.create()
            call = (await log.until("response.done"))["response"]["output"][0]
            assert without_repeats(log.types[log.types.index("response.created") :]) == _CALL_TURN
            done = log.of("response.function_call_arguments.done")[0]
            assert (call["type"], call["name"], done["name"]) == ("function_call", "get_weather", "get_weather")
            assert json.loads(done["arguments"]).keys() == {"city"}
            await connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            )
            await connection.response.create()
            answer = (await log.until("response.done", number=2))["response"]["output"][0]
    assert "sunny" in answer["content"][0]["text"]


async def test_barge_in(bridge: Daemon, speech_pcm: bytes) -> None:
    """Speech in an answer cancels it; the client cuts the item to what it has played."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.session.update(session=_ONE_LONG_TURN)
            await speak(connection, speech_pcm + bytes(48 * 3200))
            delta = await log.until("response.output_audio.delta")
            await speak(connection, speech_pcm[: 48 * 700])
            response = (await log.until("response.done"))["response"]
            assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")
            await connection.conversation.item.truncate(item_id=delta["item_id"], content_index=0, audio_end_ms=100)
            truncated = await log.until("conversation.item.truncated")
    assert (truncated["item_id"], truncated["audio_end_ms"]) == (delta["item_id"], 100)
    assert log.of("conversation.item.done")[-1]["item"]["status"] == "incomplete"


async def test_mistakes_are_told(bridge: Daemon) -> None:
    """What the upstream refuses reaches who asked, with its code, and the conversation goes on."""
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            await connection.response.cancel(event_id="mine_1")
            await connection.conversation.item.delete(item_id="item_none", event_id="mine_2")
            await _type(connection, "still there?")
            await connection.response.create()
            await log.until("response.done")
    errors = [(e["error"]["event_id"], e["error"]["code"], e["error"]["param"]) for e in log.of("error")]
    assert errors == [("mine_1", "response_cancel_not_active", None), ("mine_2", "invalid_value", "item_id")]
    assert log.of("response.output_text.done")[0]["text"] == "You wrote: still there?"


async def test_every_item_can_be_told(bridge: Daemon) -> None:
    """Items of every kind, written by a client, stand in the upstream's conversation as they were written."""
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "AAAAAA=="}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
        {"type": "function_call", "call_id": "call_a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_a", "output": "3"},
    ]
    async with stock_client(bridge.url) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            for number, item in enumerate(items):
                written: Any = {**item, "id": f"item_{number}"}
                await connection.conversation.item.create(item=written)
            await log.until("conversation.item.done", number=len(items))
            await connection.conversation.item.retrieve(item_id="item_2")
            retrieved = (await log.until("conversation.item.retrieved"))["item"]
            await connection.conversation.item.delete(item_id="item_2")
            await log.until("conversation.item.deleted")
    done = [event["item"] for event in log.of("conversation.item.done")]
    assert [item["type"] for item in done] == [item["type"] for item in items]
    assert done[2]["content"] == retrieved["content"] == [{"type": "output_text", "text": "Yes."}]
    assert done[1]["content"] == [{"type": "input_audio", "transcript": None}]
