"""The npm package ``@copilotkit/aimock`` as the language model of the engine, asked by voice over WebRTC.

The caller is a peer whose offer goes through the stock ``openai`` SDK; ears and voice are the engine's own.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aioice.ice
import httpx2
import pytest

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.sdk.stock import SdkPeer, stock_client
from tests.sdk_js.node import Scenario, scenario
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(60, func_only=True)]

_PAUSE = bytes(2 * 24 * 1000)
_RESULT = "It is sunny in Oslo, and twenty degrees."
_STORY = " ".join(f"The {number} sheep jumps over the fence." for number in ("first", "second", "third", "fourth") * 6)
_CALL = {"id": "call_weather", "name": "get_weather", "arguments": '{"city":"Oslo"}'}
_WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

Say = Callable[[str], bytes]


@pytest.fixture(autouse=True)
def _peers_use_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
async def service() -> AsyncIterator[Scenario]:
    """It runs in Node as long as the test does."""
    told: dict[str, Any] = {"answers": {"story": _STORY, "stop": "I have stopped."}}
    told |= {"calls": {"weather": _CALL}, "results": {"call_weather": _RESULT}}
    async with scenario("aimock.mjs", "service", **told) as running:
        await running.until("sdk.serving")
        yield running
        running.end_input()


def _url(service: Scenario) -> str:
    return str(service.of("sdk.serving")[0]["url"])


async def _asked(service: Scenario) -> list[dict[str, Any]]:
    """The bodies of all requests for chat completions."""
    async with httpx2.AsyncClient() as http:
        journal = (await http.get(f"{_url(service)}/__aimock/journal")).json()
    return [entry["body"] for entry in journal if entry["path"].startswith("/v1/chat/completions")]


def _daemon(service: Scenario, models: Local) -> Daemon:
    settings = config_for_tests(engine="local", engine_llm_url=f"{_url(service)}/v1", engine_llm_model="any")
    return Daemon(settings, local=models)


async def test_a_question_by_voice_calls_a_function_and_its_result_is_heard(
    service: Scenario, models: Local, say: Say
) -> None:
    """Speech becomes words, the model calls, the client answers the call, and the model's last words are spoken."""
    async with (
        _daemon(service, models) as daemon,
        stock_client(daemon.url) as client,
        SdkPeer(daemon.url, client, session={"type": "realtime", "model": "any", "tools": [_WEATHER]}) as peer,
    ):
        await peer.speak(_PAUSE + say("What is the weather like in Oslo?") + _PAUSE)
        called = await peer.until("response.function_call_arguments.done")
        assert (called["name"], json.loads(called["arguments"])) == ("get_weather", {"city": "Oslo"})
        await peer.until("response.done")
        output = {"type": "function_call_output", "call_id": called["call_id"], "output": "sunny, 20 degrees"}
        peer.send({"type": "conversation.item.create", "item": output})
        peer.send({"type": "response.create"})
        await peer.until("output_audio_buffer.stopped")
        assert peer.of("response.output_audio_transcript.done")[-1]["transcript"] == _RESULT
        heard = await models.listen(peer.heard)
        assert "sunny in Oslo" in heard.text
    first, second = await _asked(service)
    assert "weather like in Oslo" in first["messages"][-1]["content"]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["get_weather"]
    assert second["messages"][-1] == {"role": "tool", "tool_call_id": "call_weather", "content": "sunny, 20 degrees"}


async def test_a_caller_who_interrupts_has_heard_what_the_model_is_told(
    service: Scenario, models: Local, say: Say
) -> None:
    """Of a story that was cut by the caller's voice, the next request holds the part that was played, and no more."""
    async with (
        _daemon(service, models) as daemon,
        stock_client(daemon.url) as client,
        SdkPeer(daemon.url, client, session={"type": "realtime", "model": "any"}) as peer,
    ):
        await peer.speak(_PAUSE + say("Please tell me a story.") + _PAUSE)
        await peer.until("output_audio_buffer.started")
        await peer.speak(_PAUSE + _PAUSE + say("Please stop it now.") + _PAUSE)
        truncated = await peer.until("conversation.item.truncated")
        await peer.until("response.done", number=2)
    asked = await _asked(service)
    *_, told, last = asked[-1]["messages"]
    assert "stop" in last["content"].lower()
    assert told["role"] == "assistant"
    assert _STORY.startswith(told["content"].strip())
    spoken_s = truncated["audio_end_ms"] / 1000
    assert 1.0 < spoken_s < 10.0
    words = len(told["content"].split())
    assert 1.0 * spoken_s < words < 5.0 * spoken_s, (words, spoken_s)
