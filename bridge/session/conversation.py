"""The items of one conversation, in order."""

from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.wire.ids import new_id
from bridge.wire.items import FunctionCall, Item

__all__ = ["Conversation"]

_ROOT = "root"
_MAX_ITEMS = 2000


class Conversation:
    """Items by id, and which follows which. Bounded: whoever adds asks ``place`` first, which refuses what is too much;
    where nobody asked (the items are another server's), the oldest makes room."""

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

    def place(self, item: Item, *, after: str | None = None) -> str | None:
        """Makes ``item`` complete and finds its place behind ``after`` (``root``: in front; None: last).

        Completed are id, object, status, and a function call's call_id. Returns the id of the item before it; raises
        ``BadEvent`` where it cannot stand there. It is not in the conversation before ``insert``.
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
        return self.last_item_id if after is None else None if after == _ROOT else after

    def insert(self, item: Item, previous_item_id: str | None) -> None:
        """``item`` stands behind ``previous_item_id``, with None in front; behind an unknown one it stands last.

        An item of the same id is replaced where it stands.
        """
        item_id = str(item.id)
        if item_id not in self._items:
            if previous_item_id in (None, _ROOT):
                at = 0
            elif previous_item_id in self._items:
                at = self._order.index(previous_item_id) + 1
            else:
                at = len(self._order)
            self._order.insert(at, item_id)
            if len(self._order) > _MAX_ITEMS:
                del self._items[self._order.pop(0)]
        self._items[item_id] = item

    def get(self, item_id: str) -> Item | None:
        """The item, if there is one of this id."""
        return self._items.get(item_id)

    def find(self, item_id: str, *, param: str = "item_id") -> Item:
        """The item; raises ``BadEvent``, which names ``param``, where there is none of this id."""
        item = self._items.get(item_id)
        if item is None:
            raise BadEvent(f"There is no item '{item_id}'.", param=param)
        return item

    def remove(self, item_id: str) -> None:
        """The item is gone, if it was there."""
        if self._items.pop(item_id, None) is not None:
            self._order.remove(item_id)
