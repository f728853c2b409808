"""The embedded engine: a Realtime service of its own in this process, which answers when nothing else is configured.

It hears (Silero VAD), takes turns, keeps the conversation, and speaks the caller's own words back: the parrot. It never
invents what it cannot know: where a transcript of the caller is asked for it says that there is none, and its own
transcript tells what the sound is.
"""

import binascii
from collections import OrderedDict

import msgspec
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.media.convert import SoundDecoder
from bridge.session.roles import Downstream
from bridge.session.state import SessionState
from bridge.upstream.engine.answer import Answer, Call, Speech, Text
from bridge.upstream.engine.arguments import example_arguments
from bridge.upstream.engine.turns import SpeechStarted, SpeechStopped, TurnDetector
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, SESSION_HZ, AudioFormat
from bridge.wire.ids import new_id
from bridge.wire.sessions import FunctionTool, SemanticVad, ServerVad, format_of

__all__ = ["Engine"]

_BYTES_PER_MS = 2 * SESSION_HZ // 1000
_MIN_COMMIT_MS = 100
_MAX_RETRIEVED_BYTES = 4 * 1024 * 1024  # 87 s; a longer item is retrieved without its sound, or no client could read it
_DETECTION_MS = 200  # by which speech is noticed after its start, at most
_MAX_BUFFER_MS = 600_000  # of sound that nobody commits; the oldest goes first
_MAX_KEPT_MS = 1_200_000  # of committed sound, for parroting and retrieval; the oldest goes first
_SILENCE_MS = {"low": 1500, "medium": 800, "high": 300, "auto": 800}  # of semantic_vad, by eagerness
_INPUT_TOKENS_PER_S = 10  # of sound, as OpenAI counts
_NOTHING_SAID = "Say something, and you will hear your own words. Type something, and you will read them."


