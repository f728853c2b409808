"""The stock Python SDK ``openai-agents``: its realtime runner against a daemon, told nothing but the URL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agents import function_tool, set_tracing_disabled
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession

from bridge.daemon import Daemon
from tests.end_to_end.sound import match, samples_of
from tests.machine import scaled

set_tracing_disabled(True)

_LIMIT_S = scaled(15.0)
_PCM: Any = {"input_audio_format": "pcm16", "output_audio_format": "pcm16"}


class _Heard:
    """A session and all that it has told."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.events: list[Any] = []
        self._news = asyncio.Event()

    async def read(self) -> None:
        async for event in self.session:
            self.events.append(event)
            self._news.set()

    def of(self, kind: str) -> list[Any]:
        """The events of one of the SDK's own types."""
        return [event for event in self.events if event.type == kind]

    def raw(self, kind: str) -> list[Any]:
        """The server's events of one type, as the SDK passes them on."""
        told = [event.data.data for event in self.of("raw_model_event") if event.data.type == "raw_server_event"]
        return [event for event in told if event["type"] == kind]

    async def wait(self, has_come: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not has_come():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what}; came: {[event.type for event in self.events][-30:]}") from None


@asynccontextmanager
async def _running(daemon: Daemon, *, settings: Any = None, tools: Any = ()) -> AsyncIterator[_Heard]:
    """An agent's session; nothing that the SDK takes for an error, or does not know, may come."""
    agent: RealtimeAgent[Any] = RealtimeAgent(name="parrot", instructions="Repeat.", tools=list(tools))
    runner = RealtimeRunner(agent)
    config: Any = {
        "url": f"{daemon.url.replace('http', 'ws', 1)}v1/realtime?model=gpt-realtime",
        "api_key": "sk-test",
        "initial_model_settings": {**_PCM, **(settings or {})},
    }
    async with await runner.run(model_config=config) as session:
        heard = _Heard(session)
        reading = asyncio.create_task(heard.read())
        try:
            yield heard
        finally:
            await session.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    assert heard.of("error") == []
    assert heard.raw("error") == []


async def test_text_message(daemon: Daemon) -> None:
    """A message is answered, and both are in the SDK's history."""
    async with _running(daemon) as heard:
        await heard.session.send_message("hello")
        await heard.wait(lambda: heard.of("agent_end"), "end of the agent's turn")
        await heard.wait(lambda: len(_texts(heard)) == 2, "history of two")
    assert _texts(heard) == [("user", "hello"), ("assistant", "You wrote: hello")]


def _texts(heard: _Heard) -> list[tuple[str, str]]:
    """Who has said what, by the SDK's history."""
    history = heard.of("history_updated")[-1].history if heard.of("history_updated") else []
    said = [(item.role, item.content) for item in history if item.type == "message"]
    return [
        (role, "".join(str(getattr(part, "text", None) or getattr(part, "transcript", None) or "") for part in content))
        for role, content in said
        if content
    ]


async def test_audio(daemon: Daemon, short_pcm: bytes) -> None:
    """Sound in by the SDK's own turn detection, ``semantic_vad``; sound out as its audio events."""
    async with _running(daemon, settings={"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}) as heard:
        await heard.session.send_audio(short_pcm)
        await heard.wait(lambda: heard.of("agent_end"), "end of the agent's turn")
    sound = b"".join(event.audio.data for event in heard.of("audio"))
    assert heard.of("audio_end")
    assert match(samples_of(sound), samples_of(short_pcm)).correlation > 0.95


async def test_tool(daemon: Daemon) -> None:
    """The SDK runs the function and sends its output by itself; the answer follows."""
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    async with _running(daemon, tools=[get_weather]) as heard:
        await heard.session.send_message("What is the weather?")
        await heard.wait(lambda: heard.of("tool_end"), "end of the tool")
        await heard.wait(lambda: len(heard.of("agent_end")) == 2, "answer")
    assert len(asked) == 1
    assert heard.of("tool_end")[0].output == "sunny"
    assert any("sunny" in text for role, text in _texts(heard) if role == "assistant")


async def test_interruption(daemon: Daemon, speech_pcm: bytes) -> None:
    """``interrupt()`` stops an answer that plays; the SDK's truncate and cancel are both to our liking."""
    turns = {"type": "server_vad", "silence_duration_ms": 3000, "interrupt_response": True}
    async with _running(daemon, settings={"turn_detection": turns}) as heard:
        await heard.session.send_audio(speech_pcm + bytes(48 * 3500))
        await heard.wait(lambda: heard.of("audio"), "sound")
        await heard.session.send_audio(speech_pcm[: 48 * 2000])
        await heard.wait(lambda: heard.of("audio_interrupted"), "interruption")
        await heard.wait(lambda: heard.raw("conversation.item.truncated"), "truncated item")
        [done] = heard.raw("response.done")
    assert done["response"]["status_details"]["reason"] == "turn_detected"
