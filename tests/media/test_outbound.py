"""Outbound sound: a packet for each 20 ms, in RTP's time, and what that means for the listener."""

import numpy as np
import pytest

from bridge.media.extensions import HeaderExtensions
from bridge.media.opus import MAX_BITRATE, new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.playback import Heard, Part, Played, Started, Stopped
from bridge.media.red import parse_red
from bridge.media.rtp import MAX_UINT32, parse_rtp
from tests.fakes import likeness

RATE_HZ = 24_000
FRAME_BYTES = 2 * RATE_HZ // 50
TICKS = 960
TAIL_FRAMES = 10
PART = Part("resp_1", "item_1", 0, 0)

Tick = tuple[bytes | None, list[Played]]


def new_outbound(*, limit_s: int = 60, sequence: int = 0, rtp_timestamp: int = 0) -> OutboundAudio:
    return OutboundAudio(
        new_encoder(RATE_HZ),
        rate_hz=RATE_HZ,
        payload_type=111,
        ssrc=0x5EED,
        sequence=sequence,
        rtp_timestamp=rtp_timestamp,
        limit_s=limit_s,
    )


def warmed_up(**settings: int) -> OutboundAudio:
    """One whose first silence, which opens the path, has gone out."""
    outbound = new_outbound(**settings)
    while not outbound.is_idle:
        outbound.tick()
    outbound.tick()
    return outbound


def ticks(outbound: OutboundAudio, count: int) -> list[Tick]:
    return [outbound.tick() for _ in range(count)]


def packets(said: list[Tick]) -> list[bytes]:
    return [packet for packet, _ in said if packet is not None]


def events(said: list[Tick]) -> list[Played]:
    return [event for _, happened in said for event in happened]


def is_marked(packet: bytes) -> bool:
    return bool(packet[1] & 0x80)


def timestamps(sent: list[bytes]) -> list[int]:
    headers = [parse_rtp(packet) for packet in sent]
    return [header[2] for header in headers if header is not None]


def heard(sent: list[bytes]) -> bytes:
    decoder = new_decoder(RATE_HZ)
    return b"".join(decoder.decode(packet[12:]) for packet in sent)


def loudest(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(int)).max())


def test_silence_opens_the_path() -> None:
    """A fresh leg sends a little silence, then nothing, and says so."""
    outbound = new_outbound()
    said = ticks(outbound, TAIL_FRAMES + 5)
    assert len(packets(said)) == TAIL_FRAMES
    assert [is_marked(packet) for packet in packets(said)] == [True] + [False] * (TAIL_FRAMES - 1)
    assert loudest(heard(packets(said))) < 10
    assert outbound.is_idle
    assert events(said) == []


