"""``livekit-agents`` with its openai plugin: an ``AgentSession`` without a room, told nothing but the base URL."""

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.voice import io
from livekit.plugins.openai.realtime import RealtimeModel

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

_RATE_HZ = 24_000
_PIECE_BYTES = 960
_HEARD_S = 0.5

told = Told()


class Microphone(io.AudioInput):
    """What is spoken, and nothing otherwise."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def speak(self, pcm: bytes) -> None:
        for at in range(0, len(pcm) - _PIECE_BYTES + 1, _PIECE_BYTES):
            self._frames.put_nowait(rtc.AudioFrame(pcm[at : at + _PIECE_BYTES], _RATE_HZ, 1, _PIECE_BYTES // 2))

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


class Loudspeaker(io.AudioOutput):
    """Plays at once what it gets; while it is ``slow``, it never comes to the end by itself."""

    def __init__(self) -> None:
        super().__init__(
            label="loudspeaker", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=_RATE_HZ
        )
        self.slow = False
        self._seconds = 0.0
        self._is_capturing = False

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._is_capturing:
            self._is_capturing = True
            told.tell("sdk.playing")
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._is_capturing and not self.slow:
            self._finish(self._seconds, interrupted=False)

    def clear_buffer(self) -> None:
        if self._is_capturing:
            self._finish(min(_HEARD_S, self._seconds), interrupted=True)

    def _finish(self, position_s: float, *, interrupted: bool) -> None:
        told.tell("sdk.played", seconds=self._seconds, interrupted=interrupted)
        self._is_capturing, self._seconds = False, 0.0
        self.on_playback_finished(playback_position=position_s, interrupted=interrupted)


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    told.tell("sdk.tool_called", given={"city": city})
    return f"sunny in {city}"


def _tell_of_item(event: Any) -> None:
    item = event.item
    if item.type == "message":
        told.tell("sdk.item", role=item.role, text=item.text_content, interrupted=item.interrupted)


async def main() -> None:
    model = RealtimeModel(base_url=inputs["base_url"], api_key=inputs["key"])
    session: AgentSession[None] = AgentSession(llm=model)
    microphone, loudspeaker = Microphone(), Loudspeaker()
    session.input.audio, session.output.audio = microphone, loudspeaker
    session.on("conversation_item_added", _tell_of_item)
    session.on("error", lambda event: told.tell("sdk.error", message=str(event.error)))
    agent = Agent(instructions="Help.", tools=[get_weather])
    await session.start(agent)
    agent.realtime_llm_session.on("openai_server_event_received", told.tell_event)

    microphone.speak(sound_of("weather") + PAUSE)
    await told.wait(lambda: any(item["role"] == "assistant" for item in told.of("sdk.item")), "spoken answer")

    loudspeaker.slow = True
    microphone.speak(sound_of("count") + PAUSE)
    await told.until("sdk.playing", 2)
    microphone.speak(sound_of("weather"))
    await told.until("conversation.item.truncated")
    await told.wait(lambda: any(item["interrupted"] for item in told.of("sdk.item")), "interrupted item")
    loudspeaker.slow = False
    microphone.speak(PAUSE)
    await told.wait(lambda: len(told.of("sdk.tool_called")) == 2, "second call")
    await told.wait(lambda: len(told.of("sdk.item")) >= 6, "second answer")

    session.generate_reply(user_input="Say good morning.")
    await told.wait(lambda: len(told.of("sdk.item")) >= 8, "answer to what was written")
    await session.aclose()
    await model.aclose()


asyncio.run(main())
