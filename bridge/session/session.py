"""One conversation: a leg or an owner's socket on one side, an upstream on the other, listeners all around.

Theory of operation. Everything runs in the event loop's callbacks, nothing waits. Sound comes in from the leg
(``receive_audio``) or as append events of the owner; it goes to the upstream and to whoever listens to the input track.
Events come in by ``receive``; those that the session itself answers are few (append, output_audio_buffer.clear), the
rest goes to the upstream. What the upstream says (``deliver``, ``deliver_audio``) changes the state and goes to all
listeners, its sound to the leg and to those who asked for it. The session adds what only it can know: what the caller
has really heard. Until the upstream has said ``session.created``, listeners wait, and what they send waits with it.

    open ──close()──▶ closing (leg hanging up, upstream closing) ──▶ closed
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bridge.errors import BadEvent, BridgeError, Forbidden, OverLimit
from bridge.log import get_logger
from bridge.media.playback import Marked, Part, Played, Started
from bridge.session.askers import Askers
from bridge.session.hub import Hub, Limits, Listener
from bridge.session.info import CallInfo, result_of
from bridge.session.roles import Leg, Sink, Upstream
from bridge.session.sound import Sound
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.choices import STOCK, Choices
from bridge.wire.dialects.beta import Beta
from bridge.wire.dialects.beta import decode_client_event as decode_beta_event
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionConfig

__all__ = ["CallInfo", "Session"]

_log = get_logger("session")

_NORMAL, _GOING_AWAY, _INVALID_DATA, _TOO_BIG = 1000, 1001, 1007, 1009
_MAX_MARKS = 1000
_OF_THE_CALL = ("owner", "peer", "recorder")  # these do not count as listening to it


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
    ) -> None:
        self.info = info
        self.beta = Beta()
        self.hub = Hub(info.session_id, self.beta, replay_bytes=limits.replay_bytes)
        self.state = SessionState(SessionConfig())
        self.closed = asyncio.Event()
        self.turn = asyncio.Lock()
        """Held by whoever sends an event: a long one is carried out in pieces, and nobody's comes in between."""
        self._upstream = upstream
        self._limits = limits
        self._max_listeners = max_listeners
        self._on_closed = on_closed
        self._clock = clock
        self._opened = self._active_at = clock()
        self._leg: Leg | None = None
        self._owner: Listener | None = None
        self._channel: Listener | None = None
        self._sound = Sound(self.hub.replay, upstream, play=self._play)
        self._is_closing = False
        self._leg_gone = False
        self._result = ("success", "")
        self._close_code = _NORMAL
        self._dropped = 0
        self._cleared = ""
        self._is_live = False
        self._waiting: list[Listener] = []
        self._askers = Askers()
        self._marks: dict[str, tuple[Listener, str]] = {}
        self._is_sounding = False
        self._log = _log.bind(call_id=info.id)

    def start(self, config: SessionConfig, wanted: SessionConfig | None = None) -> None:
        """Begins the conversation with its upstream; ``wanted`` is what of ``config`` was asked for."""
        self.state = SessionState(config, wanted)
        self._upstream.start(self, self.state)

    @property
    def config(self) -> SessionConfig:
        """The configuration as it is now."""
        return self.state.config

    def attach_leg(self, leg: Leg) -> None:
        """The bearer of the caller's sound, which plays the answers."""
        self._leg = leg
        self._sound.attach_leg(leg)

    # Listeners

    @property
    def attached(self) -> int:
        """How many listen to the call without being it."""
        return sum(listener.role not in _OF_THE_CALL for listener in self.hub.listeners)

    def require_room(self) -> None:
        """Raises ``OverLimit`` where one more listener would be one too many."""
        if self.attached >= self._max_listeners:
            raise OverLimit(f"This call has {self._max_listeners} listeners already, which is the limit.")

    def attach(self, sink: Sink, *, role: str, is_beta: bool = False, choices: Choices = STOCK) -> Listener:
        """One more listener: gets ``session.created``, then everything, or what came after ``choices.after``.

        Raises ``OverLimit``; ``ResumeGap`` or ``BadRequest`` where it cannot go on from there.
        """
        if role not in _OF_THE_CALL:
            self.require_room()
        listener = Listener(sink, role=role, limits=self._limits, is_beta=is_beta, choices=choices)
        if self._is_closing:
            listener.close(self._close_code, self._result[1])
            return listener
        if role == "owner":
            self._owner = listener
        if self._is_live or choices.after is not None:
            self._admit(listener)
        else:
            self._waiting.append(listener)
        return listener

    def _admit(self, listener: Listener) -> None:
        """From ``session.created`` on, or from where it stopped, it hears everything."""
        after = listener.choices.after
        if after is not None:
            self._sound.join(listener)
            try:
                self.hub.resume(listener, after)
            except BaseException:
                self._sound.leave(listener)
                raise
            self.hub.add(listener)
            return
        self.hub.tell(listener, server.SessionCreated(session=self.config))
        if listener.is_beta:
            conversation = {"id": self.state.conversation.id, "object": "realtime.conversation"}
            self.hub.tell(listener, server.ConversationCreated(conversation=conversation))
        self.hub.add(listener)
        if listener is self._owner:
            self._sound.follow_owner(listener, self.state)
            self._open("websocket")
        else:
            self._sound.join(listener)

    def detach(self, listener: Listener, reason: str = "client_closed", *, error: BridgeError | None = None) -> None:
        """The listener's socket is gone; without its owner a session ends, as ``error`` says where that is set."""
        listener.close(_NORMAL, "")
        if listener in self.hub.listeners:
            self._dropped += listener.dropped_events
        self.hub.remove(listener)
        self._waiting = [waiting for waiting in self._waiting if waiting is not listener]
        self._sound.leave(listener)
        if listener is self._owner:
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
        event_id = None
        try:
            event = decode_beta_event(text, self.beta) if listener.is_beta else client.decode_client_event(text)
            event_id = event.event_id
            if isinstance(event, client.InputAudioBufferAppend) and listener.role != "observer":
                for number, piece in enumerate(self._sound.append(event)):
                    if number:
                        yield
                    self.receive_audio(piece)
            else:
                self._carry_out(listener, event, None if listener.is_beta else text)
        except Exception as failure:
            error = failure if isinstance(failure, BadEvent | Forbidden) else self._unforeseen(failure)
            answer = server.error_event(error, event_id=event_id or client.event_id_of(text))
            self.hub.tell(listener, answer)
            if error.code == "invalid_json" and listener is not self._channel:
                listener.close(_INVALID_DATA, "not JSON")

    def _unforeseen(self, failure: Exception) -> BridgeError:
        """What nobody thought of costs one event, and is told and logged."""
        self._log.error("session.event_failed", exc_info=failure)
        return BridgeError("Something went wrong in the server while this event was carried out.")

    def refuse(self, listener: Listener, size: int) -> None:
        """A message that is too long to be read: said, then closed."""
        error = BadEvent(f"A message of {size} bytes is over the limit of 15 MiB.", code="event_too_large")
        self.hub.tell(listener, server.error_event(error))
        listener.close(_TOO_BIG, "message over 15 MiB")

    def _carry_out(self, listener: Listener, event: client.ClientEvent, text: str | None) -> None:
        if isinstance(event, client.FlowPause):
            listener.hold()
            return
        if isinstance(event, client.FlowResume):
            listener.release()
            return
        if isinstance(event, client.Mark):
            self._mark(listener, event.name)
            return
        if listener.role == "observer":
            raise Forbidden("This connection may listen only; client events need role=controller.")
        if isinstance(event, client.OutputAudioBufferClear):
            if self._leg is None:
                raise BadEvent("Only over WebRTC does the server play; here the client does.", param="type")
            self._clear_output()
            return
        self._askers.remember(listener, event)
        try:
            self._upstream.receive_event(event, text)
        except BadEvent:
            self._askers.forget_last()
            raise

    # The caller's sound

    def receive_audio(self, sound: bytes) -> None:
        """From the leg, in its format, or from append events in the owner's."""
        if not self._is_closing:
            self._sound.receive(sound)

    # What the upstream says

    def deliver(self, event: server.ServerEvent, body: server.Body | None = None) -> None:
        """A server event for everyone; ``body`` is what is said of it where that is more than ``event`` knows."""
        self.state.follow(event)
        self._active_at = self._clock()
        if isinstance(event, server.SessionCreated):
            self._go_live()
            return  # each listener gets its own, when it comes
        if isinstance(event, server.SessionUpdated):
            if self._owner is not None:
                self._sound.follow_owner(self._owner, self.state)
        elif isinstance(event, server.OutputAudioDone):
            self._sound.end_output()
        elif isinstance(event, server.Error | server.ConversationItemRetrieved):
            asker = self._askers.find(event)
            if asker is not None:
                self.hub.tell(asker, event, body)
                return
        self.hub.publish(event, body)
        if isinstance(event, server.InputAudioBufferSpeechStarted) and self._interrupts:
            self._clear_output()
        elif isinstance(event, server.ResponseDone) and self._leg is not None:
            self._leg.end(event.response.id)

    def _go_live(self) -> None:
        """Somebody answers: who came before hears it now."""
        self._is_live = True
        waiting, self._waiting = self._waiting, []
        for listener in waiting:
            self._admit(listener)

    def deliver_audio(self, part: Part, sound: bytes) -> None:
        """The answer's sound, in the upstream's format: to the leg at the caller's pace, to listeners at once."""
        self.state.has_spoken = True
        self._sound.deliver(part, sound)

    def _play(self, part: Part, sound: bytes) -> None:
        if self._leg is not None and part.response_id != self._cleared:
            self._leg.play(part, sound)

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
        if isinstance(event, Marked):
            self._answer_mark(event.mark_id, "played")
            return
        self._is_sounding = isinstance(event, Started)
        self._active_at = self._clock()
        kind = server.OutputAudioBufferStarted if isinstance(event, Started) else server.OutputAudioBufferStopped
        self.hub.publish(kind(response_id=event.response_id))

    def _mark(self, listener: Listener, name: str) -> None:
        if self._leg is None:
            raise BadEvent("Only where the server plays does it know of marks; here the client does.", param="type")
        if len(self._marks) >= _MAX_MARKS:
            raise BadEvent(f"{_MAX_MARKS} marks are waiting, which is the limit.")
        mark_id = new_id("mark")
        self._marks[mark_id] = listener, name
        if self._leg.mark(mark_id):
            self._answer_mark(mark_id, "played")

    def _answer_mark(self, mark_id: str, status: str) -> None:
        listener, name = self._marks.pop(mark_id)
        self.hub.tell(listener, own.MarkReached(name=name, status=status))

    def _clear_output(self) -> None:
        """Stops what plays, says so, and tells the upstream how much of it was heard."""
        cut = self._leg.clear() if self._leg is not None else None
        for mark_id in tuple(self._marks):
            self._answer_mark(mark_id, "cleared")
        if cut is None:
            return
        response_id, parts = cut
        self._is_sounding = False
        self._cleared = parts[-1].part.response_id  # what is still under way of it is not to be heard
        self.hub.publish(server.OutputAudioBufferCleared(response_id=response_id))
        for heard in parts:
            try:
                self._upstream.receive_event(
                    client.ConversationItemTruncate(
                        item_id=heard.part.item_id,
                        content_index=heard.part.content_index,
                        audio_end_ms=heard.audio_end_ms,
                    )
                )
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
            self._upstream.receive_event(client.ConversationItemCreate(item=message))

    def channel_opened(self, sink: Sink) -> None:
        """The peer's data channel is one more listener, without sound; the first one counts."""
        if self._channel is None:
            self._channel = self.attach(sink, role="peer", is_beta=self.info.is_beta)

    def receive_text(self, text: str) -> None:
        """A client event over the data channel."""
        if self._channel is not None:
            self.receive(self._channel, text)

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """The peer is gone, and with it the call."""
        self._leg_gone = True
        self.close(reason, error=error)
        self._finish()

    # The end

    def close(self, reason: str, *, error: BridgeError | None = None, code: int = _NORMAL) -> None:
        """Ends the conversation; every socket is closed with ``code``. The first reason counts."""
        if self._is_closing:
            return
        self._is_closing = True
        self.info.state = "closed"
        self._result = (result_of(error), reason)
        self._close_code = code
        call_id = self.info.id
        ending = own.CallClosed(call_id=call_id, result=self._result[0], reason=reason)
        self._sound.end()
        for listener in tuple(self.hub.listeners):
            if listener.is_bridge_client:
                self.hub.tell(listener, ending)
            if listener is not self._channel:  # the peer's transport goes as a whole
                listener.close(code, reason)
        if self._leg is not None and not self._leg_gone:
            self._leg.hang_up(reason)  # leg_closed follows
        else:
            self._finish()

    def expire(self, limit_s: float) -> None:
        """The longest time that a call may take is over."""
        minutes = f"{limit_s / 60:g} minutes" if limit_s >= 60 else f"{limit_s:g} seconds"
        message = f"Your session hit the maximum duration of {minutes}."
        self.hub.publish(server.error_event(BadEvent(message, code="session_expired")))
        self.close("session_expired", code=_GOING_AWAY)

    def _finish(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        result, reason = self._result
        listeners = self.hub.listeners
        figures: dict[str, Any] = self._leg.describe() if self._leg is not None else {}
        self._log.info(
            "call.closed",
            result=result,
            reason=reason,
            seconds=round(self.seconds, 1),
            dropped=self._dropped + sum(listener.dropped_events for listener in listeners),
            **figures,
        )
        self._on_closed(self)

    async def aclose(self) -> None:
        """Waits for the end that ``close`` began, then for the upstream's."""
        await self.closed.wait()
        await self._upstream.aclose()

    def idle_left_s(self, idle_timeout_s: float | None) -> float:
        """How long the session may stay as it is before it counts as idle; infinite without a timeout."""
        if idle_timeout_s is None:
            return math.inf
        if self._is_sounding:
            return idle_timeout_s
        return self._active_at + idle_timeout_s - self._clock()

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return self._clock() - self._opened

    @property
    def result(self) -> tuple[str, str]:
        """How it ended: a word and a reason."""
        return self._result

    def describe(self, *, in_full: bool = False) -> dict[str, object]:
        """The call for people and for ``GET /v1/calls``; in full with the session's configuration."""
        info = self.info
        described: dict[str, object] = {
            "id": info.id,
            "object": "realtime.call",
            "session_id": info.session_id,
            "state": info.state,
            "transport": info.transport,
            "model": info.model,
            "started_at": info.started_at,
            "metadata": info.metadata,
            "seconds": round(self.seconds, 1),
            "listeners": [listener.describe() for listener in self.hub.listeners],
            "legs": self._legs(),
            "peer": self._leg.describe() if self._leg is not None else None,
        }
        if in_full:
            described["session"] = msgspec.to_builtins(self.config)
        return described

    def _legs(self) -> list[dict[str, object]]:
        """Who brings the caller's sound: a leg, or the owner's socket; nobody while the call is being connected."""
        leg, kind = self._leg, self.info.transport
        if leg is not None:
            return [{"kind": kind, "input": leg.audio_format.name, "output": leg.audio_format.name,
                     "quality": leg.describe()}]  # fmt: skip
        if self._owner is None:
            return []
        return [{"kind": kind, "input": self._sound.inbound.name, "output": self._owner.audio, "quality": None}]

    # Inside

    def _open(self, transport: str) -> None:
        self.info.state = "connected"
        self._log.info("call.opened", transport=transport, model=self.info.model, session_id=self.info.session_id,
                       connect_ms=round(1000 * self.seconds))  # fmt: skip
