"""The words of one item, told as they are understood: one delta for each stretch of sound, then the whole."""

import asyncio
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from bridge.engine.hearing import HeardTurn, StreamedTurn
from bridge.engine.recordings import Recordings
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
    ) -> None:
        self._item_id = item_id
        self._waiting = list(stretches)
        self._recordings = recordings
        self._downstream = downstream
        self._log = log
        self._words: list[str] = []
        self._is_unintelligible = False
        self._told = ""
        """What clients were told of the present stretch before it was complete."""
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
        if self._waiting:
            self._await_first()
        else:
            self._complete()

    def _await_first(self) -> None:
        first = self._waiting[0]
        self._told = ""
        if isinstance(first, StreamedTurn) and self._downstream is not None:
            first.follow(self._tell)
        first.add_done_callback(self._advance)

    def _tell(self, delta: str) -> None:
        if not self._told:
            delta = delta.lstrip()
            delta = f" {delta}" if self._words and delta else delta
        if delta and self._downstream is not None:
            self._told += delta
            self._downstream.deliver_event(server.InputAudioTranscriptionDelta(item_id=self._item_id, delta=delta))

    def _hear(self, heard: "HeardTurn") -> None:
        if heard.text:
            words = f" {heard.text}" if self._words else heard.text
            self._words.append(words)
            if not self._told or words.startswith(self._told):  # else the server has corrected what its deltas said
                rest = words.removeprefix(self._told)
                if rest and self._downstream is not None:
                    event = server.InputAudioTranscriptionDelta(item_id=self._item_id, delta=rest)
                    self._downstream.deliver_event(event)
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
