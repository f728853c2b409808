"""RTCP as written for, and read from, another implementation."""

from typing import Any

import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.rtcp import ReportBlock, SenderInfo, parse_rtcp, write_report

BLOCK = ReportBlock(
    ssrc=0xCA11,
    fraction_lost=64,
    lost=1234,
    highest_sequence=0x1_FFFE,
    jitter=480,
    last_report=0x89ABCDEF,
    since_last_report=0x8000,
)
SENDER = SenderInfo(ntp=0x01234567_89ABCDEF, rtp_timestamp=48_000, packets=50, payload_bytes=4000)
THEIRS = RtcpReceiverInfo(
    ssrc=0x5EED, fraction_lost=255, packets_lost=-3, highest_sequence=65_537, jitter=9, lsr=7, dlsr=11
)
INFO = RtcpSenderInfo(ntp_timestamp=0xAAAABBBB_CCCCDDDD, rtp_timestamp=1, packet_count=2, octet_count=3)


def written(**options: Any) -> list[Any]:
    """What aiortc reads in a report of ours."""
    return RtcpPacket.parse(write_report(0x5EED, "bridge", **options))


def test_a_sender_report_is_read_by_others() -> None:
    """SR and SDES stand in one compound packet, with every figure in its place."""
    report, names = written(sender=SENDER, block=BLOCK)
    assert isinstance(report, RtcpSrPacket)
    assert report.ssrc == 0x5EED
    assert report.sender_info == RtcpSenderInfo(0x01234567_89ABCDEF, 48_000, 50, 4000)
    (block,) = report.reports
    assert block == RtcpReceiverInfo(0xCA11, 64, 1234, 0x1_FFFE, 480, 0x89ABCDEF, 0x8000)
    assert isinstance(names, RtcpSdesPacket)
    assert names.chunks == [RtcpSourceInfo(ssrc=0x5EED, items=[(1, b"bridge")])]


def test_who_sends_nothing_reports_what_it_receives() -> None:
    """RR instead of SR, and without a block where nothing was received yet."""
    report, _ = written(sender=None, block=BLOCK)
    assert isinstance(report, RtcpRrPacket)
    assert [block.ssrc for block in report.reports] == [0xCA11]
    report, _ = written(sender=None, block=None)
    assert (report.ssrc, report.reports) == (0x5EED, [])


@pytest.mark.parametrize(("lost", "told"), [(-3, -3), (2**30, 2**23 - 1), (-(2**30), -(2**23))])
def test_a_loss_is_signed_and_has_24_bits(lost: int, told: int) -> None:
    """Doubles make it negative; what does not fit stays at the limit."""
    block = ReportBlock(1, 0, lost, 0, 0, 0, 0)
    report, _ = written(sender=None, block=block)
    assert report.reports[0].packets_lost == told


def test_who_leaves_says_so() -> None:
    """BYE is the last packet of the compound."""
    *_, bye = written(sender=SENDER, block=BLOCK, is_leaving=True)
    assert isinstance(bye, RtcpByePacket)
    assert bye.sources == [0x5EED]


def test_the_reports_of_others_are_read() -> None:
    """SR and RR with their blocks, SDES, BYE and whatever else stand in one compound packet."""
    received = parse_rtcp(
        bytes(RtcpSrPacket(ssrc=0xCA11, sender_info=INFO, reports=[THEIRS]))
        + bytes(RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=0xCA11, items=[(1, b"them")])]))
        + bytes(RtcpPsfbPacket(fmt=1, ssrc=0xCA11, media_ssrc=0x5EED))
        + bytes(RtcpRrPacket(ssrc=0xCA12, reports=[THEIRS, THEIRS]))
        + bytes(RtcpByePacket(sources=[0xCA11]))
    )
    assert received is not None
    assert received.sender_reports == [(0xCA11, 0xBBBBCCCC)]
    assert received.blocks == [ReportBlock(0x5EED, 255, -3, 65_537, 9, 7, 11)] * 3
    assert received.missing == []


@pytest.mark.parametrize("lost", [[5], [5, 6, 7, 21], [1, 30, 60], list(range(100, 160))])
def test_a_request_for_packets_is_read(lost: list[int]) -> None:
    """Every packet that a generic NACK names."""
    received = parse_rtcp(bytes(RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=0x5EED, lost=lost)))
    assert received is not None
    assert received.missing == [(0x5EED, sequence) for sequence in lost]


def test_a_request_for_everything_is_cut() -> None:
    """Whoever asks for thousands of packets makes no thousands of entries."""
    asked = bytes([0, 0, 255, 255]) * 300
    received = parse_rtcp(bytes([0x81, 205]) + (302).to_bytes(2, "big") + bytes(8) + asked)
    assert received is not None
    assert 64 <= len(received.missing) < 64 + 17


def test_a_request_over_the_wrap() -> None:
    """The packets behind number 65,535 begin at 0 again."""
    received = parse_rtcp(bytes([0x81, 205, 0, 3]) + bytes(8) + bytes([255, 255, 0x40, 0x03]))
    assert received is not None
    assert received.missing == [(0, 65_535), (0, 0), (0, 1), (0, 14)]


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(bytes([0x80, 201, 0]), id="half a header"),
        pytest.param(bytes([0x80, 201, 0, 1]), id="nothing behind the header"),
        pytest.param(bytes([0x40, 201, 0, 1]) + bytes(4), id="version 1"),
        pytest.param(bytes([0x80, 201, 0, 2]) + bytes(4), id="longer than it is"),
        pytest.param(bytes([0x81, 201, 0, 1]) + bytes(4), id="a block too few"),
        pytest.param(bytes([0x80, 200, 0, 1]) + bytes(4), id="SR without its sender"),
        pytest.param(bytes([0x9F, 200, 255, 255]) + bytes(100), id="SR cut off"),
        pytest.param(bytes([0x80, 201, 0, 1]) + bytes(4) + b"\x80", id="a byte too many"),
        pytest.param(bytes([0x80, 223, 0, 0]) + bytes(1000), id="of no length"),
    ],
)
def test_contradictions_are_refused(packet: bytes) -> None:
    """A packet whose lengths make no sense says nothing."""
    assert parse_rtcp(packet) is None


@given(st.binary(max_size=200), st.sampled_from([200, 201, 202, 203, 205, 206]), st.integers(0, 31))
def test_any_bytes(tail: bytes, kind: int, count: int) -> None:
    """Whatever follows a right header is read or refused."""
    tail = tail[: len(tail) // 4 * 4]
    packet = bytes([0x80 | count, kind]) + (len(tail) // 4).to_bytes(2, "big") + tail
    parse_rtcp(packet)
    parse_rtcp(tail)
