"""The recognition of one turn, which may begin before the turn has ended.

A pause may be the end of a turn or not. Recognition starts in it all the same, so that the words are there when the
silence has lasted long enough; if speech goes on, what was understood so far is thrown away. Only the last stretch of a
long turn is: the cuts before it depend on nothing that comes later.

Some ears take sound while it is spoken. They get it as it comes, so that what they have understood so far can be told
before the turn ends, and little is left to do at its end. If speech goes on after a pause, they get all of it again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bridge.engine.told_words import ToldWords
from bridge.errors import OverLimit, UpstreamError
from bridge.wire.audio import SESSION_HZ

__all__ = ["LONGEST_S", "HeardTurn", "Hearing", "Listen", "OpenStretch", "StreamedTurn", "cut"]

LONGEST_S = 28
"""The length of one stretch, in seconds; Whisper hears 30 s at most."""

Listen = Callable[[bytes], "asyncio.Future[HeardTurn]"]
"""Recognises one stretch of PCM16 24 kHz mono."""

_BYTES_PER_S = 2 * SESSION_HZ
_LONGEST_BYTES = LONGEST_S * _BYTES_PER_S
_EARLIEST_CUT_BYTES = 20 * _BYTES_PER_S
_FRAME_SAMPLES = SESSION_HZ // 50
_FEED_BYTES = _BYTES_PER_S // 10


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
        self._said = ""
        self._tell: Callable[[str], object] | None = None

    def say(self, delta: str) -> None:
        """Notes further words."""
        self._said += delta
        if self._tell is not None:
            self._tell(self._said)

    def start_again(self) -> None:
        """Forgets the words so far, because the recognition begins anew."""
        self._said = ""

    def follow(self, tell: Callable[[str], object] | None) -> None:
        """From now on ``tell`` gets all words so far whenever more come, and at once if some have; None: nobody."""
        self._tell = tell
        if tell is not None and self._said:
            tell(self._said)


class OpenStretch(StreamedTurn):
    """The recognition of a stretch that is still spoken: ``push`` its sound, and ``end`` it.

    Whoever recognises it reads ``sound`` and waits for ``more``. To cancel it ends that too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sound = bytearray()
        """All of its sound so far, PCM16 24 kHz mono."""
        self.has_ended = False
        """Whether no more sound comes."""
        self.on_break: Callable[[UpstreamError], object] = lambda error: None
        """Called if whoever recognises it cannot go on before it has ended; all of it is then recognised at its end."""
        self._news = asyncio.Event()
        self._on_end: Callable[[], object] = lambda: None

    def push(self, pcm: bytes) -> None:
        """Takes more sound."""
        self.sound += pcm
        self._news.set()

    def end(self) -> None:
        """Notes that no more sound comes."""
        self.has_ended = True
        self._news.set()
        self._on_end()

    def when_ended(self, call: Callable[[], object]) -> None:
        """``call`` is called when it ends, or at once if it has."""
        self._on_end = call
        if self.has_ended:
            call()

    async def more(self) -> None:
        """Waits until more sound has come since this returned last, or it has ended."""
        await self._news.wait()
        self._news.clear()


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

    def __init__(
        self,
        listen: Listen,
        *,
        begin: Callable[[], OpenStretch | None] = lambda: None,
        ask: Callable[["asyncio.Future[HeardTurn]"], object] = lambda asked: None,
        told: ToldWords | None = None,
    ) -> None:
        """``begin`` opens a stretch for ears that take sound while it is spoken; it returns None for all others.

        ``ask`` is told of each recognition when all of its sound is there; ``told`` gets all words of the turn so far
        when more of them are known before a pause.
        """
        self._listen = listen
        self._begin = begin
        self._ask = ask
        self.told = told
        """What was told of the turn's words."""
        self._settled: list[asyncio.Future[HeardTurn]] = []
        self._settled_bytes = 0
        self._last: asyncio.Future[HeardTurn] | None = None
        self._open: OpenStretch | None = None
        self._fed_bytes = 0  # of the turn, those that the open stretch has
        self._reopen()

    def feed(self, pcm: bytes | bytearray) -> None:
        """Gives the turn so far to ears that take sound while it is spoken."""
        stretch = self._open
        if stretch is None or len(pcm) - self._fed_bytes < _FEED_BYTES:
            return
        if len(pcm) - self._settled_bytes > _LONGEST_BYTES:
            stretch = self._divide(pcm)
        if stretch is not None:
            stretch.push(bytes(pcm[self._fed_bytes :]))
            self._fed_bytes = len(pcm)

    def guess(self, pcm: bytes | bytearray) -> "asyncio.Future[HeardTurn]":
        """Recognises the turn so far, as if it ended here; returns its last stretch."""
        stretch = self._open
        if stretch is not None and self._has(stretch, pcm):
            stretch.follow(None)  # what it says from here on counts if the turn ends here
            stretch.push(bytes(pcm[self._fed_bytes :]))
            stretch.end()
            self._open, self._last = None, stretch
            self._ask(stretch)
            return stretch
        self._close()
        self._last = self._asked(bytes(pcm[slice(*self._settle(pcm))]))
        return self._last

    def resume(self) -> None:
        """Notes that speech goes on: what was understood of its last stretch does not count."""
        self._give_up_last()
        if self._open is None:
            self._reopen()

    def finish(self, pcm: bytes) -> "list[asyncio.Future[HeardTurn]]":
        """The stretches of the whole turn, in order; what was guessed since speech ended is not recognised again."""
        last = self._last or self.guess(pcm)
        return [*self._settled, last]

    def cancel(self) -> None:
        """Stops, because nobody wants the words any more."""
        self._give_up_last()
        self._close()
        for future in self._settled:
            future.cancel()

    def _divide(self, pcm: bytes | bytearray) -> OpenStretch | None:
        """Recognises the beginning of a turn that is too long for one stretch, and opens another for the rest."""
        self._close()
        try:
            self._settle(pcm)
        except OverLimit:  # in the next pause there is another chance
            return None
        self._reopen()
        return self._open

    def _asked(self, pcm: bytes) -> "asyncio.Future[HeardTurn]":
        future = self._listen(pcm)
        self._ask(future)
        return future

    def _settle(self, pcm: bytes | bytearray) -> tuple[int, int]:
        """Recognises all stretches but the last, which it returns."""
        *settled, last = cut(pcm, self._settled_bytes)
        for start, end in settled:
            self._settled.append(self._asked(bytes(pcm[start:end])))
            self._settled_bytes = end
        return last

    def _has(self, stretch: OpenStretch, pcm: bytes | bytearray) -> bool:
        """Whether what the open stretch has been given is the beginning of the last stretch, but for a moment."""
        is_short = len(pcm) - self._settled_bytes <= _LONGEST_BYTES
        return is_short and self._fed_bytes <= len(pcm) + _FEED_BYTES and not stretch.done()

    def _reopen(self) -> None:
        self._open = stretch = self._begin()
        self._fed_bytes = self._settled_bytes
        if stretch is not None:
            stretch.follow(self._grown)

    def _close(self) -> None:
        if self._open is not None:
            self._open.cancel()
            self._open = None

    def _give_up_last(self) -> None:
        if self._last is not None:
            self._last.cancel()
            self._last = None

    def _grown(self, said: str) -> None:
        """Tells the words so far, if those of all stretches before are known."""
        if self.told is not None and all(
            future.done() and not future.cancelled() and future.exception() is None for future in self._settled
        ):
            words = [*(future.result().text for future in self._settled), said.strip()]
            self.told.tell_early(" ".join(filter(None, words)))
