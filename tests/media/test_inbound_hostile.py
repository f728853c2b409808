"""Inbound sound from senders that restart, stray, send no Opus, or mean harm."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder, new_encoder
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32, pack_rtp
from tests.fakes import LossyLink, RtpSender
from tests.media.line import (
    FRAME_BYTES,
    PAYLOAD_TYPE,
    POLL_S,
    RATE_HZ,
    START_S,
    Line,
    check_ledger,
    new_inbound,
    straight,
    whole_frames,
)

# Payloads that are none


def test_an_empty_payload_costs_nothing(speech_pcm: bytes) -> None:
    """Packets of padding only are stepped over, and their time is silence."""
    line = Line()
    for at in range(0, len(speech_pcm) - 20 * FRAME_BYTES, 20 * FRAME_BYTES):
        line.talk(speech_pcm[at : at + 20 * FRAME_BYTES])
        line.send([line.sender.send(b"")])
    line.talk(speech_pcm[:FRAME_BYTES])
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.malformed == 0


def test_an_empty_payload_behind_a_loss_costs_no_time(speech_pcm: bytes) -> None:
    """The lost packet's time is kept although the one behind it has nothing to recover it from."""
    line = Line(LossyLink(drop={20, 42, 64}))
    for at in range(0, 80 * FRAME_BYTES, 20 * FRAME_BYTES):
        line.talk(speech_pcm[at : at + 20 * FRAME_BYTES])
        line.send([line.sender.send(b"lost"), line.sender.send(b"")])
    line.talk(speech_pcm[:FRAME_BYTES])
    line.finish()
    assert line.inbound.stats.lost == 3
    check_ledger(line)


@pytest.mark.parametrize("ticks", [10 * CLOCK_HZ, 2**30, -(2**30)])
def test_an_empty_payload_from_another_time_makes_no_flood(ticks: int, speech_pcm: bytes) -> None:
    """A pause behind a packet of padding with any timestamp is as long as it was, not a multiple."""
    line = Line()
    line.talk(speech_pcm)
    spoken_ms, timestamp = line.heard_ms, line.sender.rtp_timestamp
    line.sender.rtp_timestamp = (timestamp + ticks) & MAX_UINT32
    line.send([line.sender.send(b"")])
    line.wait(5000)
    line.finish()
    assert line.heard_ms - spoken_ms == pytest.approx(5000, abs=150)


@pytest.mark.parametrize("garbage", [b"\xff", b"\xff\xff\xff", b"\x03", b"no Opus at all, and long"])
def test_garbage_is_counted_and_becomes_silence(garbage: bytes, speech_pcm: bytes) -> None:
    """A payload that is no Opus, in order or behind a loss, costs its own time only."""
    line = Line(LossyLink(drop={100}))
    line.talk(speech_pcm[: 50 * FRAME_BYTES])
    line.send([line.sender.send(garbage)] + line.sender.talk(speech_pcm[: 49 * FRAME_BYTES]))
    line.send([line.sender.send(b"lost"), line.sender.send(garbage)])
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    assert (line.inbound.stats.malformed, line.inbound.stats.lost) == (2, 1)


def test_malformed_and_foreign_packets_disturb_nothing(speech_pcm: bytes) -> None:
    """What is no RTP, of another payload type, or of another sender beside ours, is counted and nothing more."""
    inbound, sender = new_inbound(), RtpSender()
    other = RtpSender(ssrc=0xBAD, rtp_timestamp=12345)
    comfort = RtpSender(payload_type=13)
    heard = b""
    for number, packet in enumerate(sender.talk(speech_pcm)):
        now = START_S + number * 0.020
        heard += inbound.receive_rtp(packet, now)
        for foreign in (b"", b"\x80", other.send(b"\xf8"), comfort.send(b"\x7f")):
            assert inbound.receive_rtp(foreign, now) == b""
    assert heard == straight(RtpSender(), speech_pcm)
    stats = inbound.stats
    assert stats.malformed == stats.foreign == 2 * stats.packets


