"""What the conversations of one process may keep: each one, all of one key together, and all of them."""

from collections import Counter

from bridge.calls.keys import API_KEY_ID
from bridge.session.budget import Budget, KeepLimits

__all__ = ["ConversationBudgets"]


class ConversationBudgets:
    """Gives each conversation its budget within its key's budget, and that is within the process's."""

    def __init__(self, limits: KeepLimits) -> None:
        self.limits = limits
        """The limits of new conversations."""
        self.of_process = Budget(limits.of_process, what="All conversations of the server together")
        """The budget of all conversations together."""
        self.of_keys: dict[str, Budget] = {}
        """The budget of each minted key that has a call, by the key's id."""
        self._calls: Counter[str] = Counter()

    def apply(self, limits: KeepLimits) -> None:
        """Sets how much all of them together may keep from now on; the other limits count for new conversations."""
        self.limits = limits
        self.of_process.limit_bytes = limits.of_process

    @property
    def used_bytes(self) -> int:
        """The number of bytes that all conversations keep."""
        return self.of_process.used_bytes

    def open(self, key_id: str) -> Budget:
        """Opens the budget of one more conversation of the key; ``close`` follows when its call is over."""
        whole = self.of_process
        if key_id != API_KEY_ID:
            self._calls[key_id] += 1
            of_key = self.of_keys.get(key_id)
            if of_key is None:
                of_key = whole.part(self.limits.of_key, what="All conversations of this key together")
                self.of_keys[key_id] = of_key
            whole = of_key
        return whole.part(self.limits.of_conversation, what="This conversation")

    def close(self, key_id: str) -> None:
        """Notes that a call of the key is over; with the last one, the key is forgotten."""
        self._calls[key_id] -= 1
        if self._calls[key_id] <= 0:
            del self._calls[key_id]
            self.of_keys.pop(key_id, None)
