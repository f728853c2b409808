"""A call's sound for players: one stream of Opus packets for any number of receivers, made once.

The caller's sound is live and goes on as it comes. An answer comes faster than it plays, and is paced: it begins when
the caller's leg begins to play it, and is cut where it was cut for the caller. Whoever gives the packets to receivers
only renumbers and encrypts them for each (``OutboundAudio.forward``).
"""

from collections import deque

import numpy as np

from bridge.media.opus import FRAME_MS, Encoder
from bridge.media.passing import PassedPacket, packet_samples
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32

__all__ = ["AnswerGate", "LiveTrack", "MixedTrack", "PacedTrack"]

_FRAME_TICKS = CLOCK_HZ * FRAME_MS // 1000
_HELD_TICKS = 1000 // FRAME_MS  # an answer that no leg begins to play is played all the same
_PAUSE_TICKS = CLOCK_HZ // 4  # live sound that is so much behind the clock was silent meanwhile
_MAX_WAITING_MS = 600_000  # of an answer, or of an owner's sound, as Opus
_MAX_MIXED_MS = 120_000  # of an answer, as samples
_MAX_AHEAD_MS, _PREROLL_MS = 500, 40  # of live sound that is mixed
_TAIL_FRAMES = 10


class AnswerGate:
    """Whether an answer may be heard yet: from the moment at which the caller's leg plays it."""

    def __init__(self) -> None:
        self._is_open = self._is_ending = False
        self._held = 0

    def begin(self) -> None:
        """Notes that the leg has begun to play the answer."""
        self._is_open, self._is_ending = True, False

    def end(self) -> None:
        """Notes that the leg has played all of the answer; what is left here may be heard as well."""
        self._is_ending = True

    def close(self) -> None:
        """Closes the gate, because the answer was cut."""
        self._is_open, self._held = False, 0

    def lets_through(self, *, is_waiting: bool) -> bool:
        """Asked at every tick, with whether anything waits; what has waited for a second is let through anyway."""
        if not is_waiting:
            self._held = 0
            self._is_open = self._is_open and not self._is_ending
            return False
        if not self._is_open:
            self._held += 1
            if self._held > _HELD_TICKS:
                self.begin()
        return self._is_open


class _Numbered:
    """The numbers of one stream's packets."""

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self._sequence = 0

    def next(self, payload: bytes, rtp_timestamp: int, *, is_marked: bool, lost: int = 0) -> PassedPacket:
        """Numbers a packet; the numbers of ``lost`` packets before it are left out."""
        sequence = (self._sequence + lost) & 0xFFFF
        self._sequence = sequence + 1
        return PassedPacket(payload, self._ssrc, sequence, rtp_timestamp & MAX_UINT32, is_marked)


class LiveTrack:
    """Sound that comes as it is spoken: each packet goes on at once, and what was lost stays lost."""

    def __init__(self, ssrc: int, *, tells_pauses: bool) -> None:
        """``tells_pauses``: timestamps go on while the caller is silent, as those of RTP do; else the clock tells."""
        self._numbers = _Numbered(ssrc)
        self._tells_pauses = tells_pauses
        self._shift = 0
        self._next: int | None = None  # timestamp behind the last packet
        self._began = 0.0
        self._has_lost = False

    def push(self, payload: bytes, timestamp: int, now: float) -> list[PassedPacket]:
        """A packet, ``timestamp`` samples at 48 kHz after the track's beginning; returns it as it goes on."""
        samples = packet_samples(payload, CLOCK_HZ)
        if not samples:
            return []
        is_first = self._next is None
        if self._next is None:
            self._next, self._began, self._shift = timestamp, now, -timestamp
        missing = max(0, timestamp - self._next)
        behind = int((now - self._began) * CLOCK_HZ) - (timestamp + self._shift)
        is_after_pause = behind > _PAUSE_TICKS and not self._tells_pauses
        if is_after_pause:
            self._shift += behind
        self._next = timestamp + samples
        lost = 0 if is_after_pause else missing // _FRAME_TICKS if self._has_lost else 0
        self._has_lost = False
        is_marked = is_first or is_after_pause or (missing > 0 and not lost)
        return [self._numbers.next(payload, timestamp + self._shift, is_marked=is_marked, lost=lost)]

    def lose(self) -> None:
        """Notes that the time before the next packet is a loss, and no pause."""
        self._has_lost = True


