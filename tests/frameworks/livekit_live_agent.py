"""``livekit-agents`` with its openai plugin's client of the Live API, told nothing but the base URL."""

import asyncio
from typing import Any

from livekit.agents import Agent, AgentSession, function_tool
from livekit.plugins.openai.realtime import GPTLiveDelegation, GPTLiveModel

from tests.frameworks.livekit_sound import Loudspeaker, OpenMicrophone
from tests.frameworks.telling import PAUSE, Told, inputs, sound_of

told = Told()


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    told.tell("sdk.tool_called", given={"city": city})
    return f"sunny in {city}"


def _tell_of_item(event: Any) -> None:
    item = event.item
    if item.type == "message":
        told.tell("sdk.item", role=item.role, text=item.text_content, interrupted=item.interrupted)


def _tell_of_event(event: dict[str, Any]) -> None:
    if event["type"] != "session.output_audio.delta":
        told.tell_event(event)


async def main() -> None:
    model = GPTLiveModel(base_url=inputs["base_url"], api_key=inputs["key"], delegation=inputs["delegation"])
    session: AgentSession[None] = AgentSession(llm=model)
    microphone, loudspeaker = OpenMicrophone(), Loudspeaker(told)
    session.input.audio, session.output.audio = microphone, loudspeaker
    session.on("conversation_item_added", _tell_of_item)
    session.on("error", lambda event: told.tell("sdk.error", message=str(event.error)))
    is_client = inputs["delegation"] == "client"
    agent = Agent(instructions="Help.", tools=[] if is_client else [get_weather])
    await session.start(agent)
    agent.duplex_session.on("openai_server_event_received", _tell_of_event)
    await (_delegate if is_client else _talk)(agent, microphone)
    await session.aclose()
    await model.aclose()


async def _talk(agent: Agent, microphone: OpenMicrophone) -> None:
    microphone.speak(sound_of("weather") + PAUSE)
    await _answered(1)
    microphone.speak(sound_of("count") + PAUSE)
    await told.until("sdk.playing", 2)
    microphone.speak(sound_of("weather") + PAUSE)
    await _answered(3)
    agent.duplex_session.append_commentary("Good morning.")
    await _answered(4)


async def _delegate(agent: Agent, microphone: OpenMicrophone) -> None:
    def work(delegation: GPTLiveDelegation) -> None:
        told.tell("sdk.delegation", pending_transcript=delegation.pending_transcript)
        agent.duplex_session.append_commentary("The table is booked.", delegation_id=delegation.id)

    agent.duplex_session.on("delegation_created", work)
    microphone.speak(sound_of("delegate") + PAUSE)
    await _answered(1)


async def _answered(number: int) -> None:
    await told.wait(lambda: len(_of_assistant()) >= number, f"answer number {number}")


def _of_assistant() -> list[dict[str, Any]]:
    return [item for item in told.of("sdk.item") if item["role"] == "assistant"]


asyncio.run(main())
