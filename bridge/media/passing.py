"""Opus that is passed on as it came: packets of one peer become packets of another, and nobody decodes them.

Sound between two WebRTC peers needs no transcoding. Packets are renumbered and re-timed (``OutboundAudio.forward``),
with the gaps and the order that they have, so that the far side recovers and conceals by itself. For whoever else wants
to hear they are decoded beside; while nobody does, ``MuteDecoder`` stands in, and all counting goes on. Listeners that
take Opus get the packets too, each in its turn, and ``PacketClock`` says when each of them sounds.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from bridge.errors import MediaError
from bridge.media.opus import FRAME_TICKS
from bridge.media.rtp import CLOCK_HZ, timestamp_difference

__all__ = [
    "MuteDecoder",
    "PacketClock",
    "PacketReader",
    "PassedPacket",
    "PassedPacketTaker",
    "Placed",
    "packet_samples",
]

_MAX_PACKET_TICKS = CLOCK_HZ * 120 // 1000  # RFC 6716 section 2.1.4
_LEAST_PAUSE = CLOCK_HZ * 60 // 1000  # less, with no packet missing, is a sender whose clock is wrong
_LONGEST_PAUSE = CLOCK_HZ * 600  # more is a sender that began anew
_MAX_LOST = 0x8000


class PassedPacket(Struct, frozen=True, gc=False):
    """One Opus packet, and where it stood in the stream that it came in."""

    payload: bytes
    ssrc: int
    sequence: int
    rtp_timestamp: int
    is_marked: bool


PassedPacketTaker = Callable[[PassedPacket], bool]
"""Takes a packet; False if it cannot be passed on any more."""


PacketReader = Callable[[PassedPacket], None]
"""Gets packets in the order in which they were sent."""


class Placed(NamedTuple):
    """When a packet sounds, in samples at 48 kHz."""

    timestamp: int
    """How many samples came before it, pauses and losses included."""
    samples: int
    """How many samples it has itself."""
    lost: int
    """For how long there was something before it that did not arrive; 0 if nothing is missing."""


class PacketClock:
    """The time of a listener's track, as one peer's packets tell it; ``position`` is the end of the last one."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._ssrc: int | None = None
        self._next_sequence = 0
        self._next_timestamp = 0

    def restart(self) -> None:
        """Notes that what comes next does not follow what came last: it is another answer, and no pause in one."""
        self._ssrc = None

    def place(self, packet: PassedPacket) -> Placed | None:
        """Takes the next packet in order; None for what is no Opus.

        RTP time that passes without packets is a pause, or a loss if sequence numbers are missing (RFC 3550
        section 5.1). A sender that begins anew goes on where the last one was.
        """
        samples = packet_samples(packet.payload, CLOCK_HZ)
        if not samples:
            return None
        gap = lost = 0
        if packet.ssrc == self._ssrc:
            missing = (packet.sequence - self._next_sequence) & 0xFFFF
            gap = timestamp_difference(packet.rtp_timestamp, self._next_timestamp)
            if not 0 <= gap <= _LONGEST_PAUSE or missing >= _MAX_LOST or (gap < _LEAST_PAUSE and not missing):
                gap = 0
            lost = gap if missing else 0
        self._ssrc = packet.ssrc
        self._next_sequence = packet.sequence + 1
        self._next_timestamp = packet.rtp_timestamp + samples
        timestamp = self.position + gap
        self.position = timestamp + samples
        return Placed(timestamp, samples, lost)


def packet_samples(payload: bytes, rate_hz: int) -> int:
    """How long an Opus packet plays (RFC 6716 section 3.2); 0 for what is none."""
    if not payload:
        return 0
    first = payload[0]
    ticks = FRAME_TICKS[first >> 3]
    code = first & 3
    if code == 3:
        ticks *= payload[1] & 0x3F if len(payload) > 1 else 0
    elif code:
        ticks *= 2
    return ticks * rate_hz // CLOCK_HZ if ticks <= _MAX_PACKET_TICKS else 0


class MuteDecoder:
    """A ``Decoder`` that costs nothing: it gives silence as long as the sound would be."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    def decode(self, payload: bytes) -> bytes:
        """Returns silence for one packet; raises ``MediaError`` if it is not Opus."""
        samples = packet_samples(payload, self._rate_hz)
        if not samples:
            raise MediaError("an Opus packet without a length")
        return bytes(2 * samples)

    def has_fec(self, payload: bytes) -> bool:
        """Always False, because nothing has to be recovered."""
        return False

    def recover(self, payload: bytes, samples: int) -> bytes:
        """Returns silence."""
        return bytes(2 * samples)

    def conceal(self, samples: int) -> bytes:
        """Returns silence."""
        return bytes(2 * samples)
