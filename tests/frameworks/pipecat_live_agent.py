"""``pipecat-ai``: a pipeline around its service for the Live API, told nothing but the base URL."""

import asyncio
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMRunFrame,
    SpeechOutputAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.live.llm import OpenAILiveLLMService
from pipecat.services.openai.responses.llm import OpenAIResponsesLLMSettings
from pipecat.workers.runner import WorkerRunner

from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

_RATE_HZ = 24_000
_PIECE_BYTES = 960
_PIECE_S = 0.02
_LOUD = 500
_QUIET_S = 0.6

told = Told()


class Loudspeaker(FrameProcessor):
    """Plays at once what it gets, and tells of each stretch of sound between two silences."""

    def __init__(self) -> None:
        super().__init__()
        self._loud_s = 0.0
        self._quiet_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, SpeechOutputAudioRawFrame):
            self._hear(memoryview(frame.audio).cast("h"))
        await self.push_frame(frame, direction)

    def _hear(self, samples: "memoryview[int]") -> None:
        seconds = len(samples) / _RATE_HZ
        if max(map(abs, samples), default=0) > _LOUD:
            if not self._loud_s:
                told.tell("sdk.playing")
            self._loud_s, self._quiet_s = self._loud_s + seconds, 0.0
        elif self._loud_s:
            self._quiet_s += seconds
            if self._quiet_s > _QUIET_S:
                told.tell("sdk.played", seconds=self._loud_s)
                self._loud_s = 0.0


async def get_weather(params: FunctionCallParams, city: str) -> None:
    """The weather in a city.

    Args:
        city: The city's name.
    """
    told.tell("sdk.tool_called", given={"city": city})
    await params.result_callback(f"sunny in {city}")


class Microphone:
    """What is spoken, and silence otherwise, in real time."""

    def __init__(self, worker: PipelineWorker) -> None:
        self._worker = worker
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def speak(self, pcm: bytes) -> None:
        for at in range(0, len(pcm) - _PIECE_BYTES + 1, _PIECE_BYTES):
            self._pieces.put_nowait(pcm[at : at + _PIECE_BYTES])

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        next_s = clock()
        while True:
            piece = bytes(_PIECE_BYTES) if self._pieces.empty() else self._pieces.get_nowait()
            await self._worker.queue_frame(InputAudioRawFrame(piece, _RATE_HZ, 1))
            next_s += _PIECE_S
            await asyncio.sleep(next_s - clock())


async def _talk(worker: PipelineWorker, microphone: Microphone) -> None:
    await worker.queue_frame(LLMRunFrame())
    await told.until("sdk.played")
    microphone.speak(sound_of("weather") + PAUSE)
    await told.until("sdk.played", 2)
    microphone.speak(sound_of("count") + PAUSE)
    await told.until("sdk.playing", 3)
    microphone.speak(sound_of("weather") + PAUSE)
    await told.until("sdk.tool_called", 2)
    await told.until("sdk.played", 4)
    await worker.queue_frame(EndFrame())


async def main() -> None:
    llm = OpenAILiveLLMService(
        api_key=inputs["key"],
        base_url=inputs["base_url"].replace("http", "ws", 1) + "/live/sessions",
        settings=OpenAILiveLLMService.Settings(system_instruction="Help."),
        delegation=OpenAILiveLLMService.ResponsesDelegation(settings=OpenAIResponsesLLMSettings(model="gpt-5.4-mini")),
    )
    context = LLMContext([{"role": "developer", "content": "Good morning."}], tools=[get_weather])
    user, assistant = LLMContextAggregatorPair(context)
    worker = PipelineWorker(
        Pipeline([user, llm, Loudspeaker(), assistant]),
        params=PipelineParams(audio_in_sample_rate=_RATE_HZ, audio_out_sample_rate=_RATE_HZ),
    )

    async def on_error(worker: PipelineWorker, frame: ErrorFrame) -> None:
        told.tell("sdk.error", message=frame.error)

    async def on_delegation_created(llm: Any, delegation: Any) -> None:
        told.tell("sdk.delegation", target=delegation.target)

    worker.add_event_handler("on_pipeline_error", on_error)
    llm.add_event_handler("on_delegation_created", on_delegation_created)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    microphone = Microphone(worker)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run())
        speaking = group.create_task(microphone.run())
        await _talk(worker, microphone)
        await running
        speaking.cancel()
    for message in context.get_messages():
        told.tell("sdk.item", **_item(message))


def _item(message: dict[str, Any]) -> dict[str, Any]:
    calls = [call["function"]["name"] for call in message.get("tool_calls", [])]
    return {"role": message["role"], "content": message.get("content"), "calls": calls}


asyncio.run(main())
