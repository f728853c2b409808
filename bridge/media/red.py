"""Redundant audio (RFC 2198): a packet that carries the payloads before it once more."""

__all__ = ["Redundancy", "parse_red"]

Redundancy = list[tuple[int, bytes]]
"""Redundant payloads, the oldest first: how many clock ticks each is older than the packet's own, and itself."""

_MAX_BLOCKS = 8  # far more than anyone sends


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
