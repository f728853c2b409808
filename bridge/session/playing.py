"""What the caller hears of a session: the leg that plays, what it has played, and who waits to know.

Only where there is a leg does the server play; an owner's client plays for itself, and knows for itself.
"""

from collections.abc import Callable

from bridge.errors import BadEvent
from bridge.media.passing import PassedPacket
from bridge.media.playback import Marked, Part, Played, Started
from bridge.session.hub import Hub, Listener
from bridge.session.roles import Leg
from bridge.wire import client_events as client
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.ids import new_id

__all__ = ["Playing"]

_MAX_MARKS = 1000


class Playing:
    """``ask`` takes what the upstream must know: where an answer was cut."""

    def __init__(self, hub: Hub, *, ask: Callable[[client.ConversationItemTruncate], None]) -> None:
        self.leg: Leg | None = None
        self.is_sounding = False
        """A response is being heard."""
        self._hub = hub
        self._ask = ask
        self._cleared = ""  # what is still under way of this response is not to be heard
        self._item_id = ""  # of what was queued last
        self._marks: dict[str, tuple[Listener, str]] = {}

    def play(self, part: Part, sound: bytes) -> None:
        """A piece of an answer, unless its rest was cleared."""
        if self.leg is not None and part.response_id != self._cleared:
            self._item_id = part.item_id
            self.leg.play(part, sound)

    def forward(self, part: Part, passed: PassedPacket) -> bool:
        """A packet of an answer, as it came; False where the leg takes only sound, or is still playing some."""
        if part.response_id == self._cleared:
            return True
        passage = None if self.leg is None else self.leg.passage
        if passage is None:
            return False
        self._item_id = part.item_id
        return passage.forward(part, passed)

    def end(self, response_id: str) -> None:
        """No more of this response will come."""
        if self.leg is not None:
            self.leg.end(response_id)

    def played(self, event: Played) -> None:
        """The leg's ledger: a response begins or ceases to be heard, or a mark is reached."""
        if isinstance(event, Marked):
            self._answer_mark(event.mark_id, "played")
            return
        self.is_sounding = isinstance(event, Started)
        kind = server.OutputAudioBufferStarted if self.is_sounding else server.OutputAudioBufferStopped
        self._hub.publish(kind(response_id=event.response_id))

    def mark(self, listener: Listener, name: str) -> None:
        """Comes back when the sound before it has been played; raises ``BadEvent``."""
        if self.leg is None:
            raise BadEvent("Only where the server plays does it know of marks; here the client does.", param="type")
        if len(self._marks) >= _MAX_MARKS:
            raise BadEvent(f"{_MAX_MARKS} marks are waiting, which is the limit.")
        mark_id = new_id("mark")
        self._marks[mark_id] = listener, name
        if self.leg.mark(mark_id):
            self._answer_mark(mark_id, "played")

    def clear_on_request(self) -> None:
        """As a client asks; raises ``BadEvent``."""
        if self.leg is None:
            raise BadEvent("Only over WebRTC does the server play; here the client does.", param="type")
        self.clear()

    def clear(self, *, is_taken_back: bool = False) -> None:
        """Stops what plays, says so, and tells the upstream how much was heard, unless the upstream took it back."""
        cut = self.leg.clear() if self.leg is not None else None
        for mark_id in tuple(self._marks):
            self._answer_mark(mark_id, "cleared")
        if cut is None:
            return
        response_id, parts = cut
        self.is_sounding = False
        self._cleared = parts[-1].part.response_id
        self._hub.publish(server.OutputAudioBufferCleared(response_id=response_id))
        for heard in () if is_taken_back else parts:
            self._ask(
                client.ConversationItemTruncate(
                    item_id=heard.part.item_id,
                    content_index=heard.part.content_index,
                    audio_end_ms=heard.audio_end_ms,
                )
            )

    def take_back(self, item_id: str) -> None:
        """The item is deleted: what of it waits to be heard is not heard."""
        if item_id == self._item_id:
            self.clear(is_taken_back=True)

    def _answer_mark(self, mark_id: str, status: str) -> None:
        listener, name = self._marks.pop(mark_id)
        self._hub.tell(listener, own.MarkReached(name=name, status=status))
