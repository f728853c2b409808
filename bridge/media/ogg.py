"""Opus packets in an Ogg stream (RFC 3533, RFC 7845), as bytes to be written one after the other."""

import struct
import zlib

__all__ = ["MAX_PAGE_BYTES", "PRE_SKIP", "OggOpus", "ending"]

PRE_SKIP = 312
"""The look-ahead of libopus, 6.5 ms, in samples at 48 kHz."""

_FRAME_SAMPLES = 960  # 20 ms at 48 kHz, the clock of every Opus stream in Ogg
_PAGE_PACKETS = 50
_MAX_SEGMENTS = 255
_PAGE = struct.Struct("<4sBBqIIIB")
MAX_PAGE_BYTES = _PAGE.size + _MAX_SEGMENTS + 255 * _MAX_SEGMENTS
"""The length of the longest page."""
_FIRST, _LAST = 2, 4
_FLAGS_AT = 5
_CRC_AT = 22
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class OggOpus:
    """One logical stream: ``head`` first, then what ``write_packet`` returns, then ``end``."""

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

    def write_packet(self, packet: bytes) -> bytes:
        """Takes one packet of 20 ms; returns a page whenever one is full."""
        segments = _laced(packet)
        full = b""
        if len(self._segments) + len(segments) > _MAX_SEGMENTS or len(self._packets) == _PAGE_PACKETS:
            full = self.flush()
        self._packets.append(packet)
        self._segments += segments
        self._granule += _FRAME_SAMPLES
        return full

    def end(self, samples: int) -> bytes:
        """The last page; ``samples`` at 48 kHz is how long it all is, what the last packet has beyond is cut off."""
        self._granule = min(self._granule, samples + PRE_SKIP)
        return self._page_of_packets(flags=_LAST)

    def flush(self) -> bytes:
        """Returns the packets that wait for their page to be full, on a page of their own; nothing if none wait."""
        return self._page_of_packets() if self._packets else b""

    def _page_of_packets(self, *, flags: int = 0) -> bytes:
        body, segments = b"".join(self._packets), self._segments
        self._packets, self._segments = [], b""
        return self._page(body, segments, flags=flags)

    def _page(self, body: bytes, segments: bytes, *, flags: int = 0) -> bytes:
        number, self._page_number = self._page_number, self._page_number + 1
        head = _PAGE.pack(b"OggS", 0, flags, self._granule, self._serial, number, 0, len(segments)) + segments
        return _summed(head + body)


def ending(data: bytes) -> tuple[int, bytes] | None:
    """The last whole page in ``data``, the end of a stream that broke off: its place, and itself as the stream's end.

    None if there is no whole page. A page is whole if its checksum is right (RFC 3533 section 6).
    """
    at = len(data)
    while (at := data.rfind(b"OggS", 0, at)) >= 0:
        if len(data) - at < _PAGE.size:
            continue
        segments_at = at + _PAGE.size
        lengths = data[segments_at : segments_at + data[segments_at - 1]]
        page = data[at : segments_at + len(lengths) + sum(lengths)]
        if len(page) == _PAGE.size + data[segments_at - 1] + sum(lengths) and page == _summed(page):
            return at, _summed(page[:_FLAGS_AT] + bytes((page[_FLAGS_AT] | _LAST,)) + page[_FLAGS_AT + 1 :])
    return None


def _summed(page: bytes) -> bytes:
    """The page with its checksum, which is computed with zeros in its place."""
    front, behind = page[:_CRC_AT], page[_CRC_AT + 4 :]
    return front + _crc(front + bytes(4) + behind).to_bytes(4, "little") + behind


def _laced(packet: bytes) -> bytes:
    """The lengths of a packet's segments: 255 as long as more follows."""
    return b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,))


def _crc(page: bytes) -> int:
    """Ogg's CRC-32, which runs from the highest bit. It is zlib's, which runs from the lowest, over reversed bits."""
    low_first = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{low_first:032b}"[::-1], 2)
