"""RTCP packets (RFC 3550 section 6, RFC 4585): what a peer says of the sound both ways, and what we say.

A stranger's packet is read as far as it makes sense; of what it says only that matters which is about the call's one
stream each way. A BYE ends an SSRC and not the call, so nothing is made of it.
"""

import struct
from dataclasses import dataclass, field

__all__ = ["Received", "ReportBlock", "SenderInfo", "parse_rtcp", "write_report"]

_SR, _RR, _SDES, _BYE, _TRANSPORT_FEEDBACK = 200, 201, 202, 203, 205
_NACK = 1  # the feedback message type of a generic NACK (RFC 4585 section 6.2.1)
_CNAME = 1
_MAX_MISSING = 64  # about what a packet is read for; nobody keeps more
_HEADER = struct.Struct(">BBH")
_SENDER = struct.Struct(">LQLLL")
_BLOCK = struct.Struct(">LLLLLL")
_VERSION = 0x80


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one side received of the other's stream (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """The share of packets lost since the last report, in 256ths."""
    lost: int
    """The packets lost since the start; negative if duplicates outnumber losses."""
    highest_sequence: int
    """The highest sequence number, with its cycles in the upper 16 bits."""
    jitter: int
    """The interarrival jitter, in clock ticks."""
    last_report: int
    """The middle 32 bits of the NTP time in the last sender report that came; 0 for none."""
    since_last_report: int
    """How long ago that report came, in units of 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What one side has sent."""

    ntp: int
    """Seconds in the upper 32 bits, their fraction in the lower; of any clock that goes on steadily."""
    rtp_timestamp: int
    """The same instant in the stream's own time."""
    packets: int
    payload_bytes: int


@dataclass(slots=True)
class Received:
    """What a compound packet says."""

    blocks: list[ReportBlock] = field(default_factory=list)
    sender_reports: list[tuple[int, int]] = field(default_factory=list)
    """SSRC and the middle 32 bits of its NTP time."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """SSRC and sequence number of each packet that is asked for again."""


def parse_rtcp(packet: bytes) -> Received | None:
    """Parses a compound packet; None if its lengths contradict one another."""
    received = Received()
    at, end = 0, len(packet)
    while at < end:
        if end - at < 8:
            return None
        first, kind, words = _HEADER.unpack_from(packet, at)
        following = at + 4 + 4 * words
        if first & 0xC0 != _VERSION or words == 0 or following > end:
            return None
        if kind == _SR or kind == _RR:
            if not _read_report(packet, at, following, received):
                return None
        elif kind == _TRANSPORT_FEEDBACK and first & 0x1F == _NACK:
            _read_nack(packet, at, following, received)
        at = following
    return received


def _read_report(packet: bytes, at: int, end: int, received: Received) -> bool:
    count, kind = packet[at] & 0x1F, packet[at + 1]
    blocks = at + 8 + (20 if kind == _SR else 0)
    if blocks + count * _BLOCK.size > end:
        return False
    if kind == _SR:
        ssrc, ntp, *_ = _SENDER.unpack_from(packet, at + 4)
        received.sender_reports.append((ssrc, ntp >> 16 & 0xFFFFFFFF))
    for block in range(blocks, blocks + count * _BLOCK.size, _BLOCK.size):
        ssrc, lost, *rest = _BLOCK.unpack_from(packet, block)
        total = (lost & 0xFFFFFF ^ 0x800000) - 0x800000
        received.blocks.append(ReportBlock(ssrc, lost >> 24, total, *rest))
    return True


def _read_nack(packet: bytes, at: int, end: int, received: Received) -> None:
    """Reads a sequence number, and a bit for each of the 16 behind it."""
    if end - at < 12:
        return
    (ssrc,) = struct.unpack_from(">L", packet, at + 8)
    for sequence, mask in struct.iter_unpack(">HH", packet[at + 12 : end]):
        if len(received.missing) >= _MAX_MISSING:
            return
        received.missing.append((ssrc, sequence))
        received.missing += [(ssrc, sequence + bit + 1 & 0xFFFF) for bit in range(16) if mask >> bit & 1]


def write_report(
    ssrc: int, cname: str, *, sender: SenderInfo | None, block: ReportBlock | None, is_leaving: bool = False
) -> bytes:
    """Writes a compound packet: SR or RR, SDES with the CNAME, and BYE for who leaves (RFC 3550 section 6.1)."""
    count = 0 if block is None else 1
    if sender is None:
        body = struct.pack(">L", ssrc)
    else:
        body = _SENDER.pack(ssrc, sender.ntp, sender.rtp_timestamp, sender.packets, sender.payload_bytes & 0xFFFFFFFF)
    if block is not None:
        lost = max(-0x800000, min(0x7FFFFF, block.lost)) & 0xFFFFFF
        body += _BLOCK.pack(block.ssrc, block.fraction_lost << 24 | lost, block.highest_sequence, block.jitter,
                            block.last_report, block.since_last_report)  # fmt: skip
    name = cname.encode()
    item = struct.pack(">LBB", ssrc, _CNAME, len(name)) + name
    compound = _pack(_RR if sender is None else _SR, count, body) + _pack(_SDES, 1, item + bytes(4 - len(item) % 4))
    return compound + _pack(_BYE, 1, struct.pack(">L", ssrc)) if is_leaving else compound


def _pack(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(_VERSION | count, kind, len(body) // 4) + body
