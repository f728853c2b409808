"""A GA session as the mind of a Live call: what Live clients say becomes GA's events, and its own events Live's.

Live has no turns: no items, no responses, no end of a transcript. Times are the session's own, in milliseconds from
``session.started``; those of words are estimates, because GA does not say when a word is spoken.
"""

from collections import deque
from collections.abc import Callable

from msgspec import UNSET

from bridge.errors import BadEvent, BridgeError
from bridge.live.audience import LiveAudience, named
from bridge.live.connection import LiveConnection
from bridge.live.delegations import Delegations
from bridge.live.requests import LiveRequests
from bridge.live.sessions import asked_of, history_of, laid_over_live, refuse_unmapped, resource_of
from bridge.live.timeline import Timeline
from bridge.session.session import Session
from bridge.wire import client_events as client
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.live import client_events as live
from bridge.wire.live import server_events as told
from bridge.wire.live.sessions import LiveSession, read_live_update
from bridge.wire.server_events import Body

__all__ = ["RealtimeMind"]

_ACTIVE_CODE = "conversation_already_has_active_response"
_MAX_SPANS = 64
_FRAME_MS = 200
_USAGE_S = 15
_APPENDED = {
    live.InstructionsAppend: told.InstructionsAppended,
    live.ThinkingAppend: told.ThinkingAppended,
    live.CommentaryAppend: told.CommentaryAppended,
}


