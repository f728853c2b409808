"""One conversation: a leg or an owner's socket on one side, an upstream on the other, listeners all around.

Theory of operation. Everything runs in the event loop's callbacks, nothing waits. Sound comes in from the leg
(``receive_leg_audio``) or as append events of the owner; it goes to the upstream and to who listens to the input track.
Events come in by ``receive``; those that the session itself answers are few (append, output_audio_buffer.clear), the
rest goes to the upstream. What the upstream says (``deliver``, ``deliver_audio``) changes the state and goes to all
listeners, its sound to the leg and to those who asked for it. The session adds what only it can know: what the caller
has really heard. Until the upstream has said ``session.created``, listeners wait, and what they send waits with it.

    open ──close()──▶ closing (leg hanging up, upstream closing) ──▶ closed
"""

import asyncio
import math
from collections.abc import Callable, Iterator

from msgspec import UNSET
from msgspec.structs import asdict

from bridge.errors import BadEvent, BridgeError, OverLimit, PeerLost
from bridge.media.contracts import Leg, Sink
from bridge.media.playback import Part, Played
from bridge.session.audio_router import AudioRouter
from bridge.session.budget import Budget
from bridge.session.client_event_handler import ClientEventHandler
from bridge.session.contracts import Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.subscription import Consumer, Subscription
from bridge.session.info import CallInfo, result_of
from bridge.session.playback_controller import PlaybackController
from bridge.session.resume_window import LegPort, ResumeWindow
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.choices import STOCK, Choices
from bridge.wire.codecs.codec import Dialect, Opening
from bridge.wire.codecs.ga import GA
from bridge.wire.codecs.table import Codecs
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import BearerStats, CallResult, CallState, CallStats, CallStatus, ListenerRole, ListenerStats

__all__ = ["Session"]

_NORMAL, _GOING_AWAY = 1000, 1001
_OF_THE_CALL = (ListenerRole.OWNER, ListenerRole.PEER)  # these do not count as listening to it