def test_a_packet_every_tick(speech_pcm: bytes) -> None:
    """Sound pushed in one go leaves in frames of 20 ms, numbered and timed without a gap, and is the sound."""
    outbound = new_outbound(sequence=65_500, rtp_timestamp=2**32 - 50 * TICKS)
    outbound.push(PART, speech_pcm)
    frames = -(-len(speech_pcm) // FRAME_BYTES)
    said = ticks(outbound, frames)
    sent = packets(said)
    assert len(sent) == frames == outbound.packets
    for number, packet in enumerate(sent):
        header = parse_rtp(packet)
        assert header is not None
        assert header[:4] == (
            111,
            (65_500 + number) & 0xFFFF,
            (2**32 - 50 * TICKS + number * TICKS) & MAX_UINT32,
            0x5EED,
        )
        assert is_marked(packet) == (number == 0)
    assert likeness(heard(sent), speech_pcm)[0] > 0.9
    assert events(said) == [Started("resp_1")]


@pytest.mark.parametrize("piece_bytes", [2, 14, 958, 960, 962, 4800, 10_000_000])
def test_the_size_of_the_pieces_makes_no_difference(piece_bytes: int, speech_pcm: bytes) -> None:
    """However sound is cut when it is pushed, the very same packets leave."""
    speech = speech_pcm[:96_000]
    whole, pieces = new_outbound(), new_outbound()
    whole.push(PART, speech)
    for at in range(0, len(speech), piece_bytes):
        pieces.push(PART, speech[at : at + piece_bytes])
    assert ticks(pieces, 120) == ticks(whole, 120)


def test_an_hour_in_one_piece_is_read_in_place() -> None:
    """Ticks of a huge piece cost what ticks of a small one do: 60 MB are not moved for each."""
    outbound = new_outbound(limit_s=3600)
    outbound.push(PART, bytes(2 * RATE_HZ * 1200))
    assert len(packets(ticks(outbound, 500))) == 500
    assert outbound.playback.queued_ms == 1_200_000 - 500 * 20


def test_an_odd_end_is_filled_up(speech_pcm: bytes) -> None:
    """The last frame is silence behind the sound, and what was played is the sound alone."""
    outbound = warmed_up()
    outbound.push(PART, speech_pcm[40_000 : 40_000 + FRAME_BYTES + 100])
    outbound.playback.end("resp_1")
    assert events(ticks(outbound, 1)) == [Started("resp_1")]
    assert outbound.playback.queued_ms == 2
    assert events(ticks(outbound, 1)) == [Stopped("resp_1")]
    assert len(packets(ticks(outbound, 50))) == TAIL_FRAMES


def test_a_tail_of_silence_then_nothing(speech_pcm: bytes) -> None:
    """Behind the sound a few frames of silence go out, then no packet at all."""
    outbound = warmed_up()
    outbound.push(PART, speech_pcm[: 10 * FRAME_BYTES])
    sent = [packet is not None for packet, _ in ticks(outbound, 40)]
    assert sent == [True] * (10 + TAIL_FRAMES) + [False] * (30 - TAIL_FRAMES)
    assert outbound.is_idle


@pytest.mark.parametrize("is_skipped", [False, True], ids=["ticked", "skipped"])
def test_time_goes_on_in_silence(is_skipped: bool, speech_pcm: bytes) -> None:
    """After a pause, whether it was ticked or skipped, the timestamp has moved by all of it, and a marker stands."""
    outbound = warmed_up(rtp_timestamp=2**32 - 5 * TICKS)
    outbound.push(PART, speech_pcm[:FRAME_BYTES])
    first = packets(ticks(outbound, 1 + TAIL_FRAMES))
    for _ in range(100):
        if is_skipped and outbound.is_idle:
            outbound.skip(1)
        else:
            assert outbound.tick() == (None, [])
    outbound.push(PART, speech_pcm[:FRAME_BYTES])
    second = packets(ticks(outbound, 1 + TAIL_FRAMES))
    assert (timestamps(second)[0] - timestamps(first)[-1]) & MAX_UINT32 == 101 * TICKS
    assert [is_marked(packet) for packet in first] == [True] + [False] * TAIL_FRAMES
    assert [is_marked(packet) for packet in second] == [True] + [False] * TAIL_FRAMES
    sequences = [int.from_bytes(packet[2:4], "big") for packet in first + second]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_a_late_clock_skips(speech_pcm: bytes) -> None:
    """Ticks that are not made up for move the timestamp and lose no sound."""
    outbound = warmed_up()
    outbound.push(PART, speech_pcm)
    before = packets(ticks(outbound, 10))
    outbound.skip(25)
    after = packets(ticks(outbound, 10))
    assert timestamps(after)[0] - timestamps(before)[-1] == 26 * TICKS
    assert outbound.playback.queued_ms == len(speech_pcm) // 48 - 400


def test_the_queue_has_a_limit(speech_pcm: bytes) -> None:
    """What is over the limit is left out and counted; what is within it is played to the end."""
    outbound = warmed_up(limit_s=1)
    second = speech_pcm[:48_000]
    for _ in range(5):
        outbound.push(PART, second[:24_000])
    assert outbound.overflow_ms == 1500
    assert outbound.playback.queued_ms == 1000
    assert len(packets(ticks(outbound, 100))) == 50 + TAIL_FRAMES
    outbound.push(PART, second)
    assert (outbound.overflow_ms, outbound.playback.queued_ms) == (1500, 1000)


@pytest.mark.parametrize("frames", [0, 1, 7, 100])
def test_clear_is_exact(frames: int, speech_pcm: bytes) -> None:
    """A clear says to the millisecond what was sent, and from the next tick on there is silence."""
    outbound = warmed_up()
    for at in range(0, len(speech_pcm), 4801 * 2):
        outbound.push(PART, speech_pcm[at : at + 4801 * 2])
    sent = packets(ticks(outbound, frames))
    assert outbound.clear() == ("resp_1", [Heard(PART, 20 * frames)])
    assert outbound.clear() is None
    rest = packets(ticks(outbound, 30))
    assert len(rest) == (TAIL_FRAMES if frames else 0)
    assert outbound.is_idle
    assert loudest(heard(sent + rest)[FRAME_BYTES * (frames + 2) :] or bytes(2)) < 10


def test_after_a_clear_the_next_answer_is_whole(speech_pcm: bytes) -> None:
    """Nothing of what was cleared is heard in what follows, and nothing is missing."""
    outbound, fresh = warmed_up(), warmed_up()
    outbound.push(PART, bytes(10 * FRAME_BYTES + 500))
    ticks(outbound, 3)
    outbound.clear()
    ticks(outbound, 40)
    for each in (outbound, fresh):
        each.push(Part("resp_2", "item_2", 0, 0), speech_pcm)
    said, expected = ticks(outbound, 300), ticks(fresh, 300)
    assert len(packets(said)) == len(packets(expected))
    assert events(said) == [Started("resp_2")]
    assert likeness(heard(packets(said)), heard(packets(expected)))[0] > 0.95


def test_answers_back_to_back(speech_pcm: bytes) -> None:
    """Two responses that meet inside one frame stop and start in that tick, with no silence between them."""
    outbound = warmed_up()
    outbound.push(PART, speech_pcm[: FRAME_BYTES + 100])
    outbound.push(Part("resp_2", "item_2", 0, 0), speech_pcm[:FRAME_BYTES])
    assert outbound.playback.end("resp_1") == outbound.playback.end("resp_2") == []
    assert [happened for _, happened in ticks(outbound, 4)] == [
        [Started("resp_1")],
        [Stopped("resp_1"), Started("resp_2")],
        [Stopped("resp_2")],
        [],
    ]


def test_an_underrun_is_silence_within_one_talkspurt(speech_pcm: bytes) -> None:
    """Sound that comes too slowly leaves silence in between; the response has started once."""
    outbound = warmed_up()
    said = []
    for _ in range(5):
        outbound.push(PART, speech_pcm[:FRAME_BYTES])
        said += ticks(outbound, 3)
    assert len(packets(said)) == 15
    assert [is_marked(packet) for packet in packets(said)] == [True] + [False] * 14
    assert events(said) == [Started("resp_1")]


def test_dtx_leaves_silence_out(speech_pcm: bytes) -> None:
    """Where the peer asks for DTX a long silence costs a few packets; time goes on, and speech begins with a marker."""
    always, sparing = warmed_up(), warmed_up()
    sparing.negotiate(extensions=HeaderExtensions(), uses_dtx=True, bitrate=MAX_BITRATE)
    words = speech_pcm[40_000 : 40_000 + 50 * FRAME_BYTES]
    for outbound in (always, sparing):
        outbound.push(PART, words + bytes(100 * FRAME_BYTES) + words)
    said = ticks(sparing, 200)
    assert len(packets(ticks(always, 200))) == 200
    assert len(packets(said)) < 130
    first_words_again = said[150:]
    assert all(packet is not None for packet, _ in first_words_again)
    times = timestamps(packets(said))
    assert (times[-1] - times[0]) & MAX_UINT32 == 199 * TICKS
    resumed = [at for at in range(1, 200) if said[at - 1][0] is None and said[at][0] is not None]
    assert resumed
    assert all(is_marked(said[at][0] or b"\0\0") for at in resumed)
    assert sum(is_marked(packet) for packet in packets(said)) == len(resumed) + 1


@pytest.mark.parametrize("bitrate", [12_000, 24_000, 32_000, MAX_BITRATE])
def test_the_bitrate_is_kept(bitrate: int, speech_pcm: bytes) -> None:
    """The sound takes about as many bits as were agreed on, FEC included, and no more."""
    outbound = warmed_up()
    outbound.negotiate(extensions=HeaderExtensions(), uses_dtx=False, bitrate=bitrate)
    outbound.set_packet_loss(20 if bitrate < MAX_BITRATE else 0)
    outbound.push(PART, speech_pcm)
    frames = len(speech_pcm) // FRAME_BYTES
    before = outbound.payload_bytes
    ticks(outbound, frames)
    assert 0.5 * bitrate < (outbound.payload_bytes - before) * 8 / (frames * 0.020) < 1.1 * bitrate


def test_the_reported_loss_makes_fec(speech_pcm: bytes) -> None:
    """With a loss reported more of the packets carry the one before them."""

    def with_fec(percent: int) -> int:
        outbound, decoder = warmed_up(), new_decoder(RATE_HZ)
        outbound.set_packet_loss(percent)
        outbound.push(PART, speech_pcm)
        sent = packets(ticks(outbound, len(speech_pcm) // FRAME_BYTES))
        return sum(decoder.has_fec(packet[12:]) for packet in sent)

    assert with_fec(0) < 10 < with_fec(20)


RED = 63


def with_copies(percent: int, *, red: int | None = RED, bitrate: int = MAX_BITRATE) -> OutboundAudio:
    """One whose peer takes redundancy, and has reported a loss."""
    outbound = warmed_up()
    outbound.negotiate(extensions=HeaderExtensions(), uses_dtx=False, bitrate=bitrate, red=red)
    outbound.set_packet_loss(percent)
    return outbound


def kinds(sent: list[bytes]) -> set[int]:
    return {packet[1] & 0x7F for packet in sent}


def test_under_loss_each_packet_carries_the_one_before_the_last(speech_pcm: bytes) -> None:
    """The last one is in the FEC. It takes no more bits than the sound takes where nothing is lost."""
    outbound = with_copies(5)
    outbound.push(PART, speech_pcm)
    before = outbound.payload_bytes
    sent = packets(ticks(outbound, 200))
    assert kinds(sent[:2]) == {111}  # before them was a pause
    assert kinds(sent[2:]) == {RED}
    assert (outbound.payload_bytes - before) * 8 / (200 * 0.020) < 1.15 * MAX_BITRATE
    own = [packet[12:] for packet in sent[:2]]
    for packet in sent[2:]:
        start, copies = parse_red(packet, 12, len(packet), payload_type=111) or (0, [])
        assert copies == [(2 * TICKS, own[-2]), (0, b"")]
        own.append(packet[start:])


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"percent": 0}, id="nothing is lost"),
        pytest.param({"percent": 5, "red": None}, id="the peer takes none"),
        pytest.param({"percent": 5, "bitrate": MAX_BITRATE - 1}, id="the peer wants fewer bits"),
    ],
)
def test_otherwise_packets_are_sent_once(settings: dict[str, int], speech_pcm: bytes) -> None:
    """A copy is sent only if it is of use, and wanted."""
    outbound = with_copies(**settings)
    outbound.push(PART, speech_pcm)
    assert kinds(packets(ticks(outbound, 50))) == {111}


def test_a_pause_is_not_copied(speech_pcm: bytes) -> None:
    """Behind silence that was not sent the first two packets have nothing before them."""
    outbound = with_copies(5)
    outbound.push(PART, speech_pcm[: 10 * FRAME_BYTES])
    ticks(outbound, 10 + TAIL_FRAMES)
    assert outbound.tick() == (None, [])
    outbound.push(PART, speech_pcm[: 10 * FRAME_BYTES])
    sent = packets(ticks(outbound, 4))
    assert [packet[1] & 0x7F for packet in sent] == [111, 111, RED, RED]
