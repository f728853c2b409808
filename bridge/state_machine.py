"""A thing that is in one of a few states, and a table of the states that it may go into from each."""

import asyncio
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from structlog.typing import FilteringBoundLogger

__all__ = ["StateMachine"]

S = TypeVar("S", bound=StrEnum)


class StateMachine(Generic[S]):
    """The ``state`` of a ``thing`` (its name, for the log), which begins with ``first``; ``enter`` alone changes it.

    Each change is logged at debug under the name of ``event``.
    """

    __slots__ = ("_changed", "_event", "_log", "_table", "_thing", "state")

    def __init__(
        self,
        thing: str,
        first: S,
        table: Mapping[S, Collection[S]],
        *,
        log: FilteringBoundLogger,
        event: str = "session.state",
    ) -> None:
        self.state = first
        self._changed: asyncio.Event | None = None
        self._event = event
        self._thing = thing
        self._table = table
        self._log = log

    def enter(self, state: S) -> None:
        """Goes into ``state``; raises ``RuntimeError`` if the table does not have that: a fault of the program."""
        before = self.state
        if state not in self._table[before]:
            raise RuntimeError(f"A {self._thing} cannot become {state} while it is {before}.")
        self.state = state
        self._log.debug(self._event, thing=self._thing, before=before, after=state)
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    def may_enter(self, state: S) -> bool:
        """Whether the table has a way from the present state into ``state``."""
        return state in self._table[self.state]

    async def until(self, *states: S) -> S:
        """Waits until the thing is in one of ``states``. A state that it only passes through may be missed."""
        while self.state not in states:
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()
        return self.state
