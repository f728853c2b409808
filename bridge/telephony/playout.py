"""Sends sound to a carrier's buffer a little ahead of its time, and knows what was heard.

Sound goes out in whole frames of 20 ms, up to the carrier's lead ahead of the moment at which it will be played. A mark
follows every 100 ms, and after the last piece. An echoed mark is the truth about what was heard. Between two marks the
clock tells how much of the next piece may have been played, and never more than all of it. If a carrier has no marks,
the clock alone tells it. If it has no buffer either, it gets one frame a tick, and plays it then.
"""

from collections import deque
from dataclasses import dataclass

from bridge.media.pacer import FRAME_MS
from bridge.media.playback import PART_BYTES, Heard, Part, Playback, Played
from bridge.telephony.dialect import Traits
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat

__all__ = ["CarrierPlayout", "Piece", "silent_frame"]

_OVERDUE_S = 5.0  # a mark that is this late will not come: some clones send none
_SILENT_BYTE = {G711_ULAW: b"\xff", G711_ALAW: b"\xd5"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole frames to be sent, and the mark after them; None if no mark follows them."""

    sound: bytes
    mark: str | None


@dataclass(frozen=True, slots=True)
class _Sent:
    piece: Piece
    samples: int
    """The number of samples that are sound. Silence fills the rest of the last frame."""
    due: float
    """The time at which its last sample is played, as far as the bridge can tell."""


def silent_frame(audio_format: AudioFormat) -> bytes:
    """Returns 20 ms of silence."""
    return _SILENT_BYTE.get(audio_format, b"\0") * audio_format.size_of(FRAME_MS)


class CarrierPlayout:
    """The sound that one carrier is going to play.

    ``push`` takes sound at any speed, ``tick`` is called every 20 ms, and ``played`` at each mark that the carrier
    echoes.
    """

    def __init__(self, audio_format: AudioFormat, traits: Traits, *, limit_s: int) -> None:
        self.playback = Playback(audio_format.rate_hz)
        self.frames = 0
        self.late_ms = 0
        """How long the carrier had nothing to play although there was sound for it, in ms."""
        self.overflow_ms = 0
        self._format = audio_format
        self.traits = traits
        self._frame_bytes = audio_format.size_of(FRAME_MS)
        self._piece_frames = max(1, min(traits.piece_ms // FRAME_MS, traits.max_message_bytes // self._frame_bytes))
        self._least_bytes = max(self._frame_bytes, audio_format.size_of(traits.min_piece_ms))
        self._overdue_s = _OVERDUE_S if traits.has_marks else 0.0
        self._silence = silent_frame(audio_format)
        self._limit_bytes = audio_format.size_of(1000 * limit_s)
        self._queue = bytearray()
        self._is_flushing = False
        self._has_tail_due = False
        self._unmarked_ms = 0  # how much sound was sent after the last mark
        self._sent: deque[_Sent] = deque()
        self._number = 0
        self._empty_at = 0.0  # when the carrier will have played everything
        self._head_began = 0.0  # when it began to play the first piece that is not confirmed
        self._was_waiting = False

    def push(self, part: Part, sound: bytes) -> bool:
        """Queues sound; returns False, and counts the sound in ``overflow_ms``, if it goes over the limit."""
        if len(self._queue) + len(sound) > self._limit_bytes:
            self.overflow_ms += self._format.ms_of(len(sound))
            return False
        if self._is_flushing and not self._queue:  # the answer before was sent completely
            self._is_flushing = False
        self._queue += sound
        self._has_tail_due = self.traits.tail_ms > 0
        self.playback.queue(part, len(sound) // self._format.bytes_per_sample)
        return True

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of memory the sound takes that is still to be sent."""
        return len(self._queue) + PART_BYTES * self.playback.parts

    def end(self, response_id: str) -> list[Played]:
        """Notes that no more sound of this response will come. Its unfinished last frame is filled up with silence."""
        self._is_flushing = True
        return self.playback.end(response_id)

    def tick(self, now: float) -> tuple[list[Piece], list[Played]]:
        """Returns what is to be sent now, and what counts as heard because the carrier does not say so."""
        if not self.traits.has_marks and not self.traits.lead_ms:
            return self._frame_now()
        events: list[Played] = []
        while self._sent and now > self._sent[0].due + self._overdue_s:
            events += self._confirm(self._sent[0].due)
        if self._was_waiting and now > self._empty_at:
            self.late_ms += round(1000 * (now - self._empty_at))
        pieces = []
        while self._empty_at - now < self.traits.lead_ms / 1000 and (taken := self._take(now)):
            pieces.append(taken)
        self._was_waiting = len(self._queue) >= self._least_bytes
        return pieces, events

    def played(self, mark: str, now: float) -> list[Played]:
        """Takes the carrier's echo of a mark, and returns what was heard. An unknown mark says nothing."""
        events: list[Played] = []
        if any(sent.piece.mark == mark for sent in self._sent if mark):
            while True:
                is_last = self._sent[0].piece.mark == mark
                events += self._confirm(now)
                if is_last:
                    break
        return events

    def clear(self, now: float) -> tuple[str, list[Heard]] | None:
        """Throws away what is queued here.

        Returns what was cut and how much of it was heard; None if nothing was left.
        """
        left = max(0, int((now - self._head_began) * self._format.rate_hz))
        for sent in self._sent:  # as far as the clock says, and no further than to the next mark
            self.playback.play(min(left, sent.samples))
            left -= sent.samples
            if left <= 0 or sent.piece.mark is not None:
                break
        self._forget()
        return self.playback.clear()

    def take_back(self) -> None:
        """Queues again what the carrier had not confirmed, because its buffer is lost with its connection."""
        bytes_per_sample = self._format.bytes_per_sample
        unheard = b"".join(sent.piece.sound[: sent.samples * bytes_per_sample] for sent in self._sent)
        waiting = unheard + bytes(self._queue)
        was_flushing = self._is_flushing
        self._forget()
        self._queue += waiting
        self._is_flushing = was_flushing
        self._has_tail_due = self.traits.tail_ms > 0 and bool(waiting)

    @property
    def queued_ms(self) -> int:
        """How much sound the caller has still to hear, in ms."""
        return self.playback.queued_ms

    @property
    def silence(self) -> bytes:
        """A frame of silence, in the carrier's format."""
        return self._silence

    def _forget(self) -> None:
        self._queue.clear()
        self._sent.clear()
        self._is_flushing = self._was_waiting = self._has_tail_due = False
        self._unmarked_ms = 0
        self._empty_at = 0.0

    def _take(self, now: float) -> Piece | None:
        """Takes the next piece, and notes the time of its end.

        A first frame goes alone, so that its mark is soon back.
        """
        is_first = now >= self._empty_at
        frames = 1 if is_first and not self.traits.min_piece_ms else self._piece_frames
        if len(self._queue) < self._least_bytes and not self._is_flushing:
            return None
        sound, samples = self._cut(frames)
        if not sound:
            if not (self._has_tail_due and self._is_flushing):
                return None
            sound = self._silence * (self.traits.tail_ms // FRAME_MS)
            self._has_tail_due = False
        if is_first:
            self._empty_at = now
        if not self._sent:
            self._head_began = now
        self._empty_at += len(sound) / self._format.bytes_per_sample / self._format.rate_hz
        piece = Piece(sound, self._mark_behind(sound, is_first=is_first))
        self._sent.append(_Sent(piece, samples, self._empty_at))
        return piece

    def _mark_behind(self, sound: bytes, *, is_first: bool) -> str | None:
        self._unmarked_ms += self._format.ms_of(len(sound))
        is_due = is_first or self._unmarked_ms >= self.traits.mark_ms or len(self._queue) < self._frame_bytes
        if not (is_due and self.traits.has_marks):
            return None
        self._unmarked_ms = 0
        self._number += 1
        return f"b{self._number}"

    def _frame_now(self) -> tuple[list[Piece], list[Played]]:
        sound, samples = self._cut(1)
        events = self.playback.play(samples)
        if not sound and not self.traits.wants_silence:
            return [], events
        return [Piece(sound or self._silence, None)], events

    def _cut(self, frames: int) -> tuple[bytes, int]:
        """Takes up to so many whole frames from the queue.

        Returns them, and the number of samples of sound in them. The last frame is filled up if no more sound comes.
        """
        size = min(frames * self._frame_bytes, len(self._queue))
        rest = size % self._frame_bytes
        if rest and not (self._is_flushing and size == len(self._queue)):
            size -= rest
            rest = 0
        sound = bytes(self._queue[:size])
        del self._queue[:size]
        samples = size // self._format.bytes_per_sample
        if rest:
            sound += self._silence[rest:]
        self.frames += len(sound) // self._frame_bytes
        return sound, samples

    def _confirm(self, now: float) -> list[Played]:
        self._head_began = now
        return self.playback.play(self._sent.popleft().samples)
