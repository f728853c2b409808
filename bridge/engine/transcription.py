"""The words of one item, told as they are understood: deltas, then the whole."""

import asyncio
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from bridge.engine.hearing import HeardTurn, StreamedTurn
from bridge.engine.recordings import Recordings
from bridge.engine.told_words import ToldWords
from bridge.session.contracts import Downstream
from bridge.wire import server_events as server

__all__ = ["TurnTranscription"]


class TurnTranscription:
    """Waits for the stretches of one item, in order; ``downstream`` is told where somebody asked for a transcript."""

    def __init__(
        self,
        item_id: str,
        stretches: "Sequence[asyncio.Future[HeardTurn]]",
        *,
        recordings: Recordings,
        downstream: Downstream | None,
        log: FilteringBoundLogger,
        told: ToldWords | None = None,
    ) -> None:
        """``told`` is what was told of the item already."""
        self._item_id = item_id
        self._waiting = list(stretches)
        self._recordings = recordings
        self._downstream = downstream
        self._log = log
        self._words: list[str] = []
        self._is_unintelligible = False
        self._told: ToldWords | None = None
        if downstream is not None:
            self._told = told or ToldWords(item_id, downstream)
        self._await_first()

    @property
    def pending(self) -> "Sequence[asyncio.Future[HeardTurn]]":
        """The stretches that are not understood yet."""
        return self._waiting

    def stop(self) -> None:
        """Stops, because nobody wants the words any more."""
        for future in self._waiting:
            future.remove_done_callback(self._advance)
            future.cancel()
        self._waiting.clear()

    def _advance(self, future: "asyncio.Future[HeardTurn]") -> None:
        self._waiting.pop(0)
        error = None if future.cancelled() else future.exception()
        if error is not None or future.cancelled():
            self._log.error("engine.hearing_failed", exc_info=error)
            self._is_unintelligible = True
        else:
            self._hear(future.result())
        if self._told is not None:
            self._told.settle("".join(self._words))
        if self._waiting:
            self._await_first()
        else:
            self._complete()

    def _await_first(self) -> None:
        first = self._waiting[0]
        if isinstance(first, StreamedTurn) and self._told is not None:
            first.follow(self._tell)
        first.add_done_callback(self._advance)

    def _tell(self, said: str) -> None:
        if self._told is not None:
            self._told.tell("".join([*self._words, self._spaced(said.strip())]))

    def _spaced(self, words: str) -> str:
        return f" {words}" if self._words and words else words

    def _hear(self, heard: "HeardTurn") -> None:
        if heard.text:
            self._tell(heard.text)
            self._words.append(self._spaced(heard.text))
        elif heard.is_speech:
            self._is_unintelligible = True

    def _complete(self) -> None:
        words = "".join(self._words)
        self._recordings.understand(self._item_id, words)
        if self._downstream is None:
            return
        if self._is_unintelligible and not words:
            error = server.TranscriptionError(
                code="audio_unintelligible", message="The audio could not be transcribed."
            )
            self._downstream.deliver_event(server.InputAudioTranscriptionFailed(item_id=self._item_id, error=error))
            return
        seconds = round(self._recordings.duration_ms(self._item_id) / 1000, 3)
        self._downstream.deliver_event(
            server.InputAudioTranscriptionCompleted(
                item_id=self._item_id, transcript=words, usage={"type": "duration", "seconds": seconds}
            )
        )
