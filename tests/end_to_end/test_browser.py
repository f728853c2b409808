"""A real browser: Chromium with a fake microphone talks to the console, and to the doors as plain pages do."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from bridge.config import TurnSettings
from bridge.daemon import Daemon
from tests.machine import scaled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

_SPEECH = Path(__file__).parents[1] / "data" / "speech.wav"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={_SPEECH}%noloop",
]
_ANSWER_LIMIT_MS = scaled(15_000)  # 4.4 s of speech, and a machine that is busy
_CONNECT_LIMIT_MS = scaled(1000)
expect.set_options(timeout=scaled(5_000))  # wherever no other limit is named

# What a page of the API's own documentation does, word for word but for the address.
_PLAIN_PAGE = """async () => {
    const peer = new RTCPeerConnection();
    const heard = document.createElement("audio");
    heard.autoplay = true;
    peer.ontrack = (event) => { heard.srcObject = event.streams[0]; };
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    peer.addTrack(microphone.getTracks()[0]);
    const channel = peer.createDataChannel("oai-events");
    const types = [];
    const started = new Promise((resolve) => channel.addEventListener("message", ({ data }) => {
        types.push(JSON.parse(data).type);
        if (types.at(-1) === "output_audio_buffer.started") resolve();
    }));
    const open = new Promise((resolve) => channel.addEventListener("open", resolve));
    await peer.setLocalDescription();
    const began = performance.now();
    const reply = await fetch("/v1/realtime?model=some-model", {
        method: "POST",
        body: peer.localDescription.sdp,
        headers: { Authorization: "Bearer any", "Content-Type": "application/sdp" },
    });
    const location = reply.headers.get("Location");
    await peer.setRemoteDescription({ type: "answer", sdp: await reply.text() });
    await open;
    const connectMs = performance.now() - began;
    await started;
    let energy = 0;
    while (!(energy > 0)) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        for (const entry of (await peer.getStats()).values())
            if (entry.type === "inbound-rtp") energy = entry.totalAudioEnergy;
    }
    peer.close();
    return { status: reply.status, location, types, connectMs };
}"""
_SOUNDING = re.compile(r"0\.[2-9]\d*|1\.0*")  # of the full scale of a meter


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def page(daemon: Daemon) -> AsyncIterator[Page]:
    """The console, in a browser of its own; an error that the page does not catch fails the test."""
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    assert executable, f"needs one of {', '.join(_NAMES)}: make chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        opened = await browser.new_page()
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        await opened.goto(daemon.url)
        yield opened
        await browser.close()
    assert errors == []


async def test_console_talks_and_hears(daemon: Daemon, page: Page) -> None:
    """Speech goes in, events appear, the answer is audible, a typed message is answered, the call is hung up."""
    await page.click("#talk")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected")
    await expect(page.locator("#calls .call")).to_have_count(1)
    (session,) = daemon.registry.sessions
    for kind in (
        "session.created",
        "input_audio_buffer.speech_started",
        "response.done",
        "output_audio_buffer.started",
    ):
        await expect(page.locator(f'#events .event[data-type="{kind}"]').first).to_be_attached(timeout=_ANSWER_LIMIT_MS)
    await expect(page.locator("#meter-answer")).to_have_attribute("data-loudest", _SOUNDING)
    await expect(page.locator('#events .event[data-type="output_audio_buffer.stopped"]')).to_be_attached(
        timeout=_ANSWER_LIMIT_MS
    )
    await page.fill("#message", "Guten Tag")
    await page.click("#send")
    await expect(page.get_by_text("You wrote: Guten Tag").first).to_be_visible()
    await page.click("#hangup")
    await expect(page.locator("#state")).to_have_attribute("data-state", "closed")
    await session.lifetime.closed.wait()
    await expect(page.locator("#calls .call")).to_have_count(0)
    await expect(page.locator("#error")).to_be_hidden()


async def test_console_is_told_of_the_relay(daemon: Daemon, page: Page) -> None:
    """The TURN server of the settings is one of the page's ways, with credentials of its own."""
    daemon.reloader.rooms.turn.apply(TurnSettings(turn_url=("turn:127.0.0.1:9?transport=udp",), turn_secret="s"))
    await page.evaluate("""() => {
        window.RTCPeerConnection = class extends RTCPeerConnection {
            constructor(configuration) { super(configuration); window.made = this; }
        };
    }""")
    await page.click("#talk")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected")
    [server] = await page.evaluate("window.made.getConfiguration().iceServers")
    assert server["urls"] == ["turn:127.0.0.1:9?transport=udp"]
    assert server["username"].endswith(":api")
    await page.click("#hangup")
    await expect(page.locator("#state")).to_have_attribute("data-state", "closed")


async def test_console_filters_events(page: Page) -> None:
    """What does not match the filter is out of sight."""
    await page.click("#talk")
    created = page.locator('#events .event[data-type="session.created"]')
    await expect(created).to_be_visible()
    await page.fill("#filter", "input_audio_buffer")
    await expect(created).to_be_hidden()
    await page.fill("#filter", "")
    await expect(created).to_be_visible()


async def test_plain_page_talks_and_hears(daemon: Daemon, page: Page) -> None:
    """The browser code of the API's documentation works as it stands, against this address."""
    call = await page.evaluate(_PLAIN_PAGE)
    assert call["status"] == 201
    assert call["location"].startswith("/v1/realtime/calls/rtc_")
    assert call["types"][0] == "session.created"
    assert "response.created" in call["types"]
    assert call["connectMs"] < _CONNECT_LIMIT_MS
    for session in daemon.registry.sessions:
        await session.lifetime.closed.wait()


async def test_closed_page_ends_its_call(daemon: Daemon, page: Page) -> None:
    """A page that goes away hangs up."""
    await page.click("#talk")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected")
    (session,) = daemon.registry.sessions
    await page.goto("about:blank")
    await session.lifetime.closed.wait()
