"""What is measured of one call: its connection, its turns, and what went wrong."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["BenchRecord", "Failure", "Turn"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that a server said or did; ``code`` is its own word for it, where it has one."""

    code: str
    message: str


@dataclass(slots=True)
class Turn:
    """The caller spoke once, and was answered; None is what did not happen."""

    spoken_at_s: float | None = None
    """When the caller had finished, since the first call was made."""
    first_sound_ms: float | None = None
    """From there to the first sound of the answer: a delta of it, or a packet that can be heard."""
    after_stopped_ms: float | None = None
    """To the same from ``input_audio_buffer.speech_stopped``."""
    is_early: bool = False
    """The answer began before the caller had finished: there is no time to tell."""
    round_trip_ms: float | None = None
    """From ``session.update`` to ``session.updated``, or to its refusal."""
    answer_s: float = 0.0
    """How much of the answer was heard."""
    gap_ms: float = 0.0
    """Of silence where the answer broke off and went on."""
    is_answered: bool = False


@dataclass(slots=True)
class BenchRecord:
    """One call, as far as it came."""

    number: int
    result: Literal["came_through", "failed", "unfinished"] = "unfinished"
    call_id: str | None = None
    connect_ms: float | None = None
    """From the first request to the open data channel, or to ``session.created``."""
    turns: list[Turn] = field(default_factory=list)
    failure: Failure | None = None
    """What ended it."""
    complaints: list[Failure] = field(default_factory=list)
    """Every ``error`` event that came."""
    refusal: Failure | None = None
    """How the server refused ``session.update``; it is not asked again."""
    packets: int | None = None
    """That arrived; of a WebSocket there are none."""
    lost: int | None = None
    jitter_ms: float | None = None
