"""What a sender's RTP clock is worth: the rate that it really runs at, and how far the sound is behind real time.

RTP time tells where a packet's sound belongs, to the sample, but only if the sender counts as RFC 7587 says. Some
gateways step 160, 320 or 480 ticks for a packet of 20 ms, others 1920, or count at random. A step that comes again and
again, and that real time does not bear out, is the sender's own way to count 20 ms. What neither rule explains is held
against real time: the sound that was given, less the time that passed.
"""

from bridge.media.rtp import CLOCK_HZ

__all__ = ["SenderTime"]

_ALIKE = 3  # so many equal steps in a row are the sender's way to count
_LEAST_RATE, _MOST_RATE = 8, 4  # from an eighth of the clock's rate to four times as fast
_FORGOTTEN_S = 10.0  # what real time and sound differ by is forgotten within about so long
_DRIFT = 0.002  # of real time: more than any oscillator is off


class SenderTime:
    """The clock of one stream's sender. Spans of time are in clock ticks at 48 kHz, ``now`` is in seconds."""

    def __init__(self) -> None:
        self.step: tuple[int, int] | None = None
        """How much the sender's clock steps, and for how much sound; None while it counts as it should."""
        self._seen = (0, 0)
        self._seen_times = 0
        self._seen_sequence = 0
        self._behind = 0
        self._at = 0.0
        self._sounded = 0

    def restart(self, now: float, sounded: int) -> None:
        """Begins another timeline, perhaps of another sender: nothing is known of its clock."""
        self.step = None
        self._seen_times = 0
        self._behind, self._at, self._sounded = 0, now, sounded

    def span(self, claimed: int) -> int:
        """How long it really is when the sender's clock moves by ``claimed``."""
        return claimed if self.step is None else claimed * self.step[1] // self.step[0]

    def claim(self, span: int) -> int:
        """How much the sender's clock moves in ``span``."""
        return span if self.step is None else span * self.step[0] // self.step[1]

    def learn(self, step: int, sound: int, sequence: int, behind: int) -> None:
        """Packet ``sequence`` is ``step`` later than the one before it, which held ``sound``; no packet is between.

        A longer step is a pause if the sound is that far behind real time.
        """
        if not sound <= step * _LEAST_RATE or step > sound * _MOST_RATE or 2 * behind > step - sound > 0:
            self._seen_times = 0
            return
        is_next = sequence == (self._seen_sequence + 1) & 0xFFFF and (step, sound) == self._seen
        self._seen_times = self._seen_times + 1 if is_next and self._seen_times else 1
        self._seen, self._seen_sequence = (step, sound), sequence
        if self._seen_times >= _ALIKE:
            self.step = None if step == sound else (step, sound)

    def behind(self, now: float, sounded: int) -> int:
        """How far the sound is behind real time when ``sounded`` has been given in all; negative if it is ahead.

        A packet that is in time finds 0.
        """
        return int(self._behind + (now - self._at) * CLOCK_HZ) - (sounded - self._sounded)

    def settle(self, now: float, sounded: int, *, forgets: bool = True) -> None:
        """Once in a while, before a packet in order: clocks drift, and the first packet may have been late.

        What the two differ by is slowly forgotten, unless the reason is known.
        """
        behind = self.behind(now, sounded)
        if forgets:
            elapsed = max(0.0, now - self._at)
            kept = max(0, int(abs(behind) * max(0.0, 1 - elapsed / _FORGOTTEN_S) - elapsed * _DRIFT * CLOCK_HZ))
            behind = kept if behind > 0 else -kept
        self._behind, self._at, self._sounded = behind, now, sounded
