"""One conversation: a leg or an owner's socket on one side, an upstream on the other, listeners all around.

Everything runs in the event loop's callbacks, nothing waits. Sound comes in from the leg or as append events of the
owner; it goes to the upstream and to whoever listens to the input track. Client events come from sockets and from the
leg's data channel; those that the session itself answers are few, the rest goes to the upstream. What the upstream
says (``deliver_event``, ``deliver_audio``) changes the state and goes to all listeners, its sound to the leg and to
those who asked for it. The session adds what only it can know: what the caller has really heard.

A session consists of parts, each with one job. It makes them, and does itself only what takes several of them.

    lifetime   how long the call lives, and who may come back     state      what is true of the conversation
    legs       what brings the caller's sound                     audience   who hears the call
    router     sound between all of them, in their formats        playback   what the caller has heard
"""

import asyncio
from collections.abc import Callable, Iterator

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from bridge.context import CallContext
from bridge.errors import BadEvent, BridgeError
from bridge.media.playback import Part
from bridge.session.audience import Audience
from bridge.session.audio_router import AudioRouter
from bridge.session.budget import Budget
from bridge.session.client_event_handler import ClientEventHandler
from bridge.session.contracts import Upstream
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.info import CallInfo, Moved
from bridge.session.legs import Legs
from bridge.session.lifetime import NORMAL, CallLifetime
from bridge.session.playback_controller import PlaybackController
from bridge.session.state import SessionState
from bridge.session.stream_playback import StreamPlayback
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.codecs.table import Codecs
from bridge.wire.sessions import SessionConfig
from bridge.wire.stats import BearerStats, CallStats

__all__ = ["Session"]

