"""libwebrtc's receiver, with its jitter buffer NetEq, as PyPI's ``wrtc`` has it: a peer that says what it hears."""

import asyncio
from dataclasses import dataclass

import numpy as np
import webrtc
from webrtc.loopback import allow_loopback

from benchmarks.receivers import OPUS, RATE_HZ, RED, Samples
from bridge.media.resample import Resampler

__all__ = ["Frame", "NetEqReceiver"]

_HZ = 48_000
_QUEUED_FRAMES = 1000  # of 10 ms; if the event loop stands still for so long, the run is void
_GATHER_LIMIT_S = 10.0

allow_loopback()


@dataclass(frozen=True, slots=True)
class Frame:
    """What libwebrtc would have played at one time."""

    at_s: float
    """On the clock of the event loop."""
    samples: Samples
    """PCM16 at ``RATE_HZ``."""


class NetEqReceiver:
    """A peer that answers an offer, and keeps what it hears."""

    def __init__(self) -> None:
        self._connection = webrtc.RTCPeerConnection()
        self._connection.on("track", self._hear)
        self._resampler = Resampler(_HZ, RATE_HZ)
        self._frames: list[tuple[float, bytes]] = []
        self._processor: webrtc.MediaStreamTrackProcessor | None = None
        self._reading: asyncio.Task[None] | None = None

    async def answer(self, offer: str) -> bytes:
        """The answer to an SDP offer, to which redundancy is added; its candidates are of loopback alone."""
        connection = self._connection
        await connection.set_remote_description(webrtc.RTCSessionDescriptionInit("offer", _with_red(offer)))
        gathered = asyncio.Event()
        connection.on("icegatheringstatechange", lambda _: gathered.set() if _is_complete(connection) else None)
        await connection.set_local_description(await connection.create_answer())
        if not _is_complete(connection):
            async with asyncio.timeout(_GATHER_LIMIT_S):
                await gathered.wait()
        description = connection.local_description
        assert description is not None
        lines = [line for line in str(description.sdp).splitlines() if _is_kept(line)]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def _hear(self, event: webrtc.RTCTrackEvent) -> None:
        init = webrtc.MediaStreamTrackProcessorInit(event.track, _QUEUED_FRAMES)
        self._processor = webrtc.MediaStreamTrackProcessor(init)
        self._reading = asyncio.get_running_loop().create_task(self._read(self._processor))

    async def _read(self, processor: webrtc.MediaStreamTrackProcessor) -> None:
        async for data in processor.readable:
            assert isinstance(data, webrtc.AudioData)
            if data.sample_rate == _HZ:  # before the first packet it may be silence at another one
                pcm = bytearray(data.allocation_size(webrtc.AudioDataCopyToOptions(0)))
                data.copy_to(pcm, webrtc.AudioDataCopyToOptions(0))
                assert (data.number_of_channels, data.format) == (1, "s16")
                self._frames.append((data.timestamp / 1e6, bytes(pcm)))
            data.close()

    def heard(self, since_s: float) -> list[Frame]:
        """All that would have been played from that time on."""
        assert self._processor is not None
        if self._processor.discarded_frames:
            raise RuntimeError(f"the event loop was too slow for {self._processor.discarded_frames} frames")
        frames = []
        for at_s, pcm in self._frames:
            if at_s >= since_s:
                frames.append(Frame(at_s, np.frombuffer(self._resampler.push(pcm), "<i2")))
        return frames

    async def concealed_ms(self) -> float:
        """How much of the sound that was played was made up for packets that did not come, silence left out."""
        for stats in (await self._connection.get_stats()).values():
            if isinstance(stats, webrtc.RTCInboundRtpStreamStats):
                return float((stats.concealed_samples or 0) - (stats.silent_concealed_samples or 0)) * 1000 / _HZ
        raise RuntimeError("nothing came")

    async def aclose(self) -> None:
        """Hangs up."""
        self._connection.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


def _is_complete(connection: webrtc.RTCPeerConnection) -> bool:
    return bool(connection.ice_gathering_state == "complete")


def _is_kept(line: str) -> bool:
    return not line.startswith("a=candidate:") or (" udp " in line and " 127.0.0.1 " in line)


def _with_red(offer: str) -> str:
    opus = f"a=rtpmap:{OPUS} opus/48000/2\r\n"
    added = f"{opus}a=rtpmap:{RED} red/48000/2\r\na=fmtp:{RED} {OPUS}/{OPUS}\r\n"
    return offer.replace(f"SAVPF {OPUS}\r\n", f"SAVPF {OPUS} {RED}\r\n").replace(opus, added)
