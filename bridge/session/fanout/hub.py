"""Fan-out: what happens in one session reaches every listener, and a slow one hurts nobody but itself.

Each message is made once and written to every socket at once. A socket that cannot take more makes its listener keep
what follows in a bounded backlog, and so does a listener that asks for a pause: sound is dropped from it oldest first,
counted and told by an event; control events are never dropped, and a listener for whose control events there is no room
left is closed with 1013. It may come back and go on behind the last event that it has had: see ``replay``.
"""

from bridge.session.fanout.listener import Listener
from bridge.session.fanout.replay import Kept, Replay
from bridge.session.fanout.subscription import EventSubscription, Subscription
from bridge.wire.choices import Choices
from bridge.wire.dialects.beta import Beta, to_beta
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent, encode

__all__ = ["Hub"]

_REPLAY_BYTES = 1024 * 1024


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
