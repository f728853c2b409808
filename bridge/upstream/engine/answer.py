"""One response of the engine, event by event: what is said is decided before, how it is said is decided here.

The sound goes out much faster than it plays, as the real service's does, and yet in pieces, so that a cancel finds
something left to cancel.
"""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from bridge.media.playback import Part as SoundPart
from bridge.session.conversation import Conversation
from bridge.session.roles import Downstream
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import SESSION_HZ
from bridge.wire.ids import new_id

__all__ = ["Answer", "Call", "Speech", "Text"]

_PIECE_MS = 200
_PIECE_BYTES = 2 * SESSION_HZ * _PIECE_MS // 1000
_INTERVAL_S = 0.010  # a piece every so often: 20 times as fast as it plays
_OUTPUT_TOKENS_PER_S = 20  # of sound, as OpenAI counts


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound, PCM16 24 kHz mono, and what it says."""

    pcm: bytes
    transcript: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text only."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; ``arguments`` is JSON text."""

    name: str
    arguments: str


class Answer:
    """A response in progress. ``on_done`` is called once, when ``response.done`` has been delivered."""

    def __init__(
        self,
        content: Speech | Text | Call,
        response: items.Response,
        *,
        conversation: Conversation | None,
        downstream: Downstream,
        input_tokens: tuple[int, int],
        on_done: Callable[["Answer"], None],
    ) -> None:
        self.response = response
        self.audio_bytes = 0
        """How much sound has been delivered."""
        self._content = content
        self._conversation = conversation
        self._downstream = downstream
        self._input_tokens = input_tokens
        self._on_done = on_done
        self._timer: asyncio.TimerHandle | None = None
        self._item: items.Message | items.FunctionCall
        if isinstance(content, Call):
            self._item = items.FunctionCall(call_id=new_id("call"), name=content.name, arguments="")
        else:
            self._item = items.Message(role="assistant", content=[])
        self._steps = self._run()

    @property
    def audio_ms(self) -> int:
        """How much sound has been delivered, in whole ms."""
        return self.audio_bytes * 1000 // (2 * SESSION_HZ)

    @property
    def item_id(self) -> str:
        """The item that it writes."""
        return str(self._item.id)

    def start(self) -> None:
        """Begins; the first events are delivered before this returns."""
        self._step()

    def cancel(self, reason: str) -> None:
        """Ends it where it stands (``turn_detected``, ``client_cancelled``)."""
        if self._timer is not None:
            self._timer.cancel()
        self._steps.close()
        self._finish("cancelled", items.StatusDetails(type="cancelled", reason=reason))

    def stop(self) -> None:
        """Ends it without a word: nobody is left to hear it."""
        if self._timer is not None:
            self._timer.cancel()
        self._steps.close()

    def _step(self) -> None:
        self._timer = None
        if next(self._steps, False):
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._step)

    def _run(self) -> Generator[bool]:
        """The whole answer; each ``yield`` is a place where time passes."""
        deliver = self._downstream.deliver
        deliver(server.ResponseCreated(response=self.response))
        deliver(server.RateLimitsUpdated(rate_limits=[]))
        self._add_item()
        content = self._content
        if isinstance(content, Speech):
            yield from self._speak(content)
        elif isinstance(content, Text):
            yield from self._write(content)
        else:
            yield from self._call(content)
        self._finish("completed", None)

    def _add_item(self) -> None:
        item, previous = self._item, None
        item.status = "in_progress"
        if self._conversation is not None:
            previous = self._conversation.place(item)
        else:
            item.id, item.object = new_id("item"), "realtime.item"
        deliver = self._downstream.deliver
        deliver(server.OutputItemAdded(response_id=self.response.id, output_index=0, item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))
        self._previous = previous

    def _speak(self, content: Speech) -> Generator[bool]:
        assert isinstance(self._item, items.Message)
        ids = self._ids()
        deliver = self._downstream.deliver
        self._item.content.append(items.OutputAudio(transcript=""))
        deliver(server.ContentPartAdded(**ids, part=items.Part(type="audio", transcript="")))
        deliver(server.OutputAudioTranscriptDelta(**ids, delta=content.transcript))
        self._item.content[0] = items.OutputAudio(transcript=content.transcript)
        part = SoundPart(self.response.id, self.item_id, 0, 0)
        for at in range(0, len(content.pcm), _PIECE_BYTES):
            piece = content.pcm[at : at + _PIECE_BYTES]
            self._downstream.deliver_audio(part, piece)
            self.audio_bytes += len(piece)
            yield True

    def _write(self, content: Text) -> Generator[bool]:
        assert isinstance(self._item, items.Message)
        ids = self._ids()
        text = items.OutputText(text="")
        self._item.content.append(text)
        self._downstream.deliver(server.ContentPartAdded(**ids, part=items.Part(type="text", text="")))
        for word in content.text.splitlines(keepends=True) or [""]:
            text.text += word
            self._downstream.deliver(server.OutputTextDelta(**ids, delta=word))
            yield True

    def _call(self, content: Call) -> Generator[bool]:
        assert isinstance(self._item, items.FunctionCall)
        self._item.arguments = content.arguments
        call_id = str(self._item.call_id)
        self._downstream.deliver(
            server.FunctionCallArgumentsDelta(
                response_id=self.response.id,
                item_id=self.item_id,
                output_index=0,
                call_id=call_id,
                delta=content.arguments,
            )
        )
        yield True

    def _finish(self, status: str, details: items.StatusDetails | None) -> None:
        """All the ``done`` events, whichever way it ended."""
        deliver, item, is_complete = self._downstream.deliver, self._item, status == "completed"
        self._finish_part()
        item.status = "completed" if is_complete else "incomplete"
        deliver(server.OutputItemDone(response_id=self.response.id, output_index=0, item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemDone(previous_item_id=self._previous, item=item))
        response = self.response
        response.status = "completed" if is_complete else "cancelled"
        response.status_details = details
        response.output = [item]
        text_tokens, audio_tokens = self._input_tokens
        response.usage = items.Usage.of(
            input_text=text_tokens,
            input_audio=audio_tokens,
            output_text=len(self._words().split()),
            output_audio=self.audio_ms * _OUTPUT_TOKENS_PER_S // 1000,
        )
        deliver(server.ResponseDone(response=self.response))
        self._on_done(self)

    def _finish_part(self) -> None:
        ids, deliver = self._ids(), self._downstream.deliver
        if isinstance(self._item, items.FunctionCall):
            deliver(
                server.FunctionCallArgumentsDone(
                    response_id=self.response.id,
                    item_id=self.item_id,
                    output_index=0,
                    call_id=str(self._item.call_id),
                    name=self._item.name,
                    arguments=self._item.arguments,
                )
            )
            return
        if not self._item.content:
            return
        part = self._item.content[0]
        if isinstance(part, items.OutputText):
            deliver(server.OutputTextDone(**ids, text=part.text))
            deliver(server.ContentPartDone(**ids, part=items.Part(type="text", text=part.text)))
        elif isinstance(part, items.OutputAudio):
            transcript = part.transcript or ""
            deliver(server.OutputAudioDone(**ids))
            deliver(server.OutputAudioTranscriptDone(**ids, transcript=transcript))
            deliver(server.ContentPartDone(**ids, part=items.Part(type="audio", transcript=transcript)))

    def _words(self) -> str:
        if isinstance(self._item, items.FunctionCall):
            return self._item.arguments
        part = self._item.content[0] if self._item.content else None
        if isinstance(part, items.OutputText):
            return part.text
        return part.transcript or "" if isinstance(part, items.OutputAudio) and part.transcript is not UNSET else ""

    def _ids(self) -> dict[str, Any]:
        return {"response_id": self.response.id, "item_id": self.item_id, "output_index": 0, "content_index": 0}
