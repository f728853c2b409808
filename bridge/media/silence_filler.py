"""Time that passes only with sound: silence takes the place of sound that does not come, second for second.

Some models know no clock but the sound that they get. A caller who is muted, whose device sends nothing, or whose
connection is broken has to be silence for them. A gap would stop their clock. Sound itself is never held back, as
``ModelTime`` does for models that hear in real time only.
"""

__all__ = ["SilenceFiller"]

_LAG_S = 0.7
"""Sound may be this late. A peer that is silent on purpose (DTX) says so sooner."""


class SilenceFiller:
    """Counts the sound of one stream of ``bytes_per_s``, and says how much silence is missing in it."""

    def __init__(self, now: float, *, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._until = now
        """Up to when there is sound, or silence in its place."""
        self._is_silent = False

    def push(self, size: int, now: float) -> bytes:
        """Notes ``size`` bytes of sound that have come; returns the silence that belongs before them."""
        missing_s = now - size / self._bytes_per_s - self._until
        was_silent, self._is_silent, self._until = self._is_silent, False, now
        return self._silence(missing_s) if was_silent and missing_s > 0 else b""

    def poll(self, now: float) -> bytes:
        """Returns the silence that is due by ``now``, if nothing has come for so long that nothing will."""
        missing_s = now - _LAG_S - self._until
        if missing_s <= 0:
            return b""
        silence = self._silence(missing_s)
        self._until += len(silence) / self._bytes_per_s
        self._is_silent = True
        return silence

    def _silence(self, seconds: float) -> bytes:
        return bytes(2 * int(seconds * self._bytes_per_s / 2))
