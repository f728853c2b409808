"""A bad network for the bench's own WebRTC senders: it loses packets of sound and delays others, by a seed."""

import asyncio
import random
from dataclasses import dataclass

from bridge.webrtc.ice import PacketKind, packet_kind
from bridge.webrtc.ice_full import IceFull, IceServers

__all__ = ["BadNetwork", "Network"]

_SOUND = (PacketKind.RTP, PacketKind.RTCP)


@dataclass(frozen=True, slots=True)
class Network:
    """What becomes of the RTP and RTCP packets that a caller sends. Its handshakes and its events all arrive."""

    loss_percent: float = 0.0
    """How many of 100 packets are lost, each by itself."""
    jitter_ms: float = 0.0
    """How long a packet is delayed at most; each delay up to it is as likely. Packets may overtake each other."""
    seed: int = 1
    """The same seed loses and delays the same packets of each call."""

    @property
    def is_bad(self) -> bool:
        """Whether it does anything to a packet."""
        return self.loss_percent > 0 or self.jitter_ms > 0


class BadNetwork(IceFull):
    """An ICE agent whose packets of sound go through a ``Network``.

    ``number`` is that of the call: each call loses other packets, and the same ones in each run.
    """

    def __init__(self, network: Network, number: int, servers: IceServers | None = None) -> None:
        super().__init__(servers)
        self.lost = 0
        """The number of packets that were not sent."""
        self._loss = network.loss_percent / 100
        self._jitter_s = network.jitter_ms / 1000
        self._random = random.Random(f"{network.seed}:{number}")

    def send_datagram(self, datagram: bytes) -> None:
        """Sends a datagram, now or later, or loses it."""
        if packet_kind(datagram) not in _SOUND:
            super().send_datagram(datagram)
            return
        is_lost, delay_s = self._random.random() < self._loss, self._random.random() * self._jitter_s
        if is_lost:
            self.lost += 1
        elif delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, super().send_datagram, datagram)
        else:
            super().send_datagram(datagram)