class PacedTrack:
    """Sound that comes faster than it plays: packets of Opus wait here, and one is due every 20 ms."""

    def __init__(self, ssrc: int) -> None:
        self.dropped_ms = 0
        """How much was left out because too much waited, in milliseconds."""
        self._numbers = _Numbered(ssrc)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._queued_ms = 0
        self._clock = 0
        self._free_at = 0  # on the clock: the end of the last packet

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to be heard."""
        return bool(self._queue)

    def push(self, payload: bytes) -> None:
        """Adds a packet."""
        samples = packet_samples(payload, CLOCK_HZ)
        audio_ms = samples * 1000 // CLOCK_HZ
        if self._queued_ms + audio_ms > _MAX_WAITING_MS:
            self.dropped_ms += audio_ms
        elif samples:
            self._queue.append((payload, samples))
            self._queued_ms += audio_ms

    def cut(self) -> None:
        """Drops what waits."""
        self._queue.clear()
        self._queued_ms = 0

    def skip(self, ticks: int) -> None:
        """Lets time pass unheard: the clock was late by more than can be caught up."""
        self._clock += ticks * _FRAME_TICKS

    def tick(self, *, may_play: bool = True) -> list[PassedPacket]:
        """Lets 20 ms pass; returns the packets that are due."""
        self._clock += _FRAME_TICKS
        due: list[PassedPacket] = []
        while may_play and self._queue and self._free_at <= self._clock:
            payload, samples = self._queue.popleft()
            self._queued_ms -= samples * 1000 // CLOCK_HZ
            is_marked = self._clock - self._free_at >= _FRAME_TICKS
            start = self._clock if is_marked else self._free_at
            due.append(self._numbers.next(payload, start, is_marked=is_marked))
            self._free_at = start + samples
        return due


class MixedTrack:
    """Both sides of a call in one stream, PCM16 mono in, encoded once."""

    def __init__(self, encoder: Encoder, ssrc: int, *, rate_hz: int, is_live: bool) -> None:
        """``is_live``: the caller's sound comes as it is spoken, and is never kept for long."""
        self.dropped_ms = 0
        """How much of answers was left out because too much waited, in milliseconds."""
        self._encoder = encoder
        self._numbers = _Numbered(ssrc)
        self._bytes_per_ms = 2 * rate_hz // 1000
        self._frame_bytes = FRAME_MS * self._bytes_per_ms
        self._caller, self._answer = bytearray(), bytearray()
        self._max_caller_ms = _MAX_AHEAD_MS if is_live else _MAX_MIXED_MS
        self._is_caller_heard = False
        self._clock = 0
        self._tail = 0

    def add_caller_sound(self, pcm: bytes) -> None:
        """Adds sound of the caller; if it is too much, the oldest is left out."""
        caller = self._caller
        caller += pcm
        if len(caller) > self._max_caller_ms * self._bytes_per_ms:
            del caller[: len(caller) - _PREROLL_MS * self._bytes_per_ms]

    def add_answer_sound(self, pcm: bytes) -> None:
        """Adds sound of an answer."""
        if len(self._answer) + len(pcm) > _MAX_MIXED_MS * self._bytes_per_ms:
            self.dropped_ms += len(pcm) // self._bytes_per_ms
        else:
            self._answer += pcm

    @property
    def is_waiting(self) -> bool:
        """Whether something of an answer is still to be heard."""
        return bool(self._answer)

    def cut(self) -> None:
        """Drops what waits of an answer."""
        self._answer.clear()

    def skip(self, ticks: int) -> None:
        """Lets time pass unheard: the clock was late by more than can be caught up."""
        self._clock += ticks * _FRAME_TICKS

    def tick(self, *, may_play: bool = True) -> list[PassedPacket]:
        """Lets 20 ms pass; returns the packet that is due, unless both sides are silent."""
        self._clock += _FRAME_TICKS
        begins = self._tail == 0
        caller, answer = self._next_of_caller(), self._take(self._answer) if may_play else b""
        if caller or answer:
            self._tail = _TAIL_FRAMES
        elif self._tail:
            self._tail -= 1
        else:
            return []
        payload = self._encoder.encode(_mixed(caller, answer, self._frame_bytes))
        return [self._numbers.next(payload, self._clock, is_marked=begins)]

    def _next_of_caller(self) -> bytes:
        """A little is kept back at first, so that a packet that is late leaves no hole."""
        if not self._is_caller_heard:
            self._is_caller_heard = len(self._caller) >= _PREROLL_MS * self._bytes_per_ms
        if not self._is_caller_heard:
            return b""
        frame = self._take(self._caller)
        self._is_caller_heard = bool(frame)
        return frame

    def _take(self, waiting: bytearray) -> bytes:
        frame = bytes(waiting[: self._frame_bytes])
        del waiting[: self._frame_bytes]
        return frame


def _mixed(one: bytes, other: bytes, size: int) -> bytes:
    one, other = one.ljust(size, b"\0") if one else b"", other.ljust(size, b"\0") if other else b""
    if not (one and other):
        return one or other or bytes(size)
    total = np.frombuffer(one, "<i2").astype(np.int32) + np.frombuffer(other, "<i2")
    return bytes(total.clip(-32_768, 32_767).astype("<i2").tobytes())
