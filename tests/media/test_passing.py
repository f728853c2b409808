"""Opus that is passed on: how long packets are, and how they are numbered in another stream."""

import pytest
from msgspec.structs import replace

from bridge.errors import MediaError
from bridge.media.inbound import InboundAudio
from bridge.media.opus import find_libopus, new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.passing import MuteDecoder, PacketClock, PassedPacket, Placed, packet_samples
from bridge.media.playback import Part, Started, Stopped
from bridge.media.rtp import parse_rtp
from bridge.wire.audio import SESSION_HZ
from tests.fakes import FfmpegEncoder, RtpSender

PART = Part("resp_1", "item_1", 0, 0)


def new_outbound() -> OutboundAudio:
    return OutboundAudio(
        new_encoder(SESSION_HZ),
        rate_hz=SESSION_HZ,
        payload_type=96,
        ssrc=7,
        sequence=65_530,
        rtp_timestamp=0xFFFFF000,
        limit_s=10,
    )


def passed(number: int, payload: bytes = b"\xf8\x01", *, ssrc: int = 1) -> PassedPacket:
    return PassedPacket(payload, ssrc, (1000 + number) & 0xFFFF, (5000 + 960 * number) & 0xFFFFFFFF, number == 0)


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_a_mute_decoder_is_as_long_as_a_real_one(frame_ms: int, speech_pcm: bytes) -> None:
    """For frames of every length; what is no Opus is refused by both."""
    payload = FfmpegEncoder(frame_ms=frame_ms).encode(speech_pcm[48_000 : 48_000 + 48 * frame_ms])
    mute, real = MuteDecoder(SESSION_HZ), new_decoder(SESSION_HZ)
    assert mute.decode(payload) == bytes(48 * frame_ms)
    assert len(real.decode(payload)) == 48 * frame_ms
    for nothing in (b"", b"\xfb", b"\xfb\x00"):
        assert packet_samples(nothing, SESSION_HZ) == 0
        for decoder in (mute, real):
            with pytest.raises(MediaError):
                decoder.decode(nothing)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 48_000])
def test_lengths_are_those_of_libopus(rate_hz: int) -> None:
    """For each first byte that a packet can have, and each number of frames behind it (RFC 6716 section 3)."""
    lib = find_libopus()
    assert lib is not None
    packets = [bytes((first, frames)) for first in range(256) for frames in range(64)]
    expected = [max(0, lib.opus_packet_get_nb_samples(packet, 2, rate_hz)) for packet in packets]
    assert [packet_samples(packet, rate_hz) for packet in packets] == expected


def test_packets_go_on_where_ours_are() -> None:
    """Numbers and times follow on from our own, around the wrap; gaps stay gaps, late packets stay late."""
    outbound = new_outbound()
    outbound.push(PART, bytes(960 * 2))
    own = [packet for packet, _ in (outbound.tick(), outbound.tick()) if packet is not None]
    numbers = [parse_rtp(packet) for packet in own]
    assert [header[1] for header in numbers if header] == [65_530, 65_531]
    sent = [outbound.forward(passed(number)) for number in (0, 1, 3, 2, 10)]
    headers = [parse_rtp(packet) for _, packet in sent]
    assert [sequence for sequence, _ in sent] == [65_532, 65_533, 65_535, 65_534, 6]
    for (sequence, packet), header, number in zip(sent, headers, (0, 1, 3, 2, 10), strict=True):
        assert header is not None
        payload_type, at, rtp_timestamp, ssrc, start, end = header
        assert (payload_type, at, ssrc) == (96, sequence, 7)
        assert rtp_timestamp == (0xFFFFF000 + 2 * 960 + 960 * number) & 0xFFFFFFFF
        assert packet[start:end] == b"\xf8\x01"
        assert (packet[1] >= 0x80) is (number == 0)
    assert outbound.is_idle
    outbound.push(PART, bytes(960 * 2))
    next_packet, _ = outbound.tick()
    assert next_packet is not None
    header = parse_rtp(next_packet)
    assert header is not None
    assert header[1] == 7
    assert (header[2] - (0xFFFFF000 + 2 * 960 + 960 * 11)) & 0xFFFFFFFF == 0
    assert outbound.passed == 5


def test_another_stream_goes_on_behind_the_last() -> None:
    """A sender that begins anew, with other numbers, is no jump for whoever hears it."""
    outbound = new_outbound()
    first, _ = outbound.forward(passed(0))
    second, packet = outbound.forward(passed(500, ssrc=2))
    assert (first, second) == (65_530, 65_531)
    header = parse_rtp(packet)
    assert header is not None
    assert header[2] == (0xFFFFF000 + 960) & 0xFFFFFFFF


