"""Which conversation items hearers have been told of, so that a new line that repeats them is not heard twice."""

from collections import deque
from collections.abc import Iterable

from bridge.wire import server_events as server
from bridge.wire.server_events import ServerEvent

__all__ = ["ToldItems"]

_MAX_HALF_TOLD = 64


class ToldItems:
    """Remembers the items that clients have heard of; ``follow`` takes what an upstream says of items."""

    def __init__(self) -> None:
        self._repeated: set[str] = set()
        """The items that the present line is going to repeat."""
        self._half_told: deque[str] = deque(maxlen=_MAX_HALF_TOLD)
        """The items that were added and are not done."""

    def expect_repeats(self, item_ids: Iterable[str]) -> None:
        """Notes that the present line is told of these items, and will repeat them."""
        self._repeated = set(item_ids)

    def follow(self, event: ServerEvent) -> bool:
        """Whether hearers are to be told of the event: not of what they know already."""
        if not isinstance(event, server.ConversationItemAdded | server.ConversationItemDone):
            return True
        item_id = str(event.item.id)
        is_done = isinstance(event, server.ConversationItemDone)
        if item_id in self._repeated:
            if is_done:
                self._repeated.discard(item_id)
            return False
        if not is_done:
            self._half_told.append(item_id)
        elif item_id in self._half_told:
            self._half_told.remove(item_id)
        return True

    def take_half_told(self) -> list[str]:
        """Takes out the items that were added and are not done, because the line that would have said so is gone."""
        half_told = list(self._half_told)
        self._half_told.clear()
        return half_told
