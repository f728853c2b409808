"""The baseline of ``benchmarks.sessions``: a bridge as anybody writes one from aiortc's examples.

``python -m benchmarks.sessions_aiortc mic|both`` prints its port. On each WebSocket comes an offer, and the answer goes
back; then each frame of the peer's track, resampled to 24 kHz, as an append event. With ``both``, the sound of delta
events is played to the peer by a track of ours. As in the examples, the event loop is asyncio's own.
"""

import asyncio
import base64
import fractions
import json
import sys
import time

import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__: list[str] = []

_HZ, _SAMPLES = 24_000, 480


class _Answer(MediaStreamTrack):
    """What was received, 20 ms every 20 ms, as aiortc's own ``AudioStreamTrack`` paces silence."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray()
        self._start = 0.0
        self._timestamp = 0

    async def recv(self) -> av.AudioFrame:
        if not self._start:
            self._start = time.time()
        else:
            self._timestamp += _SAMPLES
            await asyncio.sleep(self._start + self._timestamp / _HZ - time.time())
        pcm = bytes(self.buffer[: 2 * _SAMPLES]).ljust(2 * _SAMPLES, b"\0")
        del self.buffer[: 2 * _SAMPLES]
        frame = av.AudioFrame(format="s16", layout="mono", samples=_SAMPLES)
        frame.planes[0].update(pcm)
        frame.sample_rate, frame.pts, frame.time_base = _HZ, self._timestamp, fractions.Fraction(1, _HZ)
        return frame


async def _hear(track: MediaStreamTrack, socket: ServerConnection) -> None:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=_HZ)
    while True:
        frame = await track.recv()
        assert isinstance(frame, av.AudioFrame)
        for resampled in resampler.resample(frame):
            audio = base64.b64encode(bytes(resampled.planes[0])[: 2 * resampled.samples]).decode()
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))


async def _call(socket: ServerConnection) -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    answer = _Answer()
    tasks = []
    if sys.argv[1] == "both":
        connection.addTrack(answer)

    @connection.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        tasks.append(asyncio.ensure_future(_hear(track, socket)))

    try:
        offer = json.loads(await socket.recv())
        await connection.setRemoteDescription(RTCSessionDescription(**offer))
        description = await connection.createAnswer()
        assert description is not None
        await connection.setLocalDescription(description)
        await socket.send(json.dumps({"type": "answer", "sdp": connection.localDescription.sdp}))
        async for text in socket:
            event = json.loads(text)
            if event["type"] == "response.output_audio.delta":
                answer.buffer += base64.b64decode(event["delta"])
    except ConnectionClosed:
        pass
    finally:
        for task in tasks:
            task.cancel()
        await connection.close()


async def _serve() -> None:
    async with serve(_call, "127.0.0.1", 0, compression=None) as server:
        sys.stdout.write(f"{next(iter(server.sockets)).getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve())
