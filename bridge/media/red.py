"""Redundant audio (RFC 2198): a packet that carries the payloads before it once more."""

import struct

__all__ = ["Redundancy", "parse_red", "write_red"]

Redundancy = list[tuple[int, bytes]]
"""Redundant payloads, the oldest first: how many clock ticks each is older than the packet's own, and itself."""

_MAX_BLOCKS = 8  # far more than anyone sends
_BLOCK = struct.Struct(">LLB")


def parse_red(packet: bytes, start: int, end: int, *, payload_type: int) -> tuple[int, Redundancy] | None:
    """Where the packet's own payload begins, and what is redundant in it; None if it is not well-formed.

    The own payload reaches to ``end``. A block of another payload type is passed over, but the own one must be of
    ``payload_type``.
    """
    at = start
    lengths: list[tuple[int, int, int]] = []
    while at < end and packet[at] & 0x80:
        if at + 4 > end or len(lengths) == _MAX_BLOCKS:
            return None
        word = int.from_bytes(packet[at : at + 4], "big")
        lengths.append((word >> 24 & 0x7F, word >> 10 & 0x3FFF, word & 0x3FF))
        at += 4
    if at >= end or packet[at] & 0x7F != payload_type:
        return None
    at += 1
    blocks: Redundancy = []
    for kind, offset, length in lengths:
        if kind == payload_type and length and offset:
            blocks.append((offset, packet[at : at + length]))
        else:
            blocks.append((0, b""))  # keeps the count: each block is one packet further back
        at += length
    return (at, blocks) if at <= end else None


def write_red(own: bytes, copy: bytes, *, payload_type: int, frame_ticks: int) -> bytes:
    """Returns the payload that carries ``own`` and a copy of the one of two packets before (RFC 2198 section 3).

    Both are of ``payload_type``, every packet is ``frame_ticks`` long, and the copy is shorter than 1024 bytes. The
    packet between has an empty block, because readers count packets by blocks.
    """
    kind = 0x80 | payload_type
    older, old = kind << 24 | 2 * frame_ticks << 10 | len(copy), kind << 24 | frame_ticks << 10
    return _BLOCK.pack(older, old, payload_type) + copy + own
