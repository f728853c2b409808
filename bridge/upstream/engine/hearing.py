"""The recognition of one turn, which may begin before the turn has ended.

A pause may be the end of a turn or not. Recognition starts in it all the same, so that the words are there when the
silence has lasted long enough; if speech goes on, what was understood so far is thrown away. Only the last stretch of a
long turn is: the cuts before it depend on nothing that comes later.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from bridge.upstream.engine.whisper import LONGEST_S, Heard
from bridge.wire.audio import SESSION_HZ

__all__ = ["Hearing", "Listen", "cut"]

Listen = Callable[[bytes], "asyncio.Future[Heard]"]
"""Recognises one stretch of PCM16 24 kHz mono."""

_BYTES_PER_S = 2 * SESSION_HZ
_LONGEST_BYTES = LONGEST_S * _BYTES_PER_S
_EARLIEST_CUT_BYTES = 20 * _BYTES_PER_S
_FRAME_SAMPLES = SESSION_HZ // 50


def cut(pcm: bytes) -> list[tuple[int, int]]:
    """Stretches, none too long to be recognised, divided where it is quietest; bytes from and to."""
    stretches = []
    start = 0
    while len(pcm) - start > _LONGEST_BYTES:
        samples = np.frombuffer(pcm, "<i2", (_LONGEST_BYTES - _EARLIEST_CUT_BYTES) // 2, start + _EARLIEST_CUT_BYTES)
        loudness = np.abs(samples.reshape(-1, _FRAME_SAMPLES).astype(np.int32)).sum(axis=1)
        end = start + _EARLIEST_CUT_BYTES + 2 * _FRAME_SAMPLES * int(loudness.argmin())
        stretches.append((start, end))
        start = end
    return [*stretches, (start, len(pcm))]


class Hearing:
    """One turn's words. ``guess`` in a pause, ``resume`` if it was none, ``finish`` at the end."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._settled: dict[tuple[int, int], asyncio.Future[Heard]] = {}
        self._guessed: list[asyncio.Future[Heard]] = []

    def guess(self, pcm: bytes) -> "asyncio.Future[Heard]":
        """Recognises the turn so far, as if it ended here; returns its last stretch."""
        *settled, last = cut(pcm)
        for stretch in settled:
            if stretch not in self._settled:
                self._settled[stretch] = self._listen(pcm[slice(*stretch)])
        self._guessed = [*(self._settled[stretch] for stretch in settled), self._listen(pcm[slice(*last)])]
        return self._guessed[-1]

    def resume(self) -> None:
        """Speech goes on: what was understood of its last stretch counts for nothing."""
        if self._guessed:
            self._guessed.pop().cancel()
            self._guessed = []

    def finish(self, pcm: bytes) -> "list[asyncio.Future[Heard]]":
        """The stretches of the whole turn, in order; what was guessed since speech ended is not recognised again."""
        if not self._guessed:
            self.guess(pcm)
        return self._guessed

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        for future in (*self._settled.values(), *self._guessed):
            future.cancel()
