"""The caller's sound in the engine: the input buffer, the turns in it, and what is understood of them."""

import asyncio
import functools
from collections.abc import Callable

from msgspec import UNSET
from structlog.typing import FilteringBoundLogger

from bridge.engine import eagerness
from bridge.engine.hearing import HeardTurn, Hearing, OpenStretch
from bridge.engine.interruption import InterruptionGuard, Verdict
from bridge.engine.mind import Mind
from bridge.engine.recordings import BYTES_PER_MS, Recordings, in_pieces
from bridge.engine.stages import StageMeter
from bridge.engine.told_words import ToldWords
from bridge.engine.transcription import TurnTranscription
from bridge.engine.turn_model import TurnModel
from bridge.engine.turns import SpeechPaused, SpeechResumed, SpeechStarted, SpeechStopped, TurnDetector
from bridge.errors import BadEvent, OverLimit, UpstreamError
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.ids import new_id
from bridge.wire.sessions import SemanticVad, ServerVad
from bridge.wire.sessions import Transcription as Asked
from bridge.wire.stats import Stage

__all__ = ["EngineInput"]

_MIN_COMMIT_MS = 100
_DETECTION_MS = 200  # by which speech is noticed after its start, at most
_COMPLETE = 0.5  # the probability from which on a turn counts as complete, as Smart Turn has it
_SLACK_MS = 200  # by which the buffer may be too long, so that it is not cut for every frame
_PAUSE_MS = 192  # of silence, after which recognition begins in the hope that the turn is over
_SILENCE_MS = {"low": 1500, "medium": 800, "high": 300, "auto": 800}  # of semantic_vad without words, by eagerness


