"""What rows share: events that are often sent, and where the protocol is written."""

from typing import Any

from bridge.client.check.steps import Expect, Send

__all__ = [
    "ASKED",
    "CLIENT",
    "FUNCTION",
    "GUIDE",
    "MANUAL",
    "MET",
    "REFERENCE",
    "SERVER",
    "SPOKEN",
    "TEXT_ONLY",
    "input_settings",
    "respond",
    "say",
    "update",
]

REFERENCE = "Realtime API reference, {}"
GUIDE = "Realtime API guide, {}"
CLIENT, SERVER = REFERENCE.format("client events"), REFERENCE.format("server events")
FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a place.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def update(**session: Any) -> Send:
    return Send({"type": "session.update", "session": {"type": "realtime", **session}})


def input_settings(**settings: Any) -> Send:
    return update(audio={"input": settings})


def say(text: str, **more: Any) -> Send:
    content = [{"type": "input_text", "text": text}]
    return Send(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content, **more}}
    )


def respond(**response: Any) -> Send:
    return Send({"type": "response.create", "response": response})


TEXT_ONLY = {"output_modalities": ["text"]}
MANUAL = (input_settings(turn_detection=None), Expect("session.updated"))
MET = Expect("conversation.item.added", or_kind="conversation.item.created")
ASKED = (say("Please count to five."), MET)
SPOKEN = (
    *ASKED,
    respond(),
    Expect("response.output_audio_transcript.delta", keep={"item": "item_id"}, within_s=20),
)
