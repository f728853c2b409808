"""A listener: a client that hears a call over a socket of its own.

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
    """Whether events for a listener go to its socket at once."""

    FLOWING = "flowing"
    FULL = "full"
    """The socket holds as many bytes as it may."""
    HELD = "held"
    """The client has asked for a pause."""
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
        """The prefixes of the ids of the sound events that it hears."""
        self.last_event_id = ""
        """The id of the last event that went to its socket; it may go on behind this one."""
        self.unreadable = 0
        """The number of messages in a row that were no JSON."""
        self.half_sample = b""
        """The byte of half a sample that its last append ended with."""
        self._sink = sink
        self._backlog = ListenerBacklog(limits, codec)
        self._machine = StateMachine("listener", _FLOWING, TRANSITIONS, log=log)
        sink.attach(self)

    @property
    def state(self) -> ListenerState:
        """Whether events go to its socket at once."""
        return self._machine.state

    @property
    def is_bridge_client(self) -> bool:
        """Whether it knows the bridge's own events, as it has chosen what only the bridge offers.

        A stock client does not.
        """
        return self.choices != STOCK

    @property
    def backlog_bytes(self) -> int:
        """The number of bytes that wait for it, in its backlog and in its socket."""
        return self._backlog.size + self._sink.buffered_bytes

    @property
    def dropped_events(self) -> int:
        """The number of sound events that it has missed."""
        return self._backlog.dropped_events

    @property
    def dropped_ms(self) -> int:
        """How much sound was in them, in milliseconds."""
        return self._backlog.dropped_ms

    def deliver(self, message: EncodedMessage) -> None:
        """Sends a message, or keeps it in the backlog; never waits."""
        if self._machine.state is _FLOWING:
            self._send(message)
        elif self._machine.state is not _CLOSED and not self._backlog.keep(message):
            self.close(_OVERLOADED, f"too slow; last event {self.last_event_id}"[:120])

    def count_unreadable(self, code: int, reason: str) -> None:
        """Counts a message that was no event. A socket that sends nothing else is closed."""
        self.unreadable += 1
        if self.unreadable >= _MAX_UNREADABLE:
            self.close(code, reason)

    def pause(self) -> None:
        """The socket holds as many bytes as it may."""
        self._follow(_WHEN_FULL)

    def resume(self) -> None:
        """Sends the backlog in its order, for as long as the socket has room."""
        self._follow(_WHEN_DRAINED)

    def hold(self) -> None:
        """Keeps what comes in the backlog, within its limits, because the client has asked for a pause."""
        self._follow(_WHEN_HELD)

    def release(self) -> None:
        """Ends that pause."""
        self._follow(_WHEN_RELEASED)

    def finish(self, code: int, reason: str) -> None:
        """Sends the backlog, however full the socket is, and then closes it, because the call is over."""
        while self._backlog:
            self._send(self._backlog.take_oldest(self.last_event_id))
        self.close(code, reason)

    def close(self, code: int, reason: str) -> None:
        """Closes the socket at once. Events that wait are lost; may be called twice."""
        if self._machine.state is _CLOSED:
            return
        self._machine.enter(_CLOSED)
        self._backlog.clear()
        self._sink.close(code, reason)

    def stats(self) -> ListenerStats:
        """The stats of the listener: its choices, and how far it is behind."""
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
        """Enters the state that ``next_of`` has for the present one, if any, and sends the backlog if nothing hinders
        it.
        """
        state = next_of.get(self._machine.state)
        if state is None:
            return
        self._machine.enter(state)
        while self._machine.state is _FLOWING and self._backlog:
            self._send(self._backlog.take_oldest(self.last_event_id))

    def _send(self, message: EncodedMessage) -> None:
        self.last_event_id = message.event_id
        self._sink.send_message(message)
