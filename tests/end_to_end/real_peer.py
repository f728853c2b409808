"""A stock aiortc peer that calls the daemon: speaks PCM in real time, records what it hears, collects its events."""

import asyncio
import fractions
import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import av
import numpy as np
from aiortc import (
    MediaStreamError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)

from tests.end_to_end.event_log import EventLog
from tests.end_to_end.sound import pcm_of, resample, samples_of
from tests.end_to_end.web import Reply, request
from tests.machine import scaled

_RATE_HZ = 48_000
_FRAME_SAMPLES = 960
_FRAME_BYTES = 2 * _FRAME_SAMPLES
_CONNECT_LIMIT_S = scaled(10.0)


@functools.lru_cache(maxsize=4)
def _frames(pcm: bytes) -> bytes:
    """``pcm`` at the microphone's rate, padded to whole frames; slow enough to be done once for twenty peers."""
    wide = pcm_of(resample(samples_of(pcm), 24_000, _RATE_HZ))
    return wide + bytes(-len(wide) % _FRAME_BYTES)


class Microphone(MediaStreamTrack):
    """Sends what it is given, 20 ms at a time, and between that nothing at all; RTP time goes on."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self._pcm = b""
        self._at = 0
        self._started: float | None = None
        self._has_sound = asyncio.Event()
        self._is_sent = asyncio.Event()

    async def speak(self, pcm: bytes) -> None:
        """Returns when the last frame of ``pcm``, PCM16 24 kHz mono, has been sent."""
        self._pcm = _frames(pcm)
        self._at = 0
        self._is_sent.clear()
        self._has_sound.set()
        await self._is_sent.wait()

    async def recv(self) -> av.AudioFrame:
        """The next frame, when it is due; asked for it, the one before has been sent."""
        loop = asyncio.get_running_loop()
        if self._at == len(self._pcm):
            self._is_sent.set()
            self._has_sound.clear()
            await self._has_sound.wait()
        if self._started is None:  # also if it was told to speak before the first frame was asked for
            self._started = loop.time()
        if self._at == 0:
            self.frames = max(self.frames, round((loop.time() - self._started) * _RATE_HZ / _FRAME_SAMPLES))
        await asyncio.sleep(self._started + self.frames * _FRAME_SAMPLES / _RATE_HZ - loop.time())
        samples = np.frombuffer(self._pcm, np.int16, _FRAME_SAMPLES, self._at).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.time_base = _RATE_HZ, fractions.Fraction(1, _RATE_HZ)
        frame.pts = self.frames * _FRAME_SAMPLES
        self._at += _FRAME_BYTES
        self.frames += 1
        return frame


def _form(**parts: str) -> tuple[str, str]:
    """Media type and body of a form with these parts."""
    edge = "edge-of-a-part"
    fields = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in parts.items()
    )
    return f"multipart/form-data; boundary={edge}", f"{fields}--{edge}--\r\n"


class RealPeer(EventLog):
    """One caller. ``async with`` makes the call and waits until its data channel is open."""

    def __init__(
        self,
        url: str,
        *,
        path: str = "v1/realtime/calls",
        headers: Mapping[str, str] | None = None,
        has_sound: bool = True,
        session: Mapping[str, Any] | None = None,
        through: Callable[[str], str] = str,
    ) -> None:
        """``has_sound=False`` offers a data channel alone; ``offer_sound`` adds the microphone later.

        ``session`` goes with the offer; ``through`` changes the answer, as a relay needs it.
        """
        super().__init__()
        self._has_sound = has_sound
        self.microphone = Microphone()
        self.gone = asyncio.Event()
        self.connect_s = 0.0
        """From the POST to the open data channel."""
        self._url = url
        self._path = path
        self._headers = headers or {}
        self._session = session
        self._through = through
        self._heard: list[bytes] = []
        self._is_open = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("track", self._on_track)
        self._connection.on("connectionstatechange", self._on_state)
        self._channel = self._connection.createDataChannel("oai-events")
        self._channel.on("open", self._is_open.set)
        self._channel.on("message", self.add)
        self._channel.on("close", self.gone.set)

    async def __aenter__(self) -> "RealPeer":
        await self._tasks.__aenter__()
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await self._connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.close()
        await self._tasks.__aexit__(None, None, None)

    @property
    def call_id(self) -> str:
        """The last part of ``Location``."""
        return self.reply.headers["location"].rpartition("/")[2]

    @property
    def offer(self) -> str:
        """What was posted."""
        return str(self._connection.localDescription.sdp)

    @property
    def heard(self) -> bytes:
        """What came out of the receiver, PCM16 24 kHz mono; nothing stands for time without packets."""
        return pcm_of(resample(samples_of(b"".join(self._heard)), _RATE_HZ, 24_000))

    async def speak(self, pcm: bytes) -> None:
        """Says ``pcm``, PCM16 24 kHz mono, in real time."""
        await self.microphone.speak(pcm)

    def send(self, event: Mapping[str, Any]) -> None:
        """A client event over the data channel."""
        self._channel.send(json.dumps(event))

    async def offer_sound(self) -> str:
        """Another offer, with the microphone.

        aiortc names the description by the second in which it is made, and not for good (RFC 8829 section 5.2.2).
        """
        first = re.search(r"o=\S+ \S+", self.offer)
        assert first is not None
        self._connection.addTrack(self.microphone)
        await self._connection.setLocalDescription(await self._connection.createOffer())
        return re.sub(r"o=\S+ \S+", first[0], self.offer, count=1)

    async def take_answer(self, answer: str) -> None:
        """The answer to it."""
        await self._connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def hang_up(self) -> None:
        """Closes the peer connection without a word over HTTP; may be called twice."""
        await self._connection.close()

    def vanish(self) -> None:
        """Closes the sockets under the connection, as a cable that is pulled: nobody is told."""
        sctp = self._connection.sctp
        assert sctp is not None
        for protocol in sctp.transport.transport._connection._protocols:
            protocol.transport.abort()

    def close_channel(self) -> None:
        """Closes the data channel and nothing else."""
        self._channel.close()

    async def _connect(self) -> None:
        connection = self._connection
        if self._has_sound:
            connection.addTrack(self.microphone)
        await connection.setLocalDescription(await connection.createOffer())
        loop = asyncio.get_running_loop()
        began = loop.time()
        media, body = "application/sdp", str(connection.localDescription.sdp)
        if self._session is not None:
            media, body = _form(sdp=body, session=json.dumps(self._session))
        headers = {"Content-Type": media, **self._headers}
        self.reply: Reply = await request("POST", self._url + self._path, headers=headers, body=body)
        assert self.reply.status == 201, self.reply
        answer = self._through(self.reply.body.decode())
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await self._is_open.wait()
        self.connect_s = loop.time() - began
        if "after=" not in self._path:
            await self.until("session.created")

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._tasks.create_task(self._record(track))

    async def _record(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                self._heard.append(frame.to_ndarray()[0, ::2].tobytes())  # interleaved stereo: its left side
        except MediaStreamError:
            return

    def _on_state(self) -> None:
        if self._connection.connectionState in ("closed", "failed"):
            self.gone.set()
