"""Waits for a condition that changes with events, and may also change with time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["ChangeSignal"]

_POLL_S = 0.05


class ChangeSignal:
    """Wakes those who wait: ``notify`` is called at each change; ``until`` looks then, and 20 times a second."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Notes that something has changed."""
        self._changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns as soon as ``is_so`` returns true."""
        while not is_so():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._changed.wait()
