"""What a new upstream must be told so that it can go on where the last one was lost.

The configuration, then every item in order. Words are all that can be told of what was said: an answer's sound cannot
be given back, and the caller's only while the bridge still has it.
"""

import binascii
from collections import OrderedDict, deque

import msgspec

from bridge.media.convert import SoundEncoder
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import AudioFormat
from bridge.wire.server_events import Body, ServerEvent

__all__ = ["Recall", "items_to_tell", "promised_items"]

_MAX_UNCOMMITTED_MS = 30_000
_QUIET_MS = 1_000  # while nobody speaks, only so much may belong to the next turn
_MAX_KEPT_MS = 60_000  # of committed turns whose words are not known
_MAX_PROMISED = 16  # turns that were committed and are no items yet
_NO_WORDS = "(spoken; the words are not known)"


class Recall:
    """Keeps the caller's sound that has no transcript yet, in the format in which the upstream took it last."""

    def __init__(self, state: SessionState) -> None:
        self.heard_ms = 0
        """How much sound the session has sent upstream in all, in milliseconds."""
        self.promised: deque[str] = deque(maxlen=_MAX_PROMISED)
        """The items of turns that were committed, and are not in the conversation yet."""
        self._state = state
        self._format: AudioFormat | None = None
        self._uncommitted = bytearray()
        self._is_speaking = False
        self._turns: OrderedDict[str, bytes] = OrderedDict()

    def clear(self) -> None:
        """Forgets everything, because the call is over."""
        self._uncommitted.clear()
        self._turns.clear()

    def push(self, sound: bytes, audio_format: AudioFormat) -> None:
        """Keeps a piece of sound that goes to the upstream."""
        if audio_format is not self._format:
            self._convert(audio_format)
        self.heard_ms += len(sound) // audio_format.bytes_per_ms
        self._uncommitted += sound
        if len(self._uncommitted) > 2 * _QUIET_MS * audio_format.bytes_per_ms:
            self._trim(audio_format)

    def follow(self, event: ServerEvent) -> None:
        """Takes an event of the upstream."""
        if isinstance(event, server.InputAudioBufferSpeechStarted):
            self._is_speaking = True
        elif isinstance(event, server.InputAudioBufferSpeechStopped):
            self._is_speaking = False
        elif isinstance(event, server.InputAudioBufferCommitted):
            self._keep(event.item_id)
        elif isinstance(event, server.ConversationItemAdded):
            if event.item.id in self.promised:
                self.promised.remove(str(event.item.id))
        elif isinstance(event, server.InputAudioBufferCleared):
            self._uncommitted.clear()
        elif isinstance(event, server.InputAudioTranscriptionCompleted):
            self._turns.pop(event.item_id, None)

    def _keep(self, item_id: str) -> None:
        """Keeps what was said so far as the sound of this item."""
        self.promised.append(item_id)
        self._turns[item_id] = bytes(self._uncommitted)
        self._uncommitted.clear()
        if self._format is not None:
            while sum(map(len, self._turns.values())) > _MAX_KEPT_MS * self._format.bytes_per_ms:
                self._turns.popitem(last=False)

    def _trim(self, audio_format: AudioFormat) -> None:
        """Drops sound that can belong to no turn any more.

        If clients end turns themselves, all of it may belong to one.
        """
        is_turn = self._is_speaking or self._state.input.turn_detection is None
        keep = (_MAX_UNCOMMITTED_MS if is_turn else _QUIET_MS) * audio_format.bytes_per_ms
        if len(self._uncommitted) > 2 * keep:  # not for every piece
            del self._uncommitted[:-keep]

    def _convert(self, audio_format: AudioFormat) -> None:
        """Converts what is kept, because the upstream takes another format than the last one."""
        before, self._format = self._format, audio_format
        if before is None or before is audio_format:
            return
        self._uncommitted = bytearray(_converted(bytes(self._uncommitted), before, audio_format))
        for item_id, sound in self._turns.items():
            self._turns[item_id] = _converted(sound, before, audio_format)

    def uncommitted(self, audio_format: AudioFormat) -> bytes:
        """The sound that the next upstream must hear again."""
        self._convert(audio_format)
        return bytes(self._uncommitted)

    def sound_of(self, item_id: str, audio_format: AudioFormat) -> bytes:
        """The sound of a committed turn, while it is kept."""
        self._convert(audio_format)
        return self._turns.get(item_id, b"")


def _converted(sound: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    encoder = SoundEncoder(target, source)
    return encoder.push(sound) + encoder.flush()


def items_to_tell(state: SessionState, recall: Recall, audio_format: AudioFormat) -> list[Body]:
    """A ``conversation.item.create`` for each item, each behind the one before it, under the ids that they have."""
    events: list[Body] = []
    previous = "root"
    for item in state.conversation.items():
        told = _told(item, recall.sound_of(str(item.id), audio_format))
        if told is None:
            continue
        events.append({"type": "conversation.item.create", "previous_item_id": previous, "item": told})
        previous = str(item.id)
    return events


def promised_items(recall: Recall, audio_format: AudioFormat) -> list[Body]:
    """The same for turns of which the last upstream said only that they were committed."""
    events: list[Body] = []
    for item_id in recall.promised:
        part = _part(items.InputAudio(), recall.sound_of(item_id, audio_format))
        item = {"id": item_id, "type": "message", "role": "user", "content": [part]}
        events.append({"type": "conversation.item.create", "item": item})
    return events


def _told(item: items.Item, sound: bytes) -> Body | None:
    """The item as a client may create it; None if nothing of it can be told."""
    if isinstance(item, items.Message):
        content = [part for part in (_part(part, sound) for part in item.content) if part is not None]
        if not content:
            return None
        return {"id": item.id, "type": "message", "role": item.role, "content": content}
    body: Body = msgspec.to_builtins(item)
    return {name: value for name, value in body.items() if name not in ("object", "status")}


def _part(part: items.Content, sound: bytes) -> Body | None:
    if isinstance(part, items.InputAudio):
        if part.transcript:
            return {"type": "input_text", "text": part.transcript}
        if sound:
            return {"type": "input_audio", "audio": binascii.b2a_base64(sound, newline=False).decode()}
        return {"type": "input_text", "text": _NO_WORDS}
    if isinstance(part, items.OutputAudio):
        return {"type": "output_text", "text": part.transcript} if part.transcript else None
    body: Body = msgspec.to_builtins(part)
    return body
