"""What is said over the lines of one call, so that a line can be replaced and nobody hears of it more than he must.

Whatever was asked and not yet answered is remembered (``Pending``), as is what of the caller's sound has no words yet
(``Recall``) and which responses are being given (``InFlight``); the session's state holds the rest. A new line is told
all of it at once (``brief``), without waiting for answers: those that repeat what clients know are not passed on.
"""

from collections import deque

from structlog.typing import FilteringBoundLogger

from bridge.errors import UpstreamError
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.upstream.in_flight import InFlight
from bridge.upstream.line import Line
from bridge.upstream.pending import Pending
from bridge.upstream.recall import Recall, items_to_tell, promised_items
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body, ServerEvent
from bridge.wire.sessions import format_of

__all__ = ["Relay"]

_MAX_OWN_IDS = 4096  # events of ours that a line may still complain of; all items of a conversation and more
_ARGUMENTS_DONE = "response.function_call_arguments.done"
_MAX_HALF_TOLD = 64
_READ_ONLY = ("id", "object", "expires_at", "model", "client_secret")
_TIMED = (
    server.InputAudioBufferSpeechStarted,
    server.InputAudioBufferSpeechStopped,
    server.InputAudioBufferTimeoutTriggered,
)


class Relay:
    """Between the session and whichever line there is."""

    def __init__(self, downstream: Downstream, state: SessionState, log: FilteringBoundLogger) -> None:
        self.is_live = False
        """Clients have heard ``session.created``."""
        self.answers = 0
        """How many responses have been given to their end."""
        self.offset_ms = 0
        """Of sound that the session has heard and this line has not."""
        self._downstream = downstream
        self._state = state
        self._log = log
        self._pending = Pending(state.budget)
        self._recall = Recall(state)
        self._in_flight = InFlight()
        self._session: Body | None = None
        """The configuration as an upstream said it last, with whatever the bridge does not know of."""
        self._own_ids: deque[str] = deque(maxlen=_MAX_OWN_IDS)
        """Of events that no client sent: an error in one of them is ours to bear."""
        self._repeated: set[str] = set()
        """Items that a new line says once more."""
        self._quiet_updates = 0
        """Answers to come that say nothing new."""
        self._half_told: deque[str] = deque(maxlen=_MAX_HALF_TOLD)
        """Items that were added and are not done."""
        self._update_id = ""
        """Of our own ``session.update``, with which every line begins."""
        self._has_expired = False
        self._created: Body = {}
        """What the line's service said of the session before that."""

    def close(self) -> None:
        """The call is over: nobody needs to hear again what the caller said."""
        self._recall.clear()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way: no question, no answer, nobody speaks."""
        return self._pending.is_idle

    @property
    def owes_answer(self) -> bool:
        """The upstream is expected to say something."""
        return self._pending.owes_answer or not self.is_live

    @property
    def is_wanted(self) -> bool:
        """A service that hangs up now does not end the session: it owes something, or is merely too old."""
        return self.owes_answer or self._has_expired

    # Upstream

    def new_id(self) -> str:
        """For an event that no client sent."""
        event_id = new_id("event")
        self._own_ids.append(event_id)
        return event_id

    def ask(self, line: Line, body: Body, now: float) -> None:
        """A client event goes out."""
        self._pending.sent(body, now)
        line.send(body)

    def push(self, line: Line, sound: bytes) -> None:
        """A piece of the caller's sound goes out."""
        self._recall.push(sound, line.input_format)
        line.send_audio(sound)

    def greet(self, line: Line, created: Body, now: float) -> None:
        """The first line: asks for what the session was opened with, before anybody hears ``session.created``."""
        self._session = self._created = created
        wanted = {k: v for k, v in self._state.wanted.items() if k not in _READ_ONLY}
        again = self._take_pending()
        if wanted:
            self._configure(line, {"type": "realtime", **wanted}, now)
        else:
            self._go_live()
        for body in again:
            self.ask(line, body, now)

    def brief(self, line: Line, created: Body, now: float, *, is_renewal: bool) -> None:
        """A further line: it is told everything, in the order in which it happened."""
        again = self._take_pending()
        self._finish_half_told()
        self._created = created
        self._quiet_updates = int(is_renewal)
        self._configure(line, {k: v for k, v in (self._session or {}).items() if k not in _READ_ONLY}, now)
        self._repeated = {str(item.id) for item in self._state.conversation.items()}
        for body in items_to_tell(self._state, self._recall, line.input_format):
            line.send({**body, "event_id": self.new_id()})
        for body in promised_items(self._recall, line.input_format):
            line.send({**body, "event_id": self.new_id()})
        uncommitted = self._take_uncommitted(line.input_format)
        if uncommitted:
            line.send_audio(uncommitted)
        for body in again:
            self.ask(line, body, now)

    def hand_over(self, audio_format: AudioFormat) -> tuple[list[Body], bytes, list[Body]]:
        """What somebody who has the session's state must be told besides: events, then sound, then events again."""
        promised = promised_items(self._recall, format_of(self._state.input.format))
        told = [{**body, "event_id": self.new_id()} for body in promised]
        return told, self._take_uncommitted(audio_format), self._take_pending()

    def is_own(self, event_id: str | None) -> bool:
        """No client sent it."""
        return event_id in self._own_ids

    def _configure(self, line: Line, session: Body, now: float) -> None:
        self._update_id, self._has_expired = self.new_id(), False
        self.ask(line, {"type": "session.update", "event_id": self._update_id, "session": session}, now)

    def _take_pending(self) -> list[Body]:
        """What is to be asked again; our own update is made anew."""
        return [body for body in self._pending.take() if body["event_id"] != self._update_id]

    def _take_uncommitted(self, audio_format: AudioFormat) -> bytes:
        """What of the caller's sound is to be heard again; times count from there."""
        sound = self._recall.uncommitted(audio_format)
        self.offset_ms = self._recall.heard_ms - len(sound) // audio_format.bytes_per_ms
        return sound

    def forget_unanswered(self, before: float) -> None:
        """Some services do not answer everything; what was asked so long ago is not waited for."""
        self._pending.forget(before)

    # Downstream

    def lose(self, error: UpstreamError) -> None:
        """The line is gone: what it owed its hearers is made good, and they are told."""
        for event in self._in_flight.end(error):
            self._downstream.deliver(event)
        self._finish_half_told()
        if self.is_live:
            notice = UpstreamError(f"{error.message} Reconnecting.", code="upstream_reconnecting")
            self._downstream.deliver(server.error_event(notice))

    def hear(self, body: Body) -> None:
        """One event of the upstream's, to whom it concerns."""
        if body["type"] == _ARGUMENTS_DONE and "name" not in body:
            body["name"] = self._in_flight.function_of(body.get("item_id"))  # GA says it here too, beta does not
        event = understood(body)
        self._pending.follow(event, answers_turns=self._state.answers_turns)
        if isinstance(event, server.Error):
            self._hear_error(event)
        elif body["type"] == "session.updated" and isinstance(body.get("session"), dict):
            self._hear_update(body)
        elif body["type"] != "session.created":
            self._in_flight.follow(event)
            self._recall.follow(event)
            self.answers += isinstance(event, server.ResponseDone)
            if not self._is_repeated(event):
                self._count_half_told(event)
                if self.offset_ms and isinstance(event, _TIMED):
                    self._shift(body)
                self._downstream.deliver(event, body)

    def _hear_update(self, body: Body) -> None:
        self._session = body["session"]
        if not self.is_live:
            self._go_live()
        elif self._quiet_updates:
            self._quiet_updates -= 1
        else:
            body["session"] = self._as_ours(body["session"])
            self._downstream.deliver(understood(body), body)

    def _hear_error(self, event: server.Error) -> None:
        """To whoever made it; where that was the bridge itself, to its log."""
        error = event.error
        if error.code == "session_expired":
            self._has_expired = True
            return  # the service's own limit; the session outlives it
        if error.event_id == self._update_id or (error.event_id is None and not self.is_live):
            self._hear_update_refused(event)
        elif self.is_own(error.event_id):
            self._log.info("upstream.own_event_refused", code=error.code, message=error.message)
        else:
            self._downstream.deliver(event)

    def _hear_update_refused(self, event: server.Error) -> None:
        """The session is not set as it should be; its owner must know, and how it is set instead."""
        event.error.event_id = None
        if not self.is_live:
            self._go_live()
            self._downstream.deliver(event)
            return
        self._quiet_updates = 0
        self._downstream.deliver(event)
        self._hear_update({"type": "session.updated", "event_id": "", "session": self._created})

    def _go_live(self) -> None:
        self.is_live = True
        body = {"type": "session.created", "session": self._as_ours(self._session or {})}
        event = understood(body)
        if isinstance(event, server.SessionCreated):
            self._downstream.deliver(event, body)
        else:
            self._downstream.deliver(server.SessionCreated(session=self._state.config))

    def _is_repeated(self, event: ServerEvent) -> bool:
        """A new line says what the last one said already."""
        if not isinstance(event, server.ConversationItemAdded | server.ConversationItemDone):
            return False
        item_id = str(event.item.id)
        is_repeated = item_id in self._repeated
        if isinstance(event, server.ConversationItemDone):
            self._repeated.discard(item_id)
        return is_repeated

    def _count_half_told(self, event: ServerEvent) -> None:
        if isinstance(event, server.ConversationItemAdded):
            self._half_told.append(str(event.item.id))
        elif isinstance(event, server.ConversationItemDone) and event.item.id in self._half_told:
            self._half_told.remove(str(event.item.id))

    def _finish_half_told(self) -> None:
        """An item that was added is done, even if whoever would have said so is gone."""
        for item_id in self._half_told:
            item = self._state.conversation.get(item_id)
            if item is not None:
                self._downstream.deliver(server.ConversationItemDone(item=item))
        self._half_told.clear()

    def _shift(self, body: Body) -> None:
        """Times count from the session's first sound, whichever line heard it."""
        for name in ("audio_start_ms", "audio_end_ms"):
            if isinstance(body.get(name), int):
                body[name] += self.offset_ms

    def _as_ours(self, session: Body) -> Body:
        """The upstream's session under the id and the expiry of the bridge's."""
        config = self._state.config
        return {**session, "id": config.id, "expires_at": config.expires_at}
