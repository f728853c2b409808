"""Fan-out: what happens in one session reaches every listener, and a slow one hurts nobody but itself.

Each message is made once and written to every socket at once. A socket that cannot take more makes its listener keep
what follows in a bounded backlog, and so does a listener that asks for a pause: sound is dropped from it oldest first,
counted and told by an event; control events are never dropped, and a listener for whose control events there is no room
left is closed with 1013. It may come back and go on behind the last event that it has had: see ``replay``.
"""

from collections import deque
from dataclasses import dataclass

from bridge.media.contracts import Sink
from bridge.session.replay import DROPPED, Kept, Replay
from bridge.session.subscription import EventSubscription, Subscription
from bridge.wire.choices import STOCK, Choices
from bridge.wire.dialects.beta import Beta, to_beta
from bridge.wire.ids import new_id
from bridge.wire.message import EncodedMessage
from bridge.wire.own_events import ListenerDropped
from bridge.wire.server_events import Body, ServerEvent, encode
from bridge.wire.stats import ListenerRole, ListenerStats

__all__ = ["Hub", "Limits", "Listener"]

_OVERLOADED = 1013
_MAX_UNREADABLE = 20  # messages in a row
_ANSWER_FACTOR = 16
_REPLAY_BYTES = 1024 * 1024
_LARGE_BYTES = 64 * 1024  # a single large event is no sign of a slow reader: it counts as so much


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one listener may be behind."""

    backlog_bytes: int = 1024 * 1024
    """Of live sound, and of control events; of an answer's sound, which comes faster than it plays, 16 times that."""
    backlog_ms: int = 5000
    """Of live sound."""
    replay_bytes: int = _REPLAY_BYTES
    """Of events, and as many of sound, that are kept of each call for those who come back."""


