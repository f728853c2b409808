"""How a loss sounds, and that nothing of it stays: FEC of every frame length, guesses that end, delay that recovers."""

import numpy as np
import pytest

from bridge.media.inbound import InboundAudio
from bridge.media.opus import Decoder
from bridge.media.rtp import CLOCK_HZ
from tests.fakes import FfmpegEncoder, LossyLink, RtpSender, likeness
from tests.media.line import FRAME_BYTES, PAYLOAD_TYPE, POLL_S, RATE_HZ, START_S, Line, check_ledger, new_inbound

HOUR_S = 3600


class _WithoutFec:
    """A decoder that finds no in-band FEC in any packet."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, payload: bytes) -> bytes:
        return self._decoder.decode(payload)

    def has_fec(self, payload: bytes) -> bool:
        return False

    def recover(self, payload: bytes, samples: int) -> bytes:
        return self._decoder.recover(payload, samples)

    def conceal(self, samples: int) -> bytes:
        return self._decoder.conceal(samples)


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
def test_fec_is_used_whatever_the_frame(frame_ms: int, speech_pcm: bytes) -> None:
    """Lost packets of any length are got back whole from the ones behind, and that is better than any guess."""

    def new_line(*lost: int) -> Line:
        encoder = FfmpegEncoder(frame_ms=frame_ms, has_fec=True)
        return Line(LossyLink(drop=lost), RtpSender(encoder, frame_ms=frame_ms))

    recovering, guessing, intact = new_line(*range(4, 1000, 6)), new_line(*range(4, 1000, 6)), new_line()
    guessing.inbound._decoder = _WithoutFec(guessing.inbound._decoder)
    for line in (recovering, guessing, intact):
        line.talk(speech_pcm)
        line.finish()
        check_ledger(line)
    assert recovering.inbound.stats.recovered > 0.5 * recovering.inbound.stats.lost
    assert guessing.inbound.stats.recovered == 0
    assert likeness(recovering.heard, intact.heard)[0] > likeness(guessing.heard, intact.heard)[0] + 0.01


def loudest_frame(pcm: bytes) -> int:
    """The number of the frame with the most sound in it."""
    samples = np.frombuffer(pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES], "<i2").astype(np.float64)
    return int(np.argmax((samples.reshape(-1, FRAME_BYTES // 2) ** 2).sum(axis=1)))


@pytest.mark.parametrize("lost", [6, 9, 10, 25])
def test_a_guess_ends_in_silence(lost: int, speech_pcm: bytes) -> None:
    """A guess has faded to nothing after 100 ms, without a click, and then there is silence, however long it takes."""
    first = loudest_frame(speech_pcm) + 1
    line = Line(LossyLink(drop=range(first, first + lost)))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    heard = np.abs(np.frombuffer(line.heard, "<i2").astype(np.int32))
    begin = first * FRAME_BYTES // 2
    end = begin + (lost - 1) * FRAME_BYTES // 2  # the last one may come back by FEC
    silence = begin + RATE_HZ // 10
    assert heard[begin : begin + 480].max() > 1000
    assert heard[silence - 24 : silence].max() < 100
    assert not heard[silence:end].any()
    assert line.inbound.stats.silence_ms >= 1000 * (end - silence) // RATE_HZ


class _Receiver:
    """A receiver that has heard everything before the loudest frame, packet number ``first``."""

    def __init__(self, pcm: bytes) -> None:
        self.inbound = new_inbound()
        self.first = loudest_frame(pcm)
        self._packets = RtpSender().talk(pcm)
        for number in range(self.first):
            assert self.frames(number - self.first) == 1

    def frames(self, after_first: int, *, late_s: float = 0.0) -> int:
        """How many frames become due by a packet that comes so late."""
        number = self.first + after_first
        pcm = self.inbound.receive_rtp(self._packets[number], START_S + number * 0.020 + late_s)
        return len(pcm) // FRAME_BYTES


def test_of_many_in_a_row_only_the_last_one_is_waited_for(speech_pcm: bytes) -> None:
    """When the packet behind three lost ones comes, two of them have been waited for; the third may still come."""
    receiver = _Receiver(speech_pcm)
    stats = receiver.inbound.stats
    assert (receiver.frames(3), receiver.inbound.held, stats.lost) == (2, 1, 2)
    assert (receiver.frames(2, late_s=0.025), stats.late) == (2, 0)  # and the one that was held behind it
    assert (receiver.frames(1, late_s=0.050), stats.late) == (0, 1)
    assert receiver.frames(4) == 1
    assert stats.concealed_ms == 40


@pytest.mark.parametrize(("released", "held_s"), [(3, 0.3), (3, 1.1), (12, 0.9), (20, 1.2)])
def test_behind_a_packet_that_is_late_itself_all_are_waited_for(
    released: int, held_s: float, speech_pcm: bytes
) -> None:
    """The network has held packets back, and does not let them go in their order: nothing is lost."""
    receiver = _Receiver(speech_pcm)
    stats = receiver.inbound.stats
    for tick in range(round(held_s / POLL_S)):
        receiver.inbound.poll(START_S + receiver.first * 0.020 + tick * POLL_S)
    for number in (released, *range(released), released + 1):
        receiver.frames(number, late_s=held_s - number * 0.020)
    assert (stats.lost, stats.late, receiver.inbound.held) == (0, 0, 0)


@pytest.mark.parametrize("frame_ms", [20, 60, 120])
def test_an_outage_is_as_long_as_it_was(frame_ms: int, speech_pcm: bytes) -> None:
    """Silence was given for packets that are lost; the next one comes late, on a network that is late now and then."""
    loud, lost = loudest_frame(speech_pcm) * 20 // frame_ms, 1200 // frame_ms
    delays = {number: 0.030 * (number % 2) for number in range(loud)}
    link = LossyLink(drop=range(loud, loud + lost), delay_s=delays | {loud + lost: 0.080})
    line = Line(link, RtpSender(FfmpegEncoder(frame_ms=frame_ms, has_fec=True), frame_ms=frame_ms))
    line.talk(speech_pcm[: (loud + lost + 6) * FRAME_BYTES * frame_ms // 20])
    line.finish()
    assert line.inbound.stats.lost == lost
    check_ledger(line, tolerance_ms=20)


def test_a_guess_in_pieces_ends_as_well(speech_pcm: bytes) -> None:
    """On a network that is late now and then a gap is filled piece by piece: all guesses together take 100 ms."""
    first = loudest_frame(speech_pcm) + 1
    delays = {number: 0.018 * (number % 2) for number in range(1000)}
    line = Line(LossyLink(drop=range(first, first + 8), delay_s=delays))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line, tolerance_ms=20)
    assert line.inbound.stats.concealed_ms <= 120  # the last one may come back by FEC


def test_the_delay_after_a_burst_is_that_before_it(speech_pcm: bytes) -> None:
    """300 ms in which everything comes late and in disorder: a second later packets are heard on arrival again."""
    late = {number: 0.300 - 0.01 * (number - 100) for number in range(100, 115)}
    line = Line(LossyLink(delay_s=late, drop={103, 107}))
    packets = line.sender.talk(speech_pcm * 2)
    line.send(packets[:115])
    line.send(packets[115:165])
    line.worst_lag_s = 0.0
    line.send(packets[165:])
    line.finish()
    check_ledger(line, tolerance_ms=20)
    assert line.worst_lag_s < 0.001
    assert line.inbound.wait_s < 0.030


class Metronome:
    """A decoder for an hour in seconds: each packet is 20 ms of sound."""

    def decode(self, payload: bytes) -> bytes:
        return bytes([1]) * FRAME_BYTES

    def has_fec(self, payload: bytes) -> bool:
        return False

    def recover(self, payload: bytes, samples: int) -> bytes:
        return bytes(2 * samples)

    def conceal(self, samples: int) -> bytes:
        return bytes(2 * samples)


@pytest.mark.long
@pytest.mark.parametrize("ppm", [-200, 0, 200])
def test_an_hour_is_an_hour(ppm: int) -> None:
    """With losses, jitter, pauses and a sender's clock 200 ppm off, the sound is never a frame away from RTP time."""
    inbound = InboundAudio(Metronome(), payload_type=PAYLOAD_TYPE, rate_hz=RATE_HZ)
    sender, chance = RtpSender(), np.random.default_rng(ppm + 200)
    arrival, polled_at = START_S, START_S
    heard_bytes = worst = checked = left = 0
    while sender.rtp_timestamp < HOUR_S * CLOCK_HZ:
        if left == 0:
            left = int(chance.integers(50, 400))
            sender.pause(20 * int(chance.integers(1, 200)) if checked else 0)
        left -= 1
        sent_at = START_S + sender.rtp_timestamp / CLOCK_HZ / (1 + ppm * 1e-6)
        packet = sender.send(b"x")
        if chance.random() < 0.03 and checked:
            continue
        arrival = max(arrival, sent_at + 0.010 * chance.random())
        while polled_at < arrival:
            heard_bytes += len(inbound.poll(polled_at))
            polled_at += POLL_S
        heard_bytes += len(inbound.receive_rtp(packet, arrival))
        if not inbound.held:
            worst = max(worst, abs(heard_bytes * CLOCK_HZ // (2 * RATE_HZ) - sender.rtp_timestamp))
            checked += 1
    assert worst <= sender.ticks
    assert checked > 50_000
    assert inbound.stats.lost > 1000
    assert inbound.stats.discontinuities == 0
