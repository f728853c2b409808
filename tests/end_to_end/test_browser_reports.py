"""RTCP, redundancy and header extensions with a real browser: what Chromium says of the call, and what we say."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.peer.peer import Peer
from tests.sdk_js.chromium import opened_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_CALL = """async (prefersRedundancy) => {
    const peer = new RTCPeerConnection();
    const heard = document.createElement("audio");
    heard.autoplay = true;
    peer.ontrack = (event) => { heard.srcObject = event.streams[0]; };
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getTracks()[0]);
    if (prefersRedundancy) {
        const { codecs } = RTCRtpReceiver.getCapabilities("audio");
        const rank = (codec) => ["audio/red", "audio/opus"].indexOf(codec.mimeType) + 1 || 9;
        peer.getTransceivers()[0].setCodecPreferences(codecs.sort((a, b) => rank(a) - rank(b)));
    }
    const channel = peer.createDataChannel("oai-events");
    const open = new Promise((resolve) => channel.addEventListener("open", resolve));
    await peer.setLocalDescription();
    const reply = await fetch("/v1/realtime/calls", {
        method: "POST", body: peer.localDescription.sdp, headers: { "Content-Type": "application/sdp" },
    });
    await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
    await open;
    const find = async (type) => [...(await peer.getStats()).values()].find((entry) => entry.type === type);
    const until = async (type, holds) => {
        let entry;
        while (!((entry = await find(type)) && holds(entry))) await new Promise((resolve) => setTimeout(resolve, 100));
        return entry;
    };
    const ofOurs = await until("remote-inbound-rtp", (entry) => entry.roundTripTimeMeasurements > 0);
    const ofTheirs = await until("remote-outbound-rtp", (entry) => entry.packetsSent > 20);
    window.peer = peer;
    return { ofOurs, ofTheirs, level: (await find("inbound-rtp")).audioLevel };
}"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.parametrize("prefers_redundancy", [False, True])
async def test_chromium_and_the_bridge_report_to_each_other(daemon: Daemon, prefers_redundancy: bool) -> None:
    """Each knows the round trip and that nothing was lost; a page that prefers redundancy sends it and is heard."""
    async with opened_page(daemon.url) as page:
        call = await page.evaluate(_CALL, prefers_redundancy)
        assert call["ofOurs"]["packetsLost"] == 0
        assert 0 <= call["ofOurs"]["roundTripTime"] < 1
        assert call["ofTheirs"]["packetsSent"] > 20
        (session,) = daemon.registry.sessions
        peer = session._leg
        assert isinstance(peer, Peer)
        figures = peer.describe()
        assert figures["lost"] == figures["faults"] == peer.inbound.stats.foreign == 0
        assert isinstance(figures["round_trip_ms"], float)
        redundant = peer.inbound.stats.redundant
        assert redundant > 20 if prefers_redundancy else redundant == 0
        await page.evaluate("window.peer.close()")
        await session.closed.wait()
