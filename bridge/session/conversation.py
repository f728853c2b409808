"""The items of one conversation, in order."""

import msgspec
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.session.budget import Budget, size_of
from bridge.wire.ids import new_id
from bridge.wire.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    McpApprovalResponse,
    Message,
    OutputText,
)

__all__ = ["Conversation"]

_ROOT = "root"
_MAX_ITEMS = 2000
_MAX_ID_CHARS = 1024  # of another server's; the protocol's have 26
_NOT_KEPT = "(too long to be kept)"


class Conversation:
    """Items by id, and which follows which.

    Bounded in number: whoever adds asks ``place`` first, which refuses what is too much; if nobody asked (the items are
    another server's), the oldest makes room. Bounded in bytes by ``budget``: an item that does not fit stands in its
    place without its words, sound and pictures.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.id = new_id("conv")
        self._budget = budget or Budget()
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._sizes: dict[str, int] = {}

    @property
    def last_item_id(self) -> str | None:
        """The id of the last item; None while the conversation is empty."""
        return self._order[-1] if self._order else None

    def items(self) -> list[Item]:
        """All items, oldest first."""
        return [self._items[item_id] for item_id in self._order]

    def require_room(self) -> None:
        """Raises ``BadEvent`` if no item fits any more."""
        if len(self._order) >= _MAX_ITEMS:
            raise BadEvent(f"The conversation has {_MAX_ITEMS} items, which is the limit; delete some first.")

    def place(self, item: Item, *, after: str | None = None) -> str | None:
        """Makes ``item`` complete and finds its place behind ``after`` (``root``: in front; None: last).

        Completed are id, object, status, and a function call's call_id. Returns the id of the item before it; raises
        ``BadEvent`` if it cannot stand there. It is not in the conversation before ``insert``.
        """
        if item.id is UNSET:
            item.id = new_id("item")
        if item.id in self._items:
            raise BadEvent(f"An item with the ID '{item.id}' already exists.", param="item.id")
        if after not in (None, _ROOT) and after not in self._items:
            raise BadEvent(f"There is no item '{after}'.", param="previous_item_id")
        self.require_room()
        if isinstance(item, FunctionCall) and item.call_id is UNSET:
            item.call_id = new_id("call")
        item.object = "realtime.item"
        if item.status is UNSET:
            item.status = "completed"
        return self.last_item_id if after is None else None if after == _ROOT else after

    def insert(self, item: Item, previous_item_id: str | None) -> BadEvent | None:
        """``item`` stands behind ``previous_item_id``, with None in front; behind an unknown one it stands last.

        An item of the same id is replaced where it stands. Returns why it could not be kept whole, if it could not.
        """
        item_id = str(item.id)
        if len(item_id) > _MAX_ID_CHARS:
            return BadEvent(f"An item's ID has more than {_MAX_ID_CHARS} characters.", param="item.id")
        if item_id not in self._items:
            if len(self._order) >= _MAX_ITEMS:
                self._drop(self._order.pop(0))
            if previous_item_id in (None, _ROOT):
                at = 0
            elif previous_item_id in self._items:
                at = self._order.index(previous_item_id) + 1
            else:
                at = len(self._order)
            self._order.insert(at, item_id)
        return self._keep(item_id, item)

    def resized(self, item_id: str) -> BadEvent | None:
        """Counts an item anew that has changed. Returns why it cannot be kept as it is any more, if so."""
        item = self._items.get(item_id)
        return None if item is None else self._keep(item_id, item)

    def _keep(self, item_id: str, item: Item) -> BadEvent | None:
        size, before = size_of(item), self._sizes.get(item_id, 0)
        refusal = self._budget.refusal(size - before) if size > before else None
        if refusal is not None:
            item = _hollow(item)
            size = size_of(item)
        self._budget.charge(size - before)
        self._sizes[item_id] = size
        self._items[item_id] = item
        return refusal

    def _drop(self, item_id: str) -> None:
        del self._items[item_id]
        self._budget.charge(-self._sizes.pop(item_id))

    def get(self, item_id: str) -> Item | None:
        """The item, if there is one of this id."""
        return self._items.get(item_id)

    def find(self, item_id: str, *, param: str = "item_id") -> Item:
        """The item; raises ``BadEvent``, which names ``param``, if there is none of this id."""
        item = self._items.get(item_id)
        if item is None:
            raise BadEvent(f"There is no item '{item_id}'.", param=param)
        return item

    def clear(self) -> None:
        """Forgets all items, because nobody will ask for one any more."""
        self._items.clear()
        self._order.clear()
        self._budget.charge(-sum(self._sizes.values()))
        self._sizes.clear()

    def remove(self, item_id: str) -> None:
        """Removes the item, if it is there."""
        if item_id in self._items:
            self._drop(item_id)
            self._order.remove(item_id)


def _hollow(item: Item) -> Item:
    """The item without what makes it big."""
    if isinstance(item, Message):
        part = OutputText(text=_NOT_KEPT) if item.role == "assistant" else InputText(text=_NOT_KEPT)
        return msgspec.structs.replace(item, content=[part])
    if isinstance(item, FunctionCall):
        return msgspec.structs.replace(item, name=item.name[:64], arguments="{}")
    if isinstance(item, FunctionCallOutput):
        return msgspec.structs.replace(item, output=_NOT_KEPT)
    assert isinstance(item, McpApprovalResponse)
    return msgspec.structs.replace(item, reason=UNSET)
