"""State machines: what state a thing is in, to which it may go from there, and one place in which it goes."""

import asyncio
from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

from structlog.typing import FilteringBoundLogger

__all__ = ["StateMachine"]

_S = TypeVar("_S", bound=Enum)


class StateMachine(Generic[_S]):
    """The state of one thing. Each change is logged at debug, under the name of ``event``."""

    def __init__(
        self, initial: _S, transitions: Mapping[_S, frozenset[_S]], *, log: FilteringBoundLogger, event: str
    ) -> None:
        self._current = initial
        self._transitions = transitions
        self._log = log
        self._event = event
        self._changed = asyncio.Event()

    @property
    def current(self) -> _S:
        """The state that it is in."""
        return self._current

    def may_become(self, state: _S) -> bool:
        """Whether the table has a way from the present state to ``state``."""
        return state in self._transitions[self._current]

    def become(self, state: _S, **details: Any) -> None:
        """The one setter; ``details`` are logged. Raises ``RuntimeError`` if the table has no such transition."""
        before = self._current
        if not self.may_become(state):
            raise RuntimeError(f"{self._event}: there is no way from {before.value} to {state.value}.")
        self._current = state
        self._log.debug(self._event, state=state.value, before=before.value, **details)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, *states: _S) -> _S:
        """Waits until it is in one of ``states``; one that it only passes through may be missed."""
        while self._current not in states:
            await self._changed.wait()
        return self._current
