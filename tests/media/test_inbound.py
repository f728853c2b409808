"""Inbound sound over bad networks: real speech, and at the end of every case as much of it as RTP time has passed."""

import pytest

from bridge.media.opus import new_decoder
from tests.fakes import FfmpegEncoder, LossyLink, RtpSender, likeness
from tests.media.line import (
    FRAME_BYTES,
    POLL_S,
    RATE_HZ,
    START_S,
    Line,
    check_ledger,
    new_inbound,
    straight,
    whole_frames,
)

# In order


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_what_comes_in_order_is_heard_on_arrival(frame_ms: int, layout: str, speech_pcm: bytes) -> None:
    """Each packet, of any length, mono or stereo, is decoded when it arrives, and nothing is added or left out."""
    sender = RtpSender(FfmpegEncoder(frame_ms=frame_ms, layout=layout), frame_ms=frame_ms)
    inbound, decoder = new_inbound(), new_decoder(RATE_HZ)
    heard = b""
    for number, packet in enumerate(sender.talk(speech_pcm)):
        pcm = inbound.receive_rtp(packet, START_S + number * frame_ms / 1000)
        assert pcm == decoder.decode(packet[12:])
        assert len(pcm) == sender.frame_bytes
        heard += pcm
    assert likeness(heard, speech_pcm)[0] > 0.95
    assert inbound.stats.packets * frame_ms == inbound.stats.decoded_ms
    assert (inbound.stats.lost, inbound.stats.late, inbound.stats.concealed_ms) == (0, 0, 0)


@pytest.mark.parametrize("sequence", [0, 65_530, 65_535])
@pytest.mark.parametrize("rtp_timestamp", [0, 2**32 - 960 * 7, 2**32 - 1, 2**31 - 480])
def test_numbers_wrap(sequence: int, rtp_timestamp: int, speech_pcm: bytes) -> None:
    """Where sequence numbers and timestamps start, and when they wrap, makes no difference, not even in a loss."""
    usual = Line(LossyLink(drop={6}, delay_s={3: 0.03}))
    wrapped = Line(LossyLink(drop={6}, delay_s={3: 0.03}), RtpSender(sequence=sequence, rtp_timestamp=rtp_timestamp))
    for line in (usual, wrapped):
        line.talk(speech_pcm)
        line.finish()
        check_ledger(line)
    assert wrapped.heard == usual.heard
    assert wrapped.inbound.stats.lost == 1


@pytest.mark.parametrize("pace", [1.0005, 0.9995])
def test_drift_is_followed(pace: float, speech_pcm: bytes) -> None:
    """A sender whose clock runs 500 ppm off is heard in its own time, through pauses too."""
    line = Line()
    for _ in range(5):
        line.talk(speech_pcm, pace=pace)
        line.pause(700, pace=pace)
    line.talk(speech_pcm, pace=pace)
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.packets == 6 * whole_frames(speech_pcm)


# Lost, late, reordered, doubled


@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_a_loss_costs_no_time(frame_ms: int, layout: str, speech_pcm: bytes) -> None:
    """Lost packets of any length are concealed for as long as they were; all that arrived is heard."""
    encoder = FfmpegEncoder(frame_ms=frame_ms, layout=layout)
    line = Line(LossyLink(drop=range(5, 10_000, 12)), RtpSender(encoder, frame_ms=frame_ms))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    stats = line.inbound.stats
    assert stats.decoded_ms == stats.packets * frame_ms
    assert stats.concealed_ms == stats.lost * frame_ms
    assert stats.lost > 5


@pytest.mark.parametrize("burst", [1, 2, 3, 5, 8, 20])
def test_a_burst_costs_no_time(burst: int, speech_pcm: bytes) -> None:
    """Up to 400 ms lost in one go become as much sound, and what follows is heard soon after it arrived."""
    line = Line(LossyLink(drop=range(100, 100 + burst)))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    stats = line.inbound.stats
    behind = RtpSender().talk(speech_pcm)[100 + burst][12:]
    assert (stats.lost, stats.recovered) == (burst, int(new_decoder(RATE_HZ).has_fec(behind)))
    assert line.worst_lag_s <= burst * 0.020 + 0.060
    after = (100 + burst + 3) * FRAME_BYTES
    assert likeness(line.heard[after:], straight(RtpSender(), speech_pcm)[after:])[0] > 0.98


