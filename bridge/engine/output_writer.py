"""What a response of the engine writes: one item after the other, each with all its events in their order."""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from bridge.engine.recordings import BYTES_PER_MS, Recordings, first_of
from bridge.media.playback import Part as SoundPart
from bridge.session.contracts import Downstream
from bridge.session.conversation import Conversation
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import SESSION_HZ
from bridge.wire.ids import new_id

__all__ = ["OutputWriter"]


class OutputWriter:
    """Delivers the items of ``response``; they are placed into ``conversation`` unless that is None."""

    def __init__(
        self,
        response: items.Response,
        conversation: Conversation | None,
        downstream: Downstream,
        recordings: Recordings,
        *,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """``now_ms`` returns how much of the caller's sound has come."""
        self._now_ms = now_ms
        self.done: list[items.Item] = []
        """The items that are written to their end, or as far as they got."""
        self.sound_began_s: float | None = None
        """When the first sound was delivered, by the event loop's clock."""
        self.sound_began_ms = 0
        """The same by the caller's sound."""
        self._response = response
        self._conversation = conversation
        self._downstream = downstream
        self._recordings = recordings
        self._item: items.Message | items.FunctionCall | None = None
        self._previous: str | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0  # in them
        self._heard_bytes: int | None = None  # of these; all, as far as is known
        self._spoken: list[tuple[int, str]] = []
        """Where the sound of each piece of the transcript begins, in bytes."""

    @property
    def audio_ms(self) -> int:
        """How much sound has been delivered, in whole ms."""
        return self._bytes * 1000 // (2 * SESSION_HZ)

    @property
    def item_id(self) -> str:
        """The item that is being written; empty if there is none."""
        return str(self._item.id) if self._item is not None else ""

    @property
    def words(self) -> str:
        """All words that were written or said."""
        open_items = [] if self._item is None else [self._item]
        return " ".join(map(_words, [*self.done, *open_items]))

    def around(self, at_ms: int, *, before_ms: int, behind_ms: int) -> bytes:
        """The sound from ``before_ms`` before ``at_ms`` to ``behind_ms`` behind it; before its beginning, silence."""
        start, end = (at_ms - before_ms) * BYTES_PER_MS, (at_ms + behind_ms) * BYTES_PER_MS
        sound = bytes(max(0, -start))
        at = 0
        for piece in self._pieces:
            sound += piece[max(0, start - at) : max(0, end - at)]
            at += len(piece)
        return sound

    def cut(self, size: int) -> None:
        """Cuts the present item's sound to ``size`` bytes, because the rest was never heard."""
        self._heard_bytes = size

    def say(self, words: str) -> None:
        """Delivers the transcript of a piece of speech at once; its sound follows by ``play``."""
        part = self._part(items.OutputAudio)
        part.transcript = f"{part.transcript or ''}{words}"
        self._spoken.append((self._bytes, words))
        self._downstream.deliver_event(server.OutputAudioTranscriptDelta(**self._ids(), delta=words))

    def play(self, piece: bytes) -> None:
        """Delivers a piece of the sound of what was said last."""
        if self.sound_began_s is None:
            self.sound_began_s, self.sound_began_ms = asyncio.get_running_loop().time(), self._now_ms()
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._downstream.deliver_audio(SoundPart(self._response.id, self.item_id, len(self.done), 0), piece)

    def write_text(self, text: str) -> None:
        """Delivers a piece of an answer in text."""
        part = self._part(items.OutputText)
        part.text += text
        self._downstream.deliver_event(server.OutputTextDelta(**self._ids(), delta=text))

    def call(self, name: str, arguments: str, call_id: str | None = None) -> None:
        """Delivers a function call, which is an item of its own."""
        self.finish()
        item = items.FunctionCall(call_id=call_id or new_id("call"), name=name, arguments="")
        self._add(item)
        item.arguments = arguments
        self._downstream.deliver_event(
            server.FunctionCallArgumentsDelta(**self._place(), call_id=str(item.call_id), delta=arguments)
        )

    def finish(self, *, is_complete: bool = True) -> None:
        """Delivers all ``done`` events of the item that is being written, if there is one."""
        item = self._item
        if item is None:
            return
        if isinstance(item, items.FunctionCall):
            call_id = str(item.call_id)
            self._downstream.deliver_event(
                server.FunctionCallArgumentsDone(
                    **self._place(), call_id=call_id, name=item.name, arguments=item.arguments
                )
            )
        else:
            self._finish_part(item)
        if self._pieces and isinstance(item, items.Message) and self._conversation is not None:
            # Else nobody can ask for it, nor delete it.
            heard = self._bytes if self._heard_bytes is None else self._heard_bytes
            self._recordings.keep(self.item_id, first_of(self._pieces, heard), now_ms=self._now_ms())
            self._recordings.note_spoken(self.item_id, self._spoken, self._bytes, heard_bytes=self._heard_bytes)
        item.status = "completed" if is_complete else "incomplete"
        deliver = self._downstream.deliver_event
        deliver(server.OutputItemDone(response_id=self._response.id, output_index=len(self.done), item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemDone(previous_item_id=self._previous, item=item))
        self.done.append(item)
        self._item, self._heard_bytes = None, None

    def _part(self, kind: Any) -> Any:
        """The content part of the message that is being written; a new message, if none is."""
        item = self._item
        if isinstance(item, items.Message) and isinstance(item.content[0], kind):
            return item.content[0]
        self.finish()
        part = kind(text="") if kind is items.OutputText else kind(transcript="")
        message = items.Message(role="assistant", content=[])
        self._add(message)
        message.content.append(part)
        shown = items.ContentPart(type="text", text="") if kind is items.OutputText else _shown("")
        self._downstream.deliver_event(server.ContentPartAdded(**self._ids(), part=shown))
        return part

    def _add(self, item: items.Message | items.FunctionCall) -> None:
        item.status, previous = "in_progress", None
        if self._conversation is not None:
            previous = self._conversation.place(item)
        else:
            item.id, item.object = new_id("item"), "realtime.item"
        self._item, self._previous = item, previous
        deliver = self._downstream.deliver_event
        deliver(server.OutputItemAdded(response_id=self._response.id, output_index=len(self.done), item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))

    def _finish_part(self, item: items.Message) -> None:
        ids, deliver, part = self._ids(), self._downstream.deliver_event, item.content[0]
        if isinstance(part, items.OutputText):
            deliver(server.OutputTextDone(**ids, text=part.text))
            deliver(server.ContentPartDone(**ids, part=items.ContentPart(type="text", text=part.text)))
        elif isinstance(part, items.OutputAudio):
            transcript = part.transcript or ""
            deliver(server.OutputAudioDone(**ids))
            deliver(server.OutputAudioTranscriptDone(**ids, transcript=transcript))
            deliver(server.ContentPartDone(**ids, part=_shown(transcript)))

    def _place(self) -> dict[str, Any]:
        return {"response_id": self._response.id, "item_id": self.item_id, "output_index": len(self.done)}

    def _ids(self) -> dict[str, Any]:
        return {**self._place(), "content_index": 0}


def _shown(transcript: str) -> items.ContentPart:
    return items.ContentPart(type="audio", transcript=transcript)


def _words(item: items.Item) -> str:
    if isinstance(item, items.FunctionCall):
        return item.arguments
    part = item.content[0] if isinstance(item, items.Message) and item.content else None
    if isinstance(part, items.OutputText):
        return part.text
    return part.transcript or "" if isinstance(part, items.OutputAudio) and part.transcript is not UNSET else ""
