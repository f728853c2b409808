"""LiteLLM's proxy in front of the bridge and behind it, with nothing but base URLs in its configuration."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.frameworks.conftest import python_of
from tests.machine import scaled
from tests.processes import ROOT, clean_environ, started
from tests.sdk.stock import listening, speak, stock_client
from tests.sdk_js.node import API_KEY
from tests.settings import config_for_tests

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(120, func_only=True)]

_LIMIT_S = scaled(60.0)
_PROXY_KEY = "sk-litellm"
_PAUSE = bytes(2 * 24 * 1000)
_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@asynccontextmanager
async def _proxy(base_url: str, folder: Path) -> AsyncIterator[str]:
    """A LiteLLM proxy whose one model is at ``base_url``; its own address."""
    model = {"model": "openai/gpt-realtime", "api_base": base_url, "api_key": API_KEY}
    config = {
        "model_list": [{"model_name": "gpt-realtime", "litellm_params": model}],
        "general_settings": {"master_key": _PROXY_KEY},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # which is YAML, too
    environ = clean_environ(LITELLM_LOCAL_MODEL_COST_MAP="True", NO_DOCS="True")
    command = (python_of("litellm"), "-m", "litellm.proxy.proxy_cli", "--config", str(path))
    where = ("--host", "127.0.0.1", "--port", "0", "--telemetry", "False")
    async with started(*command, *where, environ=environ, cwd=ROOT, stdin=DEVNULL, stderr=STDOUT) as process:
        assert process.stdout is not None
        said = []
        async with asyncio.timeout(_LIMIT_S):
            async for line in process.stdout:
                said.append(line.decode())
                if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", said[-1]):
                    break
            else:
                pytest.fail("LiteLLM ended: " + "".join(said))
        rest = asyncio.create_task(process.stdout.read())
        try:
            yield f"{found[1]}/"
        finally:
            rest.cancel()


async def _converse(url: str, key: str, say: Callable[[str], bytes]) -> None:
    """A stock client asks by voice, answers a function call, interrupts an answer, and writes."""
    weather, count = say("What is the weather in Paris?") + _PAUSE, say("Please count to thirty.") + _PAUSE
    async with stock_client(url, api_key=key) as sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        async with listening(connection) as log:
            transcription: Any = {"input": {"transcription": {"model": "whisper-1"}}}
            await connection.session.update(
                session={"type": "realtime", "tools": [_WEATHER], "audio": transcription},
            )
            await speak(connection, weather)
            [call] = (await log.until("response.done"))["response"]["output"]
            assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Paris"})
            output: Any = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
            await log.until("response.done", number=2)

            heard = len(log.of("response.output_audio.delta"))
            await speak(connection, count)
            await log.until("response.output_audio.delta", number=heard + 1)
            await speak(connection, weather)
            interrupted = (await log.until("response.done", number=3))["response"]
            assert (interrupted["status"], interrupted["status_details"]["reason"]) == ("cancelled", "turn_detected")
            await log.until("response.done", number=4)

            content: Any = [{"type": "input_text", "text": "Say good morning."}]
            await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
            await connection.response.create()
            await log.until("response.done", number=5)
    assert log.of("error") == []
    assert [heard["transcript"] for heard in log.of("conversation.item.input_audio_transcription.completed")] == [
        "What is the weather in Paris?",
        "Please count to 30.",
        "What is the weather in Paris?",
    ]
    said = [event["transcript"] for event in log.of("response.output_audio_transcript.done")]
    assert (said[0], said[-1]) == ("sunny.", "Good morning.")


async def test_it_is_in_front_of_the_bridge(assistant: Daemon, tmp_path: Path, say: Callable[[str], bytes]) -> None:
    """A stock client at LiteLLM's address talks with the bridge as it would without it."""
    async with _proxy(f"{assistant.url}v1", tmp_path) as url:
        await _converse(url, _PROXY_KEY, say)


async def test_it_is_behind_the_bridge(assistant: Daemon, tmp_path: Path, say: Callable[[str], bytes]) -> None:
    """The bridge's upstream is LiteLLM, whose model is another bridge: a client of the first talks with the second."""
    async with _proxy(f"{assistant.url}v1", tmp_path) as url:
        upstream = f"{url.replace('http', 'ws', 1)}v1/realtime"
        async with Daemon(config_for_tests(upstream=upstream, upstream_key=_PROXY_KEY)) as front:
            await _converse(front.url, API_KEY, say)
