"""What an engine has to answer, in what form it may, and who does: a mind, with ears and a voice."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET
from structlog.typing import FilteringBoundLogger

from bridge.engine.hearing import HeardTurn
from bridge.engine.pieces import Pieces
from bridge.engine.recordings import Recordings
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire.sessions import FunctionTool, ToolChoice

__all__ = [
    "Content",
    "Ears",
    "Matter",
    "Mind",
    "ToolCall",
    "Speaker",
    "Speech",
    "Spoken",
    "Text",
    "Thought",
    "ThoughtCall",
]


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound that is there already, PCM16 24 kHz mono, and what it says."""

    pcm: bytes
    transcript: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """Words to be spoken piece by piece; the pieces together are the transcript."""

    pieces: Sequence[str]
    say: Callable[[str], Pieces[bytes]]
    """Makes the sound of one piece."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text only."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call; ``arguments`` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ThoughtCall:
    """A function call in a thought."""

    call_id: str
    name: str
    arguments: str


class Thought(ABC):
    """An answer that is still being thought: its words come piece by piece, then the calls that it makes."""

    say: Callable[[str], Pieces[bytes]] | None = None
    """Makes the sound of one sentence; None if the answer is written."""
    incomplete_reason: str | None = None
    """Why there is not more of it: ``max_output_tokens``, ``content_filter``; valid behind the last words."""
    usage: items.Usage | None = None
    """What it cost, if that is known; valid behind the last words."""

    @property
    @abstractmethod
    def calls(self) -> "Sequence[ThoughtCall]":
        """All calls, in order; valid behind the last words."""

    @property
    @abstractmethod
    def words(self) -> Pieces[str]:
        """What is to be said. Closing it ends the thought."""


Content = Speech | Spoken | Text | Thought | ToolCall


@dataclass(frozen=True, slots=True)
class Matter:
    """One response that is wanted, and all that it may be made of."""

    wanted: items.ResponseConfig
    history: Sequence[items.Item]
    state: SessionState
    recordings: Recordings
    is_text: bool
    """No sound is wanted."""
    log: FilteringBoundLogger
    """Of the conversation."""
    is_idle: bool = False
    """Nobody has said anything for ``idle_timeout_ms``."""

    @property
    def functions(self) -> list[FunctionTool]:
        """Those that may be called."""
        tools = self.wanted.tools if self.wanted.tools is not UNSET else self.state.config.tools
        named = [tool for tool in tools if isinstance(tool, FunctionTool)] if tools is not UNSET else []
        return [] if self.choice == "none" else named

    @property
    def voice(self) -> object:
        """In which the answer is to be spoken: the response's own, or the session's; ``UNSET`` if neither says."""
        audio = self.wanted.audio
        own = audio.output if audio is not UNSET else UNSET
        return self.state.output.voice if own is UNSET or own.voice is UNSET else own.voice

    @property
    def speed(self) -> float:
        """How fast, 1 being the usual."""
        speed = self.state.output.speed
        return 1.0 if speed is UNSET else speed

    @property
    def choice(self) -> ToolChoice:
        """Whether one has to be called."""
        choice = self.wanted.tool_choice if self.wanted.tool_choice is not UNSET else self.state.config.tool_choice
        return choice if choice is not UNSET else "auto"


class Ears(Protocol):
    """Who understands speech."""

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        """The words in one stretch of PCM16 24 kHz mono; ``OverLimit`` if too many wait."""
        ...


class Speaker(Protocol):
    """Who speaks."""

    def speak(self, sentence: str, *, speed: float, voice: object, log: FilteringBoundLogger) -> Pieces[bytes]:
        """One sentence as PCM16 24 kHz mono, in the session's ``voice`` if there is one of that name."""
        ...

    def can_speak(self, text: str) -> bool:
        """Whether it can be heard at all; what cannot is written."""
        ...


class Mind(Protocol):
    """Who listens and answers, in one conversation."""

    keeps_ms: int
    """How much sound is kept of a conversation, to be retrieved or said again."""

    @property
    def can_hear(self) -> bool:
        """Whether words are understood."""
        ...

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Understands one stretch of sound; ``OverLimit`` where it cannot now."""
        ...

    def content(self, matter: Matter) -> Content:
        """The answer; all words of the conversation have been understood before."""
        ...
