"""``livekit-agents`` with its openai plugin: an ``AgentSession`` without a room, told nothing but the base URL."""

import asyncio
from typing import Any

from livekit.agents import Agent, AgentSession, function_tool
from livekit.plugins.openai.realtime import RealtimeModel

from tests.frameworks.livekit_sound import Loudspeaker, Microphone
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


async def main() -> None:
    model = RealtimeModel(base_url=inputs["base_url"], api_key=inputs["key"])
    session: AgentSession[None] = AgentSession(llm=model)
    microphone, loudspeaker = Microphone(), Loudspeaker(told)
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
