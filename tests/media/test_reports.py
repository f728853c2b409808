"""Two ends that report to each other over a line with loss and delay: what each learns is what happened."""

from dataclasses import dataclass, field

import pytest

from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder, new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.playback import Part
from bridge.media.reports import Reports
from bridge.media.rtcp import ReportBlock, parse_rtcp, write_report
from tests.fakes import LossyLink, NotedLoss
from tests.media.line import PAYLOAD_TYPE, RATE_HZ, START_S

PART = Part("resp_1", "item_1", 0, 0)


def even(low: float, high: float) -> float:
    """No chance in the times of reports."""
    return (low + high) / 2


class End:
    """One side of a call."""

    def __init__(self, ssrc: int, *, sequence: int = 65_500) -> None:
        self.inbound = InboundAudio(new_decoder(RATE_HZ), payload_type=PAYLOAD_TYPE, rate_hz=RATE_HZ)
        encoder = NotedLoss(new_encoder(RATE_HZ))
        self.outbound = OutboundAudio(
            encoder, rate_hz=RATE_HZ, payload_type=PAYLOAD_TYPE, ssrc=ssrc, sequence=sequence,
            rtp_timestamp=2**32 - 960 * 20, limit_s=600,
        )  # fmt: skip
        self.reports = Reports(self.inbound, self.outbound, cname="end", spread=even)
        self.loss_percents = encoder.loss_percents


@dataclass
class Talk:
    """Speech from one end to the other, reports both ways, each with the same delay."""

    link: LossyLink
    delay_s: float = 0.0
    speaker: End = field(default_factory=lambda: End(0xA))
    hearer: End = field(default_factory=lambda: End(0xB))
    arrived: int = 0

    def run(self, pcm: bytes, seconds: float) -> None:
        self.speaker.outbound.push(PART, pcm)
        under_way: list[tuple[float, End, bytes]] = []
        for tick in range(round(seconds * 50)):
            now = START_S + tick * 0.020
            packet, _ = self.speaker.outbound.tick()
            if packet is not None:
                self.link.send(packet, now)
            for at, arrived in self.link.receive(now):
                self.arrived += 1
                self.hearer.inbound.receive_rtp(arrived, at)
            self.hearer.inbound.poll(now)
            for end, other in ((self.speaker, self.hearer), (self.hearer, self.speaker)):
                report = end.reports.due(now)
                if report is not None:
                    under_way.append((now + self.delay_s, other, report))
            for at, end, report in [each for each in under_way if each[0] <= now]:
                assert end.reports.receive_rtcp(report, at) == []
            under_way = [each for each in under_way if each[0] > now]


def test_the_loss_is_what_was_lost(speech_pcm: bytes) -> None:
    """Every tenth packet lost is 10 %, told to the speaker and through it to its encoder; at once when it begins."""
    talk = Talk(LossyLink(drop=lambda number: number % 10 == 5))
    talk.run(speech_pcm * 3, 10)
    assert talk.speaker.reports.remote_lost_percent == pytest.approx(10, abs=1.5)
    assert talk.speaker.loss_percents[1:] == pytest.approx([10] * (len(talk.speaker.loss_percents) - 1), abs=2)
    reception = talk.hearer.inbound.reception()
    assert reception is not None
    assert reception.expected - reception.packets == talk.link.dropped


def test_a_loss_is_forgotten_slowly(speech_pcm: bytes) -> None:
    """When the network is well again the encoder's FEC does not end with the first good report, but it ends."""
    talk = Talk(LossyLink(drop=lambda number: number < 150 and number % 5 == 2))
    talk.run(speech_pcm * 9, 38)
    percents = talk.speaker.loss_percents
    peak = percents.index(max(percents))
    assert max(percents) == pytest.approx(20, abs=3)
    assert percents[peak:] == sorted(percents[peak:], reverse=True)
    assert percents[peak + 2] > 10
    assert percents[-1] == 0


def test_without_loss_the_fec_ends(speech_pcm: bytes) -> None:
    """What is assumed at the start ends with the first report on a second's packets."""
    talk = Talk(LossyLink())
    talk.run(speech_pcm, 0.9)
    assert talk.hearer.reports.due(START_S + 0.9) is None
    assert talk.speaker.reports.remote_lost_percent == 0
    assert talk.speaker.loss_percents == []
    talk = Talk(LossyLink())
    talk.run(speech_pcm * 2, 6)
    assert set(talk.speaker.loss_percents) == {0}


def test_a_loss_counts_from_the_first_report(speech_pcm: bytes) -> None:
    """However few packets the report is about."""
    talk = Talk(LossyLink(drop=lambda number: number == 5))
    talk.run(speech_pcm, 0.9)
    assert len(talk.speaker.loss_percents) == 1
    assert talk.speaker.loss_percents[0] >= 2


