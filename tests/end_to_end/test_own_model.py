"""A daemon whose engine thinks, hears and speaks by servers of its own: asked by voice over WebRTC."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.engine.local import Local
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import request
from tests.engine import chat_service
from tests.engine.chat_service import ChatService, call_function
from tests.engine.speech_service import SpeechService

pytestmark = pytest.mark.slow

_PAUSE = bytes(2 * 24 * 1000)
_WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

Say = Callable[[str], bytes]


@pytest.mark.alone
async def test_a_spoken_question_is_answered_by_a_language_model_with_a_call(
    serve_with: ServeWith, models: Local, say: Say
) -> None:
    """Speech becomes words, the model calls a function, its result is told, and the answer is heard."""
    calling = call_function(("call_1", "get_weather", '{"city":"Oslo"}'))
    answer = chat_service.say("It is sunny in Oslo. ", "Take your ", "sunglasses.")
    async with (
        ChatService.serving(calling, answer) as chat,
        SpeechService.serving(models) as speech,
        serve_with(
            engine="auto",
            engine_llm_url=chat.url,
            engine_llm_key="sk-llm",
            engine_llm_model="m-1",
            engine_stt_url=speech.url,
            engine_tts_url=speech.url,
        ) as daemon,
        RealPeer(daemon.url) as peer,
    ):
        assert daemon.engine == "remote"
        peer.send({"type": "session.update", "session": {"type": "realtime", "tools": [_WEATHER]}})
        await peer.until("session.updated")
        await peer.speak(_PAUSE + say("What is the weather like in Oslo?") + _PAUSE)
        call = (await peer.until("response.function_call_arguments.done"))["call_id"]
        await peer.until("response.done")
        assert (call, peer.of("response.function_call_arguments.done")[0]["arguments"]) == ("call_1", '{"city":"Oslo"}')
        output = {"type": "function_call_output", "call_id": call, "output": '{"sky":"sunny"}'}
        peer.send({"type": "conversation.item.create", "item": output})
        peer.send({"type": "response.create"})
        await peer.until("output_audio_buffer.stopped")
        assert peer.of("response.output_audio_transcript.done")[0]["transcript"] == (
            "It is sunny in Oslo. Take your sunglasses."
        )
        assert [asked["input"] for asked in speech.spoken] == ["It is sunny in Oslo. ", "Take your sunglasses."]
        heard = await models.listen(peer.heard)
        assert "sunny in Oslo" in heard.text
        metrics = (await request("GET", f"{daemon.url}metrics")).body.decode()
        for stage in ("ear", "mind", "voice"):
            assert f'bridge_stage_latency_seconds_count{{stage="{stage}",upstream="local"}}' in metrics
        [call_stats] = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
        assert [stage["name"] for stage in call_stats["upstream"]["stages"]] == ["ear", "mind", "voice"]
    first, second = chat.requests
    assert "weather like in Oslo" in first["messages"][-1]["content"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
    assert second["messages"][-1]["content"] == '{"sky":"sunny"}'
    assert set(chat.keys) == {"bearer sk-llm"}
