"""A Live session as turns: the events of the Realtime protocol for those who follow a call and do not speak Live.

A Live session has no turns, items or responses. They are made up here, so all of them are estimates: a caller's turn is
where the caller's sound is loud, an answer is where the model's sound is audible or has words, and 0.8 s without either
end it. The words come as the service writes them down; the caller's are late by seconds, and go to the turn whose time
they name.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.media.loudness import SpeechByLoudness, is_audible
from bridge.media.playback import Part
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["LiveTurns"]

_GAP_MS = 800  # of silence and no words: the answer is over
_ONSET_MS = 60  # before the first audible frame belong to the answer: speech begins softly
_UNSURE_MS = 1500  # the service's time and ours may differ by so much: over WebRTC nobody says when it began
_WORDS_LATE_MS = 5_000  # behind the end of a turn: what was not written down by then is not going to be
_MAX_TURNS = 16  # whose words are still waited for
_MAX_CHARS = 100_000  # of one turn's words: nobody says so much in an hour


class _Words:
    """What was said in one turn; of words without end it keeps the beginning."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._room = _MAX_CHARS

    def add(self, delta: str) -> None:
        """Adds a piece as far as it fits."""
        if self._room and delta:
            self._pieces.append(delta[: self._room])
            self._room -= len(self._pieces[-1])

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces).strip()


@dataclass(slots=True, eq=False)
class _Turn:
    """A turn of the caller."""

    item_id: str
    start_ms: int
    end_ms: int | None = None
    words: _Words = field(default_factory=_Words)
    is_item: bool = False

    def distance_ms(self, at_ms: int) -> int:
        """How far a time is from this turn; 0 if it lies in it."""
        behind = 0 if self.end_ms is None else at_ms - self.end_ms
        return max(0, self.start_ms - at_ms, behind)


@dataclass(slots=True, eq=False)
class _Answer:
    """An answer of the model that is being given."""

    response: items.Response
    item: items.Message
    part: Part
    words: _Words = field(default_factory=_Words)
    quiet_ms: int = 0
    """How much silence has come since it was last audible or had words."""