class Engine:
    """One conversation with the embedded engine; an ``Upstream``."""

    def __init__(self) -> None:
        self._sounds: OrderedDict[str, bytes] = OrderedDict()
        self._answer: Answer | None = None
        self._buffer = bytearray()
        self._dropped_bytes = 0  # of all sound that came, those that are no longer in the buffer
        self._turn_item_id = ""
        self._detector: TurnDetector | None = None

    # Upstream

    def start(self, downstream: Downstream, state: SessionState) -> None:
        """Begins the conversation; ``session.created`` is delivered before this returns."""
        self._downstream = downstream
        self._state = state
        self._configure_turns()
        downstream.deliver(server.SessionCreated(session=state.config))

    @property
    def input_format(self) -> AudioFormat:
        """What it hears, whatever the session's formats are."""
        return PCM16

    @property
    def output_format(self) -> AudioFormat:
        """What it speaks, likewise."""
        return PCM16

    def receive_event(self, event: client.ClientEvent, text: str | None = None) -> None:
        """A client event; raises ``BadEvent`` where it cannot be done."""
        if isinstance(event, client.SessionUpdate):
            self._downstream.deliver(server.SessionUpdated(session=self._state.updated(event.session)))
            self._configure_turns()
        elif isinstance(event, client.InputAudioBufferCommit):
            self._commit_by_hand()
        elif isinstance(event, client.InputAudioBufferClear):
            self._clear()
        elif isinstance(event, client.ConversationItemCreate):
            self._create_item(event)
        elif isinstance(event, client.ConversationItemRetrieve):
            self._retrieve(event.item_id)
        elif isinstance(event, client.ConversationItemDelete):
            self._state.conversation.find(event.item_id)
            self._sounds.pop(event.item_id, None)
            self._downstream.deliver(server.ConversationItemDeleted(item_id=event.item_id))
        elif isinstance(event, client.ConversationItemTruncate):
            self._truncate(event)
        elif isinstance(event, client.ResponseCreate):
            self._respond(event.response if event.response is not UNSET else items.ResponseConfig())
        elif isinstance(event, client.ResponseCancel):
            self._state.require_active(event.response_id)
            self._cancel("client_cancelled")

    def receive_audio(self, pcm: bytes) -> None:
        """The caller's sound, PCM16 24 kHz mono."""
        self._buffer += pcm
        detector = self._detector
        if detector is None:
            self._trim_buffer(_MAX_BUFFER_MS)
            return
        for event in detector.push(pcm):
            if isinstance(event, SpeechStarted):
                self._speech_started(event.audio_start_ms)
            else:
                self._speech_stopped(event)
        self._trim_buffer(_MAX_BUFFER_MS if detector.is_speaking else self._prefix_ms + _DETECTION_MS)

    async def aclose(self) -> None:
        """Ends the conversation; may be called twice."""
        if self._answer is not None:
            self._answer.stop()
            self._answer = None

    # Turns

    def _configure_turns(self) -> None:
        turns = self._state.turn_detection
        if turns is None:
            self._detector = None
            return
        if isinstance(turns, SemanticVad):
            turns = ServerVad(silence_duration_ms=_SILENCE_MS[turns.eagerness])
        self._prefix_ms = turns.prefix_padding_ms
        if self._detector is None:
            self._detector = TurnDetector()
            self._detector_start_ms = self._now_ms
        self._detector.configure(
            threshold=turns.threshold,
            prefix_padding_ms=turns.prefix_padding_ms,
            silence_duration_ms=turns.silence_duration_ms,
        )

    def _speech_started(self, audio_start_ms: int) -> None:
        start_ms = self._detector_start_ms + audio_start_ms
        self._turn_item_id = new_id("item")
        self._take_until(start_ms)
        self._downstream.deliver(
            server.InputAudioBufferSpeechStarted(audio_start_ms=start_ms, item_id=self._turn_item_id)
        )
        turns = self._state.turn_detection
        if turns is not None and turns.interrupt_response:
            self._cancel("turn_detected")

    def _speech_stopped(self, event: SpeechStopped) -> None:
        end_ms = self._detector_start_ms + event.audio_end_ms
        self._downstream.deliver(server.InputAudioBufferSpeechStopped(audio_end_ms=end_ms, item_id=self._turn_item_id))
        sound = self._take_until(end_ms)
        turns = self._state.turn_detection
        try:
            self._commit(sound, self._turn_item_id)
            if self._answer is None and turns is not None and turns.create_response and self._state.has_answers:
                self._respond(items.ResponseConfig())
        except BadEvent as error:  # there is no client event to refuse
            self._downstream.deliver(server.error_event(error))

    # The input buffer

    @property
    def _now_ms(self) -> int:
        """The end of what was heard, in ms since the first sound."""
        return (self._dropped_bytes + len(self._buffer)) // _BYTES_PER_MS

    def _take_until(self, ms: int) -> bytes:
        """Takes the buffer's sound up to a time since the first sound."""
        return self._take(ms * _BYTES_PER_MS - self._dropped_bytes)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[: max(0, size)])
        del self._buffer[: len(taken)]
        self._dropped_bytes += len(taken)
        return taken

    def _trim_buffer(self, keep_ms: int) -> None:
        if len(self._buffer) > (keep_ms + 1000) * _BYTES_PER_MS:  # not for every frame
            self._take(len(self._buffer) - keep_ms * _BYTES_PER_MS)

    def _commit_by_hand(self) -> None:
        length_ms = len(self._buffer) // _BYTES_PER_MS
        if length_ms < _MIN_COMMIT_MS:
            raise BadEvent(
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{_MIN_COMMIT_MS}ms of audio, but buffer only has {length_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self._state.conversation.require_room()
        self._commit(self._forget_buffer(), new_id("item"))

    def _clear(self) -> None:
        self._forget_buffer()
        self._downstream.deliver(server.InputAudioBufferCleared())

    def _forget_buffer(self) -> bytes:
        if self._detector is not None:
            self._detector.reset()
        return self._take(len(self._buffer))

    def _commit(self, sound: bytes, item_id: str) -> None:
        item = items.Message(id=item_id, role="user", content=[items.InputAudio()])
        previous = self._state.conversation.place(item)
        self._keep(item_id, sound)
        deliver = self._downstream.deliver
        deliver(server.InputAudioBufferCommitted(previous_item_id=previous, item_id=item_id))
        deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        deliver(server.ConversationItemDone(previous_item_id=previous, item=item))
        if self._state.input.transcription not in (None, UNSET):
            deliver(
                server.InputAudioTranscriptionFailed(
                    item_id=item_id,
                    error=server.TranscriptionError(
                        code="transcription_unavailable",
                        message="The embedded engine has no speech recognition installed.",
                    ),
                )
            )

    def _keep(self, item_id: str, sound: bytes) -> None:
        self._sounds[item_id] = sound
        while sum(map(len, self._sounds.values())) > _MAX_KEPT_MS * _BYTES_PER_MS:
            self._sounds.popitem(last=False)

    # Items

    def _create_item(self, event: client.ConversationItemCreate) -> None:
        item = event.item
        sound = self._taken_sound(item)
        previous = self._state.conversation.place(item, after=event.previous_item_id)
        if sound:
            self._keep(str(item.id), sound)
        self._downstream.deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        self._downstream.deliver(server.ConversationItemDone(previous_item_id=previous, item=item))

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
        sound = self._sounds.get(item_id)
        if sound is not None and len(sound) <= _MAX_RETRIEVED_BYTES and isinstance(item, items.Message):
            audio = binascii.b2a_base64(sound, newline=False).decode()
            content: list[items.Content] = [
                msgspec.structs.replace(part, audio=audio)
                if isinstance(part, items.InputAudio | items.OutputAudio)
                else part
                for part in item.content
            ]
            item = msgspec.structs.replace(item, content=content)
        self._downstream.deliver(server.ConversationItemRetrieved(item=item))

    def _truncate(self, event: client.ConversationItemTruncate) -> None:
        self._state.require_audio(event.item_id, event.content_index)
        is_speaking = self._answer is not None and self._answer.item_id == event.item_id
        heard = len(self._sounds.get(event.item_id, b"")) // _BYTES_PER_MS
        length_ms = self._answer.audio_ms if is_speaking and self._answer is not None else heard
        if event.audio_end_ms > length_ms:
            raise BadEvent(
                f"Audio content of {length_ms}ms is already shorter than {event.audio_end_ms}ms", param="audio_end_ms"
            )
        if event.item_id in self._sounds:
            self._sounds[event.item_id] = self._sounds[event.item_id][: event.audio_end_ms * _BYTES_PER_MS]
        self._downstream.deliver(
            server.ConversationItemTruncated(
                item_id=event.item_id, content_index=event.content_index, audio_end_ms=event.audio_end_ms
            )
        )

    # Answers

    def _respond(self, wanted: items.ResponseConfig) -> None:
        self._state.require_idle()
        self._state.conversation.require_room()
        history = wanted.input if wanted.input is not UNSET else self._state.conversation.items()
        response = self._state.new_response(new_id("resp"), wanted)
        content = self._content(wanted, history, is_text=response.output_modalities == ["text"])
        self._answer = answer = Answer(
            content,
            response,
            conversation=self._state.conversation if response.conversation_id is not None else None,
            downstream=self._downstream,
            input_tokens=self._input_tokens(history),
            on_done=self._answered,
        )
        answer.start()
        if isinstance(content, Speech):
            self._keep(answer.item_id, content.pcm)

    def _input_tokens(self, history: list[items.Item]) -> tuple[int, int]:
        """Of text and of sound, as an estimate."""
        sound_ms = sum(len(self._sounds.get(str(item.id), b"")) for item in history) // _BYTES_PER_MS
        return self._state.text_tokens(history), sound_ms * _INPUT_TOKENS_PER_S // 1000

    def _content(
        self, wanted: items.ResponseConfig, history: list[items.Item], *, is_text: bool
    ) -> Speech | Text | Call:
        """What to say to the last item."""
        call = self._tool_call(wanted, history)
        if call is not None:
            return call
        last = next((item for item in reversed(history) if not _is_from_model(item)), None)
        if isinstance(last, items.FunctionCallOutput):
            return Text(f"The function answered: {last.output}")
        if not isinstance(last, items.Message):
            return Text(_NOTHING_SAID)
        sound = self._sounds.get(str(last.id))
        if sound:
            words = f"(your own words, {len(sound) / _BYTES_PER_MS / 1000:.1f} s)"
            return Text(words) if is_text else Speech(sound, words)
        written = "\n".join(part.text for part in last.content if isinstance(part, items.InputText))
        return Text(f"You wrote: {written}" if written else _NOTHING_SAID)

    def _tool_call(self, wanted: items.ResponseConfig, history: list[items.Item]) -> Call | None:
        """A call of the first function, once in a conversation: until one was answered."""
        tools = wanted.tools if wanted.tools is not UNSET else self._state.config.tools
        choice = wanted.tool_choice if wanted.tool_choice is not UNSET else self._state.config.tool_choice
        functions = [tool for tool in tools if isinstance(tool, FunctionTool)] if tools is not UNSET else []
        is_answered = any(isinstance(item, items.FunctionCallOutput) for item in history)
        if not functions or choice == "none" or is_answered:
            return None
        tool = functions[0]
        arguments = example_arguments(tool.parameters if tool.parameters is not UNSET else {})
        return Call(tool.name, msgspec.json.encode(arguments).decode())

    def _cancel(self, reason: str) -> None:
        if self._answer is not None:
            self._answer.cancel(reason)

    def _answered(self, answer: Answer) -> None:
        if self._answer is answer:
            self._answer = None
        if answer.item_id in self._sounds:  # what was cancelled was never said
            self._sounds[answer.item_id] = self._sounds[answer.item_id][: answer.audio_bytes]


def _is_from_model(item: items.Item) -> bool:
    return isinstance(item, items.FunctionCall) or (isinstance(item, items.Message) and item.role == "assistant")
