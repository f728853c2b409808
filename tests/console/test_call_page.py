"""The console's own call in Chromium: whether the caller is heard, the session's settings, and how a call ended."""

from typing import Any

import pytest
from playwright.async_api import Route, expect

from bridge.daemon import Daemon
from bridge.wire import server_events as server
from tests.console.page import complaints, is_too_wide
from tests.machine import scaled
from tests.sdk_js.chromium import opened_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60), pytest.mark.usefixtures("node_packages")]

_LIMIT_MS = scaled(15_000)
_TOOL = '[{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}]'


async def test_the_state_says_whether_the_caller_is_heard(daemon: Daemon) -> None:
    """Heard, muted, and after the end why; the caller's words are shown once they are written down."""
    async with opened_page(daemon.url) as page:
        state = page.locator("#state")
        assert await complaints(page) == []
        assert not await is_too_wide(page)
        await page.click("#talk")
        await expect(state).to_have_text("connected: you are heard", timeout=_LIMIT_MS)
        await page.click("#mute")
        await expect(state).to_have_text("connected, muted: you are not heard")
        await expect(page.get_by_role("button", name="Muted").nth(1)).to_have_attribute("aria-pressed", "true")
        (session,) = daemon.registry.sessions
        session.deliver_event(
            server.InputAudioTranscriptionCompleted(item_id="item_heard", transcript="Good evening.", usage={})
        )
        await expect(page.locator('#turns [data-item="item_heard"]')).to_contain_text("Good evening.")
        assert await complaints(page) == []
        await page.click("#mute")
        await expect(state).to_have_text("connected: you are heard")
        session.close("hangup")
        await expect(state).to_have_text("closed: the other side ended the call (ended: hangup)", timeout=_LIMIT_MS)
        await expect(page.locator("#talk")).to_be_enabled()
        assert await complaints(page) == []


async def test_a_page_of_which_a_part_did_not_come_is_loaded_again(daemon: Daemon) -> None:
    """Once; if it does not come then either, the page says so and does not pretend to ask the server."""
    async with opened_page("about:blank", refusals=["ERR_FAILED"]) as page:
        fetched: list[str] = []

        async def lose(route: Route) -> None:
            fetched.append(route.request.url)
            await (route.abort() if len(fetched) != 2 else route.continue_())

        await page.route("**/charts.js", lose)
        await page.goto(daemon.url)
        await expect(page.locator("#server")).to_have_text("ready", timeout=_LIMIT_MS)
        assert len(fetched) == 2
        await page.goto("about:blank")
        await page.goto(daemon.url)
        await expect(page.locator("#server")).to_contain_text("a part of this page did not come", timeout=_LIMIT_MS)
        assert len(fetched) == 4


async def test_the_microphone_may_be_left_out(daemon: Daemon) -> None:
    """Then the state says so, and so does the big button."""
    async with opened_page(daemon.url) as page:
        await page.click("#listen-only")
        await expect(page.locator("#state")).to_have_text("connected: listening and typing only", timeout=_LIMIT_MS)
        await expect(page.locator("#talk-label")).to_have_text("Listening")
        await page.click("#hangup")
        await expect(page.locator("#state")).to_have_text("closed: you hung up")


async def test_the_settings_of_the_session_are_a_form(daemon: Daemon) -> None:
    """Those for the next call come with its offer; those of the running one are changed; refusals are told beside."""
    async with opened_page(daemon.url) as page:
        await page.click("#session-open")
        assert await complaints(page) == []
        await page.fill("#s-instructions", "Be brief.")
        await page.select_option("#s-turns", "semantic_vad")
        await page.select_option("#s-eagerness", "high")
        await page.fill("#s-tools", "[{")
        await page.click("#session-apply")
        await expect(page.locator("#session-problem")).to_contain_text("Tools:")
        await page.fill("#s-tools", _TOOL)
        await page.click("#session-apply")
        await expect(page.locator("#session-problem")).to_have_text("")
        await expect(page.locator("#session-state")).to_have_text("The next call asks for this.")
        await page.click("#listen-only")
        await expect(page.locator("#session-state")).to_have_text("As the running call has it.", timeout=_LIMIT_MS)
        (session,) = daemon.registry.sessions
        config: Any = session.stats(in_full=True).session
        assert config["instructions"] == "Be brief."
        assert config["audio"]["input"]["turn_detection"]["eagerness"] == "high"
        assert [tool["name"] for tool in config["tools"]] == ["get_weather"]

        await page.select_option("#s-turns", "server_vad")
        await page.fill("#s-silence", "900")
        await expect(page.locator("#session-state")).to_have_text("Changed and not applied: turn detection.")
        await page.click("#session-apply")
        await expect(page.locator("#session-state")).to_have_text("Taken: the session now has this.")
        config = session.stats(in_full=True).session
        assert config["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 900
        assert config["instructions"] == "Be brief."

        await page.fill("#s-tools", '[{"type": "no such type"}]')
        await page.click("#session-apply")
        await expect(page.locator("#session-problem")).to_contain_text("Not taken:")
        assert await complaints(page) == []
        assert not await is_too_wide(page)
        await page.keyboard.press("Escape")
        await expect(page.locator("#session-open")).to_be_focused()


async def test_a_connection_that_breaks_is_made_anew(daemon: Daemon) -> None:
    """While no packet gets through, the page says so; then the same call goes on."""
    async with opened_page(daemon.url) as page:
        await page.click("#talk")
        await expect(page.locator("#state")).to_have_attribute("data-voice", "heard", timeout=_LIMIT_MS)
        (session,) = daemon.registry.sessions
        mux: Any = daemon.endpoint.mux
        mux.datagram_received = lambda data, address: None
        await expect(page.locator("#state")).to_have_text("reconnecting: the connection broke", timeout=scaled(20_000))
        await expect(page.locator("#talk-label")).to_have_text("Reconnecting")
        del mux.datagram_received
        await expect(page.locator("#state")).to_have_text("connected: you are heard", timeout=scaled(20_000))
        assert daemon.registry.sessions == [session]
