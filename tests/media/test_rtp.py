"""RTP headers, well formed and not, and arithmetic on wrapping timestamps."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.rtp import MAX_UINT32, pack_rtp, parse_rtp, timestamp_difference

PLAIN = bytes.fromhex("806f 1234 89abcdef 00005eed".replace(" ", ""))
uint32 = st.integers(0, MAX_UINT32)


def with_first_byte(first: int, rest: bytes = b"") -> bytes:
    return bytes([first]) + PLAIN[1:] + rest


def test_a_packet_is_what_the_rfc_draws() -> None:
    """Every field lies where RFC 3550 section 5.1 has it."""
    packet = pack_rtp(b"opus", payload_type=111, sequence=0x1234, rtp_timestamp=0x89ABCDEF, ssrc=0x5EED)
    assert packet == PLAIN + b"opus"
    marked = pack_rtp(b"", payload_type=111, sequence=0x1234, rtp_timestamp=0x89ABCDEF, ssrc=0x5EED, marker=True)
    assert marked == bytes.fromhex("80ef") + PLAIN[2:]


@given(
    payload=st.binary(max_size=50),
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 70_000),
    rtp_timestamp=st.integers(0, 2**33),
    ssrc=uint32,
    marker=st.booleans(),
)
def test_round_trip(
    payload: bytes, payload_type: int, sequence: int, rtp_timestamp: int, ssrc: int, marker: bool
) -> None:
    """What is packed is parsed, numbers over their width wrapped."""
    packet = pack_rtp(
        payload, payload_type=payload_type, sequence=sequence, rtp_timestamp=rtp_timestamp, ssrc=ssrc, marker=marker
    )
    header = parse_rtp(packet)
    assert header == (payload_type, sequence & 0xFFFF, rtp_timestamp & MAX_UINT32, ssrc, 12, 12 + len(payload))
    assert packet[1] >> 7 == marker


@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        (with_first_byte(0x80, b"opus"), b"opus"),
        (with_first_byte(0x80), b""),
        (with_first_byte(0x82, b"CSR1CSR2opus"), b"opus"),
        (with_first_byte(0x90, struct.pack(">HH", 0xBEDE, 1) + b"ext1opus"), b"opus"),
        (with_first_byte(0x90, struct.pack(">HH", 0x1000, 0) + b"opus"), b"opus"),
        (with_first_byte(0x90, struct.pack(">HH", 0xBEDE, 1) + b"ext1"), b""),
        (with_first_byte(0xA0, b"opus\0\0\3"), b"opus"),
        (with_first_byte(0xA0, b"\0\0\3"), b""),
        (with_first_byte(0xB1, b"CSRC" + struct.pack(">HH", 0xBEDE, 1) + b"ext1opus\1"), b"opus"),
    ],
    ids=["plain", "empty", "CSRCs", "extension", "empty extension", "only extension", "padding", "only padding", "all"],
)
def test_the_payload_is_found(packet: bytes, payload: bytes) -> None:
    """CSRCs, a header extension and padding are stepped over."""
    header = parse_rtp(packet)
    assert header is not None
    assert packet[header[4] : header[5]] == payload
    assert header[:4] == (111, 0x1234, 0x89ABCDEF, 0x5EED)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x80",
        PLAIN[:11],
        with_first_byte(0x00, b"opus"),
        with_first_byte(0x40, b"opus"),
        with_first_byte(0xC0, b"opus"),
        with_first_byte(0x81, b"CSR"),
        with_first_byte(0x90),
        with_first_byte(0x90, b"\xbe\xde\0"),
        with_first_byte(0x90, struct.pack(">HH", 0xBEDE, 2) + b"ext1"),
        with_first_byte(0x90, struct.pack(">HH", 0xBEDE, 0xFFFF) + b"ext1"),
        with_first_byte(0xA0, b"opus\5\7"),
        with_first_byte(0xA0, b"\xff"),
    ],
)
def test_what_is_malformed_has_no_header(packet: bytes) -> None:
    """Too short, of another version, or with lengths that reach beyond its end: none of it is read as sound."""
    assert parse_rtp(packet) is None


@given(packet=st.binary(max_size=100))
def test_any_bytes_are_parsed_or_refused(packet: bytes) -> None:
    """No bytes raise, and a payload never lies outside its packet."""
    header = parse_rtp(packet)
    if header is not None:
        assert 12 <= header[4] <= header[5] <= len(packet)


@pytest.mark.parametrize(
    ("a", "b", "ticks"),
    [
        (0, 0, 0),
        (960, 0, 960),
        (0, 960, -960),
        (0, MAX_UINT32, 1),
        (MAX_UINT32, 0, -1),
        (480, 2**32 - 480, 960),
        (2**32 - 480, 480, -960),
        (0x7FFFFFFF, 0, 0x7FFFFFFF),
        (0x80000000, 0, -0x80000000),
    ],
)
def test_timestamps_wrap(a: int, b: int, ticks: int) -> None:
    """The difference is taken the short way around."""
    assert timestamp_difference(a, b) == ticks


@given(start=uint32, ticks=st.integers(-(2**31), 2**31 - 1))
def test_a_difference_added_leads_back(start: int, ticks: int) -> None:
    """Any step on the circle is found again from its two ends."""
    assert timestamp_difference((start + ticks) & MAX_UINT32, start) == ticks
