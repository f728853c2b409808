"""A function called by voice: the stock ``openai-agents`` against an engine that hears and speaks."""

from collections.abc import AsyncIterator, Callable

import pytest
from agents import function_tool

from bridge.config import Config
from bridge.daemon import Daemon
from bridge.upstream.engine.local import Local
from tests.sdk.test_openai_agents import _running, _texts

_PAUSE = bytes(2 * 24 * 1000)


@pytest.fixture
async def assistant(models: Local) -> AsyncIterator[Daemon]:
    """A daemon whose engine hears and speaks."""
    async with Daemon(Config(port=0, udp_port=0, drain_s=0, engine="local"), local=models) as serving:
        yield serving


async def test_a_spoken_question_calls_the_function(assistant: Daemon, say: Callable[[str], bytes]) -> None:
    """The words' own city reaches the function, and what it returns is spoken."""
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return f"sunny in {city}"

    async with _running(assistant, tools=[get_weather]) as heard:
        await heard.session.send_audio(say("What is the weather in Paris?") + _PAUSE)
        await heard.wait(lambda: heard.of("tool_end"), "end of the tool")
        await heard.wait(lambda: heard.of("audio_end"), "answer")
        await heard.wait(lambda: len(_texts(heard)) == 2, "history of two")
    assert asked == ["Paris"]
    assert _texts(heard) == [("user", "What is the weather in Paris?"), ("assistant", "sunny in Paris.")]
    assert sum(len(event.audio.data) for event in heard.of("audio")) > 24_000
