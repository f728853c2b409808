"""A call's sound for players: live packets go on at once, answers wait for their time, both are mixed once."""

import numpy as np
import pytest

from bridge.media.broadcast import AnswerGate, LiveTrack, MixedTrack, PacedTrack
from bridge.media.compress import OpusCompressor
from bridge.media.opus import new_decoder, new_encoder

_HZ = 24_000
_TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(_HZ) / _HZ)).astype("<i2").tobytes()
_PACKETS = OpusCompressor().push(_TONE)  # 50 of 20 ms


def test_live_packets_keep_their_time() -> None:
    """Each goes on as it came: numbers without a gap, timestamps those of the track, the first one marked."""
    track = LiveTrack(7, tells_pauses=True)
    sent = [packet for at in range(10) for packet in track.push(_PACKETS[at], 5000 + at * 960, at * 0.02)]
    assert [packet.sequence for packet in sent] == list(range(10))
    assert [packet.rtp_timestamp for packet in sent] == [960 * at for at in range(10)]
    assert [packet.is_marked for packet in sent] == [True] + 9 * [False]
    assert [packet.payload for packet in sent] == _PACKETS[:10]


def test_live_losses_stay_losses() -> None:
    """What was lost leaves its numbers out, so that the receiver conceals; a pause leaves none out."""
    track = LiveTrack(7, tells_pauses=True)
    track.push(_PACKETS[0], 0, 0.0)
    track.lose()
    (after_loss,) = track.push(_PACKETS[1], 4 * 960, 0.08)
    assert (after_loss.sequence, after_loss.rtp_timestamp, after_loss.is_marked) == (4, 4 * 960, False)
    (after_pause,) = track.push(_PACKETS[2], 50 * 960, 1.0)
    assert (after_pause.sequence, after_pause.rtp_timestamp, after_pause.is_marked) == (5, 50 * 960, True)


def test_live_sound_whose_track_stood_still() -> None:
    """A telephone that sent nothing for a second was silent for a second."""
    track = LiveTrack(7, tells_pauses=False)
    track.push(_PACKETS[0], 0, 0.0)
    (packet,) = track.push(_PACKETS[1], 960, 1.02)
    assert (packet.sequence, packet.rtp_timestamp, packet.is_marked) == (1, 51 * 960, True)
    (packet,) = track.push(_PACKETS[2], 1920, 1.04)
    assert (packet.rtp_timestamp, packet.is_marked) == (52 * 960, False)
    assert track.push(b"", 2880, 1.06) == []


def test_live_packets_that_come_late() -> None:
    """A browser's packets that were held up for a second keep their time: that was no pause."""
    track = LiveTrack(7, tells_pauses=True)
    track.push(_PACKETS[0], 0, 0.0)
    (packet,) = track.push(_PACKETS[1], 960, 1.02)
    assert (packet.sequence, packet.rtp_timestamp, packet.is_marked) == (1, 960, False)


def test_answers_take_their_time() -> None:
    """However fast they come, one packet is due each tick; after silence the next one is marked, in time."""
    track = PacedTrack(7)
    for payload in _PACKETS[:5]:
        track.push(payload)
    ticks = [track.tick() for _ in range(8)]
    assert [len(sent) for sent in ticks] == [1, 1, 1, 1, 1, 0, 0, 0]
    track.push(_PACKETS[5])
    (packet,) = track.tick()
    assert (packet.sequence, packet.rtp_timestamp - ticks[0][0].rtp_timestamp, packet.is_marked) == (5, 8 * 960, True)
    track.skip(10)
    track.push(_PACKETS[6])
    (later,) = track.tick()
    assert later.rtp_timestamp - packet.rtp_timestamp == 11 * 960


def test_answers_are_cut_and_bounded() -> None:
    """What is cut is not heard, nor is what is more than ten minutes."""
    track = PacedTrack(7)
    for _ in range(602):
        for payload in _PACKETS:
            track.push(payload)
    assert track.dropped_ms == 2000
    assert track.tick(may_play=False) == []
    assert len(track.tick()) == 1
    track.cut()
    assert (track.tick(), track.is_waiting) == ([], False)


def test_longer_packets() -> None:
    """A packet of 60 ms is followed by the next one after 60 ms."""
    long = b"\x0b\x03" + bytes(60)  # SILK, 20 ms, three frames
    track = PacedTrack(7)
    track.push(long)
    track.push(long)
    assert [len(track.tick()) for _ in range(6)] == [1, 0, 0, 1, 0, 0]


def test_the_gate() -> None:
    """An answer waits for the leg to play it, for a second at most, and is heard to its end after the leg has."""
    gate = AnswerGate()
    assert not gate.lets_through(is_waiting=True)
    gate.begin()
    assert gate.lets_through(is_waiting=True)
    assert not gate.lets_through(is_waiting=False)
    assert gate.lets_through(is_waiting=True)  # it comes in pieces
    gate.end()
    assert gate.lets_through(is_waiting=True)
    assert not gate.lets_through(is_waiting=False)
    assert not gate.lets_through(is_waiting=True)
    gate.begin()
    gate.close()
    held = [gate.lets_through(is_waiting=True) for _ in range(51)]
    assert held == 50 * [False] + [True]


def _sound(packets: list[bytes]) -> np.ndarray:
    decoder = new_decoder(_HZ)
    return np.frombuffer(b"".join(map(decoder.decode, packets)), "<i2").astype(float)


@pytest.mark.parametrize(("caller", "answer"), [(True, False), (False, True), (True, True)])
def test_both_sides_are_mixed(caller: bool, answer: bool) -> None:
    """One packet a tick has whoever sounds, or both; when both are silent, it fades out and stops."""
    track = MixedTrack(new_encoder(_HZ), 7, rate_hz=_HZ, is_live=False)
    other = (8000 * np.sin(2 * np.pi * 1000 * np.arange(_HZ) / _HZ)).astype("<i2").tobytes()
    if caller:
        track.add_caller_sound(_TONE)
    if answer:
        track.add_answer_sound(other)
    sent = [packet for _ in range(100) for packet in track.tick()]
    assert len(sent) == 60
    assert [packet.is_marked for packet in sent] == [True] + 59 * [False]
    spectrum = np.abs(np.fft.rfft(_sound([packet.payload for packet in sent])[6000:18_000]))
    loud = {hz for hz in (440, 1000) if spectrum[hz // 2] > spectrum.max() / 4}
    assert loud == ({440} if caller else set()) | ({1000} if answer else set())


def test_mixed_live_sound_is_not_kept() -> None:
    """A live caller's sound that came in a heap is not heard late; an answer that waits is held and cut."""
    track = MixedTrack(new_encoder(_HZ), 7, rate_hz=_HZ, is_live=True)
    track.add_caller_sound(_TONE)
    assert len([1 for _ in range(100) if track.tick()]) == 2 + 10
    track.add_answer_sound(_TONE)
    assert track.tick(may_play=False) == []
    assert track.is_waiting
    track.cut()
    assert track.tick() == []
    for _ in range(121):
        track.add_answer_sound(_TONE)
    assert track.dropped_ms == 1000


def test_loud_sides_do_not_overflow() -> None:
    """Two full waves are clipped, not wrapped around."""
    full = np.full(480, 32_000, "<i2").tobytes()
    track = MixedTrack(new_encoder(_HZ), 7, rate_hz=_HZ, is_live=True)
    track.add_caller_sound(2 * full)
    track.add_answer_sound(2 * full)
    sound = _sound([packet.payload for _ in range(2) for packet in track.tick()])
    assert sound[400:].min() > 0
