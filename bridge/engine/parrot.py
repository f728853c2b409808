"""The engine without any model: it says what it heard, and invents nothing.

It is what answers where the extra ``local`` is not installed, and what tests of sound want: the answer is the question.
"""

import asyncio

import msgspec
from msgspec import UNSET

from bridge.engine.arguments import example_arguments
from bridge.engine.hearing import HeardTurn
from bridge.engine.mind import Content, ResponseRequest, Speech, Text, ToolCall
from bridge.errors import NotImplementedHere
from bridge.wire import items

__all__ = ["Parrot"]

_NOTHING_SAID = "Say something, and you will hear your own words. Type something, and you will read them."


class Parrot:
    """A ``Mind`` that repeats what it heard."""

    keeps_ms = 60_000  # twice the longest turn
    past_ms: int | None = 8_000
    turn_ms = 30_000
    can_hear = False

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Refuses, because it repeats words without understanding them."""
        raise NotImplementedHere("The embedded engine has no speech recognition installed.")

    def begin_understanding(self, *, language: str | None) -> None:
        """Returns None, because it understands nothing."""
        return

    def content(self, request: ResponseRequest) -> Content:
        """What to say to the last item."""
        call = _call(request)
        if call is not None:
            return call
        last = next((item for item in reversed(request.history) if not _is_from_model(item)), None)
        if isinstance(last, items.FunctionCallOutput):
            return Text(f"The function answered: {last.output}")
        if not isinstance(last, items.Message):
            return Text(_NOTHING_SAID)
        sound = request.recordings.pieces(last.id)
        if sound:
            words = f"(your own words, {request.recordings.duration_ms(last.id) / 1000:.1f} s)"
            return Text(words) if request.is_text else Speech(sound, words)
        written = "\n".join(part.text for part in last.content if isinstance(part, items.InputText))
        return Text(f"You wrote: {written}" if written else _NOTHING_SAID)


def _call(request: ResponseRequest) -> ToolCall | None:
    """A call of the first function, once in a conversation: until one was answered."""
    is_answered = any(isinstance(item, items.FunctionCallOutput) for item in request.history)
    if not request.functions or is_answered:
        return None
    tool = request.functions[0]
    arguments = example_arguments(tool.parameters if tool.parameters is not UNSET else {})
    return ToolCall(tool.name, msgspec.json.encode(arguments).decode())


def _is_from_model(item: items.Item) -> bool:
    return isinstance(item, items.FunctionCall) or (isinstance(item, items.Message) and item.role == "assistant")