_GOING_AWAY = 1001


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
        log = info.context.logger("session")
        hub = Hub(info.session_id, replay_bytes=limits.replay_bytes, replay_s=limits.replay_s, clock=clock)
        self.info = info
        self.state = SessionState(SessionConfig(), budget=budget)
        self.send_lock = asyncio.Lock()
        """Held while an event is carried out: a long one takes several pieces, and no other comes in between."""
        self.lifetime = CallLifetime(
            info, hub, clock=clock, resume_grace_s=resume_grace_s, on_window_over=self._window_over, log=log
        )
        self._log = log
        self.upstream = upstream
        """Who answers the call."""
        self._on_closed = on_closed
        new_playback = StreamPlayback if info.is_translation else PlaybackController
        self._playback = new_playback(hub, self.state.budget, upstream, log=log)
        self._router = AudioRouter(hub.replay, upstream, self._playback)
        self.audience = Audience(
            hub,
            lifetime=self.lifetime,
            state=self.state,
            router=self._router,
            codecs=Codecs(
                info.metadata,
                temperature=info.temperature,
                only=info.dialect if info.is_translation else None,
            ),
            limits=limits,
            max_listeners=max_listeners,
            log=log,
        )
        self.legs = Legs(
            self,
            info,
            lifetime=self.lifetime,
            audience=self.audience,
            router=self._router,
            playback=self._playback,
            log=log,
        )
        self.client_events = ClientEventHandler(
            hub, upstream, state=self.state, router=self._router, playback=self._playback, log=log
        )

    @property
    def context(self) -> CallContext:
        """Who the call is, for all who work for it."""
        return self.info.context

    def start(self, config: SessionConfig, wanted: server.Body | None = None, *, moved: Moved | None = None) -> None:
        """Begins the conversation with its upstream; ``wanted`` is what of ``config`` was asked for, as written.

        One that has ``moved`` here goes on: ``state`` holds its items already. Whoever is the call is waited for as if
        its connection had just broken. An answer that is owed is asked for when it is back.
        """
        self.state.begin_session(config, wanted)
        if moved is not None:
            self.audience.expect_owner()
            self.lifetime.window.key = moved.resume_key
            self.audience.hub.replay.skip_to(moved.last_event)
        self.upstream.start(self, self.state)
        if moved is not None:
            self.lifetime.connect(self.info.transport)
            self.lifetime.lose("node_lost", None)
            self.lifetime.on_comeback = self._ask_again if moved.owes_answer else None

    def _ask_again(self) -> None:
        self.upstream.receive_client_event(client.message_of({"type": "response.create"}))

    # What clients say

    def receive_client_text(self, listener: Listener, text: str) -> None:
        """Takes one message from a listener. Whatever is wrong with it is answered by an ``error`` event."""
        for _ in self.receive_client_text_in_pieces(listener, text):
            pass

    def receive_client_text_in_pieces(self, listener: Listener, text: str) -> Iterator[None]:
        """The same, with a pause after each second of sound: a long append must not keep other calls waiting."""
        if not self.lifetime.is_open:
            return
        self.lifetime.touch()
        self.audience.hear(listener)
        for _ in self.client_events.receive_text(listener, text):
            yield
            if not self.lifetime.is_open:
                return

    def refuse_long_text(self, listener: Listener, chars: int) -> None:
        """Refuses a message that is too long to be read, and closes the socket."""
        self.client_events.refuse_long_text(listener, chars)

    def refuse_binary(self, listener: Listener) -> None:
        """Refuses a binary message. A socket that sends nothing else is closed."""
        if self.lifetime.is_open:
            self.client_events.refuse_binary(listener)

    def detach(
        self,
        listener: Listener,
        reason: str = "client_closed",
        *,
        error: BridgeError | None = None,
        is_lost: bool = False,
    ) -> None:
        """The listener's socket is gone; without its owner a session ends, as ``error`` says if that is set.

        An owner whose connection broke (``is_lost``) is waited for, if it has said anything.
        """
        if self.audience.detach(listener, reason=reason, error=error, is_lost=is_lost):
            self.close(reason, error=error)

    def receive_dtmf(self, key: str) -> None:
        """Tells everybody which key the caller pressed, and adds it to the conversation if the settings say so."""
        if not self.lifetime.is_open:
            return
        received_at = int(self.info.started_at + self.lifetime.seconds)
        self.deliver_event(server.DtmfEventReceived(event=key, received_at=received_at))
        if self.info.dtmf_items:
            text = items.InputText(text=f"(pressed {key} on the telephone's keypad)")
            message = items.Message(role="user", content=[text])
            self.upstream.receive_client_event(client.ClientMessage.of(client.ConversationItemCreate(item=message)))

    # What the upstream says

    def deliver_event(self, event: server.ServerEvent, body: server.Body | None = None) -> None:
        """Takes a server event for everyone; ``body`` is its JSON if that holds more than ``event`` has fields for."""
        not_kept = self.state.follow(event, body)
        self.lifetime.touch()
        if isinstance(event, server.SessionCreated):
            self._router.settle_formats()
            self.audience.open()
            return  # each listener gets its own, when it comes
        if isinstance(event, server.SessionUpdated):
            self._router.settle_formats()
            self.audience.follow_session()
        elif isinstance(event, server.OutputAudioDone):
            self._router.end_output(event.response_id)
        elif isinstance(event, server.ResponseDone):
            self._router.end_output(event.response.id)
        elif isinstance(event, server.Error | server.ConversationItemRetrieved):
            asker = self.client_events.requests.find(event)
            if asker is not None:
                self.audience.hub.tell(asker, event, body)
                return
        self.audience.hub.publish(event, body)
        if not_kept is not None:  # everybody has heard it; who comes later, or takes over, will not
            self.audience.hub.publish(server.error_event(not_kept))
        self._playback.follow(event, self.state)

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer, in the upstream's format.

        Listeners get it at once, the leg plays it in real time.
        """
        self.state.has_spoken = True
        self._router.deliver_answer(part, sound)

    def upstream_changed(self) -> None:
        """Follows a change of the upstream: another one answers, or the same one in other formats."""
        self._router.settle_formats()

    def upstream_closed(self, error: BridgeError | None) -> None:
        """Ends the call with the upstream's error, because nobody answers any more."""
        if error is None:
            if isinstance(
                self._playback, StreamPlayback
            ):  # it has said all, and the caller has not heard all of it yet
                self._playback.finish(lambda: self.close("upstream_closed"))
            else:
                self.close("upstream_closed")
            return
        if self.lifetime.is_open:
            self.audience.open()  # who is still waiting hears why it was in vain
            self.audience.hub.publish(server.error_event(error))
        self.close(error.code, error=error, code=error.close_code)

    # The end

    def close(
        self, reason: str, *, error: BridgeError | None = None, code: int = NORMAL, farewell: str | None = None
    ) -> None:
        """Ends the conversation.

        Sockets are closed with ``code`` and ``farewell``, or with the slug of the first reason.
        """
        if not self.lifetime.is_open:
            return
        leg = self.legs.current
        if error is None and leg is not None and leg.failure is not None:
            error = leg.failure
            reason = error.code
        ending = self.lifetime.begin_end(reason, error, code=code, farewell=farewell or reason)
        self._router.end()
        self.audience.say_goodbye(ending)
        if not self.legs.hang_up(reason):
            self._finish()

    def expire(self, limit_s: float) -> None:
        """Ends the call, because it has taken the longest time that a call may take."""
        minutes = f"{limit_s / 60:g} minutes" if limit_s >= 60 else f"{limit_s:g} seconds"
        message = f"Your session hit the maximum duration of {minutes}."
        self.audience.hub.publish(server.error_event(BadEvent(message, code="session_expired")))
        self.close("session_expired", code=_GOING_AWAY, farewell=message)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Ends the call, because its leg is gone."""
        self.close(reason, error=error)
        self._finish()

    def give_up(self) -> None:
        """Ends the call, because nobody has come back and nobody will."""
        reason, error = self.lifetime.lost_because
        self.close(reason, error=error)

    def _window_over(self) -> None:
        if self.legs.is_connecting:
            self.lifetime.overstay()
        else:
            self.give_up()

    def _finish(self) -> None:
        if self.lifetime.closed.is_set():
            return
        self.lifetime.end()
        self.state.budget.close()
        result, reason = self.lifetime.result
        leg = self.legs.current
        self._log.info(
            "call.closed",
            result=result,
            reason=reason,
            seconds=round(self.lifetime.seconds, 1),
            dropped=self.audience.dropped_events,
            **self.context.origin,
            upstream=msgspec.to_builtins(self.upstream.stats()),
            **({} if leg is None else asdict(leg.stats())),
        )
        self._on_closed(self)

    async def aclose(self) -> None:
        """Waits for the end that ``close`` began, then for the upstream's."""
        await self.lifetime.closed.wait()
        await self.upstream.aclose()
        # A session is in a cycle of references, and stays until the next search for such. What is big must go before.
        self.state.conversation.clear()
        self.audience.hub.replay.clear()

    # Of itself

    @property
    def is_between_turns(self) -> bool:
        """No answer is being given or played, and somebody could come back to the conversation."""
        is_quiet = self.state.response is None and not self._playback.is_sounding
        may_move = self.audience.is_live and self.lifetime.window.is_possible and self.legs.may_move
        return is_quiet and may_move

    def idle_left_s(self, idle_timeout_s: float | None) -> float:
        """How long the session may stay as it is before it counts as idle; infinite without a timeout."""
        if idle_timeout_s is not None and self._playback.is_sounding:
            return idle_timeout_s
        return self.lifetime.idle_left_s(idle_timeout_s)

    def stats(self, *, in_full: bool = False) -> CallStats:
        """The call as ``GET /v1/calls`` lists it; in full it has the session's configuration as well."""
        info, leg = self.info, self.legs.current
        return CallStats(
            id=info.id,
            session_id=info.session_id,
            state=self.lifetime.state,
            transport=info.transport,
            model=info.model,
            started_at=info.started_at,
            metadata=dict(info.metadata),
            warnings=list(info.warnings),
            status=self.lifetime.status,
            seconds=round(self.lifetime.seconds, 1),
            listeners=list(self.audience.stats()),
            legs=self._bearers(),
            peer=None if leg is None else leg.stats(),
            upstream=self.upstream.stats(),
            trace_id=None if info.context.trace is None else info.context.trace.trace_id,
            key_id=info.key_id,
            setup_ms=self.lifetime.setup_ms,
            dropped_events=self.audience.dropped_events,
            session=self.state.session if in_full else UNSET,
        )

    def _bearers(self) -> list[BearerStats]:
        """What brings the caller's sound: a leg or the owner's socket; nothing while the call is being connected."""
        leg, owner, kind = self.legs.current, self.audience.owner, self.info.transport
        if leg is not None:
            return [BearerStats(kind, leg.input_format.name, leg.output_format.name, leg.stats())]
        return [] if owner is None else [BearerStats(kind, self._router.owner_format.name, owner.audio, None)]
