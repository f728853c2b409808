"""Two receivers that are fed with the same packets at the same times: the bridge's, and stock aiortc's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from numpy.typing import NDArray

from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder
from bridge.media.pacer import FRAME_MS

__all__ = [
    "OPUS",
    "POLL_S",
    "RATE_HZ",
    "RED",
    "AiortcReceiver",
    "BridgeReceiver",
    "Piece",
    "Receiver",
    "Samples",
    "feed",
]

RATE_HZ = 24_000
OPUS, RED = 111, 63
"""Payload types of Opus, and of Opus with copies of packets before (RFC 2198)."""
POLL_S = FRAME_MS / 1000
"""How often a receiver is asked: the daemon's clock comes by each peer once in its round."""
_CLOCK_HZ = 48_000
_DRAIN_S = 0.5

Samples = NDArray[np.int16]
"""PCM16, mono."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound that a receiver gave out."""

    at_s: float
    """When."""
    position: int
    """Where it belongs, in samples of RTP time."""
    samples: Samples
    is_sound: bool
    """False where it only fills a hole."""


def position_of(packet: bytes) -> int:
    """Where the packet's first sample belongs."""
    return int.from_bytes(packet[4:8], "big") * RATE_HZ // _CLOCK_HZ


class Receiver(Protocol):
    """Takes packets in the order of their arrival, and is asked every ``POLL_S`` for what time makes due."""

    name: str

    def receive(self, packet: bytes, now: float) -> list[Piece]:
        """A packet has arrived."""
        ...

    def poll(self, now: float) -> list[Piece]:
        """Time has passed."""
        ...


def feed(receiver: Receiver, arriving: Iterable[tuple[float, bytes]], *, first_poll_s: float) -> Iterator[Piece]:
    """What comes out of ``receiver``: packets go in with the times, in s, at which they arrive, in that order.

    It is asked from ``first_poll_s`` on, to half a second behind the last packet.
    """
    polled = first_poll_s
    for arrival, packet in arriving:
        while polled < arrival:
            yield from receiver.poll(polled)
            polled += POLL_S
        yield from receiver.receive(packet, arrival)
    end = polled + _DRAIN_S
    while polled < end:
        yield from receiver.poll(polled)
        polled += POLL_S


class BridgeReceiver:
    """``InboundAudio`` as a peer uses it; its sound is one stream, each sample where the ones before it end."""

    name = "bridge"

    def __init__(self) -> None:
        self._inbound = InboundAudio(new_decoder(RATE_HZ), payload_type=OPUS, rate_hz=RATE_HZ)
        self._inbound.red_payload_type = RED
        self._position: int | None = None
        self._silence_ms = 0

    def receive(self, packet: bytes, now: float) -> list[Piece]:
        if self._position is None:
            self._position = position_of(packet)
        return self._pieces(self._inbound.receive_rtp(packet, now), now)

    def poll(self, now: float) -> list[Piece]:
        return self._pieces(self._inbound.poll(now), now)

    def _pieces(self, pcm: bytes, now: float) -> list[Piece]:
        """What was filled with silence counts as standing at the begin of what came at once."""
        if not pcm or self._position is None:
            return []
        samples = np.frombuffer(pcm, "<i2")
        silent = (self._inbound.stats.silence_ms - self._silence_ms) * RATE_HZ // 1000
        self._silence_ms = self._inbound.stats.silence_ms
        pieces = []
        for part, is_sound in ((samples[:silent], False), (samples[silent:], True)):
            if len(part):
                pieces.append(Piece(now, self._position, part, is_sound))
                self._position += len(part)
        return pieces


class AiortcReceiver:
    """aiortc's jitter buffer as its audio receiver makes it, and its decoder; the frames where their timestamps say."""

    name = "aiortc"

    def __init__(self) -> None:
        self._buffer = JitterBuffer(capacity=16, prefetch=4)
        codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=_CLOCK_HZ, channels=2, payloadType=OPUS)
        self._decoder = get_decoder(codec)

    def receive(self, packet: bytes, now: float) -> list[Piece]:
        parsed = RtpPacket.parse(packet)
        parsed._data = parsed.payload  # type: ignore[attr-defined]
        _, frame = self._buffer.add(parsed)
        if frame is None:
            return []
        pieces = []
        for decoded in self._decoder.decode(JitterFrame(frame.data, frame.timestamp)):
            assert isinstance(decoded, av.AudioFrame)
            stereo = decoded.to_ndarray()[0]
            every_other = np.ascontiguousarray(stereo[::4])  # of the left side: what was spoken has no more
            pieces.append(Piece(now, frame.timestamp * RATE_HZ // _CLOCK_HZ, every_other, True))
        return pieces

    def poll(self, now: float) -> list[Piece]:
        return []
