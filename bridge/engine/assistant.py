"""The engine that hears, thinks a little and speaks: the models, the rules, and one conversation between them."""

import asyncio
import functools
from random import Random

import msgspec
from msgspec import UNSET

from bridge.engine import instructions, rules
from bridge.engine.hearing import HeardTurn
from bridge.engine.local import Local
from bridge.engine.mind import Content, Matter, Spoken, Text, ToolCall
from bridge.engine.prose import can_speak, sentences
from bridge.wire import items
from bridge.wire.sessions import ChosenTool

__all__ = ["Assistant"]

_UNSPEAKABLE = "{}\n\n(The engine's voice cannot speak this, so it is written.)"


class Assistant:
    """A ``Mind`` with ears and a voice."""

    keeps_ms = 60_000
    can_hear = True

    def __init__(self, local: Local, around: rules.Surroundings) -> None:
        self._local = local
        self._around = around
        self._random = Random(local.seed)

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Understands one stretch of sound."""
        return self._local.listen(pcm, language=language)

    def content(self, matter: Matter) -> Content:
        """The rules' answer, as it is wanted: spoken, written, or as a call."""
        decided = rules.answer(self._topic(matter))
        if isinstance(decided, rules.Use):
            return ToolCall(decided.name, decided.arguments)
        if matter.is_text:
            return Text(decided.text)
        if not can_speak(decided.text):
            return Text(_UNSPEAKABLE.format(decided.text))
        output = matter.state.output
        if output.voice is not UNSET:
            self._local.note_voice(output.voice, matter.log)
        speed = output.speed if output.speed is not UNSET else 1.0
        return Spoken(sentences(decided.text), functools.partial(self._local.say, speed=speed))

    def _topic(self, matter: Matter) -> rules.Topic:
        tools, choice = matter.functions, matter.choice
        if isinstance(choice, ChosenTool):
            tools = [tool for tool in tools if tool.name == choice.name]
        session, response = matter.state.config.instructions, matter.wanted.instructions
        return rules.Topic(
            history=[_with_words(item, matter) for item in matter.history],
            instructions=instructions.read(session or "", response or ""),
            tools=tools,
            must_call=isinstance(choice, ChosenTool) or choice == "required",
            around=self._around,
            random=self._random,
            is_idle=matter.is_idle,
        )


def _with_words(item: items.Item, matter: Matter) -> items.Item:
    """Spoken words are understood even where the client asked for no transcript."""
    words = matter.recordings.words(item.id)
    if not words or not isinstance(item, items.Message) or item.role != "user":
        return item
    return msgspec.structs.replace(item, content=[*_written(item), items.InputAudio(transcript=words)])


def _written(item: items.Message) -> list[items.Content]:
    return [part for part in item.content if not isinstance(part, items.InputAudio)]