class RealtimeMind:
    """See the module; a ``LiveMind``.

    ``on_mute`` is told whether the model is to hear silence, ``on_words`` what is said with the sound that comes next.
    """

    def __init__(
        self,
        session: Session,
        asked: LiveSession,
        audience: LiveAudience,
        timeline: Timeline,
        *,
        is_socket: bool,
        on_mute: Callable[[bool], None],
        on_words: Callable[[str], None],
    ) -> None:
        self.asked = asked
        self._session = session
        self._audience = audience
        self._timeline = timeline
        self._is_socket = is_socket
        self._on_mute = on_mute
        self._on_words = on_words
        self._requests = LiveRequests(session)
        self._delegations = Delegations(audience, timeline)
        self._spans: dict[str, tuple[int, int]] = {}
        self._owed: deque[client.ClientMessage] = deque(maxlen=_MAX_SPANS)
        self._has_heard = False
        self._spoken_in = ""
        self._told_seconds = 0

    def start(self) -> None:
        """Does nothing: the session begins with an event of its own."""

    # What clients say

    def receive_client_message(self, connection: LiveConnection, message: live.LiveMessage) -> None:
        """Carries out a client event; raises ``BridgeError`` if that cannot be."""
        event = live.read_live_event(message)
        match event:
            case live.LiveSessionUpdate():
                self._update(event)
            case live.InputMute() | live.InputUnmute():
                self._mute(event)
            case live.LiveAppend():
                self._append(event)
            case live.ResponseItemCreate():
                self._create_item(event)
            case live.LiveResponseCreate():
                self._delegations.require_responses(self.asked)
                self._delegations.require_outputs()
                self._respond({"type": "response.create"}, event.event_id)
            case live.SessionClose():
                self._session.close("close_requested")
            case live.SessionStart():
                raise BadEvent("The session has already started.", code="session_already_started", param="type")
            case _:
                message_text = f"'{message.type}' is not supported by the upstream here."
                raise BadEvent(message_text, code="unsupported_event", param="type")

    def _update(self, event: live.LiveSessionUpdate) -> None:
        update = read_live_update(event.session)
        refuse_unmapped(update)
        self.asked = laid_over_live(self.asked, update)
        body = asked_of(self.asked).body
        wanted = {name: value for name, value in body.items() if name != "audio"}
        self._requests.send_live_event({"type": "session.update", "session": wanted}, event.event_id)

    def _mute(self, event: live.InputMute | live.InputUnmute) -> None:
        is_muted = isinstance(event, live.InputMute)
        self._on_mute(is_muted)
        kind = told.InputMuted if is_muted else told.InputUnmuted
        self._audience.tell(kind(**named(event.event_id)))

    def _append(self, event: live.LiveAppend) -> None:
        """Adds what the model is told. Commentary is spoken of as soon as no other answer is given."""
        if not event.content.strip():
            raise BadEvent("'content' must not be empty.", param="content")
        is_commentary = isinstance(event, live.CommentaryAppend)
        call_id = self._delegations.answer(event.delegation_id, is_result=is_commentary)
        if call_id is not None:
            item: Body = {"type": "function_call_output", "call_id": call_id, "output": event.content}
        else:
            item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": event.content}]}
        item["id"] = new_id("item")
        self._requests.send_live_event(
            {"type": "conversation.item.create", "item": item}, event.event_id, on_done=event
        )
        if is_commentary:
            ask: Body = {"type": "response.create"}
            if call_id is None:
                ask["response"] = {"instructions": f"Say to the caller: {event.content}"}
            self._respond(ask, event.event_id)

    def _create_item(self, event: live.ResponseItemCreate) -> None:
        self._delegations.require_responses(self.asked)
        item = self._delegations.take_item(event.item)
        self._requests.send_live_event({"type": "conversation.item.create", "item": item}, event.event_id)

    def _respond(self, body: Body, event_id: str | None) -> None:
        """Asks for an answer, as soon as no other one is given."""
        message = self._requests.message(body, event_id)
        if self._session.state.response is not None:
            self._owed.append(message)
        else:
            self._ask(message)

    def _ask(self, message: client.ClientMessage) -> None:
        try:
            self._requests.carry_out(message)
        except BadEvent as error:
            if error.code != _ACTIVE_CODE:
                raise
            self._owed.append(message)

    # What the session says

    def follow(self, event: server.ServerEvent) -> None:
        """Tells Live clients what an event of the session means to them."""
        match event:
            case server.SessionCreated():
                self._begin()
            case server.SessionUpdated():
                answered = self._requests.next_update()
                if answered is not UNSET:
                    self._audience.tell(told.Updated(session=self.resource, **named(answered)))
            case server.InputAudioBufferSpeechStarted():
                at_ms = self._timeline.of_input(event.audio_start_ms)
                self._remember(event.item_id, at_ms, at_ms)
            case server.InputAudioBufferSpeechStopped():
                start_ms = self._spans.get(event.item_id, (0, 0))[0]
                self._remember(event.item_id, start_ms, self._timeline.of_input(event.audio_end_ms))
            case server.InputAudioTranscriptionCompleted():
                self._heard(event)
            case server.OutputAudioTranscriptDelta() | server.OutputTextDelta():
                self._say(event)
            case server.ConversationItemAdded():
                self._acknowledge(event)
            case server.OutputItemDone():
                self._delegations.follow_item(event, self.asked)
            case server.ResponseDone():
                self._delegations.follow_done(event)
                self._ask_owed()
            case server.Error():
                self._refused(event)

    def _begin(self) -> None:
        if self._timeline.is_started:
            return
        self._timeline.start()
        for item in history_of(self.asked):
            self._requests.send_live_event({"type": "conversation.item.create", "item": item}, None)
        self._audience.tell(told.LiveStarted(session=self.resource))

    @property
    def resource(self) -> Body:
        """The session as Live clients are told it."""
        config = self._session.state.config
        return resource_of(
            self.asked,
            call_id=self._session.info.id,
            expires_at=config.expires_at if isinstance(config.expires_at, int) else 0,
            voice=self._session.state.output.voice or None,
            is_socket=self._is_socket,
        )

    def _remember(self, item_id: str, start_ms: int, end_ms: int) -> None:
        self._spans[item_id] = (start_ms, max(start_ms, end_ms))
        if len(self._spans) > _MAX_SPANS:
            del self._spans[next(iter(self._spans))]

    def _heard(self, event: server.InputAudioTranscriptionCompleted) -> None:
        """The caller's words in one piece, with a space before it, so that pieces can be joined as they are."""
        words = event.transcript.strip()
        if not words:
            return
        now_ms = self._timeline.now_ms
        start_ms, end_ms = self._spans.pop(event.item_id, (now_ms, now_ms))
        start_ms, end_ms = in_frames(start_ms, end_ms)
        words = f" {words}" if self._has_heard else words
        self._has_heard = True
        self._audience.tell(told.InputTranscriptDelta(delta=words, start_ms=start_ms, end_ms=end_ms))

    def _say(self, event: server.OutputAudioTranscriptDelta | server.OutputTextDelta) -> None:
        """Words of another answer than the last one get a space before them, so that pieces can be joined."""
        if self._spoken_in not in ("", event.response_id) and event.delta[:1].strip():
            self._on_words(" ")
        self._spoken_in = event.response_id
        self._on_words(event.delta)

    def spoken(self, words: str, at_ms: int) -> None:
        """Tells the words that are spoken from ``at_ms`` on."""
        start_ms, end_ms = in_frames(at_ms, at_ms + 1)
        self._audience.tell(told.OutputTranscriptDelta(delta=words, start_ms=start_ms, end_ms=end_ms))

    def _acknowledge(self, event: server.ConversationItemAdded) -> None:
        done = self._requests.done(event.item.id)
        if isinstance(done, live.LiveAppend):
            now_ms = self._timeline.now_ms
            kind = _APPENDED[type(done)]
            self._audience.tell(kind(start_ms=now_ms, end_ms=now_ms, **named(done.event_id)))

    def _ask_owed(self) -> None:
        while self._owed and self._session.state.response is None and self._session.lifetime.is_open:
            message = self._owed.popleft()
            try:
                self._requests.carry_out(message)
            except BridgeError as error:
                self._audience.tell(told.live_error(error, client_event_id=self._requests.asker(message)))

    def _refused(self, event: server.Error) -> None:
        detail = event.error
        if detail.code == _ACTIVE_CODE:
            message = self._requests.message_of(detail.event_id)
            if message is not None:
                self._owed.append(message)
                return
        error = BadEvent(detail.message, code=detail.code or "invalid_value", param=detail.param)
        error.type = detail.type
        self._audience.tell(told.live_error(error, client_event_id=self._requests.client_event_id(detail.event_id)))

    def greet(self, connection: LiveConnection) -> None:
        """Tells the session as it is now."""
        self._audience.tell(told.LiveStarted(session=self.resource), only=connection)

    def spend(self) -> None:
        """Tells the seconds so far, every 15 seconds."""
        if self._timeline.seconds >= self._told_seconds + _USAGE_S:
            self._told_seconds = self._timeline.seconds
            self._audience.tell(told.UsageUpdated(usage=told.LiveUsage(seconds=self._told_seconds)))

    def close(self, reason: str) -> None:
        """Says that the session is over, if it has begun."""
        if self._timeline.is_started:
            usage = told.LiveUsage(seconds=self._timeline.seconds)
            self._audience.tell(told.LiveClosed(reason=reason, session=self.resource, usage=usage))


def in_frames(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Returns a span of words in whole frames of 200 ms, one at least."""
    start = max(0, start_ms) // _FRAME_MS * _FRAME_MS
    return start, max(start + _FRAME_MS, -(-end_ms // _FRAME_MS) * _FRAME_MS)