class LiveTurns:
    """Makes turns of one call's sound and words; ``deliver`` takes each event.

    Sound in samples is looked at. Of G.711 and of Opus that passes by only words tell.
    """

    def __init__(
        self, deliver: Callable[[ServerEvent], None], *, is_endless: bool, conversation_id: str | None = None
    ) -> None:
        """If it ``is_endless``, silence belongs to an answer too, which ends when the next one begins."""
        self.answers = 0
        """How many answers are complete."""
        self._deliver = deliver
        self._is_endless = is_endless
        self._conversation_id = conversation_id
        self._answer: _Answer | None = None
        self._turns: deque[_Turn] = deque()
        self._loudness: SpeechByLoudness | None = None
        self._heard_ms = 0.0
        self._onset = b""
        self._last_item_id: str | None = None

    @property
    def part(self) -> Part:
        """The part of the present answer; an answer begins if there is none."""
        return (self._answer or self._begin()).part

    @property
    def heard_ms(self) -> int:
        """How much sound of the caller has come, in milliseconds: the model's time."""
        return int(self._heard_ms)

    # The caller

    def hear(self, sound: bytes, audio_format: AudioFormat) -> None:
        """Takes a piece of the caller's sound, as the service gets it."""
        self._heard_ms += len(sound) / audio_format.bytes_per_ms
        if audio_format.bytes_per_sample != 2:
            return
        if self._loudness is None:
            self._loudness = SpeechByLoudness(audio_format.rate_hz)
        for edge in self._loudness.push(sound):
            if edge.is_start:
                self._start_turn(edge.at_ms)
            elif self._turns and self._turns[-1].end_ms is None:
                self._end_turn(self._turns[-1], edge.at_ms)
        self._settle()

    def hear_words(self, delta: str, start_ms: int) -> None:
        """Takes words of the caller, and when they were said on the session's timeline."""
        turn = min(self._turns, key=lambda turn: turn.distance_ms(start_ms), default=None)
        if turn is None or turn.distance_ms(start_ms) > _UNSURE_MS:
            turn = self._start_turn(start_ms, is_late=True)
        if not turn.is_item:
            self._add_item(turn)
        turn.words.add(delta)
        self._deliver(server.InputAudioTranscriptionDelta(item_id=turn.item_id, delta=delta))

    def _start_turn(self, start_ms: int, *, is_late: bool = False) -> _Turn:
        """Begins a turn. One that only its words betray ``is_late``: nobody is told that somebody speaks."""
        turn = _Turn(new_id("item"), start_ms)
        self._turns.append(turn)
        if len(self._turns) > _MAX_TURNS:
            self._finish_turn(self._turns.popleft())
        if is_late:
            turn.end_ms = int(self._heard_ms)
        else:
            self._deliver(server.InputAudioBufferSpeechStarted(audio_start_ms=start_ms, item_id=turn.item_id))
        return turn

    def _end_turn(self, turn: _Turn, end_ms: int) -> None:
        turn.end_ms = end_ms
        self._deliver(server.InputAudioBufferSpeechStopped(audio_end_ms=end_ms, item_id=turn.item_id))
        if not turn.is_item:
            self._add_item(turn)

    def _add_item(self, turn: _Turn) -> None:
        previous, self._last_item_id = self._last_item_id, turn.item_id
        turn.is_item = True
        self._deliver(server.InputAudioBufferCommitted(previous_item_id=previous, item_id=turn.item_id))
        item = items.Message(
            id=turn.item_id,
            object="realtime.item",
            status="completed",
            role="user",
            content=[items.InputAudio(transcript=None)],
        )
        self._deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        self._deliver(server.ConversationItemDone(previous_item_id=previous, item=item))

    def _settle(self) -> None:
        """Completes turns whose words are not going to become more."""
        while self._turns:
            first = self._turns[0]
            if first.end_ms is None or self._heard_ms < first.end_ms + _WORDS_LATE_MS:
                return
            self._finish_turn(self._turns.popleft())

    def _finish_turn(self, turn: _Turn) -> None:
        if not turn.is_item:
            self._add_item(turn)
        words = turn.words.text
        usage = {"type": "duration", "seconds": max(0, (turn.end_ms or turn.start_ms) - turn.start_ms) / 1000}
        self._deliver(server.InputAudioTranscriptionCompleted(item_id=turn.item_id, transcript=words, usage=usage))

    # The model

    def take_model_sound(self, sound: bytes, audio_format: AudioFormat) -> tuple[Part, bytes] | None:
        """Takes a piece of the model's sound; returns it with its part, or None if it is silence between answers."""
        answer = self._answer
        can_tell = audio_format.bytes_per_sample == 2
        is_loud = can_tell and is_audible(sound)
        if is_loud and (answer is None or (self._is_endless and answer.quiet_ms >= _GAP_MS)):
            answer = self._begin()
            sound, self._onset = self._onset + sound, b""
        elif answer is None and not self._is_endless:
            kept_bytes = audio_format.size_of(_ONSET_MS)
            self._onset = (self._onset + sound)[-kept_bytes:]
            return None
        answer = answer or self._begin()
        if is_loud:
            answer.quiet_ms = 0
        else:
            self._pass_quiet(answer, audio_format.ms_of(len(sound)))
        return answer.part, sound

    def say_words(self, delta: str) -> None:
        """Takes words of the model."""
        answer = self._answer
        if answer is None or (self._is_endless and answer.quiet_ms >= _GAP_MS):
            answer = self._begin()
        answer.quiet_ms = 0
        answer.words.add(delta)
        self._deliver(server.OutputAudioTranscriptDelta(**_place(answer), delta=delta))

    def _pass_quiet(self, answer: _Answer, ms: int) -> None:
        answer.quiet_ms += ms
        if answer.quiet_ms >= _GAP_MS and not self._is_endless:
            self._end()

    def call_function(self, call: Body) -> None:
        """Takes a function call of the backend model: it becomes an answer of its own."""
        response = self._response()
        item = items.FunctionCall(
            id=new_id("item"),
            object="realtime.item",
            status="completed",
            call_id=str(call.get("call_id", "")),
            name=str(call.get("name", "")),
            arguments=str(call.get("arguments", "")),
        )
        place: Body = {"response_id": response.id, "item_id": item.id, "output_index": 0, "call_id": item.call_id}
        previous, self._last_item_id = self._last_item_id, str(item.id)
        deliver = self._deliver
        deliver(server.ResponseCreated(response=response))
        deliver(server.OutputItemAdded(response_id=response.id, output_index=0, item=item))
        deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        deliver(server.FunctionCallArgumentsDelta(**place, delta=item.arguments))
        deliver(server.FunctionCallArgumentsDone(**place, name=item.name, arguments=item.arguments))
        deliver(server.OutputItemDone(response_id=response.id, output_index=0, item=item))
        deliver(server.ConversationItemDone(previous_item_id=previous, item=item))
        response.status, response.output = "completed", [item]
        deliver(server.ResponseDone(response=response))

    def end(self) -> None:
        """Completes what is open, because the session is over."""
        if self._answer is not None:
            self._end()
        while self._turns:
            turn = self._turns.popleft()
            if turn.end_ms is None:
                self._end_turn(turn, int(self._heard_ms))
            self._finish_turn(turn)

    def _response(self) -> items.Response:
        return items.Response(id=new_id("resp"), output_modalities=["audio"], conversation_id=self._conversation_id)

    def _begin(self) -> _Answer:
        if self._answer is not None:
            self._end()
        response = self._response()
        item = items.Message(
            id=new_id("item"), object="realtime.item", status="in_progress", role="assistant", content=[]
        )
        part = Part(response.id, str(item.id), 0, 0)
        answer = self._answer = _Answer(response, item, part)
        previous, self._last_item_id = self._last_item_id, str(item.id)
        deliver = self._deliver
        deliver(server.ResponseCreated(response=response))
        deliver(server.OutputItemAdded(response_id=response.id, output_index=0, item=item))
        deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        deliver(server.ContentPartAdded(**_place(answer), part=items.ContentPart(type="audio", transcript="")))
        return answer

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None, "there is an answer"
        transcript = answer.words.text
        place, item, response = _place(answer), answer.item, answer.response
        item.status, item.content = "completed", [items.OutputAudio(transcript=transcript)]
        response.status, response.output = "completed", [item]
        deliver = self._deliver
        deliver(server.OutputAudioDone(**place))
        deliver(server.OutputAudioTranscriptDone(**place, transcript=transcript))
        deliver(server.ContentPartDone(**place, part=items.ContentPart(type="audio", transcript=transcript)))
        deliver(server.OutputItemDone(response_id=response.id, output_index=0, item=item))
        deliver(server.ConversationItemDone(item=item))
        deliver(server.ResponseDone(response=response))
        self.answers += 1


def _place(answer: _Answer) -> Body:
    part = answer.part
    return {"response_id": part.response_id, "item_id": part.item_id, "output_index": 0, "content_index": 0}
