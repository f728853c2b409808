"""One response of the engine, event by event: what is said is decided elsewhere, how it is said is decided here.

The sound goes out much faster than it plays, as the real service's does, and yet in pieces, so that a cancel finds
something left to cancel.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

from structlog.typing import FilteringBoundLogger

from bridge.engine.mind import Content, Speech, Spoken, Text, Thought, ToolCall
from bridge.engine.output_writer import OutputWriter
from bridge.engine.pieces import Pieces
from bridge.engine.prose import sentences
from bridge.engine.recordings import in_pieces
from bridge.engine.stages import StageMeter
from bridge.errors import BridgeError, UpstreamError, error_body
from bridge.session.contracts import Downstream
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.stats import Stage

__all__ = ["EngineAnswer"]

_INTERVAL_S = 0.010  # a piece every so often: 20 times as fast as it plays
_OUTPUT_TOKENS_PER_S = 20  # of sound, as OpenAI counts
_END = object()

_Steps = Generator["asyncio.Future[Any] | None"]
_Status = Literal["completed", "cancelled", "failed", "incomplete"]


class EngineAnswer:
    """A response in progress. ``on_done`` is called once, when ``response.done`` has been delivered.

    It waits for ``unheard``, so that ``think`` finds all words understood.
    """

    def __init__(
        self,
        think: Callable[[], Content],
        response: items.Response,
        writer: OutputWriter,
        *,
        unheard: "Sequence[asyncio.Future[Any]]",
        downstream: Downstream,
        input_tokens: tuple[int, int],
        on_done: Callable[["EngineAnswer"], None],
        meter: StageMeter,
        log: FilteringBoundLogger,
    ) -> None:
        self.response = response
        self.writer = writer
        self._think = think
        self._unheard = unheard
        self._downstream = downstream
        self._input_tokens = input_tokens
        self._on_done = on_done
        self._log = log
        self._meter = meter
        self._timer: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[Any] | None = None
        self._usage: items.Usage | None = None
        """The usage as the mind counts it."""
        self._steps = self._run()

    def start(self) -> None:
        """Begins; the first events are delivered before this returns."""
        self._step()

    def cancel(self, reason: str) -> None:
        """Ends the response where it is; the reason is ``turn_detected`` or ``client_cancelled``."""
        self.stop()
        self._finish("cancelled", items.StatusDetails(type="cancelled", reason=reason))

    def stop(self) -> None:
        """Ends the response without events, because nobody is left to hear it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._future is not None:
            self._future.remove_done_callback(self._step)
            if self._future.done() and not self._future.cancelled():
                self._future.exception()  # nobody else is going to ask
        self._steps.close()

    def _step(self, _: object = None) -> None:
        """Goes on to the next place where time passes."""
        self._timer = self._future = None
        try:
            wait = next(self._steps, _END)
        except BridgeError as error:
            self._finish("failed", items.StatusDetails(type="failed", error=error_body(error)))
            return
        except Exception as error:  # whatever it is, it ends this response and nothing else
            self._log.error("engine.answer_failed", exc_info=error)
            failed = UpstreamError("The engine failed to answer.")
            self._finish("failed", items.StatusDetails(type="failed", error=error_body(failed)))
            return
        if isinstance(wait, asyncio.Future):
            self._future = wait
            wait.add_done_callback(self._step)
        elif wait is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._step)

    def _run(self) -> _Steps:
        """Gives the whole answer. Each ``yield`` gives what is waited for; None stands for an interval."""
        self._downstream.deliver_event(server.ResponseCreated(response=self.response))
        self._downstream.deliver_event(server.RateLimitsUpdated(rate_limits=[]))
        yield from self._unheard
        content = self._think()
        if isinstance(content, Thought):
            reason = yield from self._follow(content)
            if reason is not None:
                self._finish("incomplete", items.StatusDetails(type="incomplete", reason=reason))
                return
        elif isinstance(content, ToolCall):
            self.writer.call(content.name, content.arguments)
            yield None
        elif isinstance(content, Text):
            yield from self._write(content.text)
        elif isinstance(content, Speech):
            self.writer.say(content.transcript)
            for piece in content.pieces:
                yield from self._play(piece)
        else:
            yield from self._speak(content)
        self._finish("completed", None)

    def _speak(self, content: Spoken) -> _Steps:
        """Speaks one piece after the other; while one goes out, the next is made."""
        meter = self._meter
        asked, sound = meter.asked(), content.say(content.pieces[0])
        try:
            for at, piece in enumerate(content.pieces, 1):
                waiting = sound.next()
                yield waiting
                first = meter.take_result(Stage.VOICE, asked, waiting)
                asked = meter.asked()
                following = content.say(content.pieces[at]) if at < len(content.pieces) else None
                try:
                    yield from self._utter(piece, first, sound)
                except BaseException:
                    if following is not None:
                        following.close()
                    raise
                sound = following or sound
        finally:
            sound.close()

    def _follow(self, thought: Thought) -> "Generator[asyncio.Future[Any] | None, None, str | None]":
        """Says or writes what comes, as it comes; why it is not complete, None if it is.

        Sentences are spoken one by one. While one is made and goes out, the thought goes on by itself.
        """
        unsaid = ""
        asked: float | None = self._meter.asked()
        try:
            while True:
                waiting = thought.words.next()
                yield waiting
                words = waiting.result() if asked is None else self._meter.take_result(Stage.MIND, asked, waiting)
                asked = None
                if words is None:
                    break
                if thought.say is None:
                    self.writer.write_text(words)
                    continue
                *whole, unsaid = sentences(unsaid + words) or [""]
                for sentence in whole:
                    yield from self._say(thought.say, sentence)
            if unsaid and thought.say is not None:
                yield from self._say(thought.say, unsaid)
            for call in thought.calls:
                self.writer.call(call.name, call.arguments, call.call_id)
                yield None
            self._usage = thought.usage
            return thought.incomplete_reason
        finally:
            thought.words.close()

    def _say(self, say: Callable[[str], Pieces[bytes]], sentence: str) -> _Steps:
        if not any(map(str.isalnum, sentence)):
            self.writer.say(sentence)  # white space, or a picture: there is nothing to be heard
            return
        asked, sound = self._meter.asked(), say(sentence)
        try:
            waiting = sound.next()
            yield waiting
            yield from self._utter(sentence, self._meter.take_result(Stage.VOICE, asked, waiting), sound)
        finally:
            sound.close()

    def _utter(self, words: str, pcm: bytes | None, sound: Pieces[bytes]) -> _Steps:
        """Delivers the words as soon as there is sound of them, and the sound as it comes.

        ``pcm`` is the first of it.
        """
        self.writer.say(words)
        while pcm is not None:
            yield from self._play(pcm)
            waiting = sound.next()
            yield waiting
            pcm = waiting.result()

    def _play(self, pcm: bytes) -> _Steps:
        for piece in in_pieces(pcm):
            self.writer.play(piece)
            yield None

    def _write(self, text: str) -> _Steps:
        for line in text.splitlines(keepends=True) or [""]:
            self.writer.write_text(line)
            yield None

    def _finish(self, status: _Status, details: items.StatusDetails | None) -> None:
        """Delivers all ``done`` events, in whichever way it ended."""
        self.writer.finish(is_complete=status == "completed")
        response = self.response
        response.status = status
        response.status_details = details
        response.output = self.writer.done
        text_tokens, audio_tokens = self._input_tokens
        response.usage = self._usage or items.Usage.of(
            input_text=text_tokens,
            input_audio=audio_tokens,
            output_text=len(self.writer.words.split()),
            output_audio=self.writer.audio_ms * _OUTPUT_TOKENS_PER_S // 1000,
        )
        self._downstream.deliver_event(server.ResponseDone(response=response))
        self._on_done(self)
