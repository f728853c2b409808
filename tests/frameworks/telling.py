"""What each program of this folder needs, in whichever Python it runs: its inputs, and one JSON line per observation.

A program is run as ``python -m tests.frameworks.NAME INPUTS``, with INPUTS as JSON. Server events are printed as they
came; what the framework makes of them is printed under types that begin with ``sdk.``.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PAUSE", "Told", "inputs", "sound_of"]

_LIMIT_S = 30.0 * float(os.environ.get("TEST_SLOWNESS", "1"))  # as the tests' own, which say how slow the machine is

PAUSE = bytes(2 * 24 * 1000)
"""The silence that ends a turn: PCM16, 24 kHz, mono."""

inputs: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


def sound_of(name: str) -> bytes:
    """The sentence of this name, PCM16, 24 kHz, mono."""
    return Path(inputs["sounds"][name]).read_bytes()


class Told:
    """Everything that was observed and printed, and waits on it that end soon either way."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def tell(self, kind: str, /, **fields: Any) -> None:
        """Prints one observation."""
        self.tell_event({"type": kind, **fields})

    def tell_event(self, event: dict[str, Any]) -> None:
        """Prints one event of the server, as it came."""
        sys.stdout.write(json.dumps(event, default=str) + "\n")
        sys.stdout.flush()
        self.all.append(event)
        self._news.set()

    def of(self, *types: str) -> list[dict[str, Any]]:
        """What was observed of these types, in order."""
        return [event for event in self.all if event["type"] in types]

    async def until(self, kind: str, number: int = 1) -> dict[str, Any]:
        """The first observation of this type, or the ``number``-th."""
        await self.wait(lambda: len(self.of(kind)) >= number, f"{kind} number {number}")
        return self.of(kind)[number - 1]

    async def wait(self, has_come: Callable[[], bool], what: str) -> None:
        """Returns as soon as ``has_come`` says so; asked again at every observation."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                while not has_come():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {what}; came: {[event['type'] for event in self.all][-30:]}") from None
