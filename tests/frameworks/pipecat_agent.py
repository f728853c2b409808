"""``pipecat-ai``: a pipeline around its service for the Realtime API, told nothing but the base URL."""

import asyncio
from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    InputAudioTranscription,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

_RATE_HZ = 24_000
_PIECE_BYTES = 960

told = Told()


class Loudspeaker(FrameProcessor):
    """Plays at once what it gets; while it is ``slow``, it never comes to the end by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self._bytes = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case TTSAudioRawFrame():
                if not self._bytes:
                    told.tell("sdk.playing")
                    await self.broadcast_frame(BotStartedSpeakingFrame)
                self._bytes += len(frame.audio)
            case TTSStoppedFrame() if self._bytes and not self.slow:
                await self._finish("sdk.played")
            case InterruptionFrame() if self._bytes:
                await self._finish("sdk.interrupted")
        await self.push_frame(frame, direction)

    async def _finish(self, kind: str) -> None:
        told.tell(kind, size=self._bytes)
        self._bytes = 0
        await self.broadcast_frame(BotStoppedSpeakingFrame)


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city.

    Args:
        city: The city's name.
    """
    told.tell("sdk.tool_called", given={"city": city})
    await params.result_callback(f"sunny in {city}")


async def _speak(worker: PipelineWorker, pcm: bytes) -> None:
    for at in range(0, len(pcm) - _PIECE_BYTES + 1, _PIECE_BYTES):
        await worker.queue_frame(InputAudioRawFrame(pcm[at : at + _PIECE_BYTES], _RATE_HZ, 1))


async def _talk(worker: PipelineWorker, loudspeaker: Loudspeaker) -> None:
    await worker.queue_frame(LLMRunFrame())
    await told.until("sdk.played")
    await _speak(worker, sound_of("weather") + PAUSE)
    await told.until("sdk.played", 2)
    loudspeaker.slow = True
    await _speak(worker, sound_of("count") + PAUSE)
    await told.until("sdk.playing", 3)
    await _speak(worker, sound_of("weather"))
    await told.until("sdk.interrupted")
    loudspeaker.slow = False
    await _speak(worker, PAUSE)
    await told.until("sdk.tool_called", 2)
    await told.until("sdk.played", 3)
    await worker.queue_frame(EndFrame())


async def main() -> None:
    properties = SessionProperties(audio=AudioConfiguration(input=AudioInput(transcription=InputAudioTranscription())))
    llm = OpenAIRealtimeLLMService(
        api_key=inputs["key"],
        base_url=inputs["base_url"].replace("http", "ws", 1) + "/realtime",
        settings=OpenAIRealtimeLLMService.Settings(system_instruction="Help.", session_properties=properties),
    )
    context = LLMContext([{"role": "user", "content": "Say good morning."}], tools=[get_weather])
    user, assistant = LLMContextAggregatorPair(context)
    loudspeaker = Loudspeaker()
    worker = PipelineWorker(
        Pipeline([user, llm, loudspeaker, assistant]),
        params=PipelineParams(audio_in_sample_rate=_RATE_HZ, audio_out_sample_rate=_RATE_HZ),
    )

    async def on_error(worker: PipelineWorker, frame: ErrorFrame) -> None:
        told.tell("sdk.error", message=frame.error)

    worker.add_event_handler("on_pipeline_error", on_error)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run())
        await _talk(worker, loudspeaker)
        await running
    for message in context.get_messages():
        told.tell("sdk.item", **_item(message))


def _item(message: dict[str, Any]) -> dict[str, Any]:
    calls = [call["function"]["name"] for call in message.get("tool_calls", [])]
    return {"role": message["role"], "content": message.get("content"), "calls": calls}


asyncio.run(main())
