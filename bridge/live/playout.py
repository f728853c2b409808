"""What a Live client hears: one stream in real time, silence included, and the words that go with its sound.

An answer comes faster than it plays. Here it waits, and 20 ms of it are due at each tick; where there is none, silence
is. Words wait beside the sound that they came with. What is cleared is neither heard nor told.
"""

from collections import deque
from dataclasses import dataclass, field

from bridge.media.pacer import FRAME_MS
from bridge.media.playback import PART_BYTES, Heard, Part, Playback, Played
from bridge.wire.audio import PCM16

__all__ = ["FRAME_BYTES", "LiveFrame", "LivePlayout"]

FRAME_BYTES = PCM16.size_of(FRAME_MS)
_FRAME_SAMPLES = FRAME_BYTES // PCM16.bytes_per_sample
_MAX_WORDS = 4096  # pieces of a transcript that wait for their sound


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """What is due in one tick."""

    sound: bytes
    """20 ms of PCM16 at 24 kHz."""
    words: str
    """The words that are spoken from here on."""
    played: list[Played] = field(default_factory=list)


class LivePlayout:
    """The sound and the words that wait to be heard; PCM16 at 24 kHz, mono."""

    def __init__(self, *, limit_s: int) -> None:
        self.playback = Playback(PCM16.rate_hz)
        self.overflow_ms = 0
        """How much was left out because too much waited, in ms."""
        self.frames = 0
        """How many frames had sound."""
        self._limit_bytes = PCM16.size_of(1000 * limit_s)
        self._queue = bytearray()
        self._queued = self._played = 0  # samples, of all answers
        self._words: deque[tuple[int, str]] = deque(maxlen=_MAX_WORDS)
        self._is_ended = True

    @property
    def is_waiting(self) -> bool:
        """Whether anything is still to be heard."""
        return bool(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be heard."""
        return len(self._queue) + PART_BYTES * self.playback.parts

    def push(self, part: Part, sound: bytes) -> bool:
        """Queues sound; False, and it is counted, if that was too much."""
        if len(self._queue) + len(sound) > self._limit_bytes:
            self.overflow_ms += PCM16.ms_of(len(sound))
            return False
        samples = len(sound) // PCM16.bytes_per_sample
        self._queue += sound
        self._queued += samples
        self._is_ended = False
        self.playback.queue(part, samples)
        return True

    def say(self, words: str) -> None:
        """Notes words that belong to the sound which comes next."""
        self._words.append((self._queued, words))

    def end(self, response_id: str) -> list[Played]:
        """Notes that no more sound of this response will come."""
        self._is_ended = True
        return self.playback.end(response_id)

    def clear(self) -> tuple[str, list[Heard]] | None:
        """Drops what was not heard, and its words; returns what ``Playback.clear`` does."""
        self._queue.clear()
        self._queued = self._played
        while self._words and self._words[-1][0] >= self._played:
            self._words.pop()
        self._is_ended = True
        return self.playback.clear()

    def tick(self) -> LiveFrame:
        """Returns the next 20 ms."""
        sound = b""
        if len(self._queue) >= FRAME_BYTES or self._is_ended:
            sound = bytes(self._queue[:FRAME_BYTES])
            del self._queue[:FRAME_BYTES]
        samples = len(sound) // PCM16.bytes_per_sample
        self._played += samples
        self.frames += bool(sound)
        words = ""
        while self._words and self._is_due(self._words[0][0]):
            words += self._words.popleft()[1]
        return LiveFrame(sound.ljust(FRAME_BYTES, b"\0"), words, self.playback.play(samples) if samples else [])

    def _is_due(self, at: int) -> bool:
        """Words are due as soon as their sound is heard; those without sound, when nothing follows any more."""
        return at < self._played or (self._is_ended and not self._queue)
