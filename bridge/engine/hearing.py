"""The recognition of one turn, which may begin before the turn has ended.

A pause may be the end of a turn or not. Recognition starts in it all the same, so that the words are there when the
silence has lasted long enough; if speech goes on, what was understood so far is thrown away. Only the last stretch of a
long turn is: the cuts before it depend on nothing that comes later.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bridge.wire.audio import SESSION_HZ

__all__ = ["LONGEST_S", "HeardTurn", "Hearing", "Listen", "StreamedTurn", "cut"]

LONGEST_S = 28
"""The length of one stretch, in seconds; Whisper hears 30 s at most."""

Listen = Callable[[bytes], "asyncio.Future[HeardTurn]"]
"""Recognises one stretch of PCM16 24 kHz mono."""

_BYTES_PER_S = 2 * SESSION_HZ
_LONGEST_BYTES = LONGEST_S * _BYTES_PER_S
_EARLIEST_CUT_BYTES = 20 * _BYTES_PER_S
_FRAME_SAMPLES = SESSION_HZ // 50


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """What was understood of one stretch of sound."""

    text: str
    """The words; empty if nobody spoke or nothing was understood."""
    is_speech: bool
    """Whether somebody spoke."""


class StreamedTurn(asyncio.Future[HeardTurn]):
    """A recognition whose words come piece by piece; its result has them all."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._deltas: list[str] = []
        self._has_words = False
        self._tell: Callable[[str], object] | None = None

    def say(self, delta: str) -> None:
        """Notes further words."""
        self._has_words = True
        if self._tell is not None:
            self._tell(delta)
        else:
            self._deltas.append(delta)

    @property
    def has_words(self) -> bool:
        """Whether words have come."""
        return self._has_words

    def follow(self, tell: Callable[[str], object]) -> None:
        """From now on ``tell`` gets the words as they come, and at once those that have come already."""
        self._tell = tell
        deltas, self._deltas = self._deltas, []
        for delta in deltas:
            tell(delta)


def cut(pcm: bytes | bytearray, start: int = 0) -> list[tuple[int, int]]:
    """Stretches from ``start`` on, none too long to be recognised, divided where it is quietest; bytes from and to."""
    stretches = []
    while len(pcm) - start > _LONGEST_BYTES:
        samples = np.frombuffer(pcm, "<i2", (_LONGEST_BYTES - _EARLIEST_CUT_BYTES) // 2, start + _EARLIEST_CUT_BYTES)
        loudness = np.abs(samples.reshape(-1, _FRAME_SAMPLES).astype(np.int32)).sum(axis=1)
        end = start + _EARLIEST_CUT_BYTES + 2 * _FRAME_SAMPLES * int(loudness.argmin())
        stretches.append((start, end))
        start = end
    return [*stretches, (start, len(pcm))]


class Hearing:
    """The recognition of one turn: ``guess`` in a pause, ``resume`` if speech goes on, ``finish`` at the end."""

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._settled: list[asyncio.Future[HeardTurn]] = []
        self._settled_bytes = 0
        self._last: asyncio.Future[HeardTurn] | None = None

    def guess(self, pcm: bytes | bytearray) -> "asyncio.Future[HeardTurn]":
        """Recognises the turn so far, as if it ended here; returns its last stretch."""
        *settled, last = cut(pcm, self._settled_bytes)
        for start, end in settled:
            self._settled.append(self._listen(bytes(pcm[start:end])))
            self._settled_bytes = end
        self._last = self._listen(bytes(pcm[slice(*last)]))
        return self._last

    def resume(self) -> None:
        """Notes that speech goes on: what was understood of its last stretch does not count."""
        if self._last is not None:
            self._last.cancel()
            self._last = None

    def finish(self, pcm: bytes) -> "list[asyncio.Future[HeardTurn]]":
        """The stretches of the whole turn, in order; what was guessed since speech ended is not recognised again."""
        last = self._last or self.guess(pcm)
        return [*self._settled, last]

    def cancel(self) -> None:
        """Stops, because nobody wants the words any more."""
        self.resume()
        for future in self._settled:
            future.cancel()
