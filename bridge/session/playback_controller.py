"""What the caller hears of a session: the leg that plays, what it has played, and who waits to know.

The server plays only if there is a leg; an owner's client plays for itself, and knows for itself.

Responses may be given at the same time, as one beside the conversation is. The caller hears one after the other, each
whole: the first to sound has its turn until it is done, and the others wait here.

What waits to be heard is counted by the call's budget. Half a minute of it always may; if more does not fit, or the leg
takes no more, the rest of that response is not heard, its client is told, and the upstream knows where it ends.
"""

from collections import deque
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from bridge.errors import BadEvent, BridgeError
from bridge.media.contracts import Leg
from bridge.media.loudness import is_audible
from bridge.media.passing import PassedPacket
from bridge.media.playback import Heard, Marked, Part, Played, Started
from bridge.session.budget import Budget
from bridge.session.contracts import Upstream
from bridge.session.fanout.hub import Hub
from bridge.session.fanout.listener import Listener
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.ids import new_id

__all__ = ["PlaybackController"]

_MAX_MARKS = 1000
_MAX_REMEMBERED = 32  # responses that were cleared, or are done
_ALWAYS_MS = 30_000  # of sound may wait, whatever else is kept
_STREAM_LATE_MS = 250  # of a stream in real time may wait before its silence is left out
_MAX_WAITING_MS = 60_000  # of sound; if more has to wait, the response that has its turn is taken for done


@dataclass(slots=True)
class _Waiting:
    """What a response has said before its turn, and the marks behind it."""

    things: list[tuple[Part, bytes] | str] = field(default_factory=list)
    is_done: bool = False


