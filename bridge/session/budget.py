"""How many bytes conversations may keep: each one, all of one key together, and all of the process.

A budget is part of a wider one. What is taken from the part is taken from the whole as well, and is given back to it
when the part is closed.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from bridge.errors import BadEvent
from bridge.wire.bounds import values_in

__all__ = ["Budget", "KeepLimits", "size_of"]

_FOR_ANSWERS_BYTES = 256 * 1024
_CODE = "conversation_too_large"
_MAX_WALKED = 500
_OBJECT_BYTES = 64


@dataclass(frozen=True, slots=True)
class KeepLimits:
    """Limits in bytes of what a conversation keeps: its items, its configuration and what its upstream has not
    answered.
    """

    of_conversation: int = 32 * 1024 * 1024
    of_key: int = 64 * 1024 * 1024
    """The limit of all conversations together that one minted key has opened."""
    of_process: int = 512 * 1024 * 1024


class Budget:
    """A budget of ``limit_bytes`` for ``what``, which an error names; without a limit it only counts."""

    def __init__(self, limit_bytes: int | None = None, *, what: str = "", whole: "Budget | None" = None) -> None:
        self.used_bytes = 0
        self.limit_bytes = limit_bytes
        self._what = what
        self._whole = whole

    def part(self, limit_bytes: int, *, what: str) -> "Budget":
        """Makes a budget within this one."""
        return Budget(limit_bytes, what=what, whole=self)

    def refusal(self, size: int, *, spare: bool = False) -> BadEvent | None:
        """Why ``size`` bytes do not fit here or in a wider budget; ``spare`` leaves room for answers."""
        if self.limit_bytes is not None:
            left = self.limit_bytes - self.used_bytes
            if spare:
                left -= min(_FOR_ANSWERS_BYTES, self.limit_bytes // 8)
            if size > left:
                room = f"{self.limit_bytes} bytes, of which {max(0, left)} are left"
                return BadEvent(f"{self._what} may keep {room}; this needs {size}.", code=_CODE, param="item")
        return None if self._whole is None else self._whole.refusal(size, spare=spare)

    def require(self, size: int, *, spare: bool = False) -> None:
        """Raises what ``refusal`` returns, if it returns one."""
        refusal = self.refusal(size, spare=spare)
        try:
            if refusal is not None:
                raise refusal
        finally:
            del refusal  # else it would refer to itself through its traceback, and keep what was refused in memory

    def charge(self, size: int) -> None:
        """Counts ``size`` bytes more, or fewer if it is negative, whether they fit or not."""
        self.used_bytes += size
        if self._whole is not None:
            self._whole.charge(size)

    def close(self) -> None:
        """Gives everything back to the wider budget; what is charged from now on is not counted there."""
        if self._whole is not None:
            self._whole.charge(-self.used_bytes)
            self._whole = None


def size_of(value: Any, *, size_of_one: Callable[[object], int] = sys.getsizeof) -> int:
    """About how much memory a decoded value takes: an event, an item, a body.

    A few objects are counted one by one by ``size_of_one``, however long their texts are; many are estimated by the
    JSON that they make.
    """
    total, walked, is_deep = 0, 0, False
    waiting = [value]
    while waiting:
        if walked + len(waiting) > _MAX_WALKED and not is_deep:
            try:
                return _estimate_of(value)
            except RecursionError:
                is_deep = True
        walked += 1
        one = waiting.pop()
        total += size_of_one(one)
        if isinstance(one, str):
            continue
        if isinstance(one, Struct):
            waiting += [getattr(one, name) for name in one.__struct_fields__]
        elif isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return total


def _estimate_of(value: Any) -> int:
    """Estimates what many values take from their JSON.

    Python stores each letter of a text as wide as its widest one.
    """
    json = msgspec.json.encode(value)
    objects = _OBJECT_BYTES * values_in(json)
    if json.isascii():
        return len(json) + objects
    return sum(map(sys.getsizeof, json.decode().replace('\\"', "_").split('"'))) + objects
