"""The engine with a language model for a mind: it hears and speaks with whatever ears and voice there are."""

import asyncio
import functools
from typing import Any

from msgspec import UNSET

from bridge.engine.chat import chat_messages, chat_tool_choice, chat_tools
from bridge.engine.hearing import HeardTurn, OpenStretch
from bridge.engine.llm import ChatServer
from bridge.engine.mind import Content, Ears, ResponseRequest, Speaker
from bridge.errors import NotImplementedHere
from bridge.wire.sessions import ChosenTool

__all__ = ["LlmResponder"]

_STILL_THERE = "(The caller has been silent for a while. Ask whether they are still there.)"


class LlmResponder:
    """A ``Mind``. Without ``ears`` spoken words are not understood, without a ``voice`` every answer is text."""

    keeps_ms = 60_000
    past_ms: int | None = None
    turn_ms = 600_000

    def __init__(self, server: ChatServer, *, ears: Ears | None, voice: Speaker | None) -> None:
        self._server = server
        self._ears = ears
        self._voice = voice
        self.can_hear = ears is not None

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Understands one stretch of sound."""
        if self._ears is None:
            raise NotImplementedHere("The embedded engine has no speech recognition.")
        return self._ears.listen(pcm, language=language)

    def begin_understanding(self, *, language: str | None) -> OpenStretch | None:
        """Begins to understand a stretch while it is spoken, if its ears can."""
        return None if self._ears is None else self._ears.begin_recognition(language=language)

    def content(self, request: ResponseRequest) -> Content:
        """Asks the language model; the answer follows word by word."""
        thought = self._server.think(_chat_request(request), model=str(request.state.config.model), log=request.log)
        if self._voice is not None and not request.is_text:
            thought.say = functools.partial(
                self._voice.speak_sentence, speed=request.speed, voice=request.voice, log=request.log
            )
        return thought


def _chat_request(request: ResponseRequest) -> dict[str, Any]:
    """What of a response chat completions have words for."""
    session, response = request.state.config, request.config
    instructions = response.instructions if response.instructions is not UNSET else session.instructions
    messages = chat_messages(request.history, instructions or "", request.recordings.words)
    if request.is_idle:
        messages.append({"role": "system", "content": _STILL_THERE})
    body: dict[str, Any] = {"messages": messages}
    if request.functions:
        body["tools"] = chat_tools(request.functions)
        choice = request.choice
        if choice != "auto" and not (isinstance(choice, ChosenTool) and choice.type != "function"):
            body["tool_choice"] = chat_tool_choice(choice)
        parallel = (
            response.parallel_tool_calls if response.parallel_tool_calls is not UNSET else session.parallel_tool_calls
        )
        if parallel is not UNSET:
            body["parallel_tool_calls"] = parallel
    limit = response.max_output_tokens if response.max_output_tokens is not UNSET else session.max_output_tokens
    if isinstance(limit, int):
        body["max_tokens"] = limit
    return body
