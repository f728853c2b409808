"""The mind that answers by rules: it hears and speaks with whatever ears and voice there are."""

import asyncio
import functools
from random import Random

import msgspec

from bridge.engine import instructions, rules
from bridge.engine.hearing import HeardTurn, OpenStretch
from bridge.engine.mind import Content, Ears, ResponseRequest, Speaker, Spoken, Text, ToolCall
from bridge.engine.prose import sentences
from bridge.wire import items
from bridge.wire.sessions import ChosenTool

__all__ = ["RuleResponder"]

_UNSPEAKABLE = "{}\n\n(The engine's voice cannot speak this, so it is written.)"


class RuleResponder:
    """A ``Mind`` with ears and a voice."""

    keeps_ms = 60_000
    past_ms: int | None = None
    turn_ms = 600_000
    can_hear = True

    def __init__(self, ears: Ears, voice: Speaker, bridge: rules.BridgeStatus, *, seed: int | None = None) -> None:
        self._ears = ears
        self._voice = voice
        self._bridge = bridge
        self._random = Random(seed)

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Understands one stretch of sound."""
        return self._ears.listen(pcm, language=language)

    def begin_understanding(self, *, language: str | None) -> OpenStretch | None:
        """Begins to understand a stretch while it is spoken, if its ears can."""
        return self._ears.begin_recognition(language=language)

    def content(self, request: ResponseRequest) -> Content:
        """The rules' answer, as it is wanted: spoken, written, or as a call."""
        decided = rules.answer(self._topic(request))
        if isinstance(decided, rules.Use):
            return ToolCall(decided.name, decided.arguments)
        if request.is_text:
            return Text(decided.text)
        if not self._voice.can_speak(decided.text):
            return Text(_UNSPEAKABLE.format(decided.text))
        say = functools.partial(self._voice.speak_sentence, speed=request.speed, voice=request.voice, log=request.log)
        return Spoken(sentences(decided.text), say)

    def _topic(self, request: ResponseRequest) -> rules.Topic:
        tools, choice = request.functions, request.choice
        if isinstance(choice, ChosenTool):
            tools = [tool for tool in tools if tool.name == choice.name]
        session, response = request.state.config.instructions, request.config.instructions
        return rules.Topic(
            history=[_with_words(item, request) for item in request.history],
            instructions=instructions.read(session or "", response or ""),
            tools=tools,
            must_call=isinstance(choice, ChosenTool) or choice == "required",
            bridge=self._bridge,
            random=self._random,
            is_idle=request.is_idle,
        )


def _with_words(item: items.Item, request: ResponseRequest) -> items.Item:
    """The words of an item. Speech is understood even if the client asked for no transcript."""
    words = request.recordings.words(item.id)
    if not words or not isinstance(item, items.Message) or item.role != "user":
        return item
    return msgspec.structs.replace(item, content=[*_written(item), items.InputAudio(transcript=words)])


def _written(item: items.Message) -> list[items.Content]:
    return [part for part in item.content if not isinstance(part, items.InputAudio)]
