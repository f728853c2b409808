"""What comes piece by piece, from a task that makes it to an answer that waits for it in callbacks."""

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

from bridge.errors import BridgeError

__all__ = ["Pieces"]

T = TypeVar("T", str, bytes)


class Pieces(Generic[T]):
    """Text or sound. Whoever puts pieces in bounds how much that is; whoever takes them gets all that has come."""

    def __init__(self, task: "asyncio.Future[Any] | None" = None) -> None:
        """``task`` is cancelled by ``close``: it makes what nobody wants any more."""
        self.task = task
        self._pieces: deque[T] = deque()
        self._waiting: asyncio.Future[T | None] | None = None
        self._is_over = False
        self._error: BridgeError | None = None
        """The error that ended it, if there was one."""

    @classmethod
    def of(cls, whole: "asyncio.Future[T]") -> "Pieces[T]":
        """A single piece: the result of ``whole``, which ``close`` cancels."""
        pieces = cls(whole)

        def take(done: "asyncio.Future[T]") -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                pieces.put(done.result())
            pieces.end(error if isinstance(error, BridgeError) or error is None else BridgeError(str(error)))

        whole.add_done_callback(take)
        return pieces

    def put(self, piece: T) -> None:
        """Adds a piece; an empty one is left out."""
        if piece:
            self._pieces.append(piece)
            self._offer()

    def end(self, error: BridgeError | None = None) -> None:
        """Notes that no more pieces come: all have come, or ``error`` has ended them."""
        self._is_over, self._error = True, error
        self._offer()

    def next(self) -> "asyncio.Future[T | None]":
        """Waits for what has come since the last time; None at the end. Raises the error, if there was one."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._offer()
        return self._waiting

    def close(self) -> None:
        """Cancels the task, because nobody wants more; may be called twice."""
        self._waiting = None
        self._pieces.clear()
        if self.task is not None:
            self.task.cancel()

    def _offer(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        if self._pieces:
            first = self._pieces[0]
            waiting.set_result(type(first)().join(self._pieces))
            self._pieces.clear()
        elif self._is_over and self._error is not None:
            waiting.set_exception(self._error)
        elif self._is_over:
            waiting.set_result(None)
