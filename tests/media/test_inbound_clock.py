"""Senders whose RTP clock does not count as it should: the sound is what was spoken, and pauses are what they were."""

import functools

import numpy as np
import pytest

from bridge.engine.turns import SpeechStopped, TurnDetector
from bridge.media.opus import new_decoder
from bridge.media.rtp import MAX_UINT32
from tests.fakes import FfmpegEncoder, LossyLink, RtpSender, likeness
from tests.media.line import FRAME_BYTES, RATE_HZ, Line, new_inbound, straight, whole_frames

pytestmark = pytest.mark.long

STEPS = [160, 320, 480, 960, 1440, 1920]
WAYS = ["own rate", "48 kHz", "standing still"]
MS = 2 * RATE_HZ // 1000


class Turns:
    """The real turn detector behind a line: when each turn ended, in ms of real time since the first packet."""

    def __init__(self, line: Line) -> None:
        self.ended_ms: list[float] = []
        self._detector = TurnDetector()
        self._line = line
        self._began: float | None = None
        line.on_heard = self._hear

    def _hear(self, pcm: bytes, at: float) -> None:
        if self._began is None:
            self._began = at
        stops = [edge for edge in self._detector.push(pcm) if isinstance(edge, SpeechStopped)]
        self.ended_ms += [(at - self._began) * 1000 for _ in stops]


def pause(line: Line, duration_ms: int, way: str) -> None:
    """No packets for so long; the sender's clock goes on in one way or another."""
    line.wait(duration_ms)
    sender = line.sender
    ticks = {"own rate": duration_ms * sender.ticks // 20, "48 kHz": duration_ms * 48, "standing still": 0}[way]
    sender.rtp_timestamp = (sender.rtp_timestamp + ticks) & MAX_UINT32


# Steps of any size


@pytest.mark.parametrize("jitter_s", [0.0, 0.015, 0.050])
@pytest.mark.parametrize("step", STEPS)
def test_a_steady_clock_of_any_rate(step: int, jitter_s: float, speech_pcm: bytes) -> None:
    """Speech, silence and speech again come out as they were spoken, whatever the clock steps for a packet."""
    spoken = speech_pcm + bytes(3000 * MS) + speech_pcm
    link = LossyLink.seeded(3, whole_frames(spoken) - 3, jitter_s=jitter_s)
    line = Line(link, RtpSender(step=step))
    line.talk(spoken)
    line.finish()
    assert line.heard_ms == pytest.approx(20 * whole_frames(spoken), abs=60 if jitter_s else 0.01)
    if not jitter_s:
        assert line.heard == straight(RtpSender(), spoken)
    assert line.inbound.stats.discontinuities == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", STEPS)
def test_pauses_are_real_whatever_the_clock_says(step: int, way: str, speech_pcm: bytes) -> None:
    """Silence is as long as no packet came, within a tenth of a second in all, and all that was spoken is heard."""
    line = Line(sender=RtpSender(step=step))
    for duration_ms in (700, 900, 1500, 3000, 20_000):
        line.talk(speech_pcm)
        pause(line, duration_ms, way)
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=100)
    assert line.inbound.stats.decoded_ms == 6 * 20 * whole_frames(speech_pcm)


@functools.cache
def turn_ends(speech_pcm: bytes, step: int, way: str | None) -> list[float]:
    """When three turns end; ``way`` is how the clock passes a pause, None for one that is sent."""
    line = Line(sender=RtpSender(step=step))
    turns = Turns(line)
    for duration_ms in (1500, 900, 1200):
        line.talk(speech_pcm)
        if way is None:
            line.talk(bytes(duration_ms * MS))
        else:
            pause(line, duration_ms, way)
    line.finish(after_s=0.0)
    return turns.ended_ms


@pytest.mark.parametrize("way", [None, *WAYS])
@pytest.mark.parametrize("step", STEPS)
def test_a_turn_ends_when_it_ends(step: int, way: str | None, speech_pcm: bytes) -> None:
    """The turns of real speech end at the same times, ± 100 ms, as with a clock that counts as it should."""
    usual = turn_ends(speech_pcm, 960, None if way is None else "48 kHz")
    assert len(usual) == 3
    assert turn_ends(speech_pcm, step, way) == pytest.approx(usual, abs=100)


@pytest.mark.parametrize("seed", range(4))
def test_a_clock_that_counts_at_random(seed: int, speech_pcm: bytes) -> None:
    """From packet to packet another step, on average too small or too large: 100 ms at most are added or lost."""
    chance = np.random.default_rng(seed)
    line = Line()
    for _ in range(10):
        for packet in line.sender.talk(speech_pcm):
            line.sender.ticks = int(chance.integers(160, 1920))
            line.send([packet[:4] + (line.sender.rtp_timestamp & MAX_UINT32).to_bytes(4, "big") + packet[8:]])
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=100)


