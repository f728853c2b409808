"""Stock aiortc peers with unusual offers: each connects, and is heard and hears what it asked for."""

import asyncio

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bridge.media.playback import Part
from bridge.webrtc.endpoint import Endpoint
from bridge.webrtc.sdp import parse_offer
from tests.webrtc.calling import WITHIN_S, Recorder
from tests.webrtc.conftest import Placing
from tests.webrtc.ear import Ear

PART = Part("resp_1", "item_1", 0, 0)


async def connected(pc: RTCPeerConnection) -> str:
    """The state of all of its transports once it is settled."""
    settled = asyncio.Event()

    def look() -> None:
        if pc.connectionState in ("connected", "failed", "closed"):
            settled.set()

    pc.on("connectionstatechange", look)
    look()
    async with asyncio.timeout(WITHIN_S):
        await settled.wait()
    return pc.connectionState


async def test_the_peer_as_the_dtls_server(endpoint: Endpoint, place_call: Placing) -> None:
    """An offer that is passive makes the bridge the one that begins the handshake."""
    caller = await place_call(endpoint, patch=lambda sdp: sdp.replace("a=setup:actpass", "a=setup:passive"))
    await caller.works()
    assert "a=setup:active\r\n" in caller.pc.remoteDescription.sdp


async def test_an_offer_with_video(endpoint: Endpoint, place_call: Placing) -> None:
    """A client that offers video too has its call without it, and no transport of its own fails for it."""
    caller = await place_call(endpoint, is_connected=False)
    caller.pc.addTransceiver("video")
    await caller.connect()
    await caller.works()
    assert await connected(caller.pc) == "connected"


async def test_an_offer_with_video_first(endpoint: Endpoint) -> None:
    """The same if the video section comes first, and its transport is everybody's."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        owner = Recorder()
        pc.addTransceiver("video")
        pc.addTransceiver("audio")
        pc.createDataChannel("oai-events")
        await pc.setLocalDescription(await pc.createOffer())
        _, answer = endpoint.accept(parse_offer(pc.localDescription.sdp.encode()), owner)
        await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await owner.until(lambda: owner.sinks)
        assert await connected(pc) == "connected"
    finally:
        await pc.close()


@pytest.mark.parametrize("directions", [("recvonly", "sendonly"), ("sendonly", "recvonly")])
async def test_two_sections_one_for_each_way(
    endpoint: Endpoint, place_call: Placing, directions: tuple[str, str]
) -> None:
    """A client with one section to speak in and one to listen in speaks and hears."""
    caller = await place_call(endpoint, is_connected=False)
    caller.pc.addTransceiver("audio")
    for transceiver, direction in zip(caller.pc.getTransceivers(), directions, strict=True):
        transceiver.direction = direction
    await caller.connect()
    ear = Ear(caller)
    await caller.works()
    caller.peer.play(PART, bytes(9600))
    await ear.until(lambda: len(ear.rtp) >= 10)
    assert await connected(caller.pc) == "connected"


@pytest.mark.parametrize("encoding", ["opus/48000", "opus/48000/1", "opus/16000/1"])
async def test_opus_by_another_name(endpoint: Endpoint, place_call: Placing, encoding: str) -> None:
    """What a small device calls Opus is Opus."""
    caller = await place_call(endpoint, is_connected=False)
    await caller.connect(
        lambda sdp: sdp.replace("opus/48000/2", encoding),
        patch_answer=lambda sdp: sdp.replace(encoding, "opus/48000/2"),
    )
    await caller.works()
