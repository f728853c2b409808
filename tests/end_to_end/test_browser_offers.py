"""A real browser's unusual offers: video beside the sound, a channel without an announcement, an ICE restart."""

import asyncio
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.webrtc.ice import IceLite
from bridge.webrtc.peer import Peer
from tests.machine import scaled
from tests.sdk_js.chromium import opened_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_CALL = """async () => {
    const peer = new RTCPeerConnection();
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    const picture = document.createElement("canvas");
    picture.getContext("2d");
    peer.addTrack(picture.captureStream(5).getTracks()[0]);
    peer.addTrack(microphone.getTracks()[0]);
    const channel = peer.createDataChannel("events", { negotiated: true, id: 0 });
    const types = [];
    channel.addEventListener("message", ({ data }) => types.push(JSON.parse(data).type));
    const come = async (type) => {
        while (!types.includes(type)) await new Promise((resolve) => setTimeout(resolve, 50));
        types.splice(types.indexOf(type), 1);
    };
    const post = async (path, headers = {}) => {
        const reply = await fetch(path, {
            method: "POST", body: peer.localDescription.sdp, headers: { "Content-Type": "application/sdp", ...headers },
        });
        await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
        return reply;
    };
    const say = async () => {
        const item = { type: "message", role: "user", content: [{ type: "input_text", text: "hello" }] };
        channel.send(JSON.stringify({ type: "conversation.item.create", item }));
        await come("conversation.item.done");
    };
    await peer.setLocalDescription();
    const reply = await post("/v1/realtime/calls");
    await come("session.created");
    await say();
    const before = peer.remoteDescription.sdp.match(/a=ice-ufrag:(\\S+)/)[1];
    const headers = { "Bridge-Resume-Key": reply.headers.get("Bridge-Resume-Key") };
    await peer.setLocalDescription();
    const repeated = await post(reply.headers.get("Location"), headers);
    await say();
    const pair = async () =>
        [...(await peer.getStats()).values()].find((entry) => entry.type === "transport").selectedCandidatePairId;
    const first = await pair();
    await peer.setLocalDescription(await peer.createOffer({ iceRestart: true }));
    const restarted = await post(reply.headers.get("Location"), headers);
    while (await pair() === first) await new Promise((resolve) => setTimeout(resolve, 50));
    await say();
    return {
        statuses: [reply.status, repeated.status, restarted.status],
        warning: reply.headers.get("Bridge-Warning"),
        directions: peer.getTransceivers().map((transceiver) => transceiver.currentDirection),
        hasNew: peer.remoteDescription.sdp.match(/a=ice-ufrag:(\\S+)/)[1] !== before,
        state: peer.connectionState,
    };
}"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


async def test_chromium_with_video_restarts_its_ice(daemon: Daemon) -> None:
    """Video is inactive, events come over the channel that was agreed on, and a restart keeps the one connection."""
    async with opened_page(daemon.url) as page:
        call = await page.evaluate(_CALL)
        assert call["statuses"] == [201, 201, 201]
        assert call["warning"].startswith("unused_sections: ")
        assert call["directions"] == ["inactive", "sendrecv"]
        assert call["hasNew"]
        assert call["state"] == "connected"
        (peer,) = daemon.endpoint.peers
        assert isinstance(peer, Peer)
        assert isinstance(peer.ice, IceLite)
        async with asyncio.timeout(scaled(10)):
            while peer.ice.renewed is not None:  # noqa: ASYNC110 (until the peer comes with its new credentials)
                await asyncio.sleep(0.02)
        assert len(daemon.endpoint.mux.agents) == 1
        assert peer.faults.total() == 0
