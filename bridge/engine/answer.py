"""One response of the engine, event by event: what is said is decided before, how it is said is decided here.

The sound goes out much faster than it plays, as the real service's does, and yet in pieces, so that a cancel finds
something left to cancel.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

from msgspec import UNSET
from structlog.typing import FilteringBoundLogger

from bridge.engine.mind import Content, Speech, Spoken, Text, ToolCall
from bridge.engine.recordings import Recordings
from bridge.errors import BridgeError, UpstreamError, error_body
from bridge.media.playback import Part as SoundPart
from bridge.session.contracts import Downstream
from bridge.session.conversation import Conversation
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import SESSION_HZ
from bridge.wire.ids import new_id

__all__ = ["EngineAnswer"]

_PIECE_MS = 200
_PIECE_BYTES = 2 * SESSION_HZ * _PIECE_MS // 1000
_INTERVAL_S = 0.010  # a piece every so often: 20 times as fast as it plays
_OUTPUT_TOKENS_PER_S = 20  # of sound, as OpenAI counts
_END = object()

_Steps = Generator["asyncio.Future[Any] | None"]


class EngineAnswer:
    """A response in progress. ``on_done`` is called once, when ``response.done`` has been delivered.

    It waits for ``unheard``, so that ``think`` finds all words understood.
    """

    def __init__(
        self,
        think: Callable[[], Content],
        response: items.Response,
        *,
        unheard: "Sequence[asyncio.Future[Any]]",
        conversation: Conversation | None,
        downstream: Downstream,
        recordings: Recordings,
        input_tokens: tuple[int, int],
        on_done: Callable[["EngineAnswer"], None],
        log: FilteringBoundLogger,
    ) -> None:
        self.response = response
        self.sound_began_s: float | None = None
        """When the first of its sound was delivered, by the loop's clock."""
        self._think = think
        self._unheard = unheard
        self._conversation = conversation
        self._downstream = downstream
        self._recordings = recordings
        self._input_tokens = input_tokens
        self._on_done = on_done
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[Any] | None = None
        self._item: items.Message | items.FunctionCall | None = None
        self._pcm = bytearray()
        self._heard_bytes: int | None = None  # of it; all, as far as is known
        self._steps = self._run()

    @property
    def audio_ms(self) -> int:
        """How much sound has been delivered, in whole ms."""
        return len(self._pcm) * 1000 // (2 * SESSION_HZ)

    @property
    def item_id(self) -> str:
        """The item that it writes, once there is one."""
        return str(self._item.id) if self._item is not None else ""

    def start(self) -> None:
        """Begins; the first events are delivered before this returns."""
        self._step()

    def cut(self, size: int) -> None:
        """Of its sound, what is behind ``size`` bytes was never heard."""
        self._heard_bytes = size

    def cancel(self, reason: str) -> None:
        """Ends it where it stands (``turn_detected``, ``client_cancelled``)."""
        self.stop()
        self._finish("cancelled", items.StatusDetails(type="cancelled", reason=reason))

    def stop(self) -> None:
        """Ends it without a word: nobody is left to hear it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._future is not None:
            self._future.remove_done_callback(self._step)
        self._steps.close()

    def _step(self, _: object = None) -> None:
        """On to the next place where time passes."""
        self._timer = self._future = None
        try:
            wait = next(self._steps, _END)
        except BridgeError as error:
            self._fail(error)
            return
        except Exception as error:  # whatever it is, it ends this response and nothing else
            self._log.error("engine.answer_failed", exc_info=error)
            self._fail(UpstreamError("The engine failed to answer."))
            return
        if isinstance(wait, asyncio.Future):
            self._future = wait
            wait.add_done_callback(self._step)
        elif wait is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._step)

    def _run(self) -> _Steps:
        """The whole answer; each ``yield`` gives what is waited for, None standing for an interval."""
        deliver = self._downstream.deliver
        deliver(server.ResponseCreated(response=self.response))
        deliver(server.RateLimitsUpdated(rate_limits=[]))
        yield from self._unheard
        content = self._think()
        if isinstance(content, ToolCall):
            yield from self._call(content)
        elif isinstance(content, Text):
            yield from self._write(content)
        elif isinstance(content, Speech):
            yield from self._play(content)
        else:
            yield from self._speak(content)
        self._finish("completed", None)

    def _add_item(self, item: items.Message | items.FunctionCall) -> None:
        item.status, previous = "in_progress", None
        if self._conversation is not None:
            previous = self._conversation.place(item)
        else:
            item.id, item.object = new_id("item"), "realtime.item"
        self._item, self._previous = item, previous
        deliver = self._downstream.deliver
        deliver(server.OutputItemAdded(response_id=self.response.id, output_index=0, item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemAdded(previous_item_id=previous, item=item))

    def _add_message(self, part: items.OutputText | items.OutputAudio) -> dict[str, Any]:
        message = items.Message(role="assistant", content=[])
        self._add_item(message)
        message.content.append(part)
        ids = self._ids()
        is_text = isinstance(part, items.OutputText)
        shown = items.ContentPart(type="text", text="") if is_text else items.ContentPart(type="audio", transcript="")
        self._downstream.deliver(server.ContentPartAdded(**ids, part=shown))
        return ids

    def _play(self, content: Speech) -> _Steps:
        part = items.OutputAudio(transcript="")
        self._say(part, content.transcript, self._add_message(part))
        yield from self._sound(content.pcm)

    def _speak(self, content: Spoken) -> _Steps:
        """One piece after the other; while one goes out, the next is being made."""
        part = items.OutputAudio(transcript="")
        ids: dict[str, Any] | None = None
        sound = content.say(content.pieces[0])
        try:
            for at, piece in enumerate(content.pieces, 1):
                yield sound
                pcm = sound.result()
                if at < len(content.pieces):
                    sound = content.say(content.pieces[at])
                ids = ids or self._add_message(part)
                self._say(part, piece, ids)
                yield from self._sound(pcm)
        finally:
            sound.cancel()

    def _say(self, part: items.OutputAudio, words: str, ids: dict[str, Any]) -> None:
        part.transcript = f"{part.transcript}{words}"
        self._downstream.deliver(server.OutputAudioTranscriptDelta(**ids, delta=words))

    def _sound(self, pcm: bytes) -> _Steps:
        part = SoundPart(self.response.id, self.item_id, 0, 0)
        for at in range(0, len(pcm), _PIECE_BYTES):
            piece = pcm[at : at + _PIECE_BYTES]
            if self.sound_began_s is None:
                self.sound_began_s = asyncio.get_running_loop().time()
            self._pcm += piece
            self._downstream.deliver_audio(part, piece)
            yield None

    def _write(self, content: Text) -> _Steps:
        text = items.OutputText(text="")
        ids = self._add_message(text)
        for word in content.text.splitlines(keepends=True) or [""]:
            text.text += word
            self._downstream.deliver(server.OutputTextDelta(**ids, delta=word))
            yield None

    def _call(self, content: ToolCall) -> _Steps:
        item = items.FunctionCall(call_id=new_id("call"), name=content.name, arguments="")
        self._add_item(item)
        item.arguments = content.arguments
        self._downstream.deliver(
            server.FunctionCallArgumentsDelta(
                response_id=self.response.id,
                item_id=self.item_id,
                output_index=0,
                call_id=str(item.call_id),
                delta=content.arguments,
            )
        )
        yield None

    def _finish(self, status: Literal["completed", "cancelled", "failed"], details: items.StatusDetails | None) -> None:
        """All the ``done`` events, whichever way it ended."""
        if self._item is not None:
            self._finish_item(self._item, is_complete=status == "completed")
        response = self.response
        response.status = status
        response.status_details = details
        response.output = [self._item] if self._item is not None else []
        text_tokens, audio_tokens = self._input_tokens
        response.usage = items.Usage.of(
            input_text=text_tokens,
            input_audio=audio_tokens,
            output_text=len(self._words().split()),
            output_audio=self.audio_ms * _OUTPUT_TOKENS_PER_S // 1000,
        )
        self._downstream.deliver(server.ResponseDone(response=response))
        self._on_done(self)

    def _fail(self, error: BridgeError) -> None:
        self._finish("failed", items.StatusDetails(type="failed", error=error_body(error)))

    def _finish_item(self, item: items.Message | items.FunctionCall, *, is_complete: bool) -> None:
        if isinstance(item, items.FunctionCall):
            self._finish_call(item)
        else:
            self._finish_part(item)
        if self._pcm and self._conversation is not None:  # else nobody can ask for it, nor delete it
            self._recordings.keep(self.item_id, bytes(self._pcm[: self._heard_bytes]))
        item.status = "completed" if is_complete else "incomplete"
        deliver = self._downstream.deliver
        deliver(server.OutputItemDone(response_id=self.response.id, output_index=0, item=item))
        if self._conversation is not None:
            deliver(server.ConversationItemDone(previous_item_id=self._previous, item=item))

    def _finish_call(self, item: items.FunctionCall) -> None:
        self._downstream.deliver(
            server.FunctionCallArgumentsDone(
                response_id=self.response.id,
                item_id=self.item_id,
                output_index=0,
                call_id=str(item.call_id),
                name=item.name,
                arguments=item.arguments,
            )
        )

    def _finish_part(self, item: items.Message) -> None:
        ids, deliver, part = self._ids(), self._downstream.deliver, item.content[0]
        if isinstance(part, items.OutputText):
            deliver(server.OutputTextDone(**ids, text=part.text))
            deliver(server.ContentPartDone(**ids, part=items.ContentPart(type="text", text=part.text)))
        elif isinstance(part, items.OutputAudio):
            transcript = part.transcript or ""
            deliver(server.OutputAudioDone(**ids))
            deliver(server.OutputAudioTranscriptDone(**ids, transcript=transcript))
            deliver(server.ContentPartDone(**ids, part=items.ContentPart(type="audio", transcript=transcript)))

    def _words(self) -> str:
        if isinstance(self._item, items.FunctionCall):
            return self._item.arguments
        part = self._item.content[0] if self._item is not None else None
        if isinstance(part, items.OutputText):
            return part.text
        return part.transcript or "" if isinstance(part, items.OutputAudio) and part.transcript is not UNSET else ""

    def _ids(self) -> dict[str, Any]:
        return {"response_id": self.response.id, "item_id": self.item_id, "output_index": 0, "content_index": 0}
