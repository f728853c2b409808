"""``pydantic-ai``: an agent's session over WebSocket, and beside a call over WebRTC; told nothing but the base URL."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import PartEndEvent, SpeechPart
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.realtime import RealtimeSession
from pydantic_ai.realtime.openai import OpenAIRealtimeModel

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

told = Told()
agent = Agent(instructions="Help.")


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    told.tell("sdk.tool_called", given={"city": city})
    return f"sunny in {city}"


def _model() -> OpenAIRealtimeModel:
    provider = OpenAIProvider(base_url=inputs["base_url"], api_key=inputs["key"])
    return OpenAIRealtimeModel("gpt-realtime", provider=provider)


async def _read(session: RealtimeSession) -> None:
    async for event in session:
        match event:
            case PartEndEvent(part=SpeechPart() as part):
                told.tell("sdk.said", speaker=part.speaker, text=part.transcript)
            case _:
                told.tell(f"sdk.{event.event_kind}", event=repr(event)[:300])


async def _listen(session: RealtimeSession, plays: asyncio.Event) -> None:
    """A loudspeaker; while ``plays`` is not set, it comes to an answer's second piece and no further."""
    waiting = 0
    async for chunk in session.stream_audio():
        told.tell("sdk.sound", size=len(chunk))
        waiting = 0 if plays.is_set() else waiting + 1
        if waiting == 2:
            await plays.wait()


@contextlib.asynccontextmanager
async def _opened(**options: Any) -> AsyncIterator[RealtimeSession]:
    async with agent.realtime(_model()).session(**options) as session, asyncio.TaskGroup() as group:
        reading = group.create_task(_read(session))
        yield session
        await session.close()
        reading.cancel()


def _tell_history(session: RealtimeSession) -> None:
    for message in session.all_messages():
        for part in message.parts:
            if isinstance(part, SpeechPart):
                told.tell("sdk.item", role=part.speaker, text=part.transcript, interrupted_at_ms=part.interrupted_at_ms)
            else:
                told.tell("sdk.item", role=part.part_kind, text=str(getattr(part, "content", "")))


async def websocket() -> None:
    """A spoken question calls the function; speech interrupts an answer; what is written is answered."""
    plays = asyncio.Event()
    plays.set()
    async with _opened(handle_barge_in=True) as session, asyncio.TaskGroup() as group:
        listening = group.create_task(_listen(session, plays))
        await session.send_audio(sound_of("weather") + PAUSE)
        await told.until("sdk.realtime_turn_complete")
        plays.clear()
        heard, come = len(told.of("sdk.sound")), len(told.of("sdk.part_delta"))
        await session.send_audio(sound_of("count") + PAUSE)
        await told.until("sdk.sound", heard + 2)
        await told.until("sdk.part_delta", come + 8)
        await session.send_audio(sound_of("weather"))
        await told.until("sdk.realtime_input_speech_start", 3)
        await told.until("sdk.realtime_turn_complete", 2)
        plays.set()
        await session.send_audio(PAUSE)
        await told.until("sdk.tool_called", 2)
        await told.until("sdk.realtime_turn_complete", 3)
        await session.send("Say good morning.")
        await told.until("sdk.realtime_turn_complete", 4)
        _tell_history(session)
        listening.cancel()


async def sideband() -> None:
    """The agent answers a page's offer, follows the call and calls functions in it, and hangs up."""
    realtime = agent.realtime(_model())
    answer = await realtime.answer_webrtc_offer(inputs["sdp"])
    told.tell("sdk.answer", sdp=answer.sdp, call_id=answer.session.session_id)
    async with _opened(provider_session=answer.session) as session:
        told.tell("sdk.attached")
        await told.until("sdk.realtime_turn_complete")
        await told.until("sdk.realtime_output_speech_end")
        await told.until("sdk.part_start")
        _tell_history(session)
        await session.hang_up()
        told.tell("sdk.hung_up")


asyncio.run(globals()[sys.argv[2] if len(sys.argv) > 2 else "websocket"]())
