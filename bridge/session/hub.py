"""Fan-out: what happens in one session reaches every listener, and a slow one hurts nobody but itself.

Each message is made once and written to every socket at once. A socket that cannot take more makes its listener keep
what follows in a bounded backlog: sound is dropped from it oldest first, counted and told by an event;
control events are never dropped, and a listener for whose control events there is no room left is closed with 1013.
"""

from collections import deque
from dataclasses import dataclass

from bridge.session.roles import Sink
from bridge.wire.dialects.beta import Beta, to_beta
from bridge.wire.ids import new_id
from bridge.wire.message import Message
from bridge.wire.server_events import Body, ListenerDropped, ServerEvent, encode

__all__ = ["Hub", "Limits", "Listener"]

_OVERLOADED = 1013
_ANSWER_FACTOR = 16
_LARGE_BYTES = 64 * 1024  # a single large event is no sign of a slow reader: it counts as so much


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one listener may be behind."""

    backlog_bytes: int = 1024 * 1024
    """Of live sound, and of control events; of an answer's sound, which comes faster than it plays, 16 times that."""
    backlog_ms: int = 5000
    """Of live sound."""


class Listener:
    """One socket that hears a session; ``role`` says what it may do there (owner, peer, controller, observer)."""

    def __init__(self, sink: Sink, *, role: str, limits: Limits, is_beta: bool = False) -> None:
        self.id = new_id("lst")
        self.role = role
        self.is_beta = is_beta
        self.audio = "none"
        self.dropped_events = 0
        self.dropped_ms = 0
        self.last_event_id = ""
        self.is_closed = False
        self._sink = sink
        self._limits = limits
        self._is_paused = False
        self._control: deque[tuple[int, Message]] = deque()
        self._sound: deque[tuple[int, Message]] = deque()
        self._order = 0
        self._control_bytes = 0
        self._sound_bytes = 0
        self._live_bytes = 0
        self._live_ms = 0
        self._unreported_events = 0
        self._unreported_ms = 0
        sink.attach(self)

    @property
    def backlog_bytes(self) -> int:
        """What waits for this listener, in its backlog and in its socket."""
        return self._control_bytes + self._sound_bytes + self._sink.buffered_bytes

    def deliver(self, message: Message) -> None:
        """Sends, or keeps, or makes room; never waits."""
        if not self._is_paused:
            self._sink.send(message)
        elif not self.is_closed:
            self._keep(message)

    def pause(self) -> None:
        """The socket holds as much as it should."""
        self._is_paused = True

    def resume(self) -> None:
        """The socket has room again: the backlog goes out in its order, for as long as there is room."""
        if self.is_closed:
            return
        self._is_paused = False
        while not self._is_paused and (self._control or self._sound):
            self._sink.send(self._next())

    def close(self, code: int, reason: str) -> None:
        """No more events; may be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        self._is_paused = True
        self._control.clear()
        self._sound.clear()
        self._control_bytes = self._sound_bytes = self._live_bytes = self._live_ms = 0
        self._sink.close(code, reason)

    def describe(self) -> dict[str, object]:
        """Figures for people."""
        return {
            "id": self.id,
            "role": self.role,
            "audio": self.audio,
            "backlog_bytes": self.backlog_bytes,
            "dropped_events": self.dropped_events,
            "dropped_ms": self.dropped_ms,
        }

    def _keep(self, message: Message) -> None:
        size = len(message.text)
        limits = self._limits
        self._order += 1
        if message.audio_ms:
            self._sound.append((self._order, message))
            self._count_sound(message, 1)
        else:
            self._control.append((self._order, message))
            self._control_bytes += min(size, _LARGE_BYTES)
        while self._sound and (
            self._live_ms > limits.backlog_ms
            or self._live_bytes + self._control_bytes > limits.backlog_bytes
            or self._sound_bytes > _ANSWER_FACTOR * limits.backlog_bytes
        ):
            self._drop_oldest()
        if self._control_bytes > limits.backlog_bytes:
            self.close(_OVERLOADED, f"too slow; last event {self.last_event_id}"[:120])

    def _count_sound(self, message: Message, sign: int) -> None:
        size = sign * len(message.text)
        self._sound_bytes += size
        if message.is_live:
            self._live_bytes += size
            self._live_ms += sign * message.audio_ms

    def _drop_oldest(self) -> None:
        _, message = self._sound.popleft()
        self._count_sound(message, -1)
        self.dropped_events += 1
        self.dropped_ms += message.audio_ms
        self._unreported_events += 1
        self._unreported_ms += message.audio_ms

    def _next(self) -> Message:
        """The next of the backlog; where sound was dropped, the report stands in its place."""
        is_sound = bool(self._sound) and (not self._control or self._sound[0][0] < self._control[0][0])
        if self._unreported_events and (is_sound or not self._sound):
            report = ListenerDropped(
                event_id=new_id("event"), events=self._unreported_events, audio_ms=self._unreported_ms
            )
            self._unreported_events = self._unreported_ms = 0
            return Message(encode(report))
        if is_sound:
            _, message = self._sound.popleft()
            self._count_sound(message, -1)
        else:
            _, message = self._control.popleft()
            self._control_bytes -= min(len(message.text), _LARGE_BYTES)
        return message


class Hub:
    """All listeners of one session, and the numbering of its events."""

    def __init__(self, session_id: str, beta: Beta | None = None) -> None:
        self.listeners: list[Listener] = []
        self._beta = beta or Beta()
        self._prefix = f"event_{session_id.rpartition('_')[2][:12]}_"
        self._number = 0

    def add(self, listener: Listener) -> None:
        """From now on it hears every event."""
        self.listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """It is gone; may be called twice."""
        if listener in self.listeners:
            self.listeners.remove(listener)

    def publish(self, event: ServerEvent, body: Body | None = None) -> None:
        """To everyone; the text is made once for each dialect that is spoken, from ``body`` where there is one."""
        self._deliver(event, body, tuple(self.listeners))

    def tell(self, listener: Listener, event: ServerEvent, body: Body | None = None) -> None:
        """To one: the answer to what only it did."""
        self._deliver(event, body, (listener,))

    def _deliver(self, event: ServerEvent, body: Body | None, listeners: tuple[Listener, ...]) -> None:
        self._number += 1
        event.event_id = f"{self._prefix}{self._number}"
        if body is not None:
            body["event_id"] = event.event_id
        message = Message(encode(event if body is None else body))
        in_beta = None
        if any(listener.is_beta for listener in listeners):
            translated = to_beta(event if body is None else body, self._beta)
            in_beta = None if translated is None else Message(encode(translated))
        for listener in listeners:
            listener.last_event_id = event.event_id
            if not listener.is_beta:
                listener.deliver(message)
            elif in_beta is not None:
                listener.deliver(in_beta)