@pytest.mark.parametrize("outage_ms", [1000, 1400, 3000, 5000])
def test_an_outage_costs_no_time(outage_ms: int, speech_pcm: bytes) -> None:
    """When the network is back after seconds, sound time is RTP time still, and no packet that came is thrown away."""
    lost = range(100, 100 + outage_ms // 20)
    line = Line(LossyLink(drop=lost))
    line.talk(speech_pcm * 3)
    line.finish()
    check_ledger(line, tolerance_ms=20)
    stats = line.inbound.stats
    assert stats.lost == len(lost)
    assert stats.decoded_ms == 20 * (3 * len(speech_pcm) // FRAME_BYTES - len(lost))


def test_a_reordered_packet_is_waited_for(speech_pcm: bytes) -> None:
    """Neighbours that change places are heard in their order, as if nothing had been, and soon."""
    line = Line(LossyLink(delay_s=dict.fromkeys(range(7, 200, 10), 0.030)))
    line.talk(speech_pcm)
    assert line.finish() == straight(RtpSender(), speech_pcm)
    check_ledger(line)
    stats = line.inbound.stats
    assert (stats.lost, stats.late, stats.concealed_ms) == (0, 0, 0)
    assert line.worst_lag_s <= 0.031


def test_whole_runs_may_change_places(speech_pcm: bytes) -> None:
    """Several packets overtake several others, and are held until those have come."""
    line = Line(LossyLink(delay_s={50: 0.055, 51: 0.036, 52: 0.017, 90: 0.049, 91: 0.028}))
    line.inbound.poll(START_S)
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)


def test_a_late_packet_is_not_heard_twice(speech_pcm: bytes) -> None:
    """What comes after its time was concealed is counted and left out."""
    line = Line(LossyLink(delay_s={50: 0.150, 100: 0.300, 150: 1.0}))
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    stats = line.inbound.stats
    assert (stats.lost, stats.late, stats.concealed_ms) == (3, 3, 60)


def test_doubles_are_heard_once(speech_pcm: bytes) -> None:
    """A packet that comes twice, at once or later, in order or held, counts once."""
    doubles = range(0, 200, 3)
    line = Line(LossyLink(double=doubles, delay_s={50: 0.030}))
    line.talk(speech_pcm)
    assert line.finish() == straight(RtpSender(), speech_pcm)
    check_ledger(line)
    assert line.inbound.stats.late == len(doubles)


@pytest.mark.parametrize("seed", range(12))
def test_a_bad_network(seed: int, speech_pcm: bytes) -> None:
    """Loss, jitter, reordering and doubles together: sound time is RTP time, and speech is speech."""
    link = LossyLink.seeded(seed, 2 * whole_frames(speech_pcm) - 10, loss=0.05, jitter_s=0.045, doubles=0.05)
    line = Line(link)
    line.talk(speech_pcm * 2)
    line.finish()
    check_ledger(line, tolerance_ms=20)
    stats = line.inbound.stats
    assert link.dropped <= stats.lost <= link.dropped + 12
    assert likeness(line.heard, straight(RtpSender(), speech_pcm * 2))[0] > 0.8
    assert line.worst_lag_s < 0.250


@pytest.mark.parametrize("seed", range(4))
def test_waiting_does_not_add_up(seed: int, speech_pcm: bytes) -> None:
    """With much jitter and a loss every few packets, each gap is waited for once: the delay stays bounded."""
    line = Line(LossyLink.seeded(seed, 4 * whole_frames(speech_pcm) - 10, loss=0.2, jitter_s=0.100))
    line.talk(speech_pcm * 4)
    line.finish()
    check_ledger(line, tolerance_ms=20)
    assert line.worst_lag_s < 0.120 + 0.100 + 0.080


def test_the_wait_follows_the_jitter(speech_pcm: bytes) -> None:
    """A steady network is waited for 20 ms, a jittery one longer, none for more than 120 ms."""
    waits = []
    for jitter_s in (0.0, 0.010, 0.060, 0.400):
        line = Line(LossyLink.seeded(1, 1000, jitter_s=jitter_s))
        line.talk(speech_pcm)
        waits.append(line.inbound.wait_s)
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.020)
    assert 0.025 < waits[1] < 0.050
    assert waits[-1] == pytest.approx(0.120)


def test_jitter_is_that_of_the_rfc(speech_pcm: bytes) -> None:
    """Every other packet 10 ms late is, by RFC 3550's formula, a jitter of 10 ms."""
    line = Line(LossyLink(delay_s=lambda number: 0.010 * (number % 2)))
    line.talk(speech_pcm)
    assert line.inbound.stats.jitter_ms == pytest.approx(10, abs=0.1)


# Silence


