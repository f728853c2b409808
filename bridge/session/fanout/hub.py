"""Fan-out: what happens in one session reaches every listener, and a slow one hurts nobody but itself.

Each message is made once and written to every socket at once. A socket that cannot take more makes its listener keep
what follows in a bounded backlog, and so does a listener that asks for a pause: sound is dropped from it oldest first,
counted and told by an event; control events are never dropped, and a listener for whose control events there is no room
left is closed with 1013. It may come back and go on behind the last event that it has had: see ``replay``.
"""

import time
from collections.abc import Callable, Mapping

from bridge.session.fanout.listener import Listener
from bridge.session.fanout.replay import DialectEvent, KeptEvent, Replay, encoded_by
from bridge.session.fanout.subscription import EventSubscription, Subscription
from bridge.wire.choices import Choices
from bridge.wire.codecs.codec import Codec
from bridge.wire.codecs.ga import GA
from bridge.wire.message import EncodedMessage
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.stats import Dialect

__all__ = ["Hub"]

_REPLAY_BYTES = 1024 * 1024
_REPLAY_S = 10.0
_NOT_TOLD: Mapping[Dialect, DialectEvent | None] = {}  # in no other dialect: thousands of events are kept so


class Hub:
    """All listeners of one session, and the numbering of its events."""

    def __init__(
        self,
        session_id: str,
        *,
        replay_bytes: int = _REPLAY_BYTES,
        replay_s: float = _REPLAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.listeners: list[Listener] = []
        self.subscriptions: list[Subscription | EventSubscription] = []
        self.replay = Replay(
            f"event_{session_id.rpartition('_')[2][:12]}_", max_bytes=replay_bytes, max_sound_s=replay_s, clock=clock
        )
        self._codecs: list[Codec] = []
        """The codecs of the dialects that are spoken beside GA. They stay, because their listeners may come back."""

    def add_listener(self, listener: Listener) -> None:
        """From now on the listener gets every event."""
        self.listeners.append(listener)
        if listener.codec.dialect is not Dialect.GA and listener.codec not in self._codecs:
            self._codecs.append(listener.codec)

    def require(self, choices: Choices) -> None:
        """Raises ``ResumeGap`` or ``BadRequest`` if a listener with these choices could not go on."""
        if choices.after is not None:
            self.replay.find(choices.after)

    def resume(self, listener: Listener, after: str) -> None:
        """All that ``listener`` has missed behind ``after``, of what it hears now; then ``add_listener`` it at once.

        Raises ``ResumeGap`` if that is not kept any more, ``BadRequest`` if there never was such an event.
        """
        for kept in self.replay.since(self.replay.find(after)):
            if isinstance(kept, KeptEvent):
                _give(kept, (listener,))
            elif kept.stream in listener.streams:
                listener.deliver(kept.message.as_late())

    def remove(self, listener: Listener) -> None:
        """Removes the listener; may be called twice."""
        if listener in self.listeners:
            self.listeners.remove(listener)

    def publish(self, event: ServerEvent, body: Body | None = None) -> None:
        """Sends an event to everyone.

        Its text is made once for each dialect that is spoken, from ``body`` if there is one.
        """
        self._pass_on(event, body)

    def publish_own(self, event: ServerEvent) -> None:
        """Sends one of the bridge's own events to everyone who knows them."""
        self._pass_on(event, None, is_own=True)

    def tell(self, listener: Listener, event: ServerEvent, body: Body | None = None) -> None:
        """Sends an event to one listener, as the answer to what it did. Its choice of events does not count."""
        told = encoded_by(listener.codec, self._numbered(event, body), event.event_id)
        if told is not None:
            listener.deliver(told.message)

    def tell_consumer(self, subscription: Subscription, event: ServerEvent, body: Body | None = None) -> None:
        """Tells one consumer what each is told if it comes or goes."""
        subscription.event(event, GA.encode(self._numbered(event, body)).text)

    def _pass_on(self, event: ServerEvent, body: Body | None, *, is_own: bool = False) -> None:
        """Hands an event on. Listeners are first: they hear of it before they hear what consumers make of it."""
        said = self._numbered(event, body)
        kind, text = GA.encode(said)
        others: Mapping[Dialect, DialectEvent | None] = _NOT_TOLD
        if self._codecs:
            others = {codec.dialect: encoded_by(codec, said, event.event_id) for codec in self._codecs}
        kept = KeptEvent(self.replay.number, kind, EncodedMessage(text, event_id=event.event_id), others, is_own)
        self.replay.keep(kept)
        _give(kept, tuple(self.listeners))
        for subscription in tuple(self.subscriptions):
            subscription.event(event, text)

    def _numbered(self, event: ServerEvent, body: Body | None) -> ServerEvent | Body:
        """The event with its id, as it is to be written."""
        event.event_id = self.replay.next_id()
        if body is None:
            return event
        body["event_id"] = event.event_id
        return body


def _give(kept: KeptEvent, listeners: tuple[Listener, ...]) -> None:
    for listener in listeners:
        told = kept.in_codec(listener.codec)
        if told is None or (kept.is_own and not listener.is_bridge_client):
            continue
        wanted = listener.choices.events
        if wanted is None or told.kind in wanted:
            listener.deliver(told.message)
