"""The last packets as they were sent, for a peer that asks for one again (RFC 4585 section 6.2.1)."""

__all__ = ["SentPackets"]

_KEPT = 64  # 1.28 s of 20 ms frames; what is older would come too late to be heard
_NEVER = float("-inf")
_LEAST_GAP_S = 0.020  # a packet that was just sent again is still under way


class SentPackets:
    """A ring of encrypted packets. They are sent again as they were, so that no key stream is used twice."""

    def __init__(self) -> None:
        self.resent = 0
        self._ring: list[tuple[int, bytes]] = [(-1, b"")] * _KEPT
        self._resent_at = [_NEVER] * _KEPT

    def keep(self, sequence: int, datagram: bytes) -> None:
        """Remembers a packet in the place of the one 64 before."""
        place = sequence % _KEPT
        self._ring[place] = (sequence, datagram)
        self._resent_at[place] = _NEVER

    def again(self, sequences: list[int], now: float, *, round_trip_s: float = 0.0) -> list[bytes]:
        """Returns the packets that are still there, none of them twice within a round trip."""
        found = []
        for sequence in sequences[:_KEPT]:
            place = sequence % _KEPT
            kept, datagram = self._ring[place]
            if kept == sequence and now - self._resent_at[place] >= max(_LEAST_GAP_S, round_trip_s):
                self._resent_at[place] = now
                found.append(datagram)
        self.resent += len(found)
        return found
