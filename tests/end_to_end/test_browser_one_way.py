"""Chromium publishes by WHIP and plays by WHEP, from a page of another origin, candidates sent by ``PATCH``."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.sound import samples_of
from tests.end_to_end.web import open_socket
from tests.sdk_js.chromium import opened_page, page_server
from tests.settings import config_for_tests

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_KEY = "sk-the-api-key-of-these-tests"
_SCRIPT = """async ({ server, key }) => {
    const authorization = { Authorization: `Bearer ${key}` };
    const offered = async (peer, path) => {
        const candidates = [];
        let told = null;
        const patch = (lines, condition) => fetch(told.session, {
            method: "PATCH",
            headers: { ...authorization, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": condition },
            body: lines.join("\\r\\n"),
        });
        const gathered = new Promise((resolve) => peer.addEventListener("icecandidate", ({ candidate }) => {
            if (candidate?.candidate) candidates.push(`a=${candidate.candidate}`);
            else if (candidate === null) resolve();
        }));
        await peer.setLocalDescription();
        const reply = await fetch(new URL(path, server), {
            method: "POST",
            headers: { ...authorization, "Content-Type": "application/sdp" },
            body: peer.localDescription.sdp,
        });
        told = { status: reply.status, tag: reply.headers.get("ETag") };
        told.session = new URL(reply.headers.get("Location"), reply.url).href;
        await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
        await gathered;
        const sdp = peer.localDescription.sdp;
        const own = ["ice-ufrag", "ice-pwd"].map((name) => sdp.match(new RegExp(`a=${name}:\\\\S+`))[0]);
        told.patched = (await patch([...own, ...candidates, "a=end-of-candidates"], told.tag)).status;
        while (peer.connectionState !== "connected") await new Promise((resolve) => setTimeout(resolve, 20));
        return told;
    };
    window.ended = async ({ session }) => (await fetch(session, { method: "DELETE", headers: authorization })).status;
    window.energy = async (peer) => {
        for (;;) {
            const inbound = [...(await peer.getStats()).values()].find(({ type }) => type === "inbound-rtp");
            if (inbound?.totalAudioEnergy > 0.001) return inbound.totalAudioEnergy;
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
    };
    window.publisher = new RTCPeerConnection();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    publisher.addTransceiver(stream.getTracks()[0], { direction: "sendonly", streams: [stream] });
    window.published = await offered(publisher, "/v1/whip");
    window.players = [];
    const call = published.session.split("/").at(-1);
    for (const tracks of ["input", "output", "input,output"]) {
        const player = new RTCPeerConnection();
        player.addTransceiver("audio", { direction: "recvonly" });
        player.addTransceiver("video", { direction: "recvonly" });
        player.ontrack = ({ track }) => {
            if (track.kind !== "audio") return;
            const element = document.createElement("audio");
            element.autoplay = true;
            element.srcObject = new MediaStream([track]);
        };
        players.push({ player, told: await offered(player, `/v1/whep/${call}?tracks=${tracks}`) });
    }
    return { call, told: [published, ...players.map(({ told }) => told)] };
}"""
_HEARD = "async () => await Promise.all(players.map(({ player }) => energy(player)))"
_END = "async () => [...(await Promise.all(players.map(({ told }) => ended(told)))), await ended(published)]"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


async def test_a_page_publishes_and_plays() -> None:
    """Each player hears what it has chosen, a listener hears the page; all of it is ended by ``DELETE``."""
    with page_server() as port:
        origin = f"http://127.0.0.1:{port}"
        config = config_for_tests(api_key=(_KEY,), allow_origin=(origin,))
        async with Daemon(config) as daemon, opened_page(f"{origin}/page.html") as page:
            made: dict[str, Any] = await page.evaluate(_SCRIPT, {"server": daemon.url, "key": _KEY})
            assert [(told["status"], told["patched"]) for told in made["told"]] == 4 * [(201, 204)]
            key = {"Authorization": f"Bearer {_KEY}"}
            query = f"call_id={made['call']}&audio=pcm16"
            async with open_socket(daemon.url, query, additional_headers=key) as listener:
                await listener.until("output_audio_buffer.started")
                energies = await page.evaluate(_HEARD)
                assert min(energies) > 0.001
                assert (abs(samples_of(inbound_sound(listener.events))) > 1000).any()
            assert await page.evaluate(_END) == 4 * [200]
