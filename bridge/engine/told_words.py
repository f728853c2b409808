"""What clients have been told of the words of one item."""

from collections.abc import Callable

from bridge.session.contracts import Downstream
from bridge.wire import server_events as server

__all__ = ["ToldWords"]


class ToldWords:
    """The deltas of one item, which can only add to what they have said."""

    def __init__(
        self, item_id: str, downstream: Downstream, *, may_tell_early: Callable[[], bool] = lambda: True
    ) -> None:
        """``may_tell_early`` says whether words are told before the item is there."""
        self._item_id = item_id
        self._downstream = downstream
        self._may_tell_early = may_tell_early
        self._text = ""

    def tell(self, words: str) -> None:
        """Tells what ``words``, all of the item so far, have beyond that; nothing if they have corrected it."""
        if words.startswith(self._text) and words != self._text:
            delta = words[len(self._text) :]
            self._text = words
            self._downstream.deliver_event(server.InputAudioTranscriptionDelta(item_id=self._item_id, delta=delta))

    def tell_early(self, words: str) -> None:
        """The same before the item is there, if that may be."""
        if self._may_tell_early():
            self.tell(words)

    def settle(self, words: str) -> None:
        """Notes that these words are final: what was told differently is put right in the end, and no delta says it."""
        self._text = words
