"""The streams of a peer, by SSRC: SRTP keeps state for each, so there are few at a time.

Their total has no limit: each hold and transfer of a long call may bring another SSRC, and each is heard. If there are
too many, the one that was silent for longest makes room. A stream that made room never comes back, because SRTP would
take a replay of it for something new.
"""

from collections import Counter

from bridge.media.inbound import InboundAudio

__all__ = ["InboundStreams"]

_MAX_SSRCS = 8  # one sender needs one, and a few for restarts
_SILENT_S = 1.0
_MAX_RETIRED_SSRCS = 1024  # in one call: holds and transfers of a long day


class InboundStreams:
    """The SSRCs that are taken; why another one was not is counted in ``faults``."""

    def __init__(self, inbound: InboundAudio, faults: Counter[str]) -> None:
        self.heard_at: dict[bytes, float] = {}
        """The time when each was heard last, in the order in which they came."""
        self.retired: set[bytes] = set()
        """The SSRCs that had to make room."""
        self._inbound = inbound
        self._faults = faults

    def may_come(self, ssrc: bytes, now: float) -> bool:
        """Whether a stream that is not known yet may be one more.

        If another one has to make room for it, that one must have been silent, or the last one that came must be the
        one that is heard. So a sender that begins again and again is heard each time, and one that sends a packet of
        each stream gets eight.
        """
        if ssrc in self.retired:
            self._faults["retired_ssrc"] += 1
            return False
        if len(self.heard_at) < _MAX_SSRCS:
            return True
        is_followed = int.from_bytes(next(reversed(self.heard_at))) == self._inbound.ssrc
        is_silent = now - self.heard_at[self._oldest()] >= _SILENT_S
        if len(self.retired) >= _MAX_RETIRED_SSRCS or not (is_followed or is_silent):
            self._faults["too_many_ssrcs"] += 1
            return False
        return True

    def admit(self, ssrc: bytes, now: float) -> bytes | None:
        """Takes a new stream, because a packet of it was the peer's.

        Returns the SSRC that had to make room, if one had to.
        """
        evicted = None
        if len(self.heard_at) >= _MAX_SSRCS:
            evicted = self._oldest()
            del self.heard_at[evicted]
            self.retired.add(evicted)
        self.heard_at[ssrc] = now
        return evicted

    def _oldest(self) -> bytes:
        """Returns the stream that was silent for longest, and is not the one that is heard."""
        heard = self._inbound.ssrc
        return min((ssrc for ssrc in self.heard_at if int.from_bytes(ssrc) != heard), key=self.heard_at.__getitem__)
