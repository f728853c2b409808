"""A call's inbound sound from end to end: a sender, a network and our receiver, on one clock."""

from collections.abc import Callable, Iterable

import pytest

from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder
from bridge.media.rtp import CLOCK_HZ, MAX_UINT32
from tests.fakes import LossyLink, RtpSender

__all__ = [
    "FRAME_BYTES",
    "PAYLOAD_TYPE",
    "POLL_S",
    "RATE_HZ",
    "START_S",
    "Line",
    "check_ledger",
    "new_inbound",
    "straight",
    "whole_frames",
]

RATE_HZ = 24_000
PAYLOAD_TYPE = 111
FRAME_BYTES = 2 * RATE_HZ // 50
START_S = 1000.0
POLL_S = 0.020
MOST_AT_ONCE = 2 * RATE_HZ * 5


def new_inbound() -> InboundAudio:
    return InboundAudio(new_decoder(RATE_HZ), payload_type=PAYLOAD_TYPE, rate_hz=RATE_HZ)


class Line:
    """A sender, a network and our receiver, each packet sent in its time, the receiver polled every 20 ms."""

    def __init__(self, link: LossyLink | None = None, sender: RtpSender | None = None) -> None:
        self.inbound = new_inbound()
        self.sender = sender or RtpSender()
        self.heard = b""
        self.on_heard: Callable[[bytes, float], None] = lambda pcm, at: None
        self.worst_lag_s = 0.0
        """By how much the sound has been behind the sender's speech."""
        self._link = link or LossyLink()
        self._first_timestamp = self.sender.rtp_timestamp
        self._sent_at = START_S
        self._polled_at = START_S

    def talk(self, pcm: bytes, *, pace: float = 1.0) -> None:
        """Sends ``pcm`` in real time; ``pace`` is by how much the sender's clock is too fast."""
        self.send(self.sender.talk(pcm), pace=pace)

    def send(self, packets: Iterable[bytes], *, pace: float = 1.0) -> None:
        """Sends packets, each a frame after the one before."""
        for packet in packets:
            self._run_until(self._sent_at)
            self._link.send(packet, self._sent_at)
            self._run_until(self._sent_at)
            self._sent_at += self.sender.frame_ms / 1000 / pace

    def pause(self, duration_ms: int, *, pace: float = 1.0) -> None:
        """Nothing is sent, and RTP time passes."""
        self.sender.pause(duration_ms)
        self._sent_at += duration_ms / 1000 / pace

    def wait(self, duration_ms: int) -> None:
        """Nothing is sent, and the sender's RTP time stands still."""
        self._sent_at += duration_ms / 1000

    @property
    def sent_ms(self) -> float:
        """How much real time has passed for the sender."""
        return (self._sent_at - START_S) * 1000

    def finish(self, *, after_s: float | None = None) -> bytes:
        """Lets what is under way arrive, and what is waited for become due; all that was heard.

        That is before silence would begin (200 ms), or ``after_s`` from when the next packet would be sent.
        """
        self._run_until(self._sent_at + (0.190 - self.sender.frame_ms / 1000 if after_s is None else after_s))
        return self.heard

    @property
    def rtp_ms(self) -> float:
        """How much RTP time the sender has let pass."""
        return ((self.sender.rtp_timestamp - self._first_timestamp) & MAX_UINT32) * 1000 / CLOCK_HZ

    @property
    def heard_ms(self) -> float:
        """How much sound has come out."""
        return len(self.heard) * 1000 / (2 * RATE_HZ)

    def _run_until(self, now: float) -> None:
        arrivals = self._link.receive(now)
        while self._polled_at <= now:
            arrivals.append((self._polled_at, b""))
            self._polled_at += POLL_S
        for at, packet in sorted(arrivals, key=lambda arrival: arrival[0]):
            pcm = self.inbound.receive_rtp(packet, at) if packet else self.inbound.poll(at)
            size = len(pcm)  # a failure must not print gigabytes
            assert size < MOST_AT_ONCE
            self.heard += pcm
            self.on_heard(pcm, at)
            if at <= self._sent_at:
                self.worst_lag_s = max(self.worst_lag_s, at - START_S - self.heard_ms / 1000)


def check_ledger(line: Line, *, tolerance_ms: float = 0.01) -> None:
    """Sound time is RTP time, and each ms that came out was counted once."""
    stats = line.inbound.stats
    assert line.heard_ms == pytest.approx(line.rtp_ms, abs=tolerance_ms)
    assert stats.decoded_ms + stats.concealed_ms + stats.silence_ms == pytest.approx(line.heard_ms, abs=1)
    assert stats.discontinuities == 0


def straight(sender: RtpSender, pcm: bytes) -> bytes:
    """What is heard of ``pcm`` when nothing happens to it."""
    decoder = new_decoder(RATE_HZ)
    return b"".join(decoder.decode(packet[12:]) for packet in sender.talk(pcm))


def whole_frames(pcm: bytes) -> int:
    return len(pcm) // FRAME_BYTES
