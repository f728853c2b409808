"""``ag2``: a ``LiveAgent`` whose microphone and loudspeaker are events of its stream; told nothing but the base URL."""

import asyncio

from ag2 import events
from ag2.live import LiveAgent, OpenAIRealTimeConfig
from ag2.live.openai import InputConfig
from openai import AsyncOpenAI

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

_PIECE_BYTES = 9600

told = Told()


def get_weather(city: str) -> str:
    """The weather in a city."""
    told.tell("sdk.tool_called", given={"city": city})
    return f"sunny in {city}"


async def _on_heard(event: events.TranscriptionCompletedEvent) -> None:
    told.tell("sdk.heard", text=event.content)


async def _on_sound(event: events.SynthesizedAudioEvent) -> None:
    told.tell("sdk.sound", size=len(event.content))


async def _on_said(event: events.ModelResponse) -> None:
    told.tell("sdk.said", text=event.message.content if event.message else None)


async def main() -> None:
    config = OpenAIRealTimeConfig(
        "gpt-realtime",
        input=InputConfig(transcription={"model": "whisper-1"}),
        client=AsyncOpenAI(base_url=inputs["base_url"], api_key=inputs["key"]),
    )
    agent = LiveAgent("desk", "Help.", config=config, tools=[get_weather])
    async with agent.run() as context:
        stream = context.stream
        stream.where(events.TranscriptionCompletedEvent).subscribe(_on_heard)
        stream.where(events.SynthesizedAudioEvent).subscribe(_on_sound)
        stream.where(events.ModelResponse).subscribe(_on_said)

        async def speak(pcm: bytes) -> None:
            for at in range(0, len(pcm), _PIECE_BYTES):
                await context.send(events.RecordedAudioEvent(pcm[at : at + _PIECE_BYTES]))

        await speak(sound_of("weather") + PAUSE)
        await told.until("sdk.said", 2)
        heard = len(told.of("sdk.sound"))
        await speak(sound_of("count") + PAUSE)
        await told.until("sdk.sound", heard + 1)
        await speak(sound_of("weather") + PAUSE)
        await told.until("sdk.said", 5)
        report = await agent.usage_report(context)
        told.tell("sdk.usage", report=repr(report))


asyncio.run(main())
