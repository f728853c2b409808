"""A thing is in one of a few states, and a table says into which others it may go from each."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from structlog.typing import FilteringBoundLogger

__all__ = ["StateMachine"]

S = TypeVar("S", bound=StrEnum)


class StateMachine(Generic[S]):
    """The ``state`` of a ``thing`` (its name, for the log), which begins with ``first``; ``enter`` alone changes it."""

    __slots__ = ("_log", "_table", "_thing", "state")

    def __init__(self, thing: str, first: S, table: Mapping[S, Collection[S]], *, log: FilteringBoundLogger) -> None:
        self.state = first
        self._thing = thing
        self._table = table
        self._log = log

    def enter(self, state: S) -> None:
        """Goes into ``state``; raises ``RuntimeError`` if the table does not have that: a fault of the program."""
        before = self.state
        if state not in self._table[before]:
            raise RuntimeError(f"A {self._thing} cannot become {state} while it is {before}.")
        self.state = state
        self._log.debug("session.state", thing=self._thing, before=before, after=state)
