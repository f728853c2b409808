"""Waits for a condition that changes with events, and may also change with time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bell"]

_POLL_S = 0.05


class Bell:
    """Wakes those who wait: ``ring`` is called at each change; ``until`` looks then, and 20 times a second."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Notes that something has changed."""
        self._rung.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns as soon as ``is_so`` returns true."""
        while not is_so():
            self._rung.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._rung.wait()
