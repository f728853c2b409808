"""How long each stage of an engine takes until its first word or sound, and how often it fails."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bridge.errors import BridgeError
from bridge.wire.stats import Stage, StageStats

__all__ = ["StageMeter"]


class _Figures:
    """The figures of one stage in one conversation."""

    __slots__ = ("failed", "first_ms", "slowest_ms", "timed")

    def __init__(self) -> None:
        self.timed = 0
        self.failed = 0
        self.first_ms = 0.0
        self.slowest_ms = 0.0


class StageMeter:
    """Measures the stages of one conversation. ``observe`` gets each time in seconds, by the stage."""

    def __init__(self, observe: Callable[[Stage, float], object] = lambda stage, seconds: None) -> None:
        self._observe = observe
        self._figures: dict[Stage, _Figures] = {}

    def asked(self) -> float:
        """Returns the time at which a stage is asked, for ``first`` or ``follow``."""
        return time.monotonic()

    def first(self, stage: Stage, asked: float) -> None:
        """Notes that the first word or sound has come of what was asked at ``asked``."""
        seconds = time.monotonic() - asked
        figures = self._figures.setdefault(stage, _Figures())
        figures.timed += 1
        figures.first_ms += 1000 * seconds
        figures.slowest_ms = max(figures.slowest_ms, 1000 * seconds)
        self._observe(stage, seconds)

    def failed(self, stage: Stage) -> None:
        """Notes that what was asked has failed."""
        self._figures.setdefault(stage, _Figures()).failed += 1

    def take_result(self, stage: Stage, asked: float, waiting: "asyncio.Future[Any]") -> Any:
        """Returns the result of ``waiting``, which is done: the first of what was asked. Raises its error."""
        try:
            result = waiting.result()
        except BridgeError:
            self.failed(stage)
            raise
        if result is not None:
            self.first(stage, asked)
        return result

    def follow(self, stage: Stage, future: "asyncio.Future[Any]") -> None:
        """Measures from now until ``future`` is done; one that nobody wants any more does not count."""
        asked = self.asked()

        def done(future: "asyncio.Future[Any]") -> None:
            if future.cancelled():
                return
            if future.exception() is None:
                self.first(stage, asked)
            else:
                self.failed(stage)

        future.add_done_callback(done)

    def stats(self) -> tuple[StageStats, ...]:
        """The figures of each stage that was asked."""
        return tuple(
            StageStats(
                name=stage,
                answered=figures.timed,
                failed=figures.failed,
                first_ms=round(figures.first_ms / figures.timed, 1) if figures.timed else None,
                slowest_ms=round(figures.slowest_ms, 1) if figures.timed else None,
            )
            for stage, figures in sorted(self._figures.items())
        )
