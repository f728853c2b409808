"""The playback ledger: which part of which response has been heard, to the sample.

Sound arrives faster than it plays, so what was sent to the bridge says nothing about what was heard. The ledger is told
what is queued and what is played (sent as packets, or confirmed by a carrier's mark) and knows the rest: when a
response starts and stops being heard, and where it was cut.
"""

from collections import deque
from dataclasses import dataclass, field

from msgspec import Struct

__all__ = ["PART_BYTES", "Heard", "Marked", "Part", "Playback", "Played", "Started", "Stopped"]

PART_BYTES = 1024
"""About how many bytes of memory the ledger takes for each part that it remembers."""


class Part(Struct, frozen=True):
    """One part of one item's sound."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int


@dataclass(frozen=True, slots=True)
class Started:
    """The first sample of a response has been played."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The last sample of a finished response has been played."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Marked:
    """All that had been queued before the mark has been played."""

    mark_id: str


Played = Started | Stopped | Marked


@dataclass(frozen=True, slots=True)
class Heard:
    """The place at which ``part`` was cut: what came before ``audio_end_ms`` was played, what came behind was not."""

    part: Part
    audio_end_ms: int


@dataclass(slots=True)
class _Entry:
    part: Part
    queued_samples: int = 0
    played_samples: int = 0
    marks: deque[tuple[int, str]] = field(default_factory=deque)
    """The marks in it: the sample at which each stands, and its id."""


class Playback:
    """The ledger of one leg: what it has played of what it was given. Samples are at ``rate_hz``."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._entries: deque[_Entry] = deque()
        self._sounding: str | None = None
        self._ended: set[str] = set()

    @property
    def sounding(self) -> str | None:
        """The response that is being heard, from its first sample to its last."""
        return self._sounding

    @property
    def parts(self) -> int:
        """How many parts are remembered: those that are still to be played, and the one that plays."""
        return len(self._entries)

    @property
    def queued_ms(self) -> int:
        """How much is still to be played, in milliseconds."""
        return sum(entry.queued_samples - entry.played_samples for entry in self._entries) * 1000 // self._rate_hz

    def queue(self, part: Part, samples: int) -> None:
        """Notes that ``samples`` more of ``part`` will be played."""
        if not self._entries or self._entries[-1].part != part:
            self._entries.append(_Entry(part))
        self._entries[-1].queued_samples += samples

    def play(self, samples: int) -> list[Played]:
        """Notes that ``samples`` were played. Samples that nobody queued are silence, and count for nothing."""
        events: list[Played] = []
        while samples > 0 and self._entries:
            entry = self._entries[0]
            if entry.part.response_id != self._sounding and entry.queued_samples > entry.played_samples:
                self._sounding = entry.part.response_id
                events.append(Started(self._sounding))
            played = min(samples, entry.queued_samples - entry.played_samples)
            entry.played_samples += played
            samples -= played
            while entry.marks and entry.marks[0][0] <= entry.played_samples:
                events.append(Marked(entry.marks.popleft()[1]))
            if entry.played_samples < entry.queued_samples or not self._leave(entry, events):
                break
        return events

    def mark(self, mark_id: str) -> bool:
        """Sets a mark behind all that is queued; ``play`` tells when it is reached, ``clear`` takes it away.

        True if nothing is left to play: then it is reached, and not told again.
        """
        if all(entry.played_samples == entry.queued_samples for entry in self._entries):
            return True
        last = self._entries[-1]
        last.marks.append((last.queued_samples, mark_id))
        return False

    def end(self, response_id: str) -> list[Played]:
        """Notes that no more of ``response_id`` will be queued."""
        if not any(entry.part.response_id == response_id for entry in self._entries):
            return []
        self._ended.add(response_id)
        events: list[Played] = []
        entry = self._entries[0]
        if entry.played_samples == entry.queued_samples:
            self._leave(entry, events)
        return events

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Throws away what was not played; the response that was cut, and where each of its parts was.

        None if nothing was left to play.
        """
        cut = [Heard(entry.part, entry.played_samples * 1000 // self._rate_hz)
               for entry in self._entries if entry.played_samples < entry.queued_samples]  # fmt: skip
        if not cut:
            return None
        response_id = self._sounding or cut[0].part.response_id
        self._entries.clear()
        self._ended.clear()
        self._sounding = None
        return response_id, cut

    def _leave(self, entry: _Entry, events: list[Played]) -> bool:
        """Drops a part that is played to its end, if anything follows it or nothing more can."""
        response_id = entry.part.response_id
        following = self._entries[1].part.response_id if len(self._entries) > 1 else None
        if following is None and response_id not in self._ended:
            return False
        self._entries.popleft()
        if following != response_id:
            self._ended.discard(response_id)
            if self._sounding == response_id:
                self._sounding = None
                events.append(Stopped(response_id))
        return True