# Timelines


def test_a_new_ssrc_is_followed(speech_pcm: bytes) -> None:
    """A sender that goes on under another SSRC is heard within 60 ms; from there on nothing is missing."""
    line = Line()
    line.talk(speech_pcm)
    line.sender = RtpSender(ssrc=0xCAFE, sequence=7, rtp_timestamp=123_456)
    line.talk(speech_pcm)
    line.finish()
    stats = line.inbound.stats
    assert stats.discontinuities == 1
    assert stats.foreign <= 3
    assert stats.packets + stats.foreign == 2 * whole_frames(speech_pcm)
    assert stats.decoded_ms == 20 * stats.packets
    assert line.heard_ms == pytest.approx(2 * 20 * whole_frames(speech_pcm), abs=60)


@pytest.mark.parametrize("pause_ms", [0, 100, 1000])
@pytest.mark.parametrize("rtp_timestamp", [5, 0x7FFFFFFF, 0xC0000000])
def test_a_restarted_sender_is_followed(pause_ms: int, rtp_timestamp: int, speech_pcm: bytes) -> None:
    """The same SSRC with other numbers is heard from its third packet on at the latest, and silence within bounds."""
    line = Line(sender=RtpSender(sequence=30_000, rtp_timestamp=1_000_000))
    line.talk(speech_pcm)
    line.wait(pause_ms)
    line.sender.sequence, line.sender.rtp_timestamp = 500, rtp_timestamp
    line.talk(speech_pcm)
    line.finish()
    stats = line.inbound.stats
    assert stats.discontinuities == 1
    assert stats.decoded_ms >= 20 * (2 * whole_frames(speech_pcm) - 2)
    assert line.heard_ms == pytest.approx(2 * 20 * whole_frames(speech_pcm) + pause_ms, abs=140)


@pytest.mark.parametrize("strays", [1, 2])
@pytest.mark.parametrize("rtp_timestamp", [0, 0x40000000, 0x80000000, 0xC0000000])
def test_a_stray_changes_nothing(strays: int, rtp_timestamp: int, speech_pcm: bytes) -> None:
    """One or two packets from far away are late ones; neither the speech nor a pause after them is touched."""
    line = Line(sender=RtpSender(sequence=30_000, rtp_timestamp=1_000_000))
    line.talk(speech_pcm)
    stray = RtpSender(sequence=100, rtp_timestamp=rtp_timestamp)
    for packet in stray.talk(speech_pcm)[:strays]:
        assert line.inbound.receive_rtp(packet, START_S + line.rtp_ms / 1000) == b""
    line.pause(1000)
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.late == strays


