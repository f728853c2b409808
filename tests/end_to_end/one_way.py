"""Stock aiortc peers that only speak, as WHIP's publishers do, or only hear, as WHEP's players do."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtp import RtpPacket

from tests.end_to_end.real_peer import Microphone
from tests.end_to_end.sound import Samples, resample
from tests.end_to_end.web import Reply, request

__all__ = ["Playing", "Publishing", "one_way_offer", "playing", "publishing"]

_RATE_HZ = 48_000
_LOUD = 1000


async def one_way_offer(direction: str, *, has_channel: bool = False, sections: int = 1) -> str:
    """An offer with sound in one direction, as aiortc makes it."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for _ in range(sections):
        connection.addTransceiver("audio", direction=direction)
    if has_channel:
        connection.createDataChannel("oai-events")
    await connection.setLocalDescription(await connection.createOffer())
    sdp: str = connection.localDescription.sdp
    await connection.close()
    return sdp


class Publishing:
    """A publisher that is connected, or about to be."""

    def __init__(self, reply: Reply, connection: RTCPeerConnection, microphone: Microphone) -> None:
        self.reply = reply
        self.connection = connection
        self.microphone = microphone

    @property
    def session(self) -> str:
        """The path of its session, without the slash in front."""
        return self.reply.headers["location"].lstrip("/")

    @property
    def call_id(self) -> str:
        """Of the call that it speaks in."""
        return self.session.rpartition("/")[2]


@asynccontextmanager
async def publishing(
    url: str, *, path: str = "v1/whip", headers: Mapping[str, str] | None = None, **fields: str
) -> AsyncIterator[Publishing]:
    """Publishes at the daemon's ``url``."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    microphone = Microphone()
    connection.addTrack(microphone)
    connection.getTransceivers()[0].direction = "sendonly"
    try:
        reply = await _offered(connection, url + path, {**(headers or {}), **fields})
        yield Publishing(reply, connection, microphone)
    finally:
        await connection.close()


class Playing:
    """A player, and what it has heard: each packet, whatever a jitter buffer would make of it."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.connection = connection
        self.reply: Reply
        self._packets: dict[int, bytes] = {}
        receiver = connection.addTransceiver("audio", direction="recvonly").receiver
        receiver._handle_rtp_packet = self._keep  # type: ignore[method-assign]

    @property
    def session(self) -> str:
        """The path of its session, without the slash in front."""
        return self.reply.headers["location"].lstrip("/")

    @property
    def packets(self) -> int:
        """How many have come."""
        return len(self._packets)

    @property
    def heard(self) -> Samples:
        """What it has heard, at 24 kHz, each packet where its timestamp puts it."""
        frames = self._frames()
        first = min(frames, default=0)
        sound = np.zeros(max((at + len(samples) for at, samples in frames.items()), default=0) - first)
        for at, samples in frames.items():
            sound[at - first : at - first + len(samples)] = samples
        return resample(sound, _RATE_HZ, 24_000)

    @property
    def loud_ms(self) -> int:
        """For how long it was not silent, in packets of 20 ms."""
        return 20 * sum(int(np.abs(samples).max()) > _LOUD for samples in self._frames().values())

    def _frames(self) -> dict[int, Samples]:
        codec = av.CodecContext.create("opus", "r")
        assert isinstance(codec, av.AudioCodecContext)
        found = {}
        for at, payload in sorted(self._packets.items()):
            (frame,) = codec.decode(av.Packet(payload))
            found[at] = 32_768 * frame.to_ndarray()[0].astype(float)
        return found

    async def _keep(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.payload:
            self._packets[packet.timestamp] = packet.payload


@asynccontextmanager
async def playing(
    url: str, path: str, *, headers: Mapping[str, str] | None = None, **fields: str
) -> AsyncIterator[Playing]:
    """Plays what is at the daemon's ``path``."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    player = Playing(connection)
    try:
        player.reply = await _offered(connection, url + path, {**(headers or {}), **fields})
        yield player
    finally:
        await connection.close()


async def _offered(connection: RTCPeerConnection, url: str, headers: Mapping[str, str]) -> Reply:
    await connection.setLocalDescription(await connection.createOffer())
    fields = {"Content-Type": "application/sdp", **headers}
    reply = await request("POST", url, headers=fields, body=connection.localDescription.sdp)
    assert reply.status == 201, reply
    await connection.setRemoteDescription(RTCSessionDescription(reply.body.decode(), "answer"))
    return reply
