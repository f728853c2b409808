"""What everyone was told lately, for those whose connection broke: from the event that they had last, in order, once.

Control events are numbered through the session, and the newest are kept; so is the newest sound of every stream that
somebody hears or has just heard. Sound is kept as it is, and written anew for who comes back. Both are bounded in bytes
and in number, sound in time too. What was told to one listener alone is not kept. If control events are missing, nobody
can resume from there; missing sound shows in its numbers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from bridge.errors import BadRequest, ResumeGap
from bridge.session.fanout.kept_sound import KeptSound, KeptSounds
from bridge.wire.codecs.codec import Codec, SoundWriter
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import Dialect

__all__ = ["DROPPED", "KeptEvent", "ReplayPosition", "Replay", "DialectEvent", "encoded_by"]

DROPPED = "_dropped"
"""The end of the id of a report that sound was dropped.

The part before it is the event that came last, so both are the same place.
"""

_MAX_EVENTS = 2000
_MOVED_EVENTS = 100_000  # more than a process can have sent since it last noted how many


class DialectEvent(NamedTuple):
    """A control event in one dialect."""

    kind: str
    message: EncodedMessage


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """One control event in GA, and in the other dialects that were spoken when it came."""

    number: int
    kind: str
    message: EncodedMessage
    others: Mapping[Dialect, DialectEvent | None] = field(default_factory=dict)
    """None if the dialect has no such event."""
    is_own: bool = False
    """It is the bridge's own, and for those who know it."""

    def in_codec(self, codec: Codec) -> DialectEvent | None:
        """The event as listeners of this codec get it; None if they do not."""
        dialect = codec.dialect
        if dialect is Dialect.GA:
            return DialectEvent(self.kind, self.message)
        if dialect in self.others:
            return self.others[dialect]
        return encoded_by(codec, msgspec.json.decode(self.message.payload), self.message.event_id)

    @property
    def size(self) -> int:
        """Its size in bytes, in all dialects together."""
        return self.message.size + sum(told.message.size for told in self.others.values() if told is not None)


def encoded_by(codec: Codec, event: ServerEvent | Body, event_id: str) -> DialectEvent | None:
    """The event as listeners of ``codec`` get it; None if their dialect has none like it."""
    encoded = codec.encode(event)
    return None if encoded is None else DialectEvent(encoded.kind, EncodedMessage(encoded.text, event_id=event_id))


class _History:
    """The control event before each sound event of one stream. Sound that is no longer kept is known here as well."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the newest sound event."""
        self.last_behind = -1
        """The control event before that one."""
        self._runs: deque[tuple[int, int]] = deque()  # from this number on, behind that event

    def add(self, number: int, behind: int, forgotten: int) -> None:
        """Notes the first sound event behind a control event; forgets those behind events that are forgotten."""
        self.last, self.last_behind = number, behind
        self._runs.append((number, behind))
        while self._runs[0][1] < forgotten and len(self._runs) > 1:
            self._runs.popleft()

    def behind(self, number: int) -> int | None:
        """The control event before a sound event; None if that is not known any more."""
        return next((behind for first, behind in reversed(self._runs) if first <= number), None)


@dataclass(frozen=True, slots=True)
class ReplayPosition:
    """The place in the order of events and sound at which a listener stopped."""

    number: int
    """The last control event that it may have had."""
    sounds: int
    """The number of sound events of all streams that had come by then."""