class Told:
    """A speaker, and reports on its packets that a peer makes as it likes."""

    def __init__(self, pcm: bytes) -> None:
        self.end = End(1, sequence=1000)
        self.end.outbound.push(PART, pcm)
        self._lost = 0

    def told(self, packets: int, *, lost: int = 0) -> int:
        """So many packets later the peer reports on them; what the encoder was told then."""
        for _ in range(packets):
            assert self.end.outbound.tick()[0] is not None
        highest = self.end.outbound.next_sequence - 1
        self._lost += lost
        block = ReportBlock(1, lost * 256 // packets, self._lost, highest, 0, 0, 0)
        assert self.end.reports.receive_rtcp(write_report(9, "x", sender=None, block=block), 5.0) == []
        return self.end.loss_percents[-1]


def test_the_first_lost_packet_brings_the_fec_back(speech_pcm: bytes) -> None:
    """One of 250, as libwebrtc reports every 5 s, is enough; when nothing more is lost it is soon forgotten."""
    speaker = Told(speech_pcm * 10)
    assert speaker.told(250) == 0
    assert speaker.told(250, lost=1) == 1
    assert [speaker.told(250) for _ in range(2)][-1] == 0


def test_a_loss_too_small_for_its_fraction_counts(speech_pcm: bytes) -> None:
    """One of 375, as libwebrtc may report after 7.5 s, is 0 of 256; the total says that it was lost."""
    speaker = Told(speech_pcm * 10)
    assert speaker.told(375) == 0
    assert speaker.told(375, lost=1) == 1
    assert speaker.told(375) == 0


def test_a_report_on_few_packets_says_little(speech_pcm: bytes) -> None:
    """Peers that ask for packets again report each time: one of two lost is not half of all, nor soon forgotten."""
    speaker = Told(speech_pcm * 10)
    assert speaker.told(100) == 0
    assert speaker.told(2, lost=1) == 2
    assert [speaker.told(2) for _ in range(20)] == [2] * 20
    assert speaker.told(700) == 0


@pytest.mark.parametrize("delay_ms", [0, 20, 120, 400])
def test_the_round_trip_is_there_and_back(delay_ms: int, speech_pcm: bytes) -> None:
    """The speaker knows it from the hearer's answer to its report, however long that one waited."""
    talk = Talk(LossyLink(), delay_s=delay_ms / 1000)
    talk.run(speech_pcm * 2, 6)
    assert talk.speaker.reports.round_trip_ms == pytest.approx(2 * delay_ms, abs=0.1)
    assert talk.hearer.reports.round_trip_ms is None


def test_jitter_is_told(speech_pcm: bytes) -> None:
    """Every other packet 10 ms late is told as a jitter of 10 ms."""
    talk = Talk(LossyLink(delay_s=lambda number: 0.010 * (number % 2)))
    talk.run(speech_pcm * 2, 6)
    assert talk.speaker.reports.remote_jitter_ms == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("seed", range(8))
def test_what_came_is_counted_right(seed: int, speech_pcm: bytes) -> None:
    """With loss, disorder and doubles, over the wrap: expected is all that was sent, packets all that came."""
    packets = 400
    link = LossyLink.seeded(seed, packets, loss=0.1, jitter_s=0.08, doubles=0.05)
    talk = Talk(link)
    talk.run(speech_pcm * 4, packets / 50)
    reception = talk.hearer.inbound.reception()
    assert reception is not None
    assert 65_500 + packets - 10 <= reception.highest_sequence + 1 <= 65_500 + packets
    assert reception.packets == talk.arrived
    late_at_first = reception.highest_sequence + 1 - 65_500 - reception.expected
    assert 0 <= late_at_first <= 5


def test_a_new_stream_begins_anew(speech_pcm: bytes) -> None:
    """After the sender has changed its SSRC the report is about the new one, and the old one's losses are not in it."""
    talk = Talk(LossyLink(drop={40, 41, 42}))
    talk.run(speech_pcm, 3)
    talk.speaker = End(0xC, sequence=7)
    talk.run(speech_pcm, 3)
    received = parse_rtcp(talk.hearer.reports.leave(START_S + 6))
    assert received is not None
    (block,) = received.blocks
    assert block.ssrc == 0xC
    assert block.lost == 0
    assert block.highest_sequence == 7 + 149


def test_reports_come_by_the_clock() -> None:
    """The first one within a second, then one each 1 to 3 s, never two at the same time."""
    end = End(1)
    end.reports = Reports(end.inbound, end.outbound, cname="end")
    times = [now for now in (tick * 0.02 for tick in range(3000)) if end.reports.due(now) is not None]
    assert times[0] <= 0.78
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert 0.98 <= min(gaps)
    assert max(gaps) <= 3.02
    assert max(gaps) - min(gaps) > 0.5


def test_reports_of_others_change_nothing() -> None:
    """A block about another's stream, a time from the future and garbage are none of ours."""
    end = End(1)
    for block in (ReportBlock(2, 255, 0, 0, 0, 0, 0), ReportBlock(1, 0, 0, 0, 0, 5 * 0x10000 + 9, 0)):
        assert end.reports.receive_rtcp(write_report(9, "x", sender=None, block=block), 5.0) == []
    assert (end.reports.remote_lost_percent, end.reports.round_trip_ms) == (0, None)
    assert end.reports.receive_rtcp(b"\x81\xc9\0\1" + bytes(4), 5.0) == []
    assert end.reports.malformed == 1
