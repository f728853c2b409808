"""What stands between a session and its present line, whichever protocol the line speaks."""

from dataclasses import dataclass
from typing import Protocol

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.upstream.line import Line
from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import Body

__all__ = ["LineRelay", "Seconds"]


@dataclass(slots=True)
class Seconds:
    """How much sound a service was sent, and gave, over all lines of a call."""

    input: float = 0.0
    output: float = 0.0


class LineRelay(Protocol):
    """Says what a new line must be told, and hands on what is said over the present one."""

    answers: int
    offset_ms: int
    seconds: Seconds

    @property
    def is_live(self) -> bool:
        """Whether clients have heard ``session.created``."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, so that a line may be replaced unheard."""
        ...

    @property
    def owes_answer(self) -> bool:
        """Whether the upstream owes an answer."""
        ...

    def close(self) -> None:
        """Forgets everything, because the call is over."""
        ...

    def new_id(self) -> str:
        """Makes an id for an event that no client sent."""
        ...

    def is_own(self, event_id: str | None) -> bool:
        """Whether the bridge sent the event, and no client."""
        ...

    def ask(self, line: Line, body: Body, now: float) -> None:
        """Sends a client event."""
        ...

    def push(self, line: Line, sound: bytes) -> None:
        """Sends a piece of the caller's sound."""
        ...

    def greet(self, line: Line, created: Body, now: float) -> None:
        """Sets the first line to what the session was opened with."""
        ...

    def brief(self, line: Line, created: Body, now: float, *, is_renewal: bool) -> None:
        """Tells a further line all that it has to know."""
        ...

    def hand_over(self, audio_format: AudioFormat) -> tuple[list[Body], bytes, list[Body]]:
        """What to tell the embedded engine if it goes on with the call: events, then sound, then events again."""
        ...

    def forget_unanswered(self, before: float) -> None:
        """Forgets what was asked before then."""
        ...

    def lose(self, error: UpstreamError) -> None:
        """Tells clients that the line was lost."""
        ...

    def hear(self, body: Body) -> None:
        """Takes an event of the upstream."""
        ...

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer."""
        ...