class Replay:
    """The ids of all events of a session, and the newest of the events themselves."""

    def __init__(
        self,
        prefix: str,
        *,
        max_bytes: int,
        max_sound_s: float = 10.0,
        max_events: int = _MAX_EVENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prefix = prefix
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._number = 0
        self._events: deque[KeptEvent] = deque()
        self._bytes = 0
        self._moved_behind = 0  # the number of the last event that another process is known to have sent
        self._forgotten = 0  # the number of the newest event that is kept no more
        self._sounds = KeptSounds(max_bytes=max_bytes, max_s=max_sound_s, clock=clock)
        self._histories: dict[str, _History] = {}

    @property
    def number(self) -> int:
        """The number of the last control event."""
        return self._number

    def next_id(self) -> str:
        """The id of the next control event."""
        self._number += 1
        return f"{self.prefix}{self._number}"

    def skip_to(self, number: int) -> None:
        """Another process has numbered events up to ``number``, and perhaps some more.

        Whoever stopped there, behind whichever event, goes on with the first that comes here. The numbers between are
        left out, so that no id stands for two events.
        """
        self._moved_behind = number
        self._number = self._forgotten = number + _MOVED_EVENTS

    @property
    def moved_behind(self) -> str | UnsetType:
        """The last event that the process before is known to have sent; unset if there was none."""
        return f"{self.prefix}{self._moved_behind}" if self._moved_behind else UNSET

    def keep(self, event: KeptEvent) -> None:
        """Keeps an event for as long as there is room."""
        self._events.append(event)
        self._bytes += event.size
        while self._events and (self._bytes > self._max_bytes or len(self._events) > self._max_events):
            gone = self._events.popleft()
            self._bytes -= gone.size
            self._forgotten = gone.number

    def keep_sound(
        self, stream: str, number: int, writer: SoundWriter, timestamp: int, sound: bytes, audio_ms: int
    ) -> None:
        """Keeps the sound ``number`` of a stream, and its ``writer``, for a time and for as long as there is room."""
        history = self._histories.get(stream)
        if history is None:
            history = self._histories[stream] = _History()
        if history.last_behind == self._number:
            history.last = number
        else:
            history.add(number, self._number, self._forgotten)
        self._sounds.add(stream, number, writer, timestamp, sound, audio_ms, self._number)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the events that are kept."""
        return self._bytes + self._sounds.size

    def clear(self) -> None:
        """Forgets everything, because nobody will come back any more."""
        self._forgotten = self._number
        self._events.clear()
        self._sounds.clear()
        self._bytes = 0

    def find(self, event_id: str) -> ReplayPosition:
        """The place behind an event; raises ``BadRequest`` if there was none, ``ResumeGap`` if it is too old."""
        stream, _, digits = event_id.removesuffix(DROPPED).rpartition("_")
        if not event_id.startswith(self.prefix) or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise BadRequest(f"No event of this call has the ID '{event_id[:64]}'.", param="after")
        number, stream = int(digits), f"{stream}_"
        if stream == self.prefix:
            return self._behind_event(number)
        history = self._histories.get(stream)
        if history is None and self._moved_behind:
            return self._checked(ReplayPosition(self._moved_behind + _MOVED_EVENTS, self._sounds.gone))
        if history is None or not 0 < number <= history.last:
            raise BadRequest("This call has no such event.", param="after")
        place = self._sounds.place_of(stream, number)
        if place is not None:
            return self._checked(ReplayPosition(*place))
        behind = history.behind(number)  # all sound from there on came later than this
        return self._checked(ReplayPosition(-1 if behind is None else behind, self._sounds.gone))

    def since(self, place: ReplayPosition) -> Iterator[KeptEvent | KeptSound]:
        """All events and sound that came after a place, in order."""
        events = iter([event for event in self._events if event.number > place.number])
        event = next(events, None)
        for sound in self._sounds.since(place.sounds):
            while event is not None and event.number <= sound.behind:
                yield event
                event = next(events, None)
            yield sound
        while event is not None:
            yield event
            event = next(events, None)

    def _behind_event(self, number: int) -> ReplayPosition:
        if not 0 < number <= self._number:
            raise BadRequest("This call has no such event.", param="after")
        if self._moved_behind:
            number = max(number, self._moved_behind + _MOVED_EVENTS)
        return self._checked(ReplayPosition(number, self._sounds.count_before(number)))

    def _checked(self, place: ReplayPosition) -> ReplayPosition:
        if place.number < self._forgotten:
            raise ResumeGap("Too much has happened since: the events after this one are no longer kept.", param="after")
        return place
