"""What is said over the lines of one call, so that a line can be replaced and nobody hears of it more than he must.

Whatever was asked and not yet answered is remembered (``Pending``), as is what of the caller's sound has no words yet
(``Recall``) and which responses are being given (``InFlight``); the session's state holds the rest. A new line is told
all of it at once (``brief``), without waiting for answers: those that repeat what clients know are not passed on.
"""

from structlog.typing import FilteringBoundLogger

from bridge.errors import UpstreamError
from bridge.media.playback import Part
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.upstream.in_flight import InFlight
from bridge.upstream.line import Line
from bridge.upstream.line_relay import Seconds
from bridge.upstream.line_session import BridgeEvents, LineSession
from bridge.upstream.pending import Pending
from bridge.upstream.recall import Recall, items_to_tell, promised_items
from bridge.upstream.told_items import ToldItems
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.relayed import understood
from bridge.wire.server_events import Body
from bridge.wire.sessions import format_of

__all__ = ["Relay"]

_ARGUMENTS_DONE = "response.function_call_arguments.done"
_TIMED = (
    server.InputAudioBufferSpeechStarted,
    server.InputAudioBufferSpeechStopped,
    server.InputAudioBufferTimeoutTriggered,
)


class Relay:
    """Stands between the session and the present line."""

    def __init__(self, downstream: Downstream, state: SessionState, log: FilteringBoundLogger) -> None:
        self.answers = 0
        """How many responses are complete."""
        self.seconds = Seconds()
        """Nothing, because services with answers say themselves what they cost."""
        self.offset_ms = 0
        """How much sound the session had heard before this line, in milliseconds."""
        self._downstream = downstream
        self._state = state
        self._pending = Pending(state.budget)
        self._recall = Recall(state)
        self._in_flight = InFlight()
        self._told_items = ToldItems()
        self._own = BridgeEvents()
        self._line_session = LineSession(downstream, state, self._own, log=log)

    def close(self) -> None:
        """Forgets what was kept for another line, because the call is over."""
        self._recall.clear()

    @property
    def is_live(self) -> bool:
        """Whether clients have heard ``session.created``."""
        return self._line_session.is_live

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no question, no answer, and nobody speaks."""
        return self._pending.is_idle

    @property
    def owes_answer(self) -> bool:
        """Whether the upstream owes an answer."""
        return self._pending.owes_answer or not self.is_live

    # Upstream

    def new_id(self) -> str:
        """Makes an id for an event that no client sent."""
        return self._own.new_id()

    def ask(self, line: Line, body: Body, now: float) -> None:
        """Notes a client event that goes out."""
        self._pending.sent(body, now)
        line.send_client_event(body)

    def push(self, line: Line, sound: bytes) -> None:
        """Notes a piece of the caller's sound that goes out."""
        self._recall.push(sound, line.input_format)
        line.send_audio(sound)

    def greet(self, line: Line, created: Body, now: float) -> None:
        """Sets the first line to what the session was opened with, before clients hear ``session.created``.

        The line is told a conversation that another process had.
        """
        again = self._take_pending()
        update = self._line_session.greet(created)
        if update is not None:
            self.ask(line, update, now)
        self._tell_items(line)
        for body in again:
            self.ask(line, body, now)

    def brief(self, line: Line, created: Body, now: float, *, is_renewal: bool) -> None:
        """Tells a further line everything, in the order in which it happened."""
        again = self._take_pending()
        self._finish_half_told()
        self.ask(line, self._line_session.brief(created, is_renewal=is_renewal), now)
        self._tell_items(line)
        for body in promised_items(self._recall, line.input_format):
            line.send_client_event({**body, "event_id": self.new_id()})
        uncommitted = self._take_uncommitted(line.input_format)
        if uncommitted:
            line.send_audio(uncommitted)
        for body in again:
            self.ask(line, body, now)

    def _tell_items(self, line: Line) -> None:
        self._told_items.expect_repeats(str(item.id) for item in self._state.conversation.items())
        for body in items_to_tell(self._state, self._recall, line.input_format):
            line.send_client_event({**body, "event_id": self.new_id()})

    def hand_over(self, audio_format: AudioFormat) -> tuple[list[Body], bytes, list[Body]]:
        """What an upstream with the session's state must be told besides: events, then sound, then events again."""
        promised = promised_items(self._recall, format_of(self._state.input.format))
        told = [{**body, "event_id": self.new_id()} for body in promised]
        return told, self._take_uncommitted(audio_format), self._take_pending()

    def is_own(self, event_id: str | None) -> bool:
        """Whether the bridge sent the event, and no client."""
        return event_id in self._own

    def _take_pending(self) -> list[Body]:
        """Takes out what is to be asked again, less the bridge's own update, which is made anew."""
        return [body for body in self._pending.take_requests() if not self._line_session.is_update(body["event_id"])]

    def _take_uncommitted(self, audio_format: AudioFormat) -> bytes:
        """Takes out the caller's sound that is to be heard again; times count from there."""
        sound = self._recall.uncommitted(audio_format)
        self.offset_ms = self._recall.heard_ms - len(sound) // audio_format.bytes_per_ms
        return sound

    def forget_unanswered(self, before: float) -> None:
        """Forgets what was asked long ago, because some services do not answer everything."""
        self._pending.forget(before)

    # Downstream

    def lose(self, error: UpstreamError) -> None:
        """Ends what the lost line had begun, and tells clients."""
        for event in self._in_flight.end(error):
            self._downstream.deliver_event(event)
        self._finish_half_told()
        if self.is_live:
            notice = UpstreamError(f"{error.message} Reconnecting.", code="upstream_reconnecting")
            self._downstream.deliver_event(server.error_event(notice))

    def hear_audio(self, part: Part, sound: bytes) -> None:
        """Hands a piece of the answer to the session."""
        self._downstream.deliver_audio(part, sound)

    def hear(self, body: Body) -> None:
        """Hands an event of the upstream to whom it concerns, with fields that the bridge does not know."""
        if body["type"] == _ARGUMENTS_DONE and "name" not in body:
            body["name"] = self._in_flight.function_of(body.get("item_id"))  # GA says it here too, beta does not
        event = understood(body)
        self._pending.follow(event, answers_turns=self._state.answers_turns)
        if isinstance(event, server.Error):
            self._line_session.hear_error(event, body)
        elif body["type"] == "session.updated" and isinstance(body.get("session"), dict):
            self._line_session.hear_update(body)
        elif body["type"] != "session.created":
            self._in_flight.follow(event)
            self._recall.follow(event)
            self.answers += isinstance(event, server.ResponseDone)
            if self._told_items.follow(event):
                if self.offset_ms and isinstance(event, _TIMED):
                    self._shift(body)
                self._downstream.deliver_event(event, body)

    def _finish_half_told(self) -> None:
        """Completes items that were added, because the line that would have said so is gone."""
        for item_id in self._told_items.take_half_told():
            item = self._state.conversation.get(item_id)
            if item is not None:
                self._downstream.deliver_event(server.ConversationItemDone(item=item))

    def _shift(self, body: Body) -> None:
        """Moves times of the line to the session's time, which counts from the session's first sound."""
        for name in ("audio_start_ms", "audio_end_ms"):
            if isinstance(body.get(name), int):
                body[name] += self.offset_ms
