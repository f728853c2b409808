"""Model time: a Live model hears one stream in real time, and thinks only while it hears.

A caller whose microphone rests, whose packets are lost, or who is muted would stop its time. So silence is sent for
what does not come, and sound that comes too early waits. Silence that late sound proves wrong is made up for: where the
sound that waits is as quiet as silence, it is left out.

For models that take sound at any speed, ``SilenceFiller`` is enough.
"""

from bridge.media.loudness import is_audible
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat

__all__ = ["ModelTime"]

_AHEAD_MS = 200.0  # sound may come early by so much: networks and clients deliver in lumps
_MISSING_AFTER_MS = 300.0  # of nothing: it is not late, it does not come
_BEHIND_MS = 80.0  # silence keeps so far behind real time, so that sound still fits
_MAX_WAITING_MS = 60_000
_FRAME_MS = 20
_MAX_JUDGED = 250  # frames at a time: judging one takes about 10 µs
_SILENCE = {G711_ULAW: b"\xff", G711_ALAW: b"\xd5"}


class ModelTime:
    """Paces one call's sound in ``audio_format``; ``now`` is in seconds, by any clock."""

    def __init__(self, audio_format: AudioFormat, now: float) -> None:
        self.silence_ms = 0.0
        """How much silence was put in, in all."""
        self.dropped_ms = 0.0
        """How much sound was left out because too much waited, in all."""
        self._format = audio_format
        self._began = now
        self._came_at = now
        self._sent_ms = 0.0
        self._debt_ms = 0.0
        self._waiting = bytearray()
        self._judged_bytes = 0
        """How much of what waits, from its beginning on, is known not to be silence."""

    def push(self, sound: bytes, now: float) -> bytes:
        """Takes sound of the caller; returns what is to be sent now."""
        self._came_at = now
        self._waiting += sound
        too_many = len(self._waiting) - self._format.size_of(_MAX_WAITING_MS)
        if too_many > 0:
            too_many -= too_many % self._format.bytes_per_sample
            self._drop(too_many)
            self.dropped_ms += too_many / self._format.bytes_per_ms
        return self._take(now)

    def due(self, now: float) -> bytes:
        """Returns what is to be sent now although nothing has come: sound that has waited, or silence."""
        sound = self._take(now)
        if self._waiting or 1000 * (now - self._came_at) < _MISSING_AFTER_MS:
            return sound
        missing_ms = 1000 * (now - self._began) - self._sent_ms - _BEHIND_MS
        frames = int(missing_ms // _FRAME_MS)
        if frames <= 0:
            return sound
        silence_ms = float(frames * _FRAME_MS)
        self._sent_ms += silence_ms
        self._debt_ms += silence_ms
        self.silence_ms += silence_ms
        size = self._format.size_of(frames * _FRAME_MS)
        return sound + _SILENCE.get(self._format, b"\0") * size

    def _take(self, now: float) -> bytes:
        elapsed_ms = 1000 * (now - self._began)
        allowed_ms = elapsed_ms + _AHEAD_MS - self._sent_ms
        if not self._waiting or allowed_ms <= 0:
            return b""
        if self._sent_ms > elapsed_ms and self._debt_ms:
            self._leave_out()
        size = int(allowed_ms * self._format.bytes_per_ms)
        size = min(size - size % self._format.bytes_per_sample, len(self._waiting))
        sound = bytes(self._waiting[:size])
        self._drop(size)
        self._sent_ms += size / self._format.bytes_per_ms
        if self._sent_ms <= elapsed_ms:
            self._debt_ms = 0.0  # the silence has stood for sound that never came
        return sound

    def _drop(self, size: int) -> None:
        del self._waiting[:size]
        self._judged_bytes = max(0, self._judged_bytes - size)

    def _leave_out(self) -> None:
        """Leaves quiet frames out of what waits, as many as silence was too much. Each frame is judged once."""
        if self._format.bytes_per_sample != 2:
            return
        frame_bytes = self._format.size_of(_FRAME_MS)
        kept = bytearray()
        begin = at = self._judged_bytes
        last = min(len(self._waiting) - frame_bytes, begin + (_MAX_JUDGED - 1) * frame_bytes)
        while at <= last and self._debt_ms >= _FRAME_MS:
            frame = self._waiting[at : at + frame_bytes]
            at += frame_bytes
            if is_audible(bytes(frame)):
                kept += frame
            else:
                self._debt_ms -= _FRAME_MS
        if len(kept) < at - begin:
            self._waiting[begin:at] = kept
        self._judged_bytes = begin + len(kept)
