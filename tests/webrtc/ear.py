"""What reaches a live caller, seen before its jitter buffer."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSrPacket
from numpy.typing import NDArray

from bridge.media.opus import new_decoder
from bridge.media.rtp import parse_rtp
from tests.webrtc.calling import WITHIN_S, Caller

__all__ = ["Ear", "sequence_of"]


class Ear:
    """What the bridge sends a caller, decrypted: RTP packets and RTCP packets as aiortc reads them."""

    def __init__(self, caller: Caller) -> None:
        self.rtp: list[bytes] = []
        self.rtcp: list[Any] = []
        self._changed = asyncio.Event()
        dtls = caller.dtls
        take_rtp, take_rtcp = dtls._handle_rtp_data, dtls._handle_rtcp_data

        async def on_rtp(data: bytes, arrival_time_ms: int) -> None:
            self.rtp.append(data)
            self._changed.set()
            await take_rtp(data, arrival_time_ms=arrival_time_ms)

        async def on_rtcp(data: bytes) -> None:
            self.rtcp += RtcpPacket.parse(data)
            self._changed.set()
            await take_rtcp(data)

        dtls._handle_rtp_data = on_rtp  # type: ignore[method-assign]
        dtls._handle_rtcp_data = on_rtcp  # type: ignore[method-assign]

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def samples(self) -> NDArray[np.int64]:
        """What has come so far as sound, in the order of the packets."""
        decoder = new_decoder(24_000)
        pieces = []
        for packet in sorted(self.rtp, key=sequence_of):
            _, _, _, _, start, end = parse_rtp(packet) or (0, 0, 0, 0, 0, 0)
            pieces.append(np.frombuffer(decoder.decode(packet[start:end]), "<i2").astype(np.int64))
        return np.concatenate(pieces)

    def reports(self) -> list[Any]:
        return [packet for packet in self.rtcp if isinstance(packet, RtcpSrPacket | RtcpRrPacket)]


def sequence_of(packet: bytes) -> int:
    return int(struct.unpack_from(">H", packet, 2)[0])
