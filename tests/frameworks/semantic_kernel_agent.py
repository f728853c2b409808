"""``semantic-kernel``: a realtime client over WebSocket with a plugin; told nothing but the base URL."""

import asyncio
import base64
from typing import Any

from openai import AsyncOpenAI
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIRealtimeExecutionSettings,
    OpenAIRealtimeWebsocket,
    SendEvents,
    TurnDetection,
)
from semantic_kernel.contents import (
    AudioContent,
    RealtimeAudioEvent,
    RealtimeEvent,
    RealtimeFunctionCallEvent,
    RealtimeFunctionResultEvent,
    RealtimeTextEvent,
    TextContent,
)
from semantic_kernel.functions import kernel_function

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

_PIECE_BYTES = 9600
_BYTES_PER_MS = 48

told = Told()


class Desk:
    """A plugin: the function's name becomes ``desk-get_weather``."""

    @kernel_function(name="get_weather", description="The weather in a city.")
    def get_weather(self, city: str) -> str:
        told.tell("sdk.tool_called", given={"city": city})
        return f"sunny in {city}"


async def _read(client: OpenAIRealtimeWebsocket) -> None:
    async for event in client.receive():
        match event:
            case RealtimeAudioEvent():
                size = len(base64.b64decode(event.service_event.delta))
                told.tell("sdk.sound", item_id=event.service_event.item_id, size=size)
            case RealtimeFunctionCallEvent() if event.service_type == "response.function_call_arguments.done":
                told.tell("sdk.function_call", name=event.function_call.name)
            case RealtimeFunctionResultEvent():
                told.tell("sdk.function_result", result=str(event.function_result.result))
            case RealtimeTextEvent():
                told.tell("sdk.text", text=event.text.text)
            case RealtimeEvent() if event.service_event is not None:
                told.tell_event(event.service_event.model_dump())


async def _speak(client: OpenAIRealtimeWebsocket, pcm: bytes) -> None:
    for at in range(0, len(pcm), _PIECE_BYTES):
        piece = base64.b64encode(pcm[at : at + _PIECE_BYTES]).decode()
        await client.send(RealtimeAudioEvent(audio=AudioContent(data=piece, data_format="base64")))


async def _send(client: OpenAIRealtimeWebsocket, kind: SendEvents, **fields: Any) -> None:
    await client.send(RealtimeEvent(service_type=kind, service_event=fields))


async def main() -> None:
    settings = OpenAIRealtimeExecutionSettings(
        instructions="Help.",
        voice="marin",
        input_audio_transcription={"model": "whisper-1"},
        turn_detection=TurnDetection(type="server_vad", create_response=True, interrupt_response=True),
        function_choice_behavior=FunctionChoiceBehavior.Auto(),
    )
    openai = AsyncOpenAI(base_url=inputs["base_url"], api_key=inputs["key"])
    client = OpenAIRealtimeWebsocket(ai_model_id="gpt-realtime", client=openai)
    async with client(settings=settings, plugins={"desk": Desk()}), asyncio.TaskGroup() as group:
        reading = group.create_task(_read(client))
        await told.until("session.updated")
        await _speak(client, sound_of("weather") + PAUSE)
        await told.until("response.done", 2)

        heard = len(told.of("sdk.sound"))
        await _speak(client, sound_of("count") + PAUSE)
        item_id = (await told.until("sdk.sound", heard + 1))["item_id"]
        await _speak(client, sound_of("weather"))
        await told.until("input_audio_buffer.speech_started", 3)
        come = sum(sound["size"] for sound in told.of("sdk.sound") if sound["item_id"] == item_id)
        half_ms = come // _BYTES_PER_MS // 2
        await _send(client, SendEvents.CONVERSATION_ITEM_TRUNCATE, item_id=item_id, audio_end_ms=half_ms)
        await told.until("conversation.item.truncated")
        await _speak(client, PAUSE)
        await told.until("response.done", 5)

        text = TextContent(text="Say good morning.")
        await client.send(RealtimeTextEvent(service_type=SendEvents.CONVERSATION_ITEM_CREATE, text=text))
        await _send(client, SendEvents.RESPONSE_CREATE)
        await told.until("response.done", 6)
        reading.cancel()


asyncio.run(main())
