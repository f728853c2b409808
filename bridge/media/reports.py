"""One call's RTCP: when a report is due and what is in it, and what the peer's reports mean for the sound we send."""

import math
import random
from collections.abc import Callable

from bridge.media.inbound import InboundAudio
from bridge.media.outbound import OutboundAudio
from bridge.media.rtcp import ReportBlock, SenderInfo, parse_rtcp, write_report
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32

__all__ = ["Reports"]

_FIRST_S = 0.5
_INTERVAL_S = 2.0  # each 0.5 to 1.5 times that (RFC 3550 section 6.2): 60 bytes/s, under 5 % of 24 kbit/s
_EASING, _EASING_PACKETS = 0.75, 100  # so much of a reported loss is left after so many packets without one
_TELLING_PACKETS = 50  # a report on fewer says little: what was assumed stands
_FORGOTTEN_PERCENT = 0.25  # less than one of 400 packets; libwebrtc reports on 375 at most
_MAX_ROUND_TRIP = 60 * 0x10000  # more is no round trip but another's clock


class Reports:
    """``due`` gives the packets to send, ``receive_rtcp`` takes those that came; neither of them encrypted."""

    def __init__(
        self,
        inbound: InboundAudio,
        outbound: OutboundAudio,
        *,
        cname: str,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.round_trip_ms: float | None = None
        self.remote_lost_percent = 0.0
        """How much of our packets the peer has lost since its last report but one, in percent."""
        self.remote_jitter_ms = 0.0
        self.malformed = 0
        self._inbound = inbound
        self._outbound = outbound
        self._cname = cname
        self._spread = spread
        self._due_at: float | None = None
        self._last_report = 0  # of the peer: the middle of its NTP time, and when it came
        self._last_report_at = 0.0
        self._told_ssrc: int | None = None
        self._told_expected = self._told_packets = 0
        self._loss_percent: float | None = None  # None: nobody has said anything of it
        self._reported_sequence: int | None = None  # the highest one in the peer's last report
        self._reported_lost = 0  # all in all, in that report

    def due(self, now: float) -> bytes | None:
        """Returns the report that is due, if one is."""
        if self._due_at is None:
            self._due_at = now + _FIRST_S * self._spread(0.5, 1.5)
        if now < self._due_at:
            return None
        self._due_at = now + _INTERVAL_S * self._spread(0.5, 1.5)
        return self._report(now)

    def leave(self, now: float) -> bytes:
        """Returns the last report, with a BYE."""
        return self._report(now, is_leaving=True)

    def receive_rtcp(self, packet: bytes, now: float) -> list[int]:
        """Takes a compound packet; returns the sequence numbers of ours that the peer asks for again."""
        received = parse_rtcp(packet)
        if received is None:
            self.malformed += 1
            return []
        for ssrc, ntp in received.sender_reports:
            if ssrc == self._inbound.ssrc:
                self._last_report, self._last_report_at = ntp, now
        ours = self._outbound.ssrc
        for block in received.blocks:
            if block.ssrc == ours:
                self._take(block, now)
        return [sequence for ssrc, sequence in received.missing if ssrc == ours]

    def _take(self, block: ReportBlock, now: float) -> None:
        self.remote_lost_percent = block.fraction_lost * 100 / 256
        self.remote_jitter_ms = block.jitter * 1000 / CLOCK_HZ
        self._weigh_loss(block)
        if block.last_report:  # RFC 3550 section 6.4.1, figure 2
            round_trip = ((_ntp(now) >> 16) - block.last_report - block.since_last_report) & MAX_UINT32
            if round_trip < _MAX_ROUND_TRIP:
                self.round_trip_ms = round_trip * 1000 / 0x10000

    def _packets_since(self, block: ReportBlock) -> int:
        """Returns how many packets the report is about; the first one counts, however few they are."""
        last, self._reported_sequence = self._reported_sequence, block.highest_sequence
        if last is None:
            return max(_TELLING_PACKETS, self._outbound.packets)
        return min(self._outbound.packets, (block.highest_sequence - last) & 0xFFFF)

    def _weigh_loss(self, block: ReportBlock) -> None:
        """Weighs a loss that was reported: it counts at once and is forgotten slowly.

        One lost packet is enough, although of more than 256 it shows in the total alone. A peer that asks for packets
        again reports each time, on very few: their loss counts as that of a second. No loss counts only if there were
        packets to lose.
        """
        packets = self._packets_since(block)
        lost, self._reported_lost = block.lost - self._reported_lost, block.lost
        most = max(packets, _TELLING_PACKETS)
        measured = max(self.remote_lost_percent * packets / most, min(100.0, 100 * lost / most))
        if self._loss_percent is None:
            if measured <= 0 and self._outbound.packets < _TELLING_PACKETS:
                return
            self._loss_percent = 0.0
        percent = max(measured, self._loss_percent * _EASING ** (packets / _EASING_PACKETS))
        self._loss_percent = percent if percent >= _FORGOTTEN_PERCENT else 0.0
        self._outbound.set_packet_loss(math.ceil(self._loss_percent))

    def _report(self, now: float, *, is_leaving: bool = False) -> bytes:
        """Makes a report.

        Once anything was sent it has sender's information, in silence too, so that the round trip stays known.
        """
        outbound = self._outbound
        sender = None
        if outbound.packets:
            sender = SenderInfo(_ntp(now), outbound.rtp_timestamp, outbound.packets, outbound.payload_bytes)
        return write_report(outbound.ssrc, self._cname, sender=sender, block=self._block(now), is_leaving=is_leaving)

    def _block(self, now: float) -> ReportBlock | None:
        """Makes the block about the peer's stream, since the last report and all in all (RFC 3550 appendix A.3)."""
        reception = self._inbound.reception()
        if reception is None:
            return None
        if reception.ssrc != self._told_ssrc:
            self._told_ssrc, self._told_expected, self._told_packets = reception.ssrc, 0, 0
            self._last_report = 0
        expected = reception.expected - self._told_expected
        lost = expected - (reception.packets - self._told_packets)
        self._told_expected, self._told_packets = reception.expected, reception.packets
        since = int((now - self._last_report_at) * 0x10000) if self._last_report else 0
        return ReportBlock(
            ssrc=reception.ssrc,
            fraction_lost=min(255, lost * 256 // expected) if expected > 0 and lost > 0 else 0,
            lost=reception.expected - reception.packets,
            highest_sequence=reception.highest_sequence & MAX_UINT32,
            jitter=int(reception.jitter),
            last_report=self._last_report,
            since_last_report=max(0, since) & MAX_UINT32,
        )


def _ntp(now: float) -> int:
    """``now`` as NTP time, of a clock without a date, which RFC 3550 section 6.4.1 allows."""
    return int(now * 2**32) & 0xFFFFFFFFFFFFFFFF
