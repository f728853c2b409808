"""The items of one conversation, in order."""

from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.wire.ids import new_id
from bridge.wire.items import FunctionCall, Item

__all__ = ["Conversation"]

_ROOT = "root"
_MAX_ITEMS = 2000


class Conversation:
    """Items by id, and which follows which. Bounded: an item over the limit is refused."""

    def __init__(self) -> None:
        self.id = new_id("conv")
        self._items: dict[str, Item] = {}
        self._order: list[str] = []

    @property
    def last_item_id(self) -> str | None:
        """The end of the conversation; None while it is empty."""
        return self._order[-1] if self._order else None

    def items(self) -> list[Item]:
        """All of them, oldest first."""
        return [self._items[item_id] for item_id in self._order]

    def require_room(self) -> None:
        """Raises ``BadEvent`` where no item fits any more."""
        if len(self._order) >= _MAX_ITEMS:
            raise BadEvent(f"The conversation has {_MAX_ITEMS} items, which is the limit; delete some first.")

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Adds ``item``, made complete with id, object and status, behind ``after`` (``root``: in front; None: last).

        Returns the id of the item before it.
        """
        if item.id is UNSET:
            item.id = new_id("item")
        if item.id in self._items:
            raise BadEvent(f"An item with id '{item.id}' exists already.", param="item.id")
        if after not in (None, _ROOT) and after not in self._items:
            raise BadEvent(f"There is no item '{after}'.", param="previous_item_id")
        self.require_room()
        if isinstance(item, FunctionCall) and item.call_id is UNSET:
            item.call_id = new_id("call")
        item.object = "realtime.item"
        if item.status is UNSET:
            item.status = "completed"
        at = len(self._order) if after is None else 0 if after == _ROOT else self._order.index(after) + 1
        self._order.insert(at, item.id)
        self._items[item.id] = item
        return self._order[at - 1] if at else None

    def find(self, item_id: str) -> Item:
        """The item; raises ``BadEvent`` where there is none of this id."""
        item = self._items.get(item_id)
        if item is None:
            raise BadEvent(f"There is no item '{item_id}'.", param="item_id")
        return item

    def delete(self, item_id: str) -> None:
        """Removes the item; raises ``BadEvent`` where there is none of this id."""
        self.find(item_id)
        del self._items[item_id]
        self._order.remove(item_id)
