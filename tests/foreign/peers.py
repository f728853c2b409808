"""Peers that nobody here wrote: what they say as files, the call that each makes, what they heard as samples."""

import base64
import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from bridge.daemon import Daemon
from tests.end_to_end.event_log import stream_numbers
from tests.end_to_end.sound import Samples, pcm_of, resample, samples_of
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.sdk_js.node import Scenario

__all__ = ["FOLDER", "LIKENESS", "converse", "heard_by", "opus_of", "write_speech"]

FOLDER = Path(__file__).parent
LIKENESS = 0.9
"""The correlation beyond which sound is the sound that was sent."""

_RATE_HZ = 48_000
_FRAME_SAMPLES = 960


def opus_of(pcm: bytes) -> list[bytes]:
    """PCM16 24 kHz mono as Opus packets of 20 ms, encoded by libopus at its defaults."""
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = _RATE_HZ, "mono", "s16"
    wide = np.frombuffer(pcm_of(resample(samples_of(pcm), 24_000, _RATE_HZ)), "<i2")
    packets = []
    for at in range(0, len(wide) - _FRAME_SAMPLES + 1, _FRAME_SAMPLES):
        frame = av.AudioFrame.from_ndarray(wide[at : at + _FRAME_SAMPLES].reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = _RATE_HZ, at
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


def write_speech(folder: Path, pcm: bytes) -> dict[str, str]:
    """What a peer may say, for those that encode it and for those that do not: its inputs ``pcm`` and ``packets``."""
    samples, packets = folder / "speech.pcm", folder / "speech.json"
    samples.write_bytes(pcm_of(resample(samples_of(pcm), 24_000, _RATE_HZ)))
    packets.write_text(json.dumps([base64.b64encode(packet).decode() for packet in opus_of(pcm)]))
    return {"pcm": str(samples), "packets": str(packets)}


async def converse(
    daemon: Daemon, log: Scenario, *, peer_hangs_up: bool, turns: int = 1, key: str = "any"
) -> tuple[EventSocket, dict[str, Any]]:
    """The call of a peer that waits for the end of its input, until one of the two has hung up and the other noticed.

    Returns the listener that heard all of it, each of its events of sound once and in order, and the peer's own
    ``peer.heard``.
    """
    headers = {"Authorization": f"Bearer {key}"}
    call_id = (await log.until("peer.connected"))["call_id"]
    session = daemon.registry.find(call_id)
    query = f"call_id={call_id}&audio=pcm16"
    async with open_socket(daemon.url, query, additional_headers=headers) as listener:
        log.end_input()
        for turn in range(turns):
            await listener.until("output_audio_buffer.stopped", number=turn + 1)
        told = await log.until("peer.heard")
        if not peer_hangs_up:
            url = f"{daemon.url}v1/realtime/calls/{call_id}/hangup"
            assert (await request("POST", url, headers=headers)).status == 200
        await session.lifetime.closed.wait()
        assert await listener.close_code() == 1000
    await log.until("peer.gone")
    assert log.of("error") == []
    appends = listener.of("input_audio_buffer.append")
    assert stream_numbers(appends) == list(range(1, len(appends) + 1))
    return listener, told


def heard_by(told: dict[str, Any]) -> Samples:
    """What a peer's ``peer.heard`` says, at 24 kHz; time without packets is silence."""
    if "pcm" in told:
        return resample(samples_of(base64.b64decode(told["pcm"])), told["rate_hz"], 24_000)
    codec = av.CodecContext.create("opus", "r")
    assert isinstance(codec, av.AudioCodecContext)
    packets = {timestamp: base64.b64decode(payload) for timestamp, payload in told["packets"]}
    first = min(packets)
    sound = np.zeros(max(packets) - first + _FRAME_SAMPLES)
    for timestamp in sorted(packets):
        for frame in codec.decode(av.Packet(packets[timestamp])):
            left = frame.to_ndarray()[0] if frame.format.is_planar else frame.to_ndarray()[0, ::2]
            start = timestamp - first
            sound[start : start + len(left)] = left[: len(sound) - start]
    return resample(32_768 * sound, _RATE_HZ, 24_000)
