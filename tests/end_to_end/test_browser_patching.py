"""Chromium changes a running call by ``PATCH``: a microphone that comes later, hold, an ICE restart."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.sound import samples_of
from tests.end_to_end.web import open_socket
from tests.sdk_js.chromium import opened_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_START = """async () => {
    const peer = window.peer = new RTCPeerConnection();
    window.headers = { Authorization: "Bearer any", "Content-Type": "application/sdp" };
    const channel = peer.createDataChannel("oai-events");
    const open = new Promise((resolve) => channel.addEventListener("open", resolve));
    window.patch = async () => {
        await peer.setLocalDescription();
        const reply = await fetch(window.call, { method: "PATCH", headers, body: peer.localDescription.sdp });
        const sdp = await reply.text();
        if (reply.ok) await peer.setRemoteDescription({ type: "answer", sdp });
        return { status: reply.status, tag: reply.headers.get("ETag") };
    };
    await peer.setLocalDescription();
    const reply = await fetch("/v1/realtime/calls", { method: "POST", headers, body: peer.localDescription.sdp });
    window.call = reply.headers.get("Location");
    await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
    await open;
    return { call: window.call, tag: reply.headers.get("ETag") };
}"""
_ADD = """async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(stream.getTracks()[0], stream);
    return await patch();
}"""
_TURN = "async (direction) => { peer.getTransceivers()[0].direction = direction; return await patch(); }"
_RESTART = """async () => {
    const before = peer.localDescription.sdp.match(/a=ice-ufrag:(\\S+)/)[1];
    peer.restartIce();
    const told = await patch();
    const pair = async () => {
        const stats = [...(await peer.getStats()).values()];
        const transport = stats.find(({ type }) => type === "transport");
        return { now: transport.iceLocalUsernameFragment, state: transport.dtlsState };
    };
    for (;;) {
        const found = await pair();
        if (found.now !== before && peer.iceConnectionState !== "checking") return { ...told, ...found };
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}"""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


async def test_a_call_that_changes(daemon: Daemon) -> None:
    """The call is the same through all of it: heard once it has a microphone, held, and heard after an ICE restart."""
    async with opened_page(daemon.url) as page:
        made: dict[str, Any] = await page.evaluate(_START)
        call_id = made["call"].rpartition("/")[2]
        async with open_socket(daemon.url, f"call_id={call_id}&audio=pcm16") as listener:

            def is_heard(since: int) -> bool:
                return bool((abs(samples_of(inbound_sound(listener.events[since:]))) > 1000).any())

            added = await page.evaluate(_ADD)
            assert (added["status"], added["tag"]) == (200, made["tag"])
            await listener.wait(lambda: is_heard(0), "sound")
            assert (await page.evaluate(_TURN, "recvonly"))["status"] == 200
            assert (await page.evaluate(_TURN, "sendrecv"))["status"] == 200
            restarted = await page.evaluate(_RESTART)
            assert (restarted["status"], restarted["state"]) == (200, "connected")
            assert restarted["tag"] not in (None, made["tag"])
            since = len(listener.events)
            await listener.wait(lambda: is_heard(since), "sound after the restart")
        (session,) = daemon.registry.sessions
        assert session.info.id == call_id