_packets = st.tuples(
    st.floats(0, 0.3),
    st.sampled_from([0, 1, 2, 3, 30, 70, 300, 40_000, 65_535]),
    st.sampled_from([0, 1, 480, 960, 961, 2880, 48_001, 2**31, 2**32 - 960]),
    st.sampled_from([0x5EED, 0x5EED, 0x5EED, 0xBAD]),
    st.sampled_from(["speech", "speech", "speech", "empty", "garbage"]),
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(steps=st.lists(_packets, min_size=1, max_size=40))
def test_any_sender_is_survived(steps: list[tuple[float, int, int, int, str]]) -> None:
    """Whatever sequence numbers, timestamps and payloads come, nothing raises, and no more is heard than has passed."""
    inbound, encoder = new_inbound(), new_encoder(RATE_HZ)
    payloads = {"speech": encoder.encode(bytes(FRAME_BYTES)), "empty": b"", "garbage": b"\xff"}
    now, sequence, rtp_timestamp, heard = START_S, 0, 0, 0
    for wait_s, steps_ahead, ticks_ahead, ssrc, payload in steps:
        polls = math.ceil(wait_s / POLL_S)
        for _ in range(polls):
            now += wait_s / polls
            heard += len(inbound.poll(now))
        sequence, rtp_timestamp = (sequence + steps_ahead) & 0xFFFF, (rtp_timestamp + ticks_ahead) & MAX_UINT32
        packet = pack_rtp(
            payloads[payload],
            payload_type=PAYLOAD_TYPE,
            sequence=sequence,
            rtp_timestamp=rtp_timestamp,
            ssrc=ssrc,
        )
        heard += len(inbound.receive_rtp(packet, now))
        assert heard / (2 * RATE_HZ) <= now - START_S + len(steps) * 1.3
        assert 0.020 <= inbound.wait_s <= 0.120


# Faster than real time


def long_packet() -> bytes:
    """120 ms of sound in one packet: six frames of 20 ms (RFC 6716 section 3.2.5, code 3, constant bitrate)."""
    frame = new_encoder(RATE_HZ).encode(bytes(FRAME_BYTES))
    return bytes([frame[0] | 3, 6]) + frame[1:] * 6


class CountingDecoder:
    """The real decoder, and how much work it was given."""

    def __init__(self) -> None:
        self.ms = 0
        self._decoder = new_decoder(RATE_HZ)

    def _count(self, pcm: bytes) -> bytes:
        self.ms += len(pcm) * 1000 // (2 * RATE_HZ)
        return pcm

    def decode(self, payload: bytes) -> bytes:
        return self._count(self._decoder.decode(payload))

    def has_fec(self, payload: bytes) -> bool:
        return self._decoder.has_fec(payload)

    def recover(self, payload: bytes, samples: int) -> bytes:
        return self._count(self._decoder.recover(payload, samples))

    def conceal(self, samples: int) -> bytes:
        return self._count(self._decoder.conceal(samples))


@pytest.mark.parametrize("stride", [1, 2, 40])
@pytest.mark.parametrize("step", [5760, 960, 1])
def test_nobody_speaks_sixty_times_as_fast_as_time(step: int, stride: int, speech_pcm: bytes) -> None:
    """Of 500 packets of 120 ms in a second the decoder works for twice real time, and the rest is counted."""
    decoder = CountingDecoder()
    inbound = InboundAudio(decoder, payload_type=PAYLOAD_TYPE, rate_hz=RATE_HZ)
    sender = RtpSender(step=step)
    payload = long_packet()
    heard = 0
    for number in range(5000):
        heard += len(inbound.receive_rtp(sender.send(payload), START_S + number * 0.002))
        sender.sequence = (sender.sequence + stride - 1) & 0xFFFF
        if number % 10 == 0:
            heard += len(inbound.poll(START_S + number * 0.002))
    assert decoder.ms <= 6_000 + 2 * 10_000 + 1_500
    assert heard * 1000 / (2 * RATE_HZ) <= 6_000 + 3 * 10_000  # silence for what was dropped included
    assert inbound.stats.too_fast > 1500 or decoder.ms < 20_000
    line = RtpSender(sequence=sender.sequence, rtp_timestamp=sender.rtp_timestamp)
    decoded_ms = inbound.stats.decoded_ms
    for number, packet in enumerate(line.talk(speech_pcm)):
        inbound.receive_rtp(packet, START_S + 10 + number * 0.020)
    assert inbound.stats.decoded_ms - decoded_ms > 3500, "who keeps to real time again is heard again"


def test_five_seconds_at_once_are_heard(speech_pcm: bytes) -> None:
    """What a network held back for so long, and what comes in time behind it, is no flood."""
    sender, inbound = RtpSender(), new_inbound()
    packets = sender.talk(speech_pcm * 3)
    for number, packet in enumerate(packets):
        inbound.receive_rtp(packet, START_S + max(number, 250) * 0.020)
    assert (inbound.stats.too_fast, inbound.stats.decoded_ms) == (0, 20 * len(packets))