def test_the_ledger_follows_what_is_passed_on() -> None:
    """A response starts with its first packet, is heard packet by packet, and is cut where it was."""
    outbound = new_outbound()
    assert outbound.heard(PART, passed(0)) == []
    assert outbound.heard(PART, passed(1)) == [Started("resp_1")]
    for number in range(2, 10):
        assert outbound.heard(PART, passed(number)) == []
    cut = outbound.clear()
    assert cut is not None
    response_id, [heard] = cut
    assert (response_id, heard.audio_end_ms) == ("resp_1", 180)
    outbound.heard(PART, passed(10))
    assert outbound.end_heard() == [Started("resp_1")]
    assert outbound.playback.end("resp_1") == [Stopped("resp_1")]


def test_what_comes_in_is_passed_and_counted(speech_pcm: bytes) -> None:
    """Every packet goes to the taker; without decoding the figures are the same, until the taker wants no more."""
    packets = RtpSender().talk(speech_pcm[:48_000])
    taken: list[PassedPacket] = []

    def take(packet: PassedPacket) -> bool:
        taken.append(packet)
        return len(taken) < 20

    heard = [InboundAudio(new_decoder(SESSION_HZ), payload_type=111, rate_hz=SESSION_HZ) for _ in range(2)]
    heard[1].pass_to(take, decodes=False)
    lengths = []
    for number, packet in enumerate(packets):
        pieces = [inbound.receive_rtp(packet, number * 0.02) for inbound in heard]
        lengths.append([len(piece) for piece in pieces])
        assert heard[1].is_mute is (number < 19)
        if number < 19:
            assert not any(pieces[1])
    assert len(taken) == 20
    assert lengths == [[960, 960]] * len(packets)
    assert heard[0].stats == heard[1].stats


# For those who listen to packets


def test_packets_are_read_in_order(speech_pcm: bytes) -> None:
    """Each once, in the order in which it was sent and as it was, decoded or not; a lost one is missing."""
    packets = RtpSender().talk(speech_pcm[: 960 * 30])
    payloads = [packet[12:] for packet in packets]
    for decodes in (True, False):
        inbound = InboundAudio(new_decoder(SESSION_HZ), payload_type=111, rate_hz=SESSION_HZ)
        inbound.pass_to(None, decodes=decodes)
        read: list[PassedPacket] = []
        inbound.reader = read.append
        order = [0, 1, 3, 2, 4, 4, 6, 5, *range(8, 30)]  # 7 never comes
        for number, at in enumerate(order):
            inbound.receive_rtp(packets[at], number * 0.02)
        inbound.poll(len(order) * 0.02 + 1)
        assert [packet.sequence for packet in read] == [*range(7), *range(8, 30)]
        assert [packet.payload for packet in read] == payloads[:7] + payloads[8:]
        inbound.reader = None


def placed(clock: PacketClock, number: int, *, ssrc: int = 1, rtp_timestamp: int | None = None) -> Placed | None:
    sent = passed(number, ssrc=ssrc)
    return clock.place(sent if rtp_timestamp is None else replace(sent, rtp_timestamp=rtp_timestamp & 0xFFFFFFFF))


def test_a_clock_tells_losses_and_pauses() -> None:
    """Time that passes while numbers are missing is lost; without it is a pause."""
    clock = PacketClock(480)
    assert placed(clock, 0) == Placed(480, 960, 0)
    assert placed(clock, 1) == Placed(1440, 960, 0)
    assert placed(clock, 4) == Placed(480 + 4 * 960, 960, 2 * 960)
    assert placed(clock, 5, rtp_timestamp=5000 + 960 * 105) == Placed(480 + 105 * 960, 960, 0)
    assert clock.position == 480 + 106 * 960


def test_a_clock_goes_on_behind_a_new_sender() -> None:
    """Another stream, or one that began anew, is neither a loss nor a pause."""
    clock = PacketClock()
    placed(clock, 0)
    assert placed(clock, 900, ssrc=2) == Placed(960, 960, 0)
    assert placed(clock, 901, ssrc=2, rtp_timestamp=0x80000000) == Placed(1920, 960, 0)
    assert placed(clock, 1, ssrc=2) == Placed(2880, 960, 0)


@pytest.mark.parametrize("step", [160, 320, 480, 960, 1920])
def test_a_clock_believes_no_wrong_one(step: int) -> None:
    """A sender whose RTP time steps in another way sends sound of 20 ms all the same."""
    clock = PacketClock()
    for number in range(50):
        assert placed(clock, number, rtp_timestamp=number * step) == Placed(number * 960, 960, 0)


def test_what_is_no_opus_has_no_time() -> None:
    """It is left out."""
    clock = PacketClock()
    placed(clock, 0)
    assert clock.place(passed(1, b"\xfb")) is None
    assert clock.position == 960


def test_a_clock_wraps() -> None:
    """Numbers and times run over, the position does not."""
    clock = PacketClock()
    for number in range(0, 200_000, 7):
        place = placed(clock, number)
    assert place is not None
    assert place.timestamp == number * 960
