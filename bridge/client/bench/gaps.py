"""Finds where an answer breaks off and goes on. Takes the time as ``now``, and never waits.

Over a WebSocket sound comes ahead of its time. A player that starts 100 ms after the first sound runs dry if the next
piece comes too late: that is a gap. Over WebRTC packets come as they are played. The decoder makes up for a lost
packet, and a server may send none while nothing is to be heard. There, a gap is a voice that stops without fading, and
is heard again later.
"""

__all__ = ["Gaps"]

_AHEAD_S = 0.1  # players keep this much against jitter
_BROKEN_S = 0.15  # a decoder waits less than this for a reordered packet
_FRAME_S = 0.02


class Gaps:
    """The gaps of one answer."""

    def __init__(self, *, is_paced: bool) -> None:
        self.total_ms = 0.0
        self._is_paced = is_paced
        self._dry_at: float | None = None
        self._loud_at: float | None = None
        self._at = 0.0
        self._is_broken = False

    def begin_response(self) -> None:
        """Begins a response. The silence before it is not a gap."""
        self._dry_at = self._loud_at = None
        self._is_broken = False

    def take_sound(self, sound_s: float, now: float, *, is_audible: bool) -> None:
        """Takes a piece of sound, which has just come."""
        if self._is_paced:
            self._take_played(now, is_audible=is_audible)
        else:
            self._take_ahead(sound_s, now)

    def _take_ahead(self, sound_s: float, now: float) -> None:
        if self._dry_at is None:
            self._dry_at = now + _AHEAD_S
        elif now > self._dry_at:
            self.total_ms += 1000 * (now - self._dry_at)
            self._dry_at = now
        self._dry_at += sound_s

    def _take_played(self, now: float, *, is_audible: bool) -> None:
        was_loud = self._loud_at is not None and self._loud_at == self._at
        if was_loud and now - self._at > _BROKEN_S:
            self._is_broken = True  # this piece may be the decoder's fade-out, so it proves nothing
        elif is_audible:
            if self._is_broken and self._loud_at is not None:
                self.total_ms += 1000 * (now - self._loud_at - _FRAME_S)
            self._is_broken = False
            self._loud_at = now
        self._at = now