@pytest.mark.parametrize("steps", [(960, 480, 960), (480, 1920, 160), (320, 960, 480)])
def test_a_clock_that_changes_in_the_call(steps: tuple[int, ...], speech_pcm: bytes) -> None:
    """After a transfer the clock runs at another rate: nothing is added, nothing is lost."""
    line = Line()
    for step in steps:
        line.sender.ticks = step
        line.talk(speech_pcm)
    pause(line, 1000, "own rate")
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=20)
    assert line.inbound.stats.decoded_ms == 20 * whole_frames(speech_pcm) * (len(steps) + 1)


@pytest.mark.parametrize("jump", [48_000, 5 * 48_000, 2**30, -(2**30), -48_000, -960])
def test_a_clock_that_jumps(jump: int, speech_pcm: bytes) -> None:
    """Packets go on in order and in time while their timestamps jump: that is no pause."""
    line = Line()
    line.talk(speech_pcm)
    line.sender.rtp_timestamp = (line.sender.rtp_timestamp + jump) & MAX_UINT32
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=0.01)


@pytest.mark.parametrize("wobble", [10, 240, 900])
def test_a_clock_that_wobbles(wobble: int, speech_pcm: bytes) -> None:
    """Timestamps taken from a wall clock are up to 19 ms off: what is added in a minute is less than 60 ms."""
    chance = np.random.default_rng(wobble)
    line = Line()
    for _ in range(12):
        for packet in line.sender.talk(speech_pcm):
            off = int(chance.integers(-wobble, wobble))
            stamp = (int.from_bytes(packet[4:8], "big") + off) & MAX_UINT32
            line.send([packet[:4] + stamp.to_bytes(4, "big") + packet[8:]])
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=60)


# Losses


@pytest.mark.parametrize("step", STEPS)
def test_a_loss_is_as_long_as_it_was(step: int, speech_pcm: bytes) -> None:
    """What is lost is concealed for as long as it would have played, whatever the clock says of it."""
    line = Line(LossyLink(drop={60, 61, 100, 140, 141, 142}), RtpSender(step=step))
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms == pytest.approx(20 * whole_frames(speech_pcm), abs=0.01)
    assert line.inbound.stats.concealed_ms == 6 * 20
    assert likeness(line.heard, straight(RtpSender(), speech_pcm))[0] > 0.9


@pytest.mark.parametrize("step", [480, 1920, 3840])
def test_fec_gives_back_a_whole_frame(step: int, speech_pcm: bytes) -> None:
    """A lost packet comes back from the next one as well as with a clock that counts as it should."""

    def heard(step: int) -> bytes:
        encoder = FfmpegEncoder(frame_ms=20, has_fec=True)
        line = Line(LossyLink(drop=range(9, 1000, 6)), RtpSender(encoder, step=step))
        line.talk(speech_pcm)
        line.finish()
        assert line.inbound.stats.recovered > 10
        return line.heard

    assert heard(step) == heard(960)


@pytest.mark.parametrize("step", STEPS)
def test_disorder(step: int, speech_pcm: bytes) -> None:
    """Packets that change places are put in order, and nothing is added for it."""
    line = Line(LossyLink(delay_s=dict.fromkeys(range(17, 200, 10), 0.030)), RtpSender(step=step))
    line.talk(speech_pcm)
    line.finish()
    assert line.heard == straight(RtpSender(), speech_pcm)


@pytest.mark.parametrize("step", [160, 480, 1920])
def test_an_outage(step: int, speech_pcm: bytes) -> None:
    """When the network is back after two seconds, they have been heard as two, and all that came is heard."""
    line = Line(LossyLink(drop=range(100, 200)), RtpSender(step=step))
    line.talk(speech_pcm * 2)
    line.finish()
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=60)
    assert line.inbound.stats.decoded_ms == 20 * (whole_frames(speech_pcm * 2) - 100)
    assert line.inbound.stats.discontinuities == 0


@pytest.mark.parametrize("step", [160, 480, 1920])
def test_jitter_is_the_networks(step: int, speech_pcm: bytes) -> None:
    """A clock of another rate is no jitter: gaps are waited for no longer than with the usual one."""
    line = Line(sender=RtpSender(step=step))
    line.talk(speech_pcm)
    assert line.inbound.stats.jitter_ms < 1
    assert line.inbound.wait_s < 0.025


# A clock that stands still


@pytest.mark.parametrize("pause_ms", [700, 900, 1500])
def test_a_mute_ends_a_turn_although_rtp_time_stands_still(pause_ms: int, speech_pcm: bytes) -> None:
    """Two seconds of speech, five times, without packets in between: five turns."""
    line = Line()
    turns = Turns(line)
    for _ in range(5):
        line.talk(speech_pcm[: 2000 * MS])
        line.wait(pause_ms)
    line.finish()
    assert len(turns.ended_ms) == 5
    assert line.heard_ms == pytest.approx(line.sent_ms, abs=100)


def test_a_wrong_clock_touches_no_sample(speech_pcm: bytes) -> None:
    """From the first packet on each one's sound is the decoder's, also before the clock's rate is known."""
    decoder = new_decoder(RATE_HZ)
    inbound = new_inbound()
    for number, packet in enumerate(RtpSender(step=160).talk(speech_pcm[: 100 * FRAME_BYTES])):
        assert inbound.receive_rtp(packet, 5.0 + number * 0.020) == decoder.decode(packet[12:])
