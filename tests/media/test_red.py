"""Redundant audio: what is in a packet, and how a lost one is heard from the next."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.red import parse_red, write_red
from tests.fakes import LossyLink, RtpSender
from tests.media.line import Line, check_ledger, straight, whole_frames

RED, OPUS, OTHER = 63, 111, 9


def red_payload(own: bytes, *copies: tuple[int, bytes], kind: int = OPUS) -> bytes:
    """A payload with ``copies``, each with its age in ticks, the oldest first (RFC 2198 section 3)."""
    headers = b"".join(struct.pack(">L", 1 << 31 | kind << 24 | age << 10 | len(copy)) for age, copy in copies)
    return headers + bytes([OPUS]) + b"".join(copy for _, copy in copies) + own


class RedSender(RtpSender):
    """A microphone whose packets carry the ``distance`` ones before them once more."""

    def __init__(self, distance: int = 1, *, sequence: int = 0, rtp_timestamp: int = 0) -> None:
        super().__init__(payload_type=RED, sequence=sequence, rtp_timestamp=rtp_timestamp)
        self._distance = distance
        self._last: list[tuple[int, bytes]] = []

    def send(self, payload: bytes) -> bytes:
        copies = [((self.rtp_timestamp - at) % 2**32, copy) for at, copy in self._last]
        self._last = [*self._last, (self.rtp_timestamp, payload)][-self._distance :]
        return super().send(red_payload(payload, *copies))


def red_line(link: LossyLink, sender: RtpSender) -> Line:
    line = Line(link, sender)
    line.inbound.red_payload_type = RED
    return line


def test_a_packet_is_taken_apart() -> None:
    """Its own payload lies behind those of the packets before it."""
    packet = b"head" + red_payload(b"own", (1920, b"older"), (960, b"old"))
    start, copies = parse_red(packet, 4, len(packet), payload_type=OPUS) or (0, [])
    assert packet[start:] == b"own"
    assert copies == [(1920, b"older"), (960, b"old")]


def test_what_is_no_opus_keeps_its_place() -> None:
    """A copy in another encoding is passed over, and those before it are as far back as they were."""
    packet = red_payload(b"own", (960, b"noise"), kind=OTHER)
    assert parse_red(packet, 0, len(packet), payload_type=OPUS) == (len(packet) - 3, [(0, b"")])


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xef\0\0", id="half a header"),
        pytest.param(b"\xef\0\0\1", id="no own header"),
        pytest.param(b"\xef\0\x0f\xff\x6f" + bytes(20), id="a copy longer than the packet"),
        pytest.param(b"\x09" + bytes(20), id="own payload of another encoding"),
        pytest.param(b"\xef\0\0\0" * 300 + b"\x6f", id="hundreds of copies"),
    ],
)
def test_what_is_malformed_is_refused(packet: bytes) -> None:
    """Nothing is read past the packet's end, and no packet holds more copies than anyone sends."""
    assert parse_red(packet, 0, len(packet), payload_type=OPUS) is None


@given(st.binary(max_size=60))
def test_any_bytes(packet: bytes) -> None:
    """Whatever comes is taken apart or refused."""
    parsed = parse_red(packet, 0, len(packet), payload_type=OPUS)
    assert parsed is None or 0 < parsed[0] <= len(packet)


@pytest.mark.parametrize(("distance", "burst"), [(1, 1), (2, 1), (2, 2), (3, 3)])
def test_a_loss_is_not_heard(distance: int, burst: int, speech_pcm: bytes) -> None:
    """Where the copies reach as far as the loss, the sound is that of no loss, and nothing is waited for."""
    lost = {number for start in range(20, 160, 10) for number in range(start, start + burst)}
    line = red_line(LossyLink(drop=lost), RedSender(distance, sequence=65_500, rtp_timestamp=2**32 - 960 * 60))
    line.talk(speech_pcm)
    assert line.finish() == straight(RtpSender(), speech_pcm)
    check_ledger(line)
    stats = line.inbound.stats
    assert (stats.lost, stats.recovered, stats.concealed_ms) == (len(lost), len(lost), 0)
    assert line.worst_lag_s <= 0.020 * burst + 0.001


def test_a_longer_loss_is_bridged_as_far_as_it_goes(speech_pcm: bytes) -> None:
    """Of four lost packets the last is heard from its copy, the others are guessed; time is RTP time."""
    line = red_line(LossyLink(drop={50, 51, 52, 53}), RedSender())
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    stats = line.inbound.stats
    assert stats.lost == 4
    assert 1 <= stats.recovered <= 2  # the copy may have the FEC of the one before
    assert stats.concealed_ms == 60


def test_the_original_behind_its_copy_is_late(speech_pcm: bytes) -> None:
    """Overtaken packets were heard from their copies already, and are not heard twice."""
    line = red_line(LossyLink(delay_s={30: 0.03, 60: 0.05}), RedSender())
    line.talk(speech_pcm)
    assert line.finish() == straight(RtpSender(), speech_pcm)
    check_ledger(line)
    assert line.inbound.stats.late == 2


def test_redundancy_that_was_not_negotiated_is_foreign(speech_pcm: bytes) -> None:
    """Without an answer that says so its payload type means nothing."""
    line = Line(LossyLink(), RedSender())
    line.talk(speech_pcm)
    assert line.finish() == b""
    assert line.inbound.stats.foreign == whole_frames(speech_pcm)


def test_malformed_redundancy_is_a_loss(speech_pcm: bytes) -> None:
    """A packet that contradicts itself is counted, and its time is got back from the next one's copy."""
    line = red_line(LossyLink(), RedSender())
    packets = line.sender.talk(speech_pcm)
    packets[40] = packets[40][:12] + b"\xef\0\x0f\xff\x6f"
    line.send(packets)
    assert line.finish() == straight(RtpSender(), speech_pcm)
    check_ledger(line)
    stats = line.inbound.stats
    assert (stats.malformed, stats.lost, stats.recovered) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network(seed: int, speech_pcm: bytes) -> None:
    """With loss, jitter and doubles: sound time is RTP time, and only what is lost with its copies is guessed."""
    link = LossyLink.seeded(seed, 2 * whole_frames(speech_pcm) - 10, loss=0.1, jitter_s=0.03, doubles=0.05)
    line = red_line(link, RedSender(2))
    line.talk(speech_pcm * 2)
    line.finish()
    check_ledger(line, tolerance_ms=20)
    stats = line.inbound.stats
    assert stats.concealed_ms < 0.1 * link.dropped * 20


def test_a_payload_with_a_copy_is_read_again() -> None:
    """The copy is that of two packets before; what lies between has its place, and nothing in it."""
    packet = write_red(b"own", b"older", payload_type=OPUS, frame_ticks=960)
    assert packet == red_payload(b"own", (1920, b"older"), (960, b""))
    start, copies = parse_red(packet, 0, len(packet), payload_type=OPUS) or (0, [])
    assert packet[start:] == b"own"
    assert copies == [(1920, b"older"), (0, b"")]
