"""Who hears a call: its owner, its leg's data channel, listeners, and consumers inside the process.

Until the upstream has said ``session.created`` they wait, and what they send waits with it.
"""

from collections.abc import Collection, Iterator

from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, OverLimit
from bridge.media.contracts import Sink
from bridge.session.audio_router import AudioRouter
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.subscription import TRACK_NAMES, Consumer, Subscription, TrackName
from bridge.session.lifetime import CallLifetime, CallPhase
from bridge.session.state import SessionState
from bridge.wire.audio import AudioFormat
from bridge.wire.choices import STOCK, Choices
from bridge.wire.codecs.codec import Opening
from bridge.wire.codecs.ga import GA
from bridge.wire.codecs.table import Codecs
from bridge.wire.own_events import CallClosed
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import WEBSOCKET, Dialect, ListenerRole, ListenerStats

__all__ = ["Audience"]

_NORMAL = 1000
_OF_THE_CALL = (ListenerRole.OWNER, ListenerRole.PEER)  # these do not count as listening to it
_LISTENING = (ListenerRole.PLAYER, ListenerRole.CONTROLLER, ListenerRole.OBSERVER)  # of those who subscribe


class Audience:
    """The audience of one call."""

    def __init__(
        self,
        hub: Hub,
        *,
        lifetime: CallLifetime,
        state: SessionState,
        router: AudioRouter,
        codecs: Codecs,
        limits: Limits,
        max_listeners: int,
        log: FilteringBoundLogger,
    ) -> None:
        self.hub = hub
        self.owner: Listener | None = None
        """The socket of the owner, if the call has one in place of a leg."""
        self.channel: Listener | None = None
        """The data channel of the call's leg."""
        self.is_live = False
        """True as soon as the upstream answers; from then on a listener does not wait for it."""
        self._lifetime = lifetime
        self._state = state
        self._router = router
        self._codecs = codecs
        self._limits = limits
        self._max_listeners = max_listeners
        self._log = log
        self._waiting: list[Listener] = []
        self._subscriptions: list[Subscription] = []
        self._dropped_events = 0
        """The events that were dropped for listeners which are gone."""
        self._owner_has_spoken = False

    # Sockets

    @property
    def count(self) -> int:
        """The number of listeners, without the owner and the leg\'s data channel."""
        listed = (subscription.listed() for subscription in self._subscriptions)
        players = sum(stats is not None and stats.role in _LISTENING for stats in listed)
        return players + sum(listener.role not in _OF_THE_CALL for listener in self.hub.listeners)

    def require_room(self) -> None:
        """Raises ``OverLimit`` if one more listener would be one too many."""
        if self.count >= self._max_listeners:
            raise OverLimit(f"This call already has {self._max_listeners} listeners, which is the limit.")

    def require_event(self, event_id: str | None) -> None:
        """Raises ``ResumeGap`` or ``BadRequest`` if a listener cannot go on behind this event.

        None is the beginning.
        """
        if event_id is not None:
            self.hub.replay.find(event_id)

    def attach(
        self, sink: Sink, *, role: ListenerRole, dialect: Dialect = Dialect.GA, choices: Choices = STOCK
    ) -> Listener:
        """One more listener: gets ``session.created``, then everything, or what came after ``choices.after``.

        Raises ``OverLimit``; ``ResumeGap`` or ``BadRequest`` if it cannot go on from there.
        """
        if role not in _OF_THE_CALL:
            self.require_room()
        codec = self._codecs.of(dialect)
        listener = Listener(sink, role=role, limits=self._limits, codec=codec, choices=choices, log=self._log)
        if not self._lifetime.is_open:
            listener.close(*self._lifetime.goodbye)
            return listener
        if role is ListenerRole.OWNER:
            self._replace_owner(listener)
        if self.is_live or choices.after is not None:
            self._admit(listener)
        else:
            self._waiting.append(listener)
        return listener

    def detach(self, listener: Listener, *, reason: str, error: BridgeError | None, is_lost: bool) -> bool:
        """The listener's socket is gone; True if that ends the call, whose owner it was.

        An owner whose connection broke (``is_lost``) is waited for, and its sound made on meanwhile; not one that has
        never said anything, which has nothing to come back to.
        """
        listener.close(_NORMAL, "")
        if listener in self.hub.listeners:
            self._dropped_events += listener.dropped_events
        self._forget(listener)
        is_owner = listener is self.owner
        if is_owner and is_lost and self._owner_has_spoken and self.is_live and self._lifetime.lose(reason, error):
            return False
        self._router.leave(listener)
        return is_owner

    def expect_owner(self) -> None:
        """Notes that there is something for the owner to come back to: what it has said in another process."""
        self._owner_has_spoken = True

    def hear(self, listener: Listener) -> None:
        """Notes that the listener has sent something."""
        self._owner_has_spoken = self._owner_has_spoken or listener is self.owner

    def attach_channel(self, sink: Sink, dialect: Dialect, after: str | None) -> None:
        """Makes this data channel of the leg a listener in place of the last one.

        It goes on behind the event ``after``.
        """
        self.leave_channel()
        choices = STOCK if after is None else Choices(after=after)
        self.channel = self.attach(sink, role=ListenerRole.PEER, dialect=dialect, choices=choices)

    def leave_channel(self) -> None:
        """Removes the leg's data channel from the listeners."""
        if self.channel is not None:
            self._forget(self.channel)
            self.channel = None

    def _forget(self, listener: Listener) -> None:
        self.hub.remove(listener)
        self._waiting = [waiting for waiting in self._waiting if waiting is not listener]

    def _replace_owner(self, listener: Listener) -> None:
        """Makes this listener the owner: a new one, or one that has come back. Of two sockets the newer one counts."""
        before, self.owner = self.owner, listener
        self._lifetime.come_back()
        if before is not None:
            before.close(_NORMAL, "resumed by another socket")
            self.hub.remove(before)
            self._router.leave(before)

    def _admit(self, listener: Listener) -> None:
        """Lets the listener hear everything from ``session.created`` on, or from where it stopped."""
        after = listener.choices.after
        if after is None:
            for event, body in listener.codec.opening(self._opening):
                self.hub.tell(listener, event, body)
        if listener is self.owner:
            self._router.follow_owner(listener, self._state)
        else:
            self._router.join(listener)
        if after is not None:
            try:
                self.hub.resume(listener, after)
            except BaseException:
                self._router.leave(listener)
                raise
        self.hub.add_listener(listener)
        if listener is self.owner and self._lifetime.phase is not CallPhase.CONNECTED:
            self._lifetime.connect(WEBSOCKET)

    @property
    def _opening(self) -> Opening:
        state = self._state
        return Opening(state.config, state.session, state.conversation.id if state.has_answers else None)

    # Consumers inside the process

    def subscribe(
        self,
        consumer: Consumer,
        audio_format: AudioFormat | None = None,
        *,
        tracks: Collection[TrackName] = TRACK_NAMES,
    ) -> Subscription:
        """From ``session.created`` on the consumer gets every event, and ``tracks`` in ``audio_format`` if it is set.

        It counts as no listener, unless it is a player, and is told when the call is over.
        """
        subscription = Subscription(consumer, audio_format, tracks=tracks, on_cancel=self._unsubscribe, log=self._log)
        self._subscriptions.append(subscription)
        if not self._lifetime.is_open:
            subscription.end()
        elif self.is_live:
            self._begin(subscription)
        return subscription

    def _begin(self, subscription: Subscription) -> None:
        for event, body in GA.opening(self._opening):
            self.hub.tell_consumer(subscription, event, body)
        if subscription in self._subscriptions:  # else it has failed at once
            self.hub.subscriptions.append(subscription)
            self._router.subscribe(subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
        if subscription in self.hub.subscriptions:
            self.hub.subscriptions.remove(subscription)
            self._router.unsubscribe(subscription)
        listed = subscription.listed()
        self._dropped_events += 0 if listed is None else listed.dropped_events

    # All of them

    def open(self) -> None:
        """The upstream answers: listeners that came before hear of it now."""
        self.is_live = True
        for subscription in tuple(self._subscriptions):
            if subscription not in self.hub.subscriptions:
                self._begin(subscription)
        waiting, self._waiting = self._waiting, []
        for listener in waiting:
            self._admit(listener)

    def follow_session(self) -> None:
        """Follows a change of the session's configuration: the owner's sound has the session's formats."""
        if self.owner is not None:
            self._router.follow_owner(self.owner, self._state)

    def say_goodbye(self, ending: CallClosed) -> None:
        """Tells everybody that the call is over, each in its own protocol."""
        waiting, self._waiting = self._waiting, []
        for listener in (*self.hub.listeners, *waiting):
            if listener.is_bridge_client:
                self.hub.tell(listener, ending)
            farewell = listener.codec.farewell()
            if farewell is not None:
                self.hub.tell(listener, ServerEvent(), farewell)
            if listener is not self.channel:  # the leg's transport goes as a whole
                listener.finish(*self._lifetime.goodbye)
        for subscription in tuple(self._subscriptions):
            self.hub.tell_consumer(subscription, ending)
            subscription.end()

    @property
    def dropped_events(self) -> int:
        """The number of events that were dropped for slow listeners, those included that are gone."""
        return self._dropped_events + sum(listener.dropped_events for listener in self.hub.listeners)

    def stats(self) -> Iterator[ListenerStats]:
        """The stats of each listener, and of those consumers that are listed among them."""
        for listener in self.hub.listeners:
            yield listener.stats()
        for subscription in self._subscriptions:
            listed = subscription.listed()
            if listed is not None:
                yield listed
