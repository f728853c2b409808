"""A real browser's media: RTCP and redundancy as Chromium has them, and a NAT that forgets Chromium's address."""

import asyncio
from typing import Any

import pytest
from msgspec import to_builtins

from bridge.daemon import Daemon
from bridge.webrtc.ice import Address, IceLite
from bridge.webrtc.peer import Peer
from tests.machine import scaled
from tests.sdk_js.chromium import opened_page
from tests.webrtc.relay import Relay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_CALL = """async ({ prefersRedundancy, from, to }) => {
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
    const sdp = (await reply.text()).replaceAll(` ${from} typ host`, ` ${to} typ host`);
    await peer.setRemoteDescription({ type: "answer", sdp });
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

# Whether more and more of the bridge's reports arrive, which only come to the address that it sends to.
_HEARS = """async () => {
    const reports = async () => [...(await window.peer.getStats()).values()]
        .find((entry) => entry.type === "remote-outbound-rtp").reportsSent;
    const before = await reports();
    while (await reports() === before) await new Promise((resolve) => setTimeout(resolve, 100));
    return true;
}"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.parametrize("prefers_redundancy", [False, True])
async def test_chromium_and_the_bridge_report_to_each_other(daemon: Daemon, prefers_redundancy: bool) -> None:
    """Each knows the round trip and that nothing was lost; a page that prefers redundancy sends it and is heard."""
    async with opened_page(daemon.url) as page:
        call = await page.evaluate(_CALL, {"prefersRedundancy": prefers_redundancy})
        assert call["ofOurs"]["packetsLost"] == 0
        assert 0 <= call["ofOurs"]["roundTripTime"] < 1
        assert call["ofTheirs"]["packetsSent"] > 20
        (session,) = daemon.registry.sessions
        peer = session.legs.current
        assert isinstance(peer, Peer)
        async with asyncio.timeout(scaled(15)):  # Chromium reports once it has had a report of ours, seconds apart
            while peer.rtp.reports.round_trip_ms is None:
                await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
        figures = to_builtins(peer.stats())
        assert figures["lost"] == figures["faults"] == peer.rtp.inbound.stats.foreign == 0
        assert isinstance(figures["round_trip_ms"], float)
        redundant = peer.rtp.inbound.stats.redundant
        assert redundant > 20 if prefers_redundancy else redundant == 0
        await page.evaluate("window.peer.close()")
        await session.lifetime.closed.wait()


async def test_chromium_behind_a_nat_that_forgets(daemon: Daemon) -> None:
    """In mid-call Chromium's packets come from elsewhere: they are heard, and it is sent to there, within a second."""
    async with Relay(daemon.endpoint.port) as relay, opened_page(daemon.url) as page:
        await page.evaluate(_CALL, {"from": daemon.endpoint.port, "to": relay.port})
        (session,) = daemon.registry.sessions
        peer = session.legs.current
        assert isinstance(peer, Peer)
        assert isinstance(peer.ice, IceLite)
        assert peer.ice.address == relay.outside[0]
        ice, moved, checked = peer.ice, asyncio.Event(), peer.ice.checked

        def check(address: Address, *, nominated: bool, now: float, ufrag: str | None = None) -> None:
            checked(address, nominated=nominated, now=now, ufrag=ufrag)
            if ice.address == relay.outside[-1]:  # Chromium may check there first, and go there with the next one
                moved.set()

        peer.ice.checked = check  # type: ignore[method-assign]
        lost_before = peer.rtp.inbound.stats.lost
        await relay.rebind()
        async with asyncio.timeout(scaled(1)):
            await moved.wait()
        assert peer.ice.address == relay.outside[1]
        heard = peer.rtp.inbound.stats.packets
        assert await page.evaluate(_HEARS)
        assert peer.rtp.inbound.stats.packets > heard
        assert peer.rtp.inbound.stats.lost - lost_before < 5
        await page.evaluate("window.peer.close()")
        await session.lifetime.closed.wait()