class Listener:
    """One socket that hears a session; ``role`` says what it may do there (owner, peer, controller, observer)."""

    def __init__(
        self, sink: Sink, *, role: ListenerRole, limits: Limits, is_beta: bool = False, choices: Choices = STOCK
    ) -> None:
        self.id = new_id("lst")
        self.role = role
        self.is_beta = is_beta
        self.choices = choices
        self.audio = "none"
        self.streams: set[str] = set()
        """What the ids of the sound begin with that it hears."""
        self.dropped_events = 0
        self.dropped_ms = 0
        self.last_event_id = ""
        """Of what went to its socket: behind this one it may go on."""
        self.is_closed = False
        self.unreadable = 0
        """Messages in a row that were no JSON."""
        self.half_sample = b""
        """What its last append ended with in the middle of a sample."""
        self._sink = sink
        self._limits = limits
        self._is_full = False
        self._is_held = False
        self._is_paused = False  # either of the two
        self._control: deque[tuple[int, EncodedMessage]] = deque()
        self._sound: deque[tuple[int, EncodedMessage]] = deque()
        self._order = 0
        self._control_bytes = 0
        self._sound_bytes = 0
        self._live_bytes = 0
        self._live_ms = 0
        self._unreported_events = 0
        self._unreported_ms = 0
        sink.attach(self)

    def count_unreadable(self, code: int, reason: str) -> None:
        """One more message of its that was no event; whoever sends nothing else is closed."""
        self.unreadable += 1
        if self.unreadable >= _MAX_UNREADABLE:
            self.close(code, reason)

    @property
    def backlog_bytes(self) -> int:
        """What waits for this listener, in its backlog and in its socket."""
        return self._control_bytes + self._sound_bytes + self._sink.buffered_bytes

    def deliver(self, message: EncodedMessage) -> None:
        """Sends, or keeps, or makes room; never waits."""
        if not self._is_paused:
            self._send(message)
        elif not self.is_closed:
            self._keep(message)

    @property
    def is_bridge_client(self) -> bool:
        """It has chosen what only the bridge offers, and so knows the bridge's own events; a stock client would not."""
        return self.choices != STOCK

    def pause(self) -> None:
        """The socket holds as much as it should."""
        self._is_full = self._is_paused = True

    def resume(self) -> None:
        """The socket has room again: the backlog goes out in its order, for as long as there is room."""
        self._is_full = False
        self._go_on()

    def hold(self) -> None:
        """The client wants nothing for now: what comes waits, within the limits."""
        self._is_held = self._is_paused = True

    def release(self) -> None:
        """The client goes on."""
        self._is_held = False
        self._go_on()

    def _go_on(self) -> None:
        if self.is_closed or self._is_full or self._is_held:
            return
        self._is_paused = False
        while not self._is_paused and (self._control or self._sound):
            self._send(self._next())

    def finish(self, code: int, reason: str) -> None:
        """The call is over: what waits goes out, however full the socket is, and then the goodbye."""
        while self._control or self._sound:
            self._send(self._next())
        self.close(code, reason)

    def close(self, code: int, reason: str) -> None:
        """No more events, not even those that wait; may be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        self._is_paused = True
        self._control.clear()
        self._sound.clear()
        self._control_bytes = self._sound_bytes = self._live_bytes = self._live_ms = 0
        self._sink.close(code, reason)

    def stats(self) -> ListenerStats:
        """Its choices, and how far it is behind."""
        choices = self.choices
        return ListenerStats(
            id=self.id,
            role=self.role,
            dialect="beta" if self.is_beta else "ga",
            audio=self.audio,
            chunk_ms=choices.chunk_ms,
            chunk_size=choices.chunk_size,
            tracks=[] if choices.audio is None else list(choices.tracks),
            events=None if choices.events is None else list(choices.events.patterns),
            framing=choices.framing,
            is_held=self._is_held,
            last_event_id=self.last_event_id,
            backlog_bytes=self.backlog_bytes,
            dropped_events=self.dropped_events,
            dropped_ms=self.dropped_ms,
        )

    def _send(self, message: EncodedMessage) -> None:
        self.last_event_id = message.event_id
        self._sink.send(message)

    def _keep(self, message: EncodedMessage) -> None:
        size = message.size
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

    def _count_sound(self, message: EncodedMessage, sign: int) -> None:
        size = sign * message.size
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

    def _next(self) -> EncodedMessage:
        """The next of the backlog; where sound was dropped, the report stands in its place."""
        is_sound = bool(self._sound) and (not self._control or self._sound[0][0] < self._control[0][0])
        if self._unreported_events and (is_sound or not self._sound):
            report = ListenerDropped(
                event_id=f"{self.last_event_id}{DROPPED}", events=self._unreported_events, audio_ms=self._unreported_ms
            )
            self._unreported_events = self._unreported_ms = 0
            return EncodedMessage(encode(report), event_id=self.last_event_id)
        if is_sound:
            _, message = self._sound.popleft()
            self._count_sound(message, -1)
        else:
            _, message = self._control.popleft()
            self._control_bytes -= min(message.size, _LARGE_BYTES)
        return message


class Hub:
    """All listeners of one session, and the numbering of its events."""

    def __init__(self, session_id: str, beta: Beta | None = None, *, replay_bytes: int = _REPLAY_BYTES) -> None:
        self.listeners: list[Listener] = []
        self.subscriptions: list[Subscription | EventSubscription] = []
        self.replay = Replay(f"event_{session_id.rpartition('_')[2][:12]}_", max_bytes=replay_bytes)
        self._beta = beta or Beta()
        self._speaks_beta = False

    def add(self, listener: Listener) -> None:
        """From now on it hears every event."""
        self.listeners.append(listener)
        self._speaks_beta = self._speaks_beta or listener.is_beta  # for good: it may come back

    def require(self, choices: Choices) -> None:
        """Raises ``ResumeGap`` or ``BadRequest`` where a listener with these choices could not go on."""
        if choices.after is not None:
            self.replay.find(choices.after)

    def resume(self, listener: Listener, after: str) -> None:
        """All that ``listener`` has missed behind the event ``after``, of what it hears now; then ``add`` it at once.

        Raises ``ResumeGap`` where that is not kept any more, ``BadRequest`` where there never was such an event.
        """
        for kept in self.replay.since(self.replay.find(after)):
            if isinstance(kept, Kept):
                _give(kept, (listener,))
            elif kept.stream in listener.streams:
                listener.deliver(kept.message.as_late())

    def remove(self, listener: Listener) -> None:
        """It is gone; may be called twice."""
        if listener in self.listeners:
            self.listeners.remove(listener)

    def publish(self, event: ServerEvent, body: Body | None = None) -> None:
        """To everyone; the text is made once for each dialect that is spoken, from ``body`` where there is one."""
        kept = self._made(event, body, in_beta=self._speaks_beta)
        self._pass_on(event, kept)

    def publish_own(self, event: ServerEvent) -> None:
        """To everyone who knows the bridge's own events."""
        kept = self._made(event, None, in_beta=self._speaks_beta, is_own=True)
        self._pass_on(event, kept)

    def tell(self, listener: Listener, event: ServerEvent, body: Body | None = None) -> None:
        """To one: the answer to what only it did. It is not asked whether it wants that."""
        kept = self._made(event, body, in_beta=listener.is_beta)
        message = kept.in_beta if listener.is_beta else kept.message
        if message is not None:
            listener.deliver(message)

    def tell_consumer(self, subscription: Subscription, event: ServerEvent, body: Body | None = None) -> None:
        """To one consumer: what each is told when it comes, or goes."""
        subscription.event(event, self._made(event, body, in_beta=False).message.payload)

    def _pass_on(self, event: ServerEvent, kept: Kept) -> None:
        """Listeners first: they hear of an event before they hear what those inside the process make of it."""
        self.replay.keep(kept)
        text = kept.message.payload if self.subscriptions else b""  # before it becomes a part of a frame
        _give(kept, tuple(self.listeners))
        for subscription in tuple(self.subscriptions):
            subscription.event(event, text)

    def _made(self, event: ServerEvent, body: Body | None, *, in_beta: bool, is_own: bool = False) -> Kept:
        event.event_id = self.replay.next_id()
        kind = str(event.__struct_config__.tag)
        if body is not None:
            body["event_id"] = event.event_id
            kind = str(body["type"])
        said = event if body is None else body
        message = EncodedMessage(encode(said), event_id=event.event_id)
        translated = to_beta(said, self._beta) if in_beta else None
        if translated is None:
            return Kept(self.replay.number, kind, message, is_own=is_own)
        beta_kind, in_beta_message = (
            str(translated["type"]),
            EncodedMessage(encode(translated), event_id=event.event_id),
        )
        return Kept(self.replay.number, kind, message, beta_kind, in_beta_message, is_own)


def _give(kept: Kept, listeners: tuple[Listener, ...]) -> None:
    message, in_beta = kept.message, kept.in_beta
    for listener in listeners:
        wanted = listener.choices.events
        if wanted is not None and (kept.beta_kind if listener.is_beta else kept.kind) not in wanted:
            continue
        if kept.is_own and not listener.is_bridge_client:
            continue
        if not listener.is_beta:
            listener.deliver(message)
        elif in_beta is not None:
            listener.deliver(in_beta)
