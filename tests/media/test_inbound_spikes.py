"""A network that holds packets back and then delivers them at once, as Wi-Fi does: speech stays whole, pauses true."""

import numpy as np
import pytest

from bridge.engine.turns import SpeechStopped, TurnDetector
from tests.fakes import LossyLink, RtpSender
from tests.media.line import FRAME_BYTES, RATE_HZ, START_S, Line, check_ledger, new_inbound, straight, whole_frames
from tests.media.test_inbound_loss import loudest_frame

pytestmark = pytest.mark.long

MS = 2 * RATE_HZ // 1000
DTX = b"\xf8"  # 20 ms of nothing: libopus' last packet before it sends no more


def held_back(*spikes: int, duration_ms: int = 500) -> LossyLink:
    """From packet number ``spikes`` on everything is held back for so long, and then comes at once."""
    frames = duration_ms // 20
    return LossyLink(delay_s={first + n: (frames - n) * 0.020 for first in spikes for n in range(frames)})


def with_noise(pcm: bytes, level_db: float = -40.0, seed: int = 0) -> bytes:
    """White noise of so much RMS below full scale, added."""
    noise = np.random.default_rng(seed).normal(0, 32768 * 10 ** (level_db / 20), len(pcm) // 2)
    return np.clip(np.frombuffer(pcm, "<i2") + noise, -32768, 32767).astype("<i2").tobytes()


def rms(pcm: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm, "<i2").astype(np.float64) ** 2)))


# In the middle of a word


def test_a_word_is_not_torn_apart(speech_pcm: bytes) -> None:
    """Held back for half a second wherever the sound is loud: every sample is heard as it was, and none more."""
    whole = straight(RtpSender(), speech_pcm)
    loud = [n for n in range(20, 170) if rms(whole[(n - 1) * FRAME_BYTES : n * FRAME_BYTES]) > 1000]
    assert len(loud) > 50
    for first in loud:
        line = Line(held_back(first))
        line.talk(speech_pcm)
        line.finish()
        assert line.heard == whole
        assert (line.inbound.stats.concealed_ms, line.inbound.stats.silence_ms) == (0, 0)


@pytest.mark.parametrize("step", [160, 480, 1920])
def test_a_word_is_not_torn_apart_with_any_clock(step: int, speech_pcm: bytes) -> None:
    """The same hold on a line whose RTP clock runs at another rate."""
    first = loudest_frame(speech_pcm) + 1
    line = Line(held_back(first), RtpSender(step=step))
    line.talk(speech_pcm)
    line.finish()
    assert line.heard == straight(RtpSender(), speech_pcm)


def test_a_hold_with_losses_costs_no_time(speech_pcm: bytes) -> None:
    """What is lost among the packets that were held back is concealed, and nothing else is added."""
    first = loudest_frame(speech_pcm)
    frames = {first + n: (25 - n) * 0.020 for n in range(25)}
    line = Line(LossyLink(delay_s=frames, drop={first + 3, first + 4, first + 20}))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.concealed_ms == 3 * 20


@pytest.mark.parametrize("first", range(20, 180, 8))
def test_a_long_hold_is_made_up_for(first: int, speech_pcm: bytes) -> None:
    """After 900 ms a turn ends at most 300 ms later for it, and the stream is soon as long as RTP time again."""
    spoken = speech_pcm + bytes(1500 * MS)

    def new_line(link: LossyLink) -> tuple[Line, list[float]]:
        ended: list[float] = []
        line, detector = Line(link), TurnDetector()

        def hear(pcm: bytes, at: float) -> None:
            ended.extend(at - START_S for edge in detector.push(pcm) if isinstance(edge, SpeechStopped))

        line.on_heard = hear
        line.talk(spoken)
        line.finish()
        return line, ended

    line, ended = new_line(held_back(first, duration_ms=900))
    _, usual = new_line(LossyLink())
    all_here = first * 0.020 + 0.900
    assert ended[-1] <= max(usual[-1], all_here + 0.500) + 0.300
    assert line.heard_ms - line.rtp_ms < 900 - 80
    line.talk(spoken)
    line.finish()
    assert line.heard_ms == pytest.approx(line.rtp_ms, abs=150)


# Pauses begin in time


def turn_end_ms(packets: list[bytes], spoken_ms: float, *, frame_ms: int = 20) -> float:
    """How long after the last packet a turn ends whose sender sends no more."""
    inbound, detector = new_inbound(), TurnDetector()
    now, at = START_S, 0
    while now < START_S + 10:
        pcm = b""
        if at < len(packets):
            pcm = inbound.receive_rtp(packets[at], now)
            at += 1
        pcm += inbound.poll(now)
        if any(isinstance(edge, SpeechStopped) for edge in detector.push(pcm)):
            return (now - START_S) * 1000 - len(packets) * frame_ms
        now += frame_ms / 1000
    raise AssertionError("the turn never ended")


def test_a_mute_in_a_word_ends_the_turn_soon(speech_pcm: bytes) -> None:
    """Packets that stop for good in mid-word end the turn 0.6 s later, when 500 ms of silence have to be heard."""
    loud = (loudest_frame(speech_pcm) + 1) * FRAME_BYTES
    packets = RtpSender().talk(speech_pcm[:loud])
    assert turn_end_ms(packets, 0) <= 800


def test_dtx_ends_the_turn_in_time(speech_pcm: bytes) -> None:
    """A sender that announces silence in mid-word is believed after 0.2 s, also on a noisy line."""
    for pcm in (speech_pcm, with_noise(speech_pcm)):
        sender = RtpSender()
        packets = sender.talk(pcm[: (loudest_frame(pcm) + 1) * FRAME_BYTES]) + [sender.send(DTX)]
        inbound = new_inbound()
        now = START_S
        for packet in packets:
            inbound.receive_rtp(packet, now)
            now += 0.020
        assert not inbound.poll(now + 0.150)
        assert inbound.poll(now + 0.190)


@pytest.mark.parametrize("level_db", [None, -60, -45, -40])
def test_a_stream_that_stops_in_a_pause_is_silent_soon(level_db: float | None, speech_pcm: bytes) -> None:
    """If the last sound was no more than the line's noise, silence begins after 0.2 s."""
    spoken = speech_pcm * 4 + bytes(300 * MS)
    inbound = new_inbound()
    now = START_S
    for packet in RtpSender().talk(spoken if level_db is None else with_noise(spoken, level_db)):
        inbound.receive_rtp(packet, now)
        now += 0.020
    assert not inbound.poll(now + 0.150)
    assert inbound.poll(now + 0.190)


# A noisy line


@pytest.mark.parametrize("duration_ms", [300, 400, 500])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level_db", [-60, -40, -35])
def test_a_noisy_line_with_spikes_gets_no_longer(
    level_db: float, seed: int, duration_ms: int, speech_pcm: bytes
) -> None:
    """Seventeen times everything is held back: the stream ends at most 100 ms longer than RTP time."""
    spoken = with_noise((speech_pcm + bytes(1500 * MS)) * 9, level_db, seed)
    frames = whole_frames(spoken)
    chance = np.random.default_rng(seed)
    spikes = [20 + int(n * (frames - 120) / 17 + chance.integers(0, 60)) for n in range(17)]
    line = Line(held_back(*spikes, duration_ms=duration_ms))
    line.talk(spoken)
    line.finish()
    assert line.heard_ms - line.rtp_ms == pytest.approx(0, abs=100)
