"""Opus that is passed on as it came: packets of one peer become packets of another, and nobody decodes them.

Sound between two WebRTC peers needs no transcoding. Packets are renumbered and re-timed (``OutboundAudio.forward``),
with the gaps and the order that they have, so that the far side recovers and conceals by itself. For whoever else wants
to hear they are decoded beside; while nobody does, ``MuteDecoder`` stands in, and all counting goes on.
"""

from collections.abc import Callable
from typing import NamedTuple

from bridge.errors import MediaError
from bridge.media.opus import frame_ms

__all__ = ["MuteDecoder", "PassedPacket", "PassedPacketTaker", "packet_samples"]

_MAX_PACKET_MS = 120  # RFC 6716 section 2.1.4


class PassedPacket(NamedTuple):
    """One Opus packet, and where it stood in the stream that it came in."""

    payload: bytes
    ssrc: int
    sequence: int
    rtp_timestamp: int
    is_marked: bool


PassedPacketTaker = Callable[[PassedPacket], bool]
"""Takes a packet; False where it cannot be sent on any more."""


def packet_samples(payload: bytes, rate_hz: int) -> int:
    """How long an Opus packet plays (RFC 6716 section 3.2); 0 for what is none."""
    if not payload:
        return 0
    code = payload[0] & 3
    if code == 3:
        frames = payload[1] & 0x3F if len(payload) > 1 else 0
    else:
        frames = 2 if code else 1
    total_ms = frames * frame_ms(payload)
    return round(total_ms * rate_hz / 1000) if total_ms <= _MAX_PACKET_MS else 0


class MuteDecoder:
    """Silence as long as the sound would be; a ``Decoder`` that costs nothing."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz

    def decode(self, payload: bytes) -> bytes:
        """Silence for one packet; raises ``MediaError`` where it is not Opus."""
        samples = packet_samples(payload, self._rate_hz)
        if not samples:
            raise MediaError("an Opus packet without a length")
        return bytes(2 * samples)

    def has_fec(self, payload: bytes) -> bool:
        """Nothing has to be recovered."""
        return False

    def recover(self, payload: bytes, samples: int) -> bytes:
        """Silence."""
        return bytes(2 * samples)

    def conceal(self, samples: int) -> bytes:
        """Silence."""
        return bytes(2 * samples)
