"""RTP packets (RFC 3550 section 5.1): where the payload lies, and the header of one to send."""

import struct

__all__ = ["CLOCK_HZ", "MAX_UINT32", "RtpHeader", "pack_rtp", "parse_rtp", "timestamp_difference"]

CLOCK_HZ = 48_000
"""Opus counts RTP time at 48 kHz whatever it was sampled at (RFC 7587 section 4.1)."""
MAX_UINT32 = 0xFFFFFFFF

_HEADER = struct.Struct(">BBHLL")
_VERSION = 0x80

RtpHeader = tuple[int, int, int, int, int, int]
"""payload_type, sequence, rtp_timestamp, ssrc, first byte of the payload, first byte behind it."""


def parse_rtp(packet: bytes) -> RtpHeader | None:
    """Parses the header of ``packet``; None if it is not a well-formed RTP packet."""
    if len(packet) < 12:
        return None
    first, second, sequence, rtp_timestamp, ssrc = _HEADER.unpack_from(packet)
    if first & 0xC0 != _VERSION:
        return None
    start = 12 + 4 * (first & 0x0F)
    end = len(packet)
    if first & 0x10:  # header extension: two bytes of profile, two of length in words
        if end < start + 4:
            return None
        start += 4 + 4 * (packet[start + 2] << 8 | packet[start + 3])
    if first & 0x20:  # padding: its last byte tells its length
        end -= packet[-1]
    if start > end:
        return None
    return second & 0x7F, sequence, rtp_timestamp, ssrc, start, end


def pack_rtp(
    payload: bytes, *, payload_type: int, sequence: int, rtp_timestamp: int, ssrc: int, marker: bool = False,
    extension: bytes = b""
) -> bytes:  # fmt: skip
    """Makes an RTP packet. ``marker`` begins a talkspurt (RFC 7587 section 4.2); ``extension`` has its own header."""
    first = _VERSION | 0x10 if extension else _VERSION
    second = payload_type | 0x80 if marker else payload_type
    return _HEADER.pack(first, second, sequence & 0xFFFF, rtp_timestamp & MAX_UINT32, ssrc) + extension + payload


def timestamp_difference(a: int, b: int) -> int:
    """``a - b`` on the 32-bit circle, in clock ticks; negative if ``a`` is the earlier one."""
    return ((a - b + 0x80000000) & MAX_UINT32) - 0x80000000
