"""``@openai/agents-realtime`` over WebSocket, in Node; every event is read by the SDK's own schemas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.end_to_end.event_log import outbound_sound
from tests.end_to_end.sound import RATES_HZ, decode, match, resample, samples_of
from tests.sdk_js.node import API_KEY, Scenario, WriteSound, played_through
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(20, func_only=True)]

_SCRIPT = "agents_ws.mjs"
_MEDIA_TYPES = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


def _history(log: Scenario) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = log.of("sdk.history")[0]["history"]
    return history


async def test_conversation_with_tool_text_and_sound(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """A message is answered by a function call, its result by text, speech by sound; the SDK keeps all of it."""
    log = await played_through(_SCRIPT, "conversation", sound=write_sound("pcm16"), **talking_to)
    assert log.refusals == []
    assert log.of("sdk.tool_called") == [{"type": "sdk.tool_called", "given": {"city": "example"}}]
    assert log.of("response.output_text.done")[0]["text"] == "The function answered: sunny in example"
    assert sum(heard["bytes"] for heard in log.of("sdk.audio")) == len(outbound_sound(log.events)) > 0
    history = _history(log)
    assert [item.get("role", item["type"]) for item in history] == [
        *("user", "function_call", "assistant"),
        *("user", "assistant"),
        *("user", "assistant"),
    ]
    assert history[1]["output"] == "sunny in example"
    assert [part["type"] for item in (history[3], history[4]) for part in item["content"]] == [
        "input_audio",
        "output_audio",
    ]
    assert history[4]["content"][0]["transcript"].startswith("(your own words")
    assert history[6]["content"][0]["text"] == "You wrote: Thank you"


async def test_answer_is_interrupted(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """``interrupt()`` cancels the response and truncates its item, both without an error."""
    log = await played_through(_SCRIPT, "interrupt", sound=write_sound("pcm16"), **talking_to)
    assert log.refusals == []
    assert len(log.of("sdk.audio_interrupted")) == 1
    assert log.of("response.done")[0]["response"]["status"] == "cancelled"
    assert len(log.of("conversation.item.truncated")) == 1


@pytest.mark.parametrize("audio_format", RATES_HZ)
async def test_turn_is_taken_by_hand(
    talking_to: dict[str, Any], write_sound: WriteSound, speech_pcm: bytes, audio_format: str
) -> None:
    """Without turn detection a committed buffer is answered when asked, in each of the formats."""
    inputs = {"format": _MEDIA_TYPES[audio_format], "sound": write_sound(audio_format)}
    log = await played_through(_SCRIPT, "manualTurn", **inputs, **talking_to)
    assert log.refusals == []
    assert "input_audio_buffer.speech_started" not in log.types
    spoken = resample(samples_of(speech_pcm), 24_000, RATES_HZ[audio_format])
    assert match(decode(outbound_sound(log.events), audio_format), spoken).correlation > 0.99


async def test_history_is_cut(talking_to: dict[str, Any]) -> None:
    """Items that the SDK takes out of its history are deleted on the server as well."""
    log = await played_through(_SCRIPT, "history", **talking_to)
    assert log.refusals == []
    assert [item["content"][0]["text"] for item in _history(log)] == ["one", "You wrote: one"]


async def test_spoken_question_calls_the_function(
    models: Local, tls: tuple[Path, Path], say: Callable[[str], bytes], tmp_path: Path
) -> None:
    """An engine that hears calls the function with the words' own city; what it returns is spoken."""
    sound = tmp_path / "question.pcm16"
    sound.write_bytes(say("What is the weather in Paris?") + bytes(2 * 24 * 1200))
    certificate, key = tls
    config = config_for_tests(engine="local", api_key=(API_KEY,), tls_cert=str(certificate), tls_key=str(key))
    async with Daemon(config, local=models) as serving:
        inputs = {"certificate": certificate, "url": serving.url, "key": API_KEY, "sound": str(sound)}
        log = await played_through(_SCRIPT, "spokenQuestion", **inputs)
    assert log.refusals == []
    assert log.of("sdk.tool_called") == [{"type": "sdk.tool_called", "given": {"city": "Paris"}}]
    assert [event["transcript"] for event in log.of("response.output_audio_transcript.done")] == ["sunny in Paris."]
    assert sum(heard["bytes"] for heard in log.of("sdk.audio")) > 24_000
    question, call, answer = _history(log)
    assert (question["content"][0]["transcript"], call["output"]) == ("What is the weather in Paris?", "sunny in Paris")
    assert answer["content"][0]["transcript"] == "sunny in Paris."