@pytest.mark.parametrize("pause_ms", [20, 100, 180, 220, 400, 700, 950])
@pytest.mark.parametrize("is_polled", [True, False])
def test_a_pause_is_as_long_as_it_was(pause_ms: int, is_polled: bool, speech_pcm: bytes) -> None:
    """Where the sender sent nothing (DTX), silence of the same length is heard, also by who polls for nothing."""
    sender, inbound = RtpSender(), new_inbound()
    line = Line(sender=sender)
    if is_polled:
        line.talk(speech_pcm)
        line.pause(pause_ms)
        line.talk(speech_pcm)
        heard = line.finish()
        check_ledger(line)
    else:
        first = sender.talk(speech_pcm)
        sender.pause(pause_ms)
        sent = [(packet, number * 0.020) for number, packet in enumerate(first)]
        resumed = len(first) * 0.020 + pause_ms / 1000
        sent += [(packet, resumed + number * 0.020) for number, packet in enumerate(sender.talk(speech_pcm))]
        heard = b"".join(inbound.receive_rtp(packet, START_S + at) for packet, at in sent)
    silence = bytes(2 * RATE_HZ * pause_ms // 1000)
    same = RtpSender()
    first_heard, second_heard = straight(same, speech_pcm), b""
    decoder = new_decoder(RATE_HZ)
    for packet in RtpSender().talk(speech_pcm):
        decoder.decode(packet[12:])
    second_heard = b"".join(decoder.decode(packet[12:]) for packet in same.talk(speech_pcm))
    assert heard == first_heard + silence + second_heard


def test_a_pause_is_heard_while_it_lasts(speech_pcm: bytes) -> None:
    """Silence comes in real time, not when speech comes back: who measures pauses hears this one end its turn."""
    line = Line()
    line.talk(speech_pcm)
    spoken_ms = line.heard_ms
    line.pause(5000)
    line.finish()
    assert line.heard_ms == pytest.approx(spoken_ms + 5000, abs=120)
    assert line.worst_lag_s < 0.250


@pytest.mark.parametrize("muted_ms", [1500, 5000, 60_000])
def test_a_muted_track(muted_ms: int, speech_pcm: bytes) -> None:
    """A track that was muted for seconds was silent for so long, to the sample."""
    line = Line()
    line.talk(speech_pcm)
    line.pause(muted_ms)
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.silence_ms == muted_ms


def test_a_loss_at_either_end_of_a_pause(speech_pcm: bytes) -> None:
    """The last packet before a pause and the first one after it are lost, and no time is."""
    count = whole_frames(speech_pcm)
    line = Line(LossyLink(drop={count - 1, count}))
    line.talk(speech_pcm)
    line.pause(3000)
    line.talk(speech_pcm)
    line.finish()
    check_ledger(line)
    assert line.inbound.stats.lost == 2


def test_a_sender_that_stops_its_clock_in_a_pause(speech_pcm: bytes) -> None:
    """A pause is heard although its RTP time did not pass, and the next one is as long as it was."""
    line = Line()
    line.talk(speech_pcm)
    line.wait(500)
    line.talk(speech_pcm)
    assert line.inbound.stats.silence_ms == pytest.approx(500, abs=21)
    line.pause(900)
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms == pytest.approx(line.rtp_ms + 500, abs=21)
    assert line.inbound.stats.decoded_ms == 3 * 20 * whole_frames(speech_pcm)


def test_a_long_pause_without_clock_is_a_new_timeline(speech_pcm: bytes) -> None:
    """Five seconds that RTP time does not know are not made up for, and nothing spoken is lost to them."""
    line = Line()
    line.talk(speech_pcm)
    line.wait(5000)
    line.talk(speech_pcm)
    line.finish()
    assert line.heard_ms - line.rtp_ms == pytest.approx(5000, abs=120)
    assert line.inbound.stats.decoded_ms == 2 * 20 * whole_frames(speech_pcm)
    assert line.inbound.stats.discontinuities == 1


def test_nothing_is_heard_before_the_first_packet() -> None:
    """There is no silence of a peer that never spoke."""
    inbound = new_inbound()
    assert not any(inbound.poll(START_S + at * POLL_S) for at in range(1000))


@pytest.mark.parametrize("ticks", [1, 7, 333, 1001, 2881])
def test_timestamps_of_any_size_around_a_loss(ticks: int, speech_pcm: bytes) -> None:
    """A gap that no Opus frame has the length of is filled to the sample."""
    line = Line(LossyLink(drop={100}))
    line.talk(speech_pcm[: 100 * FRAME_BYTES])
    line.sender.rtp_timestamp += ticks
    line.talk(speech_pcm[100 * FRAME_BYTES :])
    line.finish()
    assert line.heard_ms == pytest.approx(line.rtp_ms, abs=0.1)
