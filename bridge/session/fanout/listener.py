"""One who hears a call over a socket of its own.

While its socket is full, or its client wants nothing, what comes is kept in a backlog. ``TRANSITIONS`` is the table of
its states; docs/internals/call-states.md has the picture.
"""

from enum import StrEnum

from structlog.typing import FilteringBoundLogger

from bridge.log import get_logger
from bridge.media.contracts import Sink
from bridge.session.fanout.backlog import Limits, ListenerBacklog
from bridge.state_machine import StateMachine
from bridge.wire.choices import STOCK, Choices
from bridge.wire.codecs.codec import Codec
from bridge.wire.codecs.ga import GA
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import ListenerRole, ListenerStats

__all__ = ["TRANSITIONS", "Listener", "ListenerState"]

_log = get_logger("session")

_OVERLOADED = 1013
_MAX_UNREADABLE = 20  # messages in a row


class ListenerState(StrEnum):
    """Whether what a listener is told goes to its socket at once."""

    FLOWING = "flowing"
    FULL = "full"
    """The socket holds as much as it should."""
    HELD = "held"
    """The client wants nothing for now."""
    HELD_AND_FULL = "held_and_full"
    CLOSED = "closed"


_FLOWING, _FULL, _HELD, _HELD_AND_FULL, _CLOSED = ListenerState
TRANSITIONS = {
    _FLOWING: {_FULL, _HELD, _CLOSED},
    _FULL: {_FLOWING, _HELD_AND_FULL, _CLOSED},
    _HELD: {_FLOWING, _HELD_AND_FULL, _CLOSED},
    _HELD_AND_FULL: {_HELD, _FULL, _CLOSED},
    _CLOSED: set[ListenerState](),
}
_WHEN_FULL = {_FLOWING: _FULL, _HELD: _HELD_AND_FULL}
_WHEN_DRAINED = {_FULL: _FLOWING, _HELD_AND_FULL: _HELD}
_WHEN_HELD = {_FLOWING: _HELD, _FULL: _HELD_AND_FULL}
_WHEN_RELEASED = {_HELD: _FLOWING, _HELD_AND_FULL: _FULL}


class Listener:
    """One socket that hears a session; ``role`` says what it may do there (owner, peer, controller, observer)."""

    def __init__(
        self,
        sink: Sink,
        *,
        role: ListenerRole,
        limits: Limits,
        codec: Codec = GA,
        choices: Choices = STOCK,
        log: FilteringBoundLogger = _log,
    ) -> None:
        self.id = new_id("lst")
        self.role = role
        self.codec = codec
        self.choices = choices
        self.audio = "none"
        self.streams: set[str] = set()
        """What the ids of the sound begin with that it hears."""
        self.last_event_id = ""
        """Of what went to its socket: behind this one it may go on."""
        self.unreadable = 0
        """Messages in a row that were no JSON."""
        self.half_sample = b""
        """What its last append ended with in the middle of a sample."""
        self._sink = sink
        self._backlog = ListenerBacklog(limits, codec)
        self._machine = StateMachine("listener", _FLOWING, TRANSITIONS, log=log)
        sink.attach(self)

    @property
    def state(self) -> ListenerState:
        """Whether what comes goes out at once."""
        return self._machine.state

    @property
    def is_bridge_client(self) -> bool:
        """It has chosen what only the bridge offers, and so knows the bridge's own events; a stock client would not."""
        return self.choices != STOCK

    @property
    def backlog_bytes(self) -> int:
        """What waits for this listener, in its backlog and in its socket."""
        return self._backlog.size + self._sink.buffered_bytes

    @property
    def dropped_events(self) -> int:
        """How many events of sound it has missed."""
        return self._backlog.dropped_events

    @property
    def dropped_ms(self) -> int:
        """How much sound they carried."""
        return self._backlog.dropped_ms

    def deliver(self, message: EncodedMessage) -> None:
        """Sends, or keeps, or makes room; never waits."""
        if self._machine.state is _FLOWING:
            self._send(message)
        elif self._machine.state is not _CLOSED and not self._backlog.keep(message):
            self.close(_OVERLOADED, f"too slow; last event {self.last_event_id}"[:120])

    def count_unreadable(self, code: int, reason: str) -> None:
        """One more message of its that was no event; whoever sends nothing else is closed."""
        self.unreadable += 1
        if self.unreadable >= _MAX_UNREADABLE:
            self.close(code, reason)

    def pause(self) -> None:
        """The socket holds as much as it should."""
        self._follow(_WHEN_FULL)

    def resume(self) -> None:
        """The socket has room again: the backlog goes out in its order, for as long as there is room."""
        self._follow(_WHEN_DRAINED)

    def hold(self) -> None:
        """The client wants nothing for now: what comes waits, within the limits."""
        self._follow(_WHEN_HELD)

    def release(self) -> None:
        """The client goes on."""
        self._follow(_WHEN_RELEASED)

    def finish(self, code: int, reason: str) -> None:
        """The call is over: what waits goes out, however full the socket is, and then the goodbye."""
        while self._backlog:
            self._send(self._backlog.take(self.last_event_id))
        self.close(code, reason)

    def close(self, code: int, reason: str) -> None:
        """No more events, not even those that wait; may be called twice."""
        if self._machine.state is _CLOSED:
            return
        self._machine.enter(_CLOSED)
        self._backlog.clear()
        self._sink.close(code, reason)

    def stats(self) -> ListenerStats:
        """Its choices, and how far it is behind."""
        choices = self.choices
        return ListenerStats(
            id=self.id,
            role=self.role,
            dialect=self.codec.dialect,
            audio=self.audio,
            chunk_ms=choices.chunk_ms,
            chunk_size=choices.chunk_size,
            tracks=[] if choices.audio is None else list(choices.tracks),
            events=None if choices.events is None else list(choices.events.patterns),
            framing=choices.framing,
            is_held=self._machine.state in (_HELD, _HELD_AND_FULL),
            last_event_id=self.last_event_id,
            backlog_bytes=self.backlog_bytes,
            dropped_events=self.dropped_events,
            dropped_ms=self.dropped_ms,
        )

    def _follow(self, next_of: dict[ListenerState, ListenerState]) -> None:
        """Goes on as ``next_of`` says, if it has the present state; the backlog goes out while nothing hinders it."""
        state = next_of.get(self._machine.state)
        if state is None:
            return
        self._machine.enter(state)
        while self._machine.state is _FLOWING and self._backlog:
            self._send(self._backlog.take(self.last_event_id))

    def _send(self, message: EncodedMessage) -> None:
        self.last_event_id = message.event_id
        self._sink.send(message)