class Session:
    """See the module; made and found through the ``Registry``."""

    def __init__(
        self,
        info: CallInfo,
        upstream: Upstream,
        *,
        limits: Limits,
        max_listeners: int,
        on_closed: Callable[["Session"], None],
        clock: Callable[[], float],
        resume_grace_s: float = 0.0,
        budget: Budget | None = None,
    ) -> None:
        self.info = info
        self.context = info.context
        self._budget = budget or Budget()
        self._codecs = Codecs(info.metadata, temperature=info.temperature)
        self.hub = Hub(info.session_id, replay_bytes=limits.replay_bytes)
        self.state = SessionState(SessionConfig())
        self.closed = asyncio.Event()
        self.turn = asyncio.Lock()
        """Held by whoever sends an event: a long one is carried out in pieces, and nobody's comes in between."""
        self._log = self.context.logger("session")
        self._upstream = upstream
        self._limits = limits
        self._max_listeners = max_listeners
        self._on_closed = on_closed
        self._clock = clock
        self._opened = self._active_at = clock()
        self._owner: Listener | None = None
        self._owner_has_spoken = False
        self._channel: Listener | None = None
        self._playing = PlaybackController(self.hub, self._budget, ask=self._truncate)
        self._sound = AudioRouter(self.hub.replay, upstream, play=self._playing.play, forward=self._playing.forward)
        self.comeback = ResumeWindow(resume_grace_s, self._nobody_came)
        self._lost: tuple[str, BridgeError | None] = ("", None)
        self._port: LegPort | None = None
        self._next: LegPort | None = None
        """Of a leg that is to take the place of the present one, and has not connected yet."""
        self._is_lost = False
        """Listeners were told so."""
        self._is_overdue = False
        """There is nobody but that one any more."""
        self._is_closing = False
        self._leg_gone = False
        self._result = (CallResult.SUCCESS, "")
        self._goodbye = _NORMAL, ""
        self._dropped = 0
        self._setup_ms: int | None = None
        self._is_live = False
        self._waiting: list[Listener] = []
        self._subscriptions: list[Subscription] = []
        self._intake = ClientEventHandler(
            self.hub,
            upstream,
            sound=self._sound,
            playing=self._playing,
            require_bytes=lambda message: self.state.require_bytes(message),
            log=self._log,
        )

    def start(self, config: SessionConfig, wanted: server.Body | None = None) -> None:
        """Begins the conversation with its upstream; ``wanted`` is what of ``config`` was asked for, as written."""
        self.state = SessionState(config, wanted, budget=self._budget)
        self._upstream.start(self, self.state)

    @property
    def config(self) -> SessionConfig:
        """The configuration as it is now."""
        return self.state.config

    def attach_leg(self, leg: Leg) -> None:
        """The bearer of the caller's sound, which plays the answers."""
        self._playing.leg = leg
        self._sound.attach_leg(leg)

    def new_port(self) -> LegPort:
        """The owner for a leg that may be replaced by another one."""
        return LegPort(self, on_connected=self._port_connected, on_closed=self._port_closed)

    def take_leg(self, leg: Leg, port: LegPort, *, after: str | None = None) -> None:
        """The leg for ``port``: the call's first one, or one that takes the place of the present one if it connects.

        Its data channel goes on behind the event ``after``. If it never connects, nothing has changed.
        """
        port.leg, port.after = leg, after
        if self._port is None:
            self._port, port.is_current = port, True
            self.attach_leg(leg)
            return
        before, self._next = self._next, port
        if before is not None and before.leg is not None:
            before.leg.hang_up("resumed")

    def require_event(self, event_id: str | None) -> None:
        """Raises if a data channel cannot go on behind this event."""
        if event_id is not None:
            self.hub.replay.find(event_id)

    @property
    def bearers(self) -> list[Leg]:
        """The call's leg, and the one that is about to take its place."""
        ports = (self._port, self._next)
        return [port.leg for port in ports if port is not None and port.leg is not None]

    def _port_connected(self, port: LegPort) -> None:
        """A leg takes the place of the one before: what was not heard by then is cut off; the upstream knows where."""
        if port is not self._next or port.leg is None:
            return
        before, self._port, self._next = self._port, port, None
        self._came_back()
        self._playing.clear()
        if before is not None:
            before.is_current = False
            if before.leg is not None:
                before.leg.hang_up("resumed")
        self._leave_channel()
        self._leg_gone = False
        port.is_current = True
        self.attach_leg(port.leg)

    def _leave_channel(self) -> None:
        if self._channel is not None:
            self.hub.remove(self._channel)
            self._waiting = [waiting for waiting in self._waiting if waiting is not self._channel]
            self._channel = None

    # Listeners

    @property
    def attached(self) -> int:
        """How many listen to the call without being it."""
        return sum(listener.role not in _OF_THE_CALL for listener in self.hub.listeners)

    def require_room(self) -> None:
        """Raises ``OverLimit`` where one more listener would be one too many."""
        if self.attached >= self._max_listeners:
            raise OverLimit(f"This call has {self._max_listeners} listeners already, which is the limit.")

    def attach(
        self, sink: Sink, *, role: ListenerRole, dialect: Dialect = Dialect.GA, choices: Choices = STOCK
    ) -> Listener:
        """One more listener: gets ``session.created``, then everything, or what came after ``choices.after``.

        Raises ``OverLimit``; ``ResumeGap`` or ``BadRequest`` where it cannot go on from there.
        """
        if role not in _OF_THE_CALL:
            self.require_room()
        codec = self._codecs.of(dialect)
        listener = Listener(sink, role=role, limits=self._limits, codec=codec, choices=choices, log=self._log)
        if self._is_closing:
            listener.close(*self._goodbye)
            return listener
        if role is ListenerRole.OWNER:
            self._replace_owner(listener)
        if self._is_live or choices.after is not None:
            self._admit(listener)
        else:
            self._waiting.append(listener)
        return listener

    def _admit(self, listener: Listener) -> None:
        """From ``session.created`` on, or from where it stopped, it hears everything."""
        after = listener.choices.after
        if after is None:
            for event, body in listener.codec.opening(self._opening):
                self.hub.tell(listener, event, body)
        if listener is self._owner:
            self._sound.follow_owner(listener, self.state)
        else:
            self._sound.join(listener)
        if after is not None:
            try:
                self.hub.resume(listener, after)
            except BaseException:
                self._sound.leave(listener)
                raise
        self.hub.add(listener)
        if listener is self._owner and self.info.state is not CallState.CONNECTED:
            self._open("websocket")

    def subscribe(self, consumer: Consumer, audio_format: AudioFormat | None = None) -> Subscription:
        """From ``session.created`` on the consumer gets every event, and both tracks in ``audio_format`` if it is set.

        It counts as no listener, and is told when the call is over.
        """
        subscription = Subscription(consumer, audio_format, on_cancel=self._unsubscribe, log=self._log)
        self._subscriptions.append(subscription)
        if self._is_closing:
            subscription.end()
        elif self._is_live:
            self._begin(subscription)
        return subscription

    @property
    def _opening(self) -> Opening:
        """What a new listener has to be told."""
        conversation_id = self.state.conversation.id if self.state.has_answers else None
        return Opening(self.config, self.state.session, conversation_id)

    def _begin(self, subscription: Subscription) -> None:
        for event, body in GA.opening(self._opening):
            self.hub.tell_consumer(subscription, event, body)
        if subscription in self._subscriptions:  # else it has failed at once
            self.hub.subscriptions.append(subscription)
            self._sound.subscribe(subscription)

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
        if subscription in self.hub.subscriptions:
            self.hub.subscriptions.remove(subscription)
            self._sound.unsubscribe(subscription)
        listed = subscription.listed()
        self._dropped += 0 if listed is None else listed.dropped_events

    def _replace_owner(self, listener: Listener) -> None:
        """The owner has come, or come back; of two sockets the newer one counts."""
        before, self._owner = self._owner, listener
        self._came_back()
        if before is not None:
            before.close(_NORMAL, "resumed by another socket")
            self.hub.remove(before)
            self._sound.leave(before)

    def detach(
        self,
        listener: Listener,
        reason: str = "client_closed",
        *,
        error: BridgeError | None = None,
        is_lost: bool = False,
    ) -> None:
        """The listener's socket is gone; without its owner a session ends, as ``error`` says where that is set.

        An owner whose connection broke (``is_lost``) is waited for, and its sound made on meanwhile; not one that has
        never said anything, which has nothing to come back to.
        """
        listener.close(_NORMAL, "")
        if listener in self.hub.listeners:
            self._dropped += listener.dropped_events
        self.hub.remove(listener)
        self._waiting = [waiting for waiting in self._waiting if waiting is not listener]
        if listener is self._owner and is_lost and self._owner_has_spoken and self._waits(reason, error):
            return
        self._sound.leave(listener)
        if listener is self._owner:
            self.close(reason, error=error)

    def _waits(self, reason: str, error: BridgeError | None) -> bool:
        """Who is the call may come back for a while; else it ends as it would have ended now."""
        if not self.comeback.is_possible or not self._is_live or self._is_closing:
            return False
        self._lost, self._is_lost = (reason, error), True
        self.info.state = CallState.LOST
        self._log.info("call.lost", reason=reason)
        self.hub.publish_own(own.CallLost(call_id=self.info.id, reason=reason, seconds=self.comeback.grace_s))
        self.comeback.begin()
        return True

    def _came_back(self) -> None:
        self._is_overdue = False
        self.comeback.end()
        if self._is_lost:
            self._is_lost = False
            self.hub.publish_own(own.CallResumed(call_id=self.info.id))

    def _nobody_came(self) -> None:
        if self._next is not None:  # not quite: it is still connecting
            self._is_overdue = True
            return
        reason, error = self._lost
        self._leg_gone = True
        self.close(reason, error=error)

    def receive(self, listener: Listener, text: str) -> None:
        """One message from a listener; whatever is wrong with it is answered by an ``error`` event."""
        for _ in self.receive_in_pieces(listener, text):
            pass

    def receive_in_pieces(self, listener: Listener, text: str) -> Iterator[None]:
        """The same, with a pause after each second of sound: a long append must not keep other calls waiting."""
        if self._is_closing:
            return
        self._active_at = self._clock()
        self._owner_has_spoken |= listener is self._owner
        yield from self._intake.receive(listener, text, receive_audio=self.receive_leg_audio)

    def refuse(self, listener: Listener, size: int) -> None:
        """A message that is too long to be read: said, then closed."""
        self._intake.refuse(listener, size)

    def refuse_binary(self, listener: Listener) -> None:
        """A binary message: said, and closed when nothing else comes."""
        if not self._is_closing:
            self._intake.refuse_binary(listener)

    # The caller's sound

    def receive_leg_audio(self, sound: bytes) -> None:
        """From the leg, in its format, or from append events in the owner's."""
        if not self._is_closing:
            self._sound.receive(sound)

    # What the upstream says

    def deliver(self, event: server.ServerEvent, body: server.Body | None = None) -> None:
        """A server event for everyone; ``body`` is what is said of it where that is more than ``event`` knows."""
        not_kept = self.state.follow(event, body)
        self._active_at = self._clock()
        if isinstance(event, server.SessionCreated):
            self._sound.follow_upstream()
            self._go_live()
            return  # each listener gets its own, when it comes
        if isinstance(event, server.SessionUpdated):
            self._sound.follow_upstream()
            if self._owner is not None:
                self._sound.follow_owner(self._owner, self.state)
        elif isinstance(event, server.OutputAudioDone):
            self._sound.end_output(event.response_id)
        elif isinstance(event, server.ResponseDone):
            self._sound.end_output(event.response.id)
        elif isinstance(event, server.Error | server.ConversationItemRetrieved):
            asker = self._intake.askers.find(event)
            if asker is not None:
                self.hub.tell(asker, event, body)
                return
        self.hub.publish(event, body)
        if not_kept is not None:  # everybody has heard it; who comes later, or takes over, will not
            self.hub.publish(server.error_event(not_kept))
        if isinstance(event, server.InputAudioBufferSpeechStarted) and self._interrupts:
            self._playing.clear()
        elif isinstance(event, server.ResponseDone):
            self._playing.end(event.response.id)
        elif isinstance(event, server.ConversationItemDeleted):
            self._playing.take_back(event.item_id)

    def _go_live(self) -> None:
        """Somebody answers: who came before hears it now."""
        self._is_live = True
        for subscription in tuple(self._subscriptions):
            if subscription not in self.hub.subscriptions:
                self._begin(subscription)
        waiting, self._waiting = self._waiting, []
        for listener in waiting:
            self._admit(listener)

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """The answer's sound, in the upstream's format: to the leg at the caller's pace, to listeners at once."""
        self.state.has_spoken = True
        self._sound.deliver(part, sound)

    def upstream_closed(self, error: BridgeError | None) -> None:
        """Nobody answers any more: the call ends, with the upstream's own error."""
        if error is not None and not self._is_closing:
            self._go_live()  # who is still waiting hears why it was in vain
            self.hub.publish(server.error_event(error))
        if error is None:
            self.close("upstream_closed")
        else:
            self.close(error.code, error=error, code=error.close_code)

    # What the caller hears

    def played(self, event: Played) -> None:
        """The leg's ledger: a response begins or ceases to be heard, or a mark is reached."""
        self._active_at = self._clock()
        self._playing.played(event)

    def _truncate(self, event: client.ConversationItemTruncate) -> None:
        try:
            self._upstream.receive_event(client.ClientMessage.of(event))
        except BadEvent as error:  # the item is gone, or is none that can be cut
            self._log.debug("session.truncate_refused", message=error.message)

    @property
    def _interrupts(self) -> bool:
        turns = self.state.turn_detection
        return turns is None or turns.interrupt_response

    # The leg

    def leg_connected(self) -> None:
        """Sound can flow."""
        self._open(self.info.transport)

    def receive_dtmf(self, key: str) -> None:
        """The caller pressed a key: told to all, and where that is wanted a message of the caller's."""
        if self._is_closing:
            return
        self.deliver(server.DtmfEventReceived(event=key, received_at=int(self.info.started_at + self.seconds)))
        if self.info.dtmf_items:
            text = items.InputText(text=f"(pressed {key} on the telephone's keypad)")
            message = items.Message(role="user", content=[text])
            self._upstream.receive_event(client.ClientMessage.of(client.ConversationItemCreate(item=message)))

    def channel_opened(self, sink: Sink) -> None:
        """The peer's data channel is one more listener, without sound; a later one takes the place of the first."""
        self._leave_channel()
        after = self._port.after if self._port is not None else None
        if self._port is not None:
            self._port.after = None
        choices = STOCK if after is None else Choices(after=after)
        self._channel = self.attach(sink, role=ListenerRole.PEER, dialect=self.info.dialect, choices=choices)

    def receive_leg_text(self, text: str) -> None:
        """A client event over the data channel."""
        if self._channel is not None:
            self.receive(self._channel, text)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The peer is gone, and with it the call."""
        self._leg_gone = True
        self.close(reason, error=error)
        self._finish()

    def _port_closed(self, port: LegPort, reason: str, error: BridgeError | None) -> None:
        """A peer that was lost is waited for; one that hung up is not, unless another one is about to come."""
        if port is self._next:
            self._next = None
            self._log.info("call.resume_failed", reason=reason)
            if self._is_overdue:
                self._nobody_came()
        elif port is not self._port:
            return
        elif self._next is not None and not self._is_closing:
            self._lost, self._is_overdue = (reason, error), True
            self._lose_leg()
        elif isinstance(error, PeerLost) and self._waits(reason, error):
            self._lose_leg()
        else:
            self.leg_closed(reason, error)

    def _lose_leg(self) -> None:
        self._playing.clear()
        self._leg_gone = True
        self._leave_channel()

    # The end

    def close(
        self, reason: str, *, error: BridgeError | None = None, code: int = _NORMAL, farewell: str | None = None
    ) -> None:
        """Ends the conversation; sockets close with ``code`` and ``farewell``, or the first reason's slug."""
        if self._is_closing:
            return
        self._is_closing = True
        failure = self._playing.leg.failure if self._playing.leg is not None else None
        if error is None and failure is not None:
            reason, error = failure.code, failure
        self.comeback.end()
        self.info.state = CallState.CLOSED
        self._result = (result_of(error), reason)
        self._goodbye = code, farewell or reason
        ending = own.CallClosed(call_id=self.info.id, result=self._result[0], reason=reason)
        self._sound.end()
        waiting, self._waiting = self._waiting, []
        for listener in (*self.hub.listeners, *waiting):
            if listener.is_bridge_client:
                self.hub.tell(listener, ending)
            if listener is not self._channel:  # the peer's transport goes as a whole
                listener.finish(*self._goodbye)
        for subscription in tuple(self._subscriptions):
            self.hub.tell_consumer(subscription, ending)
            subscription.end()
        if self._next is not None and self._next.leg is not None:
            self._next.leg.hang_up(reason)
        if self._playing.leg is not None and not self._leg_gone:
            self._playing.leg.hang_up(reason)  # leg_closed follows
        else:
            self._finish()

    def expire(self, limit_s: float) -> None:
        """The longest time that a call may take is over."""
        minutes = f"{limit_s / 60:g} minutes" if limit_s >= 60 else f"{limit_s:g} seconds"
        message = f"Your session hit the maximum duration of {minutes}."
        self.hub.publish(server.error_event(BadEvent(message, code="session_expired")))
        self.close("session_expired", code=_GOING_AWAY, farewell=message)

    def _finish(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._budget.close()
        result, reason = self._result
        leg = self._playing.leg
        self._log.info(
            "call.closed",
            result=result,
            reason=reason,
            seconds=round(self.seconds, 1),
            dropped=self._dropped_events,
            **self.context.origin,
            upstream=asdict(self._upstream.stats()),
            **({} if leg is None else asdict(leg.stats())),
        )
        self._on_closed(self)

    async def aclose(self) -> None:
        """Waits for the end that ``close`` began, then for the upstream's."""
        await self.closed.wait()
        await self._upstream.aclose()
        # A session is in a cycle of references, and stays until the next search for such. What is big must go before.
        self.state.conversation.clear()
        self.hub.replay.clear()

    def idle_left_s(self, idle_timeout_s: float | None) -> float:
        """How long the session may stay as it is before it counts as idle; infinite without a timeout."""
        if idle_timeout_s is None:
            return math.inf
        if self._playing.is_sounding:
            return idle_timeout_s
        return self._active_at + idle_timeout_s - self._clock()

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return self._clock() - self._opened

    @property
    def result(self) -> tuple[CallResult, str]:
        """How it ended: a word and a reason."""
        return self._result

    def stats(self, *, in_full: bool = False) -> CallStats:
        """The call as ``GET /v1/calls`` has it; in full with the session's configuration."""
        info, leg = self.info, self._playing.leg
        return CallStats(
            id=info.id,
            session_id=info.session_id,
            state=info.state,
            transport=info.transport,
            model=info.model,
            started_at=info.started_at,
            metadata=dict(info.metadata),
            warnings=list(info.warnings),
            status=self._status,
            seconds=round(self.seconds, 1),
            listeners=[*(listener.stats() for listener in self.hub.listeners), *self._listed()],
            legs=self._bearers(),
            peer=None if leg is None else leg.stats(),
            upstream=self._upstream.stats(),
            setup_ms=self._setup_ms,
            dropped_events=self._dropped_events,
            session=self.state.session if in_full else UNSET,
        )

    @property
    def _dropped_events(self) -> int:
        """Left out for slow listeners, those included that are gone."""
        return self._dropped + sum(listener.dropped_events for listener in self.hub.listeners)

    @property
    def _status(self) -> CallStatus:
        if not self._is_closing:
            return CallStatus.ACTIVE
        return CallStatus.ENDED if self._result[0] is CallResult.SUCCESS else CallStatus.ERROR

    def _listed(self) -> Iterator[ListenerStats]:
        """Those consumers that stand among the listeners."""
        for subscription in self._subscriptions:
            listed = subscription.listed()
            if listed is not None:
                yield listed

    def _bearers(self) -> list[BearerStats]:
        """Who brings the caller's sound: a leg, or the owner's socket; nobody while the call is being connected."""
        leg, kind = self._playing.leg, self.info.transport
        if leg is not None:
            return [BearerStats(kind, leg.input_format.name, leg.output_format.name, leg.stats())]
        if self._owner is None:
            return []
        return [BearerStats(kind, self._sound.inbound.name, self._owner.audio, None)]

    # Inside

    def _open(self, transport: str) -> None:
        self.info.state = CallState.CONNECTED
        if self._setup_ms is None:
            self._setup_ms = round(1000 * self.seconds)
        self._log.info("call.opened", transport=transport, model=self.info.model, session_id=self.info.session_id,
                       connect_ms=round(1000 * self.seconds), **self.context.origin)  # fmt: skip
