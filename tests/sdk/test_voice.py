"""A function called by voice: the stock ``openai-agents`` against an engine that hears and speaks."""

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agents import function_tool

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.end_to_end.web import open_socket
from tests.sdk.stock import listening, speak, stock_client
from tests.sdk.test_openai_agents import _running, _texts
from tests.settings import config_for_tests

_PAUSE = bytes(2 * 24 * 1000)


@pytest.fixture
async def assistant(models: Local) -> AsyncIterator[Daemon]:
    """A daemon whose engine hears and speaks."""
    async with Daemon(config_for_tests(engine="local"), local=models) as serving:
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


async def test_a_stock_client_takes_every_event(assistant: Daemon, say: Callable[[str], bytes]) -> None:
    """What comes of a spoken turn, transcript and all, is what the SDK's types say it is."""
    async with (
        stock_client(assistant.url).realtime.connect(model="gpt-realtime") as connection,
        listening(connection) as log,
    ):
        heard: Any = {"transcription": {"model": "whisper-1"}, "turn_detection": {"type": "server_vad"}}
        await connection.session.update(session={"type": "realtime", "audio": {"input": heard}})
        await speak(connection, say("Please count to five.") + _PAUSE)
        done = await log.until("response.done")
    assert done["response"]["output"][0]["content"][0]["transcript"] == "1, 2, 3, 4, 5."
    transcribed = "conversation.item.input_audio_transcription"
    assert [event["delta"] for event in log.of(f"{transcribed}.delta")] == ["Please count to five."]
    assert [event["transcript"] for event in log.of(f"{transcribed}.completed")] == ["Please count to five."]


async def test_a_transcription_session_only_writes(assistant: Daemon, say: Callable[[str], bytes]) -> None:
    """With ``intent=transcription`` every turn is written down, and none is answered."""
    async with open_socket(assistant.url, "intent=transcription") as socket:
        for number, sentence in enumerate(("Hello there.", "What time is it?"), 1):
            sound = base64.b64encode(say(sentence) + _PAUSE).decode()
            await socket.send({"type": "input_audio_buffer.append", "audio": sound})
            await socket.until("conversation.item.input_audio_transcription.completed", number=number)
    completed = socket.of("conversation.item.input_audio_transcription.completed")
    assert [event["transcript"] for event in completed] == ["Hello there.", "What time is it?"]
    assert socket.of("response.created", "error") == []