class PlaybackController:
    """Plays answers to the leg.

    ``upstream`` is told where an answer was cut; ``budget`` counts the sound that waits.
    """

    def __init__(self, hub: Hub, budget: Budget, upstream: Upstream, *, log: FilteringBoundLogger) -> None:
        self.leg: Leg | None = None
        self.is_sounding = False
        """True while a response is being heard."""
        self._hub = hub
        self._kept = Budget(whole=budget)
        """Counts the sound that waits to be heard."""
        self._part: Part | None = None
        self._part_bytes = 0
        """The bytes of the part that was queued last."""
        self._upstream = upstream
        self._log = log
        self._cleared: deque[str] = deque(maxlen=_MAX_REMEMBERED)  # what is still under way of these is not heard
        self._done: deque[str] = deque(maxlen=_MAX_REMEMBERED)
        self._turn = ""  # whose sound goes to the leg
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_bytes = 0
        self._item_id = ""  # of what was queued last
        self._marks: dict[str, tuple[Listener, str]] = {}

    def play(self, part: Part, sound: bytes) -> None:
        """Plays a piece of an answer, unless the rest of that answer was cleared."""
        response_id = part.response_id
        if self.leg is None or response_id in self._cleared:
            return
        if not self._turn and response_id not in self._done:
            self._turn = response_id
        if not self._has_room(len(sound), self.leg):
            self._cut_short(part, self.leg)
            return
        if self._turn in ("", response_id):
            self._queue(part, sound, self.leg)
            self._settle()
            return
        self._waiting.setdefault(response_id, _Waiting()).things.append((part, sound))
        self._waiting_bytes += len(sound)
        self._settle()
        if self._waiting_bytes > _MAX_WAITING_MS * self.leg.output_format.bytes_per_ms:
            self._pass_turn()

    def _queue(self, part: Part, sound: bytes, leg: Leg) -> bool:
        """Gives sound to the leg. If the leg does not take it, the response is cut there."""
        self._item_id = part.item_id
        if self._is_needless(sound, leg):
            return True
        if part != self._part:
            self._part, self._part_bytes = part, 0
        if not leg.play(part, sound):
            self._cut_short(part, leg)
            return False
        self._part_bytes += len(sound)
        return True

    def _is_needless(self, sound: bytes, leg: Leg) -> bool:
        """Whether a piece may be left out: silence of a stream in real time that the leg is behind with.

        Otherwise a network that held the stream back, or a slow clock, would keep the caller late for good.
        """
        audio_format = leg.output_format
        return (
            self._upstream.live_passage is not None
            and audio_format.bytes_per_sample == 2
            and leg.waiting_bytes > _STREAM_LATE_MS * audio_format.bytes_per_ms
            and not is_audible(sound)
        )

    def _has_room(self, size: int, leg: Leg) -> bool:
        always = _ALWAYS_MS * leg.output_format.bytes_per_ms - size
        if self._kept.used_bytes <= always:  # as it was with the last piece; what has been heard since makes it less
            return True
        self._settle()
        return self._kept.used_bytes <= always or self._kept.refusal(size) is None

    def _settle(self) -> None:
        """Brings the budget up to date, because some of what waited has been heard."""
        waiting = self._waiting_bytes + (0 if self.leg is None else self.leg.waiting_bytes)
        more = waiting - self._kept.used_bytes
        if more:
            self._kept.charge(more)

    def _cut_short(self, part: Part, leg: Leg) -> None:
        """Leaves out the rest of this response; what is queued or waits for its turn is still heard."""
        self._cleared.append(part.response_id)
        waiting = self._waiting[part.response_id].things if part.response_id in self._waiting else ()
        size = sum(len(thing[1]) for thing in waiting if not isinstance(thing, str) and thing[0] == part)
        size += self._part_bytes if part == self._part else 0
        message = f"Too much sound is waiting to be heard: the rest of the response {part.response_id} was dropped."
        self._hub.publish(server.error_event(BridgeError(message, code="playback_too_long")))
        self._truncate(
            client.ConversationItemTruncate(
                item_id=part.item_id,
                content_index=part.content_index,
                audio_end_ms=leg.output_format.ms_of(size),
            )
        )

    def _pass_turn(self) -> None:
        """Plays the responses that have waited longest, up to one that is not done yet."""
        self._turn = ""
        while self._waiting and not self._turn and self.leg is not None:
            response_id = next(iter(self._waiting))
            waiting = self._waiting.pop(response_id)
            is_heard = True
            for thing in waiting.things:
                if isinstance(thing, str):
                    if self.leg.mark(thing):
                        self._answer_mark(thing, "played")
                    continue
                self._waiting_bytes -= len(thing[1])
                is_heard = is_heard and self._queue(*thing, self.leg)
            if waiting.is_done:
                self.leg.end(response_id)
            else:
                self._turn = response_id

    def forward(self, part: Part, passed: PassedPacket) -> bool:
        """Passes on a packet of an answer; False if the leg takes only samples, or is still playing some."""
        if part.response_id in self._cleared:
            return True
        passage = None if self.leg is None else self.leg.passage
        if passage is None:
            return False
        self._item_id = part.item_id
        return passage.forward(part, passed)

    def end(self, response_id: str) -> None:
        """Notes that this response is complete."""
        self._done.append(response_id)
        if self.leg is None:
            return
        if response_id in self._waiting:
            self._waiting[response_id].is_done = True
            return
        self.leg.end(response_id)
        if response_id == self._turn:
            self._pass_turn()

    def played(self, event: Played) -> None:
        """Takes an event of the leg's ledger: a response starts or stops being heard, or a mark is reached."""
        if isinstance(event, Marked):
            self._answer_mark(event.mark_id, "played")
            return
        self._settle()
        self.is_sounding = isinstance(event, Started)
        kind = server.OutputAudioBufferStarted if self.is_sounding else server.OutputAudioBufferStopped
        self._hub.publish(kind(response_id=event.response_id))

    def mark(self, listener: Listener, name: str) -> None:
        """Sets a mark, which comes back when the sound before it has been played; raises ``BadEvent``."""
        if self.leg is None:
            raise BadEvent("Marks belong to the side that plays: in this session, the client.", param="type")
        if len(self._marks) >= _MAX_MARKS:
            raise BadEvent(f"{_MAX_MARKS} marks are waiting, which is the limit.")
        mark_id = new_id("mark")
        self._marks[mark_id] = listener, name
        if self._waiting:
            self._waiting[next(reversed(self._waiting))].things.append(mark_id)
        elif self.leg.mark(mark_id):
            self._answer_mark(mark_id, "played")

    def clear_on_request(self) -> None:
        """Clears as ``clear`` does, for a client's event; raises ``BadEvent``."""
        if self.leg is None:
            raise BadEvent("The server plays only over WebRTC; in this session the client plays.", param="type")
        self.clear()

    def clear(self, *, is_taken_back: bool = False) -> None:
        """Stops what plays, tells clients, and tells the upstream how much was heard, unless that deleted the item."""
        cut = self.leg.clear() if self.leg is not None else None
        unheard = self._drop_waiting()
        self._settle()
        for mark_id in tuple(self._marks):
            self._answer_mark(mark_id, "cleared")
        if cut is None and not unheard:
            return
        response_id, parts = cut or (unheard[0].part.response_id, [])
        parts += unheard
        self.is_sounding = False
        self._cleared.extend(dict.fromkeys(heard.part.response_id for heard in parts))
        self._hub.publish(server.OutputAudioBufferCleared(response_id=response_id))
        for heard in () if is_taken_back else parts:
            self._truncate(
                client.ConversationItemTruncate(
                    item_id=heard.part.item_id,
                    content_index=heard.part.content_index,
                    audio_end_ms=heard.audio_end_ms,
                )
            )

    def _drop_waiting(self) -> list[Heard]:
        """Drops all responses that wait for their turn; returns their parts, none of which was heard."""
        things = [thing for waiting in self._waiting.values() for thing in waiting.things]
        self._turn = ""
        self._waiting.clear()
        self._waiting_bytes = 0
        return [Heard(part, 0) for part in dict.fromkeys(thing[0] for thing in things if not isinstance(thing, str))]

    def _truncate(self, event: client.ConversationItemTruncate) -> None:
        try:
            self._upstream.receive_client_event(client.ClientMessage.of(event))
        except BadEvent as error:  # the item is gone, or is none that can be cut
            self._log.debug("session.truncate_refused", message=error.message)

    def follow(self, event: server.ServerEvent, state: SessionState) -> None:
        """Looks whether an event that everybody was told stops an answer, or ends it."""
        if isinstance(event, server.InputAudioBufferSpeechStarted):
            if state.lets_speech_interrupt:
                self.clear()
        elif isinstance(event, server.ResponseDone):
            self.end(event.response.id)
        elif isinstance(event, server.ConversationItemDeleted):
            self.take_back(event.item_id)

    def take_back(self, item_id: str) -> None:
        """Drops the sound of a deleted item that waits to be heard."""
        if item_id == self._item_id:
            self.clear(is_taken_back=True)

    def _answer_mark(self, mark_id: str, status: str) -> None:
        listener, name = self._marks.pop(mark_id)
        self._hub.tell(listener, own.MarkReached(name=name, status=status))
