"""Stock aiortc peers that only speak, as WHIP's publishers do, or only hear, as WHEP's players do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import av
import numpy as np
from aiortc import MediaStreamError, MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.end_to_end.real_peer import Microphone
from tests.end_to_end.sound import Samples, resample
from tests.end_to_end.web import Reply, request

__all__ = ["Playing", "Publishing", "one_way_offer", "playing", "publishing"]

_RATE_HZ = 48_000


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
    """A player, and what it has heard."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.connection = connection
        self.reply: Reply
        self._frames: list[tuple[int, np.ndarray]] = []

    @property
    def session(self) -> str:
        """The path of its session, without the slash in front."""
        return self.reply.headers["location"].lstrip("/")

    @property
    def loud_samples(self) -> int:
        """How much of what it has heard is no silence."""
        return int(sum(np.count_nonzero(np.abs(samples) > 1000) for _, samples in self._frames))

    @property
    def heard(self) -> Samples:
        """What it has heard, at 24 kHz, each frame where its timestamp puts it."""
        if not self._frames:
            return np.zeros(0)
        first = min(at for at, _ in self._frames)
        sound = np.zeros(max(at + len(samples) for at, samples in self._frames) - first)
        for at, samples in self._frames:
            sound[at - first : at - first + len(samples)] = samples
        return resample(sound, _RATE_HZ, 24_000)

    async def record(self, track: MediaStreamTrack) -> None:
        """Hears until the track ends."""
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                assert frame.pts is not None
                self._frames.append((frame.pts, frame.to_ndarray()[0, ::2].astype(float)))
        except MediaStreamError:
            return


@asynccontextmanager
async def playing(
    url: str, path: str, *, headers: Mapping[str, str] | None = None, **fields: str
) -> AsyncIterator[Playing]:
    """Plays what is at the daemon's ``path``."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    player = Playing(connection)
    connection.addTransceiver("audio", direction="recvonly")
    async with asyncio.TaskGroup() as tasks:
        connection.on("track", lambda track: tasks.create_task(player.record(track)))
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
