"""The newest sound of all streams of a session, for those whose connection broke; small pieces stay together."""

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from bridge.wire.codecs.codec import SoundWriter
from bridge.wire.message import EncodedMessage

__all__ = ["KeptSound", "KeptSounds"]

_MAX_SOUNDS = 20_000  # those of ten seconds in 40 streams; packets that were lost have no bytes
_RUN_S = 0.5  # for so long a run goes on; what is too old goes a run at a time
_RUN_PARTS = 16  # of what may be kept, in time, bytes and number: a run has no more than one of them
_RUN_BYTES = 65_536
_LARGE_BYTES = 2048  # larger pieces are kept as they are, because others refer to them as well
_ROW = 6
_SILENCE = bytes(48_000)  # a second of PCM16 without any sound


class KeptSound(NamedTuple):
    """One sound event of one stream."""

    stream: str
    """The prefix of its ids."""
    number: int
    behind: int
    """The number of the control event before it."""
    writer: SoundWriter
    timestamp: int
    sound: bytes
    audio_ms: int

    @property
    def message(self) -> EncodedMessage:
        """The event as its listeners had it."""
        return self.writer.encode_sound(self.number, self.timestamp, self.sound, self.audio_ms)


class _Run:
    """Sound events of one stream that follow each other, and were written alike.

    An object for each event would take a quarter as much memory again as its sound.
    """

    def __init__(self, stream: str, first: int, writer: SoundWriter, now: float, open_until: float) -> None:
        self.stream = stream
        self.first = first
        """The number of the first event."""
        self.next = first
        """The number of the event that may be added next."""
        self.writer = writer
        self.newest_at = now
        self.open_until = open_until
        """The time until which events may be added."""
        self.size = 0
        """How many bytes of sound are kept."""
        self._pieces: list[bytes] = []
        self._rows = array("q")  # of each event _ROW numbers: see ``add``

    def add(self, sound: bytes, timestamp: int, silent_bytes: int, audio_ms: int, behind: int, place: int) -> None:
        """Adds an event; digital silence has no sound and is known by its length alone."""
        if sound:
            self._pieces.append(sound)
            self.size += len(sound)
        self._rows.extend((self.size, timestamp, silent_bytes, audio_ms, behind, place))
        self.next += 1

    def join(self) -> bytes:
        """Makes one piece of all sound, which takes less room, and returns it."""
        sound = b"".join(self._pieces)  # of one piece, that piece itself
        self._pieces = [sound]
        return sound

    @property
    def count(self) -> int:
        """The number of events."""
        return self.next - self.first

    def behind(self, index: int) -> int:
        """The number of the control event before one of the events."""
        return self._rows[index * _ROW + 4]

    def place(self, index: int) -> int:
        """The number of sound events of all streams that came before one of the events."""
        return self._rows[index * _ROW + 5]

    def event(self, index: int) -> KeptSound:
        """Returns one of the events."""
        at = index * _ROW
        end, timestamp, silent_bytes, audio_ms, behind, _ = self._rows[at : at + _ROW]
        begin = self._rows[at - _ROW] if index else 0
        sound = _SILENCE[:silent_bytes] if silent_bytes else self.join()[begin:end]
        return KeptSound(self.stream, self.first + index, behind, self.writer, timestamp, sound, audio_ms)


class KeptSounds:
    """The newest sound events of all streams, within limits in time, bytes and number.

    Every event has a place: the number of sound events of all streams that came before it.
    """

    def __init__(self, *, max_bytes: int, max_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = 0
        """How many bytes of sound are kept."""
        self.gone = 0
        """The place from which on all sound is kept."""
        self._clock = clock
        self._max_s = max_s
        self._max_bytes = max_bytes
        self._run_s = min(_RUN_S, max_s / _RUN_PARTS)
        self._run_bytes = max(1, min(_RUN_BYTES, max_bytes // _RUN_PARTS))
        self._run_sounds = max(1, _MAX_SOUNDS // _RUN_PARTS)
        self._runs: dict[str, deque[_Run]] = {}  # of each stream
        self._open: dict[str, _Run] = {}  # the last one of each stream, which may go on
        self._count = 0
        self._came = 0

    def add(
        self, stream: str, number: int, writer: SoundWriter, timestamp: int, sound: bytes, audio_ms: int, behind: int
    ) -> None:
        """Keeps the sound ``number`` of a stream, which came behind the control event ``behind``."""
        now = self._clock()
        silent_bytes = 0
        if _SILENCE.startswith(sound):  # as of a microphone that is muted: nothing but its length need be kept
            silent_bytes, sound = len(sound), b""
        size = len(sound)
        run = self._open.get(stream)
        if (
            run is None
            or number != run.next
            or run.writer is not writer
            or now >= run.open_until
            or run.size >= self._run_bytes
            or number >= run.first + self._run_sounds
            or size > _LARGE_BYTES
        ):
            run = self._begin_run(stream, number, writer, now)
            if size > _LARGE_BYTES:
                run.open_until = now
        run.newest_at = now
        run.add(sound, timestamp, silent_bytes, audio_ms, behind, self._came)
        self._came += 1
        self._count += 1
        self.size += size
        while self.size > self._max_bytes or self._count > _MAX_SOUNDS:
            self._forget_run(min(self._runs.values(), key=_end_of_first))

    def _begin_run(self, stream: str, number: int, writer: SoundWriter, now: float) -> _Run:
        """Begins a run, and forgets those that are too old."""
        oldest = now - self._max_s
        for runs in tuple(self._runs.values()):
            while runs and runs[0].newest_at < oldest:
                self._forget_run(runs)
        run = self._open[stream] = _Run(stream, number, writer, now, now + self._run_s)
        others = self._runs.get(stream)
        if others is None:
            self._runs[stream] = deque([run])
        else:
            others[-1].join()
            others.append(run)
        return run

    def _forget_run(self, runs: deque[_Run]) -> None:
        """Forgets the first of a stream's runs."""
        run = runs.popleft()
        self._count -= run.count
        self.size -= run.size
        self.gone = max(self.gone, run.place(run.count - 1) + 1)
        if not runs:
            del self._runs[run.stream], self._open[run.stream]

    def _all_runs(self) -> Iterator[_Run]:
        return chain.from_iterable(self._runs.values())

    def place_of(self, stream: str, number: int) -> tuple[int, int] | None:
        """Returns the control event before a sound event, and the place after it; None if it is not kept."""
        for run in self._runs.get(stream, ()):
            index = number - run.first
            if 0 <= index < run.count:
                return run.behind(index), run.place(index) + 1
        return None

    def count_before(self, number: int) -> int:
        """Returns the place of the first sound that came behind the control event ``number``, or else ``gone``."""
        runs = self._all_runs()
        places = [run.place(index) + 1 for run in runs for index in range(run.count) if run.behind(index) < number]
        return max(places, default=self.gone)

    def since(self, place: int) -> Iterator[KeptSound]:
        """All sound from a place on that is still kept, in order."""
        rows = [(run.place(index), run, index) for run in self._all_runs() for index in range(run.count)]
        for _, run, index in sorted((row for row in rows if row[0] >= place), key=itemgetter(0)):
            yield run.event(index)

    def clear(self) -> None:
        """Forgets everything."""
        self.gone = self._came
        self._runs.clear()
        self._open.clear()
        self.size = self._count = 0


def _end_of_first(runs: deque[_Run]) -> int:
    """Returns the place of the last event in the first of a stream's runs."""
    return runs[0].place(runs[0].count - 1)