class EngineInput:
    """Takes sound, finds turns, commits them; ``on_start`` and ``on_turn`` are told of the turns that it finds."""

    def __init__(
        self,
        mind: Mind,
        recordings: Recordings,
        downstream: Downstream,
        state: SessionState,
        *,
        on_start: Callable[[], None],
        on_turn: Callable[[], None],
        meter: StageMeter,
        guard: InterruptionGuard,
        log: FilteringBoundLogger,
    ) -> None:
        self._log = log
        self._meter = meter
        self._guard = guard
        self._mind = mind
        self._recordings = recordings
        self._downstream = downstream
        self._state = state
        self._on_start = on_start
        self._on_turn = on_turn
        self._buffer = bytearray()
        self._dropped_bytes = 0  # of all sound that came, those that are no longer in the buffer
        self._turn_item_id = ""
        self._detector: TurnDetector | None = None
        self._hearing: Hearing | None = None
        self._transcriptions: list[TurnTranscription] = []
        self.configure()

    def configure(self) -> None:
        """Sets turn detection as the session has it."""
        turns = self._state.turn_detection
        if turns is None:
            self._detector = None
            self._give_up_hearing()
            return
        if isinstance(turns, SemanticVad):
            waits = eagerness.MOST_MS if self._tells_pauses else _SILENCE_MS
            turns = ServerVad(silence_duration_ms=waits[turns.eagerness])
        self._prefix_ms = turns.prefix_padding_ms
        if self._detector is None:
            self._detector = TurnDetector(pause_ms=_PAUSE_MS if self._tells_pauses else None)
            self._detector_start_ms = self.now_ms
        self._detector.configure(
            threshold=turns.threshold,
            prefix_padding_ms=turns.prefix_padding_ms,
            silence_duration_ms=turns.silence_duration_ms,
        )

    @property
    def _tells_pauses(self) -> bool:
        """Whether something can be found out in a pause: the words, or by a model whether the turn is complete."""
        return self._mind.can_hear or self._guard.model is not None

    @property
    def now_ms(self) -> int:
        """The end of what was heard, in milliseconds since the first sound."""
        return (self._dropped_bytes + len(self._buffer)) // BYTES_PER_MS

    @property
    def is_speaking(self) -> bool:
        """Whether a turn is open."""
        return self._detector is not None and self._detector.is_speaking

    @property
    def unheard(self) -> "list[asyncio.Future[HeardTurn]]":
        """What is still being understood of what has been committed."""
        return [future for transcription in self._transcriptions for future in transcription.pending]

    def push(self, pcm: bytes) -> None:
        """Takes more of the caller's sound, PCM16 24 kHz mono."""
        self._buffer += pcm
        detector = self._detector
        if detector is None:
            self._trim(self._mind.turn_ms)
            return
        for edge in detector.push(pcm):
            if isinstance(edge, SpeechStarted):
                self._started(edge.audio_start_ms)
            elif isinstance(edge, SpeechPaused):
                self._paused(edge.audio_end_ms)
            elif isinstance(edge, SpeechResumed):
                self._resumed()
            else:
                self._stopped(edge)
        if self._guard.is_holding:
            self._settle(self._guard.judge(self._buffer, self.now_ms))
        if self._hearing is not None:
            self._hearing.feed(self._buffer)
        self._trim(self._mind.turn_ms if detector.is_speaking else self._prefix_ms + _DETECTION_MS)

    def commit(self) -> None:
        """Ends the turn for the client: all that is in the buffer becomes an item."""
        length_ms = len(self._buffer) // BYTES_PER_MS
        if length_ms < _MIN_COMMIT_MS:
            raise BadEvent(
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{_MIN_COMMIT_MS}ms of audio, but buffer only has {length_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self._state.conversation.require_room()
        self._commit(self._forget(), new_id("item"))

    def commit_silence(self, item_id: str) -> None:
        """Makes an item of what came since the last turn, in which nobody speaks."""
        self._add(self._take(len(self._buffer)), item_id)

    def clear(self) -> None:
        """Forgets what is in the buffer, and an open turn."""
        self._forget()
        self._downstream.deliver_event(server.InputAudioBufferCleared())

    def stop(self) -> None:
        """Stops, because nobody wants the words any more."""
        self._forget()
        for transcription in self._transcriptions:
            transcription.stop()
        self._transcriptions.clear()

    # Turns

    def _started(self, audio_start_ms: int) -> None:
        start_ms = self._detector_start_ms + audio_start_ms
        self._turn_item_id = new_id("item")
        self._take_until(start_ms)
        self._hearing = self._new_hearing(self._turn_item_id) if self._mind.can_hear else None
        if not self._guard.hold(start_ms, self.now_ms):
            self._announce(start_ms)

    def _announce(self, start_ms: int) -> None:
        self._downstream.deliver_event(
            server.InputAudioBufferSpeechStarted(audio_start_ms=start_ms, item_id=self._turn_item_id)
        )
        self._on_start()

    def _settle(self, verdict: Verdict) -> None:
        """Tells of the speech that was held back, or forgets it."""
        if verdict is Verdict.RELEASE:
            stop = self._guard.stop
            self._announce(self._guard.release())
            if stop is not None:
                self._stopped(stop)
        elif verdict is Verdict.DROP:
            self._forget()

    def _paused(self, audio_end_ms: int) -> None:
        if self._guard.model is not None and isinstance(self._state.turn_detection, SemanticVad):
            self._ask_turn_model(self._guard.model)
        if self._hearing is None:
            return
        try:
            guess = self._hearing.guess(self._buffer)
        except OverLimit:
            return  # at the end of the turn there is another chance
        if self._guard.is_holding:
            self._guard.await_words()
        guess.add_done_callback(functools.partial(self._guessed, self._turn_item_id))

    def _ask_turn_model(self, model: TurnModel) -> None:
        try:
            judged = model.judge(bytes(self._buffer))
        except OverLimit:
            return  # the longest silence ends the turn
        judged.add_done_callback(functools.partial(self._judged, self._turn_item_id))

    def _judged(self, item_id: str, judged: "asyncio.Future[float]") -> None:
        """Ends the turn soon if the model takes it for complete, or cannot tell."""
        turns = self._state.turn_detection
        if judged.cancelled() or item_id != self._turn_item_id or not isinstance(turns, SemanticVad):
            return
        error = judged.exception()
        if error is not None:
            self._log.error("engine.turn_model_failed", exc_info=error)
        elif judged.result() < _COMPLETE:
            return
        self._end_after(eagerness.FINISHED_MS[turns.eagerness])

    def _end_after(self, silence_ms: int) -> None:
        edge = None if self._detector is None else self._detector.end_after(silence_ms)
        if edge is not None:  # the sound came faster than it was understood
            self._stopped(edge)

    def _guessed(self, item_id: str, guess: "asyncio.Future[HeardTurn]") -> None:
        """Sets how long the pause has to be, by the words before it, and whether they interrupt."""
        if self._detector is None or item_id != self._turn_item_id or guess.cancelled():
            return
        text = guess.result().text if guess.exception() is None else None
        if self._guard.is_holding:
            self._settle(Verdict.RELEASE if text is None else self._guard.judge_words(text))
        turns = self._state.turn_detection
        if text is not None and isinstance(turns, SemanticVad) and self._guard.model is None and self.is_speaking:
            self._end_after(eagerness.silence_ms(turns.eagerness, text))

    def _resumed(self) -> None:
        if self._hearing is not None:
            self._hearing.resume()

    def _stopped(self, edge: SpeechStopped) -> None:
        if self._guard.is_holding:
            verdict = self._guard.end(edge, self._buffer)
            self._settle(verdict)
            if verdict is not Verdict.RELEASE:
                return
        end_ms = self._detector_start_ms + edge.audio_end_ms
        self._downstream.deliver_event(
            server.InputAudioBufferSpeechStopped(audio_end_ms=end_ms, item_id=self._turn_item_id)
        )
        sound = self._take_until(end_ms)
        try:
            self._commit(sound, self._turn_item_id)
            self._on_turn()
        except BadEvent as error:  # there is no client event to refuse
            self._downstream.deliver_event(server.error_event(error))

    # Items

    def _commit(self, sound: bytes, item_id: str) -> None:
        hearing, self._hearing = self._hearing, None
        self._add(sound, item_id)
        is_asked = self._is_transcript_asked
        if not self._mind.can_hear:
            if is_asked:
                self._tell_failure(
                    item_id, "transcription_unavailable", "The embedded engine has no speech recognition."
                )
            return
        try:
            hearing = hearing or self._new_hearing(item_id)
            stretches = hearing.finish(sound)
        except OverLimit as error:
            if is_asked:
                self._tell_failure(item_id, error.code, error.message)
            return
        transcription = TurnTranscription(
            item_id,
            stretches,
            recordings=self._recordings,
            downstream=self._downstream if is_asked else None,
            log=self._log,
            told=hearing.told,
        )
        self._transcriptions = [other for other in self._transcriptions if other.pending]
        self._transcriptions.append(transcription)

    def _add(self, sound: bytes, item_id: str) -> None:
        item = items.Message(id=item_id, role="user", content=[items.InputAudio()])
        previous = self._state.conversation.place(item)
        self._recordings.keep(item_id, in_pieces(sound), now_ms=self.now_ms)
        deliver = self._downstream.deliver_event
        deliver(server.InputAudioBufferCommitted(previous_item_id=previous, item_id=item_id))
        deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        deliver(server.ConversationItemDone(previous_item_id=previous, item=item))

    def _tell_failure(self, item_id: str, code: str, message: str) -> None:
        error = server.TranscriptionError(code=code, message=message)
        self._downstream.deliver_event(server.InputAudioTranscriptionFailed(item_id=item_id, error=error))

    # Hearing

    def _new_hearing(self, item_id: str) -> Hearing:
        asked = self._state.input.transcription
        language = asked.language if isinstance(asked, Asked) and asked.language is not UNSET else None
        return Hearing(
            functools.partial(self._mind.listen, language=language),
            begin=functools.partial(self._begin_stretch, language),
            ask=functools.partial(self._meter.follow, Stage.EAR),
            told=ToldWords(item_id, self._downstream, may_tell_early=self._may_tell_early),
        )

    def _begin_stretch(self, language: str | None) -> OpenStretch | None:
        stretch = self._mind.begin_understanding(language=language)
        if stretch is not None:
            stretch.on_break = self._log_break
        return stretch

    def _log_break(self, error: UpstreamError) -> None:
        self._log.info("engine.hearing_broke_off", code=error.code, message=error.message)

    @property
    def _is_transcript_asked(self) -> bool:
        return isinstance(self._state.input.transcription, Asked)

    def _may_tell_early(self) -> bool:
        """Whether an open turn's words are told: not if it may be nothing but an echo."""
        return self._is_transcript_asked and not self._guard.is_holding

    def _give_up_hearing(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    # The buffer

    def _take_until(self, ms: int) -> bytes:
        """Takes the buffer's sound up to a time since the first sound."""
        return self._take(ms * BYTES_PER_MS - self._dropped_bytes)

    def _take(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[: max(0, size)])
        del self._buffer[: len(taken)]
        self._dropped_bytes += len(taken)
        return taken

    def _trim(self, keep_ms: int) -> None:
        if len(self._buffer) > (keep_ms + _SLACK_MS) * BYTES_PER_MS:
            needless = len(self._buffer) - keep_ms * BYTES_PER_MS
            del self._buffer[:needless]
            self._dropped_bytes += needless

    def _forget(self) -> bytes:
        self._guard.forget()
        self._give_up_hearing()
        if self._detector is not None:
            self._detector.reset()
        return self._take(len(self._buffer))
