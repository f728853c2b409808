"""Chromium in a network that lets no UDP through: the call is over TCP."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.webrtc.ice import IceLite
from bridge.webrtc.peer import Peer
from tests.foreign.network import inside, network
from tests.machine import scaled
from tests.processes import ran
from tests.sdk_js.chromium import CHROMIUM_NAMES, opened_page
from tests.settings import config_for_tests

pytestmark = [pytest.mark.browser]

_KEY = "sk-test"

_CALL = """async (key) => {
    const peer = window.peer = new RTCPeerConnection();
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getTracks()[0]);
    const channel = peer.createDataChannel("oai-events");
    const created = new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(JSON.parse(data).type);
    });
    await peer.setLocalDescription();
    const reply = await fetch("/v1/realtime/calls", {
        method: "POST", body: peer.localDescription.sdp,
        headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${key}` },
    });
    await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
    const first = await created;
    const stats = await peer.getStats();
    const { selectedCandidatePairId } = [...stats.values()].find(({ type }) => type === "transport");
    const { protocol, tcpType } = stats.get(stats.get(selectedCandidatePairId).localCandidateId);
    return { first, protocol, tcpType };
}"""


@pytest.mark.parametrize("settings", [{"ice_tcp_port": 0, "ice_tcp_on_port": False}, {}], ids=["own-port", "http-port"])
async def test_chromium_without_udp(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Its packets come over ICE-TCP, its microphone is heard, it hears the bridge, and it hangs up."""
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    assert found, "needs Chromium: make chromium"
    async with network() as net:
        namespace = await net.namespace()
        host, _ = await net.link(None, namespace)
        code, _, complaint = await ran("ip", "-n", namespace, "rule", "add", "ipproto", "udp", "blackhole")
        assert code == 0, complaint
        browser = tmp_path / "chromium"
        browser.write_text(f'#!/bin/sh\nexec {" ".join(inside(namespace))} {found} "$@"\n')
        browser.chmod(0o755)
        async with Daemon(config_for_tests(host=host, api_key=(_KEY,), **settings)) as daemon:
            trusted = f"--unsafely-treat-insecure-origin-as-secure={daemon.url.rstrip('/')}"
            async with opened_page(daemon.url, executable=str(browser), flags=[trusted]) as page:
                call = await page.evaluate(_CALL, _KEY)
                assert (call["first"], call["protocol"], call["tcpType"]) == ("session.created", "tcp", "active")
                [peer] = daemon.endpoint.peers
                [session] = daemon.registry.sessions
                assert isinstance(peer, Peer)
                assert isinstance(peer.ice, IceLite)
                assert peer.ice.address is not None
                assert peer.ice.address[-1] == "tcp"
                async with asyncio.timeout(scaled(10)):
                    while peer.rtp.inbound.stats.packets < 100 or peer.rtp.reports.round_trip_ms is None:
                        await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
                assert peer.rtp.inbound.stats.lost == peer.faults.total() == 0
                await page.evaluate("window.peer.close()")
                await session.lifetime.closed.wait()
        assert "unknown_source" not in daemon.endpoint.mux.drops
