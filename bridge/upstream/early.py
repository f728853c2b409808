"""What a service says before somebody takes it."""

from typing import Any, Generic, TypeVar

from bridge.session.budget import size_of

__all__ = ["Early"]

_MAX_NUMBER = 256
_MAX_BYTES = 8 * 1024 * 1024

T = TypeVar("T", bound=Any)


class Early(Generic[T]):
    """Keeps the first 256, and no more than 8 MiB of them, in order; the others are lost."""

    def __init__(self) -> None:
        self._kept: list[T] = []
        self._bytes = 0

    def keep_early(self, one: T) -> None:
        """Keeps one more, if there is room for it."""
        if len(self._kept) >= _MAX_NUMBER:
            return
        one_bytes = size_of(one)
        if self._bytes + one_bytes <= _MAX_BYTES:
            self._kept.append(one)
            self._bytes += one_bytes

    def take_early(self) -> list[T]:
        """Takes all out, oldest first."""
        kept, self._kept, self._bytes = self._kept, [], 0
        return kept
