"""Waiting for something that events change, and time may."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Bell"]

_POLL_S = 0.05


class Bell:
    """``ring`` at each change; ``until`` looks then, and 20 times a second."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Something is different now."""
        self._rung.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns when ``is_so``."""
        while not is_so():
            self._rung.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._rung.wait()
