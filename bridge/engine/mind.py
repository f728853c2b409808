"""What an engine has to answer, in what form it may, and who does: a mind, with ears and a voice."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET
from structlog.typing import FilteringBoundLogger

from bridge.engine.hearing import HeardTurn, OpenStretch
from bridge.engine.pieces import Pieces
from bridge.engine.recordings import Recordings
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire.sessions import FunctionTool, ToolChoice

__all__ = [
    "Content",
    "Ears",
    "ResponseRequest",
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
    """Sound that exists already, PCM16 24 kHz mono in pieces, and its words."""

    pieces: Sequence[bytes]
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
    """Why it is incomplete: ``max_output_tokens`` or ``content_filter``; valid behind the last words."""
    usage: items.Usage | None = None
    """The usage, if it is known; valid behind the last words."""

    @property
    @abstractmethod
    def calls(self) -> "Sequence[ThoughtCall]":
        """All calls, in order; valid behind the last words."""

    @property
    @abstractmethod
    def words(self) -> Pieces[str]:
        """The words to be said. Closing them ends the thought."""


Content = Speech | Spoken | Text | Thought | ToolCall


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One response that is wanted, with everything that it may be made of."""

    config: items.ResponseConfig
    history: Sequence[items.Item]
    state: SessionState
    recordings: Recordings
    is_text: bool
    """True if the answer is to be text."""
    log: FilteringBoundLogger
    """The logger of the conversation."""
    is_idle: bool = False
    """True if nobody has said anything for ``idle_timeout_ms``."""

    @property
    def functions(self) -> list[FunctionTool]:
        """The functions that may be called."""
        tools = self.config.tools if self.config.tools is not UNSET else self.state.config.tools
        named = [tool for tool in tools if isinstance(tool, FunctionTool)] if tools is not UNSET else []
        return [] if self.choice == "none" else named

    @property
    def voice(self) -> object:
        """The voice of the answer: the response's own, or the session's; ``UNSET`` if neither names one."""
        audio = self.config.audio
        own = audio.output if audio is not UNSET else UNSET
        return self.state.output.voice if own is UNSET or own.voice is UNSET else own.voice

    @property
    def speed(self) -> float:
        """The speed of the voice; 1 is the usual one."""
        speed = self.state.output.speed
        return 1.0 if speed is UNSET else speed

    @property
    def choice(self) -> ToolChoice:
        """Whether a function has to be called."""
        choice = self.config.tool_choice if self.config.tool_choice is not UNSET else self.state.config.tool_choice
        return choice if choice is not UNSET else "auto"


class Ears(Protocol):
    """Whatever understands speech."""

    def listen(self, pcm: bytes, *, language: str | None = None) -> "asyncio.Future[HeardTurn]":
        """Recognises the words in one stretch of PCM16 24 kHz mono; raises ``OverLimit`` if too many wait."""
        ...

    def begin_recognition(self, *, language: str | None = None) -> OpenStretch | None:
        """Begins to recognise a stretch while it is spoken; None if these ears cannot, or are busy."""
        ...


class Speaker(Protocol):
    """Whatever speaks."""

    def speak_sentence(self, sentence: str, *, speed: float, voice: object, log: FilteringBoundLogger) -> Pieces[bytes]:
        """One sentence as PCM16 24 kHz mono, in the session's ``voice`` if there is one of that name."""
        ...

    def can_speak(self, text: str) -> bool:
        """Whether the text can be spoken; a text that cannot is written."""
        ...


class Mind(Protocol):
    """Whatever listens and answers, in one conversation."""

    keeps_ms: int
    """How much sound is kept of a conversation, to be retrieved or said again."""
    past_ms: int | None
    """For how long it is kept when another item has come that does not repeat it; None sets no limit."""
    turn_ms: int
    """How much sound is kept of one turn, whose end nobody says or hears; the oldest goes first."""

    @property
    def can_hear(self) -> bool:
        """Whether words are understood."""
        ...

    def listen(self, pcm: bytes, *, language: str | None) -> "asyncio.Future[HeardTurn]":
        """Understands one stretch of sound; raises ``OverLimit`` if it cannot now."""
        ...

    def begin_understanding(self, *, language: str | None) -> OpenStretch | None:
        """Begins to understand a stretch while it is spoken; None if only whole stretches can be understood now."""
        ...

    def content(self, request: ResponseRequest) -> Content:
        """Thinks of the answer. All words of the conversation have been understood before."""
        ...
