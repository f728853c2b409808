"""Real speech through real Opus peers, both ways: what arrives is what was said."""

import asyncio
import fractions
from collections.abc import Iterator

import av
import numpy as np
from aiortc import MediaStreamError, MediaStreamTrack
from aiortc.codecs.opus import OpusEncoder

from bridge.media.playback import Part
from bridge.webrtc.endpoint import Endpoint
from tests.fakes import likeness
from tests.webrtc.calling import Caller
from tests.webrtc.conftest import Placing

RATE_HZ = 24_000
FRAME_SAMPLES = 480
PART = Part("resp_1", "item_1", 0, 0)


def opus_packets(pcm: bytes) -> Iterator[bytes]:
    """``pcm`` as aiortc's own encoder packs it: 48 kHz stereo, 20 ms."""
    encoder = OpusEncoder()
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=48_000, frame_size=960)
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, fractions.Fraction(1, RATE_HZ)
    for piece in (*resampler.resample(frame), *resampler.resample(None)):
        yield from encoder.encode(piece)[0]


async def test_speech_to_the_owner(endpoint: Endpoint, place_call: Placing, speech_pcm: bytes) -> None:
    """The caller's speech reaches the owner whole: its length within a frame, its sound alike."""
    caller = await place_call(endpoint)
    packets = list(opus_packets(speech_pcm))
    for packet in packets:
        await caller.send_rtp(caller.rtp(packet))
        await asyncio.sleep(0)
    expected = len(packets) * FRAME_SAMPLES * 2
    await caller.owner.until(lambda: len(caller.owner.pcm) >= expected)
    assert abs(len(caller.owner.pcm) - len(speech_pcm)) <= 2 * FRAME_SAMPLES
    correlation, delay = likeness(bytes(caller.owner.pcm), speech_pcm)
    assert correlation > 0.95
    assert delay < FRAME_SAMPLES
    assert caller.peer.rtp.inbound.stats.lost == caller.peer.rtp.inbound.stats.concealed_ms == 0


async def test_speech_to_the_caller(endpoint: Endpoint, place_call: Placing, speech_pcm: bytes) -> None:
    """What is played reaches the caller's ear whole, in real time, and with its beginning and end."""
    source = speech_pcm[: 2 * RATE_HZ * 2]
    caller = await place_call(endpoint)
    ear = asyncio.ensure_future(listen(caller))
    for at in range(0, len(source), 7000):
        caller.peer.play(PART, source[at : at + 7000])
    caller.peer.end(PART.response_id)
    await caller.owner.until(lambda: len(caller.owner.events) == 2)
    # The receiver's jitter buffer holds back the last frames until more come: the bridge's tail of silence.
    while not caller.peer.rtp.outbound.is_idle:
        await caller.send_rtp(caller.rtp(b""))
        await asyncio.sleep(0)
    await caller.pc.close()
    result = await ear
    correlation, delay = likeness(result, source, max_shift=RATE_HZ // 2)
    assert correlation > 0.95
    assert len(result) // 2 - delay >= len(source) // 2 - FRAME_SAMPLES


async def listen(caller: Caller) -> bytes:
    """All that the caller's stock receiver gives out, until its connection is closed."""
    (receiver,) = caller.pc.getReceivers()
    track = receiver.track
    assert isinstance(track, MediaStreamTrack)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pieces: list[bytes] = []
    try:
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.AudioFrame)
            pieces += [piece.to_ndarray().tobytes() for piece in resampler.resample(frame)]
    except MediaStreamError:
        return b"".join(pieces)


async def test_speech_in_disorder(endpoint: Endpoint, place_call: Placing, speech_pcm: bytes) -> None:
    """Packets that overtake one another are put back in their places, doubled ones left out."""
    caller = await place_call(endpoint)
    packets = [caller.rtp(packet) for packet in opus_packets(speech_pcm)]
    for at in range(5, len(packets) - 5, 10):
        packets[at : at + 3] = [packets[at + 2], packets[at + 1], packets[at], packets[at]]
    for packet in packets:
        await caller.send_rtp(packet)
    expected = len(set(packets)) * FRAME_SAMPLES * 2
    await caller.owner.until(lambda: len(caller.owner.pcm) >= expected)
    assert abs(len(caller.owner.pcm) - len(speech_pcm)) <= 2 * FRAME_SAMPLES
    assert likeness(bytes(caller.owner.pcm), speech_pcm)[0] > 0.95
    assert caller.peer.rtp.inbound.stats.lost == 0
