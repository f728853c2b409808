"""The embedded engine: a Realtime service of its own in this process, which answers when nothing else is configured.

It hears (Silero VAD), takes turns, keeps the conversation and answers; with which wits, says its ``Mind``: the parrot
says the caller's own words back, the assistant understands them, and speaks. Neither invents what it cannot know.
"""

import asyncio
import binascii
import functools
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from bridge.context import CallContext
from bridge.engine.answer import EngineAnswer
from bridge.engine.echo import WINDOW_MS
from bridge.engine.intake import EngineInput
from bridge.engine.interruption import InterruptionGuard, TurnTaking
from bridge.engine.mind import Mind, ResponseRequest
from bridge.engine.output_writer import OutputWriter
from bridge.engine.recordings import BYTES_PER_MS, Recordings, in_pieces
from bridge.engine.stages import StageMeter
from bridge.errors import BadEvent
from bridge.media.convert import SoundDecoder
from bridge.session.contracts import Downstream
from bridge.session.state import SessionState
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.sessions import ServerVad, format_of
from bridge.wire.stats import Stage, UpstreamStats

__all__ = ["Engine"]

_MAX_RETRIEVED_BYTES = 4 * 1024 * 1024  # 87 s; a longer item is retrieved without its sound, or no client could read it
_ECHO_DELAY_MS = 1500  # from the delivery of sound until a caller's microphone has brought it back, at most
_EARLY_MS = 500  # by which the caller's sound may be behind
_INPUT_TOKENS_PER_S = 10  # of sound, as OpenAI counts
_USUAL = TurnTaking()


