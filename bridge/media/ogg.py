"""Opus packets in an Ogg stream (RFC 3533, RFC 7845), as bytes to be written one after the other."""

import struct
import zlib

__all__ = ["PRE_SKIP", "OggOpus"]

PRE_SKIP = 312
"""What libopus hears ahead, 6.5 ms, in samples at 48 kHz."""

_FRAME_SAMPLES = 960  # 20 ms at 48 kHz, the clock of every Opus stream in Ogg
_PAGE_PACKETS = 50
_MAX_SEGMENTS = 255
_PAGE = struct.Struct("<4sBBqIIIB")
_FIRST, _LAST = 2, 4
_CRC_AT = 22
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class OggOpus:
    """One logical stream; ``head`` first, then what ``write`` returns, then ``end``."""

    def __init__(self, *, channels: int, rate_hz: int, serial: int) -> None:
        self._channels = channels
        self._rate_hz = rate_hz
        self._serial = serial
        self._page_number = 0
        self._granule = 0
        self._packets: list[bytes] = []
        self._segments = b""

    def head(self) -> bytes:
        """The two pages that every stream begins with."""
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, self._channels, PRE_SKIP, self._rate_hz, 0, 0)
        vendor = b"bridge"
        tags = b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
        return self._page(head, _laced(head), flags=_FIRST) + self._page(tags, _laced(tags))

    def write(self, packet: bytes) -> bytes:
        """One packet of 20 ms; returns a page whenever one is full."""
        segments = _laced(packet)
        full = b""
        if len(self._segments) + len(segments) > _MAX_SEGMENTS or len(self._packets) == _PAGE_PACKETS:
            full = self._flush()
        self._packets.append(packet)
        self._segments += segments
        self._granule += _FRAME_SAMPLES
        return full

    def end(self, samples: int) -> bytes:
        """The last page; ``samples`` at 48 kHz is how long it all is, what the last packet has beyond is cut off."""
        self._granule = min(self._granule, samples + PRE_SKIP)
        return self._flush(flags=_LAST)

    def _flush(self, *, flags: int = 0) -> bytes:
        body, segments = b"".join(self._packets), self._segments
        self._packets, self._segments = [], b""
        return self._page(body, segments, flags=flags)

    def _page(self, body: bytes, segments: bytes, *, flags: int = 0) -> bytes:
        number, self._page_number = self._page_number, self._page_number + 1
        head = _PAGE.pack(b"OggS", 0, flags, self._granule, self._serial, number, 0, len(segments)) + segments
        crc = _crc(head + body)
        return head[:_CRC_AT] + crc.to_bytes(4, "little") + head[_CRC_AT + 4 :] + body


def _laced(packet: bytes) -> bytes:
    """The lengths of a packet's segments: 255 as long as more follows."""
    return b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,))


def _crc(page: bytes) -> int:
    """Ogg's CRC-32 runs from the highest bit, zlib's from the lowest: the same over bits in reverse."""
    low_first = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{low_first:032b}"[::-1], 2)
