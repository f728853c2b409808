"""What is measured of one call: its connection, its turns, and what went wrong."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["BenchRecord", "Failure", "Turn"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that a server said or did wrong; ``code`` is its own word for it, if it has one."""

    code: str
    message: str


@dataclass(slots=True)
class Turn:
    """One turn: the caller spoke, and was answered. Fields are None for what did not happen."""

    spoken_at_s: float | None = None
    """When the caller had finished, in seconds since the first call was made."""
    first_sound_ms: float | None = None
    """The time from then to the first sound of the answer: a delta of it, or a packet that can be heard."""
    after_stopped_ms: float | None = None
    """The time from ``input_audio_buffer.speech_stopped`` to the first sound of the answer."""
    is_early: bool = False
    """Whether the answer began before the caller had finished, so that there is no time to measure."""
    round_trip_ms: float | None = None
    """The time from ``session.update`` to ``session.updated``, or to its refusal."""
    answer_s: float = 0.0
    """How much of the answer was heard, in seconds."""
    gap_ms: float = 0.0
    """How much silence there was where the answer broke off and went on, in milliseconds."""
    is_answered: bool = False


@dataclass(slots=True)
class BenchRecord:
    """The record of one call, as far as the call came."""

    number: int
    result: Literal["came_through", "failed", "unfinished"] = "unfinished"
    call_id: str | None = None
    connect_ms: float | None = None
    """The time from the first request to the open data channel, or to ``session.created``."""
    turns: list[Turn] = field(default_factory=list)
    failure: Failure | None = None
    """The failure that ended it."""
    complaints: list[Failure] = field(default_factory=list)
    """All ``error`` events that came."""
    refusal: Failure | None = None
    """How the server refused ``session.update``, which is then not sent again."""
    packets: int | None = None
    """The number of packets that arrived; None for a WebSocket, which has none."""
    lost: int | None = None
    jitter_ms: float | None = None