class Engine:
    """One conversation with the embedded engine; an ``Upstream``."""

    def __init__(
        self,
        mind: Mind,
        context: CallContext,
        name: str = "local",
        *,
        observe: Callable[[Stage, float], object] = lambda stage, seconds: None,
        taking: TurnTaking = _USUAL,
    ) -> None:
        """``name`` is the upstream's, as statistics show it; ``observe`` gets how long each stage took, in seconds."""
        self._taking = taking
        self._spoken: OutputWriter | None = None
        """The last answer in the conversation that has sound."""
        self._meter = StageMeter(observe)
        self._mind = mind
        self._name = name
        self._log = context.logger("engine")
        self._recordings = Recordings(mind.keeps_ms)
        self._answers: dict[str, EngineAnswer] = {}  # in progress, by their response's id
        self._given = 0
        """How many responses were given to their end."""
        self._idle: asyncio.TimerHandle | None = None

    # Upstream

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins the conversation; ``session.created`` is delivered before this returns."""
        self._downstream = downstream
        self._state = state
        self._recordings = Recordings(self._mind.keeps_ms, state.budget, past_ms=self._mind.past_ms)
        self._intake = EngineInput(
            self._mind,
            self._recordings,
            downstream,
            state,
            on_start=self._speech_started,
            on_turn=self._turn_ended,
            meter=self._meter,
            guard=InterruptionGuard(
                self._taking, is_answering=self._is_answering, played=self._played, can_hear=self._mind.can_hear
            ),
            log=self._log,
        )
        downstream.deliver_event(server.SessionCreated(session=state.config))

    @property
    def passage(self) -> None:
        """None, because the engine hears sound and no packets."""
        return None

    @property
    def live_passage(self) -> None:
        """None, because the engine speaks GA."""
        return None

    @property
    def input_format(self) -> AudioFormat:
        """The format that it hears, whatever the session's formats are."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """The format that it speaks, whatever the session's formats are."""
        return PCM16

    def receive_client_event(self, message: client.ClientMessage) -> None:
        """Takes a client event.

        Raises ``BadEvent`` if it cannot be carried out, or has something that is unknown here.
        """
        event = message.known
        if isinstance(event, client.SessionUpdate):
            self._downstream.deliver_event(server.SessionUpdated(session=self._state.updated(event.session)))
            self._intake.configure()
        elif isinstance(event, client.InputAudioBufferCommit):
            self._intake.commit()
        elif isinstance(event, client.InputAudioBufferClear):
            self._intake.clear()
        elif isinstance(event, client.ConversationItemCreate):
            self._create_item(event)
        elif isinstance(event, client.ConversationItemRetrieve):
            self._retrieve(event.item_id)
        elif isinstance(event, client.ConversationItemDelete):
            self._state.conversation.find(event.item_id)
            self._recordings.forget(event.item_id)
            self._downstream.deliver_event(server.ConversationItemDeleted(item_id=event.item_id))
        elif isinstance(event, client.ConversationItemTruncate):
            self._truncate(event)
        elif isinstance(event, client.ResponseCreate):
            self._respond(event.response if event.response is not UNSET else items.ResponseConfig())
        elif isinstance(event, client.ResponseCancel):
            answer = self._answers.get(self._state.require_active(event.response_id))
            if answer is not None:
                answer.cancel("client_cancelled")

    def receive_caller_audio(self, pcm: bytes) -> None:
        """Takes a piece of the caller's sound, PCM16 24 kHz mono."""
        self._intake.push(pcm)

    def stats(self) -> UpstreamStats:
        """The stats of the engine, which has no lines that could be lost."""
        return UpstreamStats(name=self._name, lines=0, lost=0, answers=self._given, stages=self._meter.stats())

    async def aclose(self) -> None:
        """Ends the conversation; may be called twice."""
        self._forget_idleness()
        self._intake.stop()
        for answer in self._answers.values():
            answer.stop()
        self._answers.clear()
        self._recordings.clear()

    @property
    def _answer(self) -> EngineAnswer | None:
        """Begins the answer in the conversation. Those beside it are neither waited for nor interrupted."""
        active = self._state.response
        return None if active is None else self._answers.get(active.id)

    # Turns

    def _is_answering(self) -> bool:
        """Whether an answer is given, or is still being heard if it plays from its beginning on."""
        spoken = self._spoken
        if self._answer is not None or spoken is None or spoken.sound_began_s is None:
            return self._answer is not None
        return asyncio.get_running_loop().time() < spoken.sound_began_s + spoken.audio_ms / 1000 + _ECHO_DELAY_MS / 1000

    def _played(self) -> bytes:
        """The answer around what is being heard now, as far as that is known."""
        spoken = self._spoken
        if spoken is None or spoken.sound_began_s is None:
            return b""
        at_ms = self._intake.now_ms - spoken.sound_began_ms
        return spoken.around(at_ms, before_ms=WINDOW_MS + _ECHO_DELAY_MS, behind_ms=_EARLY_MS)

    def _speech_started(self) -> None:
        self._forget_idleness()
        turns = self._state.turn_detection
        answer = self._answer
        if answer is not None and turns is not None and turns.interrupt_response:
            answer.cancel("turn_detected")

    def _turn_ended(self) -> None:
        turns = self._state.turn_detection
        if self._answer is None and turns is not None and turns.create_response and self._state.has_answers:
            self._respond(items.ResponseConfig())

    # A caller who says nothing

    def _await_idleness(self, answer: EngineAnswer) -> None:
        """``idle_timeout_ms`` counts from where the answer has been heard, if it plays from its beginning on."""
        turns = self._state.turn_detection
        self._forget_idleness()
        if not isinstance(turns, ServerVad) or turns.idle_timeout_ms is None:
            return
        loop = asyncio.get_running_loop()
        heard_s = max(loop.time(), (answer.writer.sound_began_s or 0) + answer.writer.audio_ms / 1000)
        start_ms = self._intake.now_ms + round(1000 * (heard_s - loop.time()))
        self._idle = loop.call_at(heard_s + turns.idle_timeout_ms / 1000, self._idled, start_ms)

    def _idled(self, start_ms: int) -> None:
        self._idle = None
        if (
            self._answer is not None
            or self._intake.is_speaking
            or not isinstance(self._state.turn_detection, ServerVad)
        ):
            return
        item_id, end_ms = new_id("item"), self._intake.now_ms
        self._downstream.deliver_event(
            server.InputAudioBufferTimeoutTriggered(
                audio_start_ms=min(start_ms, end_ms), audio_end_ms=end_ms, item_id=item_id
            )
        )
        try:
            self._intake.commit_silence(item_id)
            self._respond(items.ResponseConfig(), is_idle=True)
        except BadEvent as error:  # there is no client event to refuse
            self._downstream.deliver_event(server.error_event(error))

    def _forget_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    # Items

    def _create_item(self, event: client.ConversationItemCreate) -> None:
        item = event.item
        self._state.require_answerable(item)
        item.status = "completed"  # whatever the client calls it
        sound = self._taken_sound(item)
        previous = self._state.conversation.place(item, after=event.previous_item_id)
        if sound:
            self._recordings.keep(str(item.id), in_pieces(sound), now_ms=self._intake.now_ms)
        self._downstream.deliver_event(server.ConversationItemAdded(previous_item_id=previous, item=item))
        self._downstream.deliver_event(server.ConversationItemDone(previous_item_id=previous, item=item))

    def _taken_sound(self, item: items.Item) -> bytes:
        """The sound of an item that brings its own, taken out of it; events do not carry it."""
        sound = b""
        for index, part in enumerate(item.content if isinstance(item, items.Message) else []):
            if isinstance(part, items.InputAudio) and isinstance(part.audio, str):
                try:
                    encoded = binascii.a2b_base64(part.audio, strict_mode=True)
                except (binascii.Error, ValueError):
                    param = f"item.content[{index}].audio"
                    raise BadEvent("'audio' is not valid base64.", code="invalid_audio", param=param) from None
                audio_format = format_of(self._state.input.format)
                if len(encoded) % audio_format.bytes_per_sample:
                    param = f"item.content[{index}].audio"
                    raise BadEvent("'audio' ends in the middle of a sample.", code="invalid_audio", param=param)
                sound += SoundDecoder(audio_format).push(encoded)
                part.audio = UNSET
        return sound[: len(sound) // 2 * 2]

    def _retrieve(self, item_id: str) -> None:
        item = self._state.conversation.find(item_id)
        sound = self._recordings.sound(item_id)
        if sound and len(sound) <= _MAX_RETRIEVED_BYTES and isinstance(item, items.Message):
            audio = binascii.b2a_base64(sound, newline=False).decode()
            content: list[items.Content] = [
                msgspec.structs.replace(part, audio=audio)
                if isinstance(part, items.InputAudio | items.OutputAudio)
                else part
                for part in item.content
            ]
            item = msgspec.structs.replace(item, content=content)
        self._downstream.deliver_event(server.ConversationItemRetrieved(item=item))

    def _truncate(self, event: client.ConversationItemTruncate) -> None:
        self._state.require_audio(event.item_id, event.content_index)
        answer = next((known for known in self._answers.values() if known.writer.item_id == event.item_id), None)
        length_ms = answer.writer.audio_ms if answer is not None else self._recordings.duration_ms(event.item_id)
        if event.audio_end_ms > length_ms:
            raise BadEvent(
                f"Audio content of {length_ms}ms is already shorter than {event.audio_end_ms}ms", param="audio_end_ms"
            )
        if answer is not None:
            answer.writer.cut(event.audio_end_ms * BYTES_PER_MS)
        else:
            self._recordings.cut(event.item_id, event.audio_end_ms * BYTES_PER_MS)
        self._downstream.deliver_event(
            server.ConversationItemTruncated(
                item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
            )
        )

    # Answers

    def _respond(self, wanted: items.ResponseConfig, *, is_idle: bool = False) -> None:
        self._state.require_idle(wanted)
        if not wanted.is_beside:
            self._state.conversation.require_room()
        history = self._state.history(wanted)
        response = self._state.new_response(new_id("resp"), wanted)
        request = ResponseRequest(
            wanted,
            history,
            self._state,
            self._recordings,
            is_text=response.output_modalities == ["text"],
            is_idle=is_idle,
            log=self._log,
        )
        if not wanted.is_beside:
            self._forget_idleness()
        self._answers[response.id] = answer = EngineAnswer(
            functools.partial(self._mind.content, request),
            response,
            OutputWriter(
                response,
                None if wanted.is_beside else self._state.conversation,
                self._downstream,
                self._recordings,
                now_ms=lambda: self._intake.now_ms,
            ),
            unheard=self._intake.unheard,
            downstream=self._downstream,
            input_tokens=self._input_tokens(history),
            on_done=self._answered,
            meter=self._meter,
            log=self._log,
        )
        if not wanted.is_beside and not request.is_text:
            self._spoken = answer.writer
        answer.start()

    def _input_tokens(self, history: list[items.Item]) -> tuple[int, int]:
        """An estimate of the input tokens of text and of sound."""
        sound_ms = sum(self._recordings.duration_ms(item.id) for item in history)
        return self._state.text_tokens(history), sound_ms * _INPUT_TOKENS_PER_S // 1000

    def _answered(self, answer: EngineAnswer) -> None:
        del self._answers[answer.response.id]
        self._given += 1
        if answer.response.status == "completed" and answer.response.conversation_id is not None:
            self._await_idleness(answer)
