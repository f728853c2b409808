"""The console's Listen button in Chromium: both tracks are played, what is said is read, and nobody notices."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from bridge.daemon import Daemon
from bridge.wire import server_events as server
from bridge.wire.stats import ListenerRole
from tests.console.page import complaints, is_too_wide
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket
from tests.machine import scaled
from tests.sdk_js.chromium import opened_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60), pytest.mark.usefixtures("node_packages")]

_LIMIT_MS = scaled(15_000)
_SOUNDING = re.compile(r"0\.[2-9]\d*|1\.0*")  # of the full scale of a meter


async def test_both_sides_are_heard_and_read(daemon: Daemon, short_pcm: bytes) -> None:
    """The meters are of what is played; the listener is an observer, and is gone when the panel closes."""
    async with RealPeer(daemon.url) as caller, opened_page(daemon.url) as page:
        (session,) = daemon.registry.sessions
        listen = page.get_by_role("button", name=f"Listen to {caller.call_id}")
        await listen.click(timeout=_LIMIT_MS)
        await expect(page.locator("#listening-state")).to_have_attribute("data-state", "listening", timeout=_LIMIT_MS)
        assert [one.role for one in session.stats().listeners if one.audio == "pcm16"] == [ListenerRole.OBSERVER]
        caller_meter = expect(page.locator("#listening-caller"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.speak(short_pcm))
            await caller_meter.to_have_attribute("data-loudest", _SOUNDING, timeout=_LIMIT_MS)
        await expect(page.locator("#listening-answer")).to_have_attribute("data-loudest", _SOUNDING, timeout=_LIMIT_MS)
        turns = page.locator("#listening-turns .turn")
        await expect(turns.first).to_contain_text("spoke", timeout=_LIMIT_MS)
        await expect(turns.last).to_contain_text("your own words", timeout=_LIMIT_MS)
        item_id = str(await turns.first.get_attribute("data-item"))
        session.deliver_event(
            server.InputAudioTranscriptionCompleted(item_id=item_id, transcript="What the caller said.", usage={})
        )
        await expect(turns.first).to_contain_text("What the caller said.")
        mute = page.get_by_role("button", name="Mute the caller here")
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "true")
        assert await complaints(page) == []
        assert not await is_too_wide(page)
        await page.keyboard.press("Escape")
        await expect(page.locator("#listening")).to_be_hidden()
        await expect(listen).to_be_focused()
        await expect(page.locator("#calls .listeners li")).to_have_count(1, timeout=_LIMIT_MS)


async def test_an_end_is_told_with_its_reason(daemon: Daemon) -> None:
    """The panel stays, so that what was said can still be read."""
    async with open_socket(daemon.url, "model=any"), opened_page(daemon.url) as page:
        (session,) = daemon.registry.sessions
        await page.get_by_role("button", name=f"Listen to {session.info.id}").click(timeout=_LIMIT_MS)
        await expect(page.locator("#listening-state")).to_have_attribute("data-state", "listening", timeout=_LIMIT_MS)
        session.close("hangup")
        await expect(page.locator("#listening-state")).to_have_text("the call has ended: hangup", timeout=_LIMIT_MS)
        assert await complaints(page) == []


async def test_a_connection_that_breaks_is_made_again(daemon: Daemon) -> None:
    """The listener comes back behind the last event that it had, and misses none."""
    async with open_socket(daemon.url, "model=any"), opened_page(daemon.url) as page:
        (session,) = daemon.registry.sessions
        await page.get_by_role("button", name=f"Listen to {session.info.id}").click(timeout=_LIMIT_MS)
        state = page.locator("#listening-state")
        await expect(state).to_have_attribute("data-state", "listening", timeout=_LIMIT_MS)
        (observer,) = [one for one in session.audience.hub.listeners if one.role is ListenerRole.OBSERVER]
        observer.close(1012, "service_restart")
        await expect(state).to_have_text(
            "the connection broke (service restart): trying again in 0.5 s", timeout=_LIMIT_MS
        )
        item = "item_missed"
        session.deliver_event(
            server.InputAudioTranscriptionCompleted(item_id=item, transcript="Said meanwhile.", usage={})
        )
        await expect(state).to_have_attribute("data-state", "listening", timeout=_LIMIT_MS)
        await expect(page.locator(f'#listening-turns [data-item="{item}"]')).to_contain_text("Said meanwhile.")


async def test_a_call_that_is_over_cannot_be_listened_to(daemon: Daemon) -> None:
    """A browser does not say why a socket was refused; the page finds out."""
    async with opened_page(daemon.url, refusals=["WebSocket connection"]) as page:
        async with open_socket(daemon.url, "model=any"):
            (session,) = daemon.registry.sessions
            listen = page.get_by_role("button", name=f"Listen to {session.info.id}")
            await expect(listen).to_be_visible(timeout=_LIMIT_MS)
            session.close("hangup")
            await session.lifetime.closed.wait()
            await listen.click()
            await expect(page.locator("#listening-state")).to_have_text("the call has ended: hangup", timeout=_LIMIT_MS)
