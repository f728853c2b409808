"""The console's Operations page in Chromium: what runs, how it is, what was refused, and what to do about a call."""

import pytest
from playwright.async_api import Page, expect

from bridge.client.carriers.dialling import Dialling
from bridge.client.phone import dial
from bridge.daemon import Daemon
from tests.console.page import complaints, enter_key, is_too_wide
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.sdk_js.chromium import opened_page
from tests.telephony.calling import until
from tests.upstream.service import Refusal, Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(60), pytest.mark.usefixtures("node_packages")]

_KEY, _SECRET = "sk-console-test", "tel-secret"
_LIMIT_MS = scaled(10_000)
_LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"


async def _figure(page: Page, title: str) -> str:
    """What a chart tells a screen reader."""
    return str(await page.locator(f'#charts svg[aria-label^="{title}:"]').get_attribute("aria-label"))


async def test_an_hour_of_a_server_that_wants_a_key(serve_with: ServeWith) -> None:
    """Without the key the page says that it is needed; with it, calls, charts and refusals are there."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        assert (await request("GET", f"{daemon.url}v1/calls", headers={"Authorization": "Bearer sk-x"})).status == 401
        headers = {"Authorization": f"Bearer {_KEY}"}
        async with (
            open_socket(daemon.url, "model=any", additional_headers=headers),
            opened_page(f"{daemon.url}#operations") as page,
        ):
            await expect(page.locator("#server")).to_have_attribute("data-state", "key", timeout=_LIMIT_MS)
            await expect(page.locator("#ops-problem")).to_contain_text("key")
            assert await complaints(page) == []
            await daemon.observer.load.sample()
            await enter_key(page, _KEY)
            await expect(page.locator("#server")).to_have_text("ready", timeout=_LIMIT_MS)
            await expect(page.locator("#ops-calls tbody tr")).to_have_count(1)
            await expect(page.locator("#refusals tbody tr").first).to_contain_text("invalid_api_key")
            await expect(page.locator("#upstreams-empty")).to_be_visible()
            assert await _figure(page, "Calls") == "Calls: now 1; most in the last hour 1"
            assert "none" in await _figure(page, "Round trip")
            assert await page.locator("#charts .chart").count() == 10
            await page.click("#hour-table summary")
            await expect(page.locator("#hour-table tbody tr")).not_to_have_count(0)
            assert await complaints(page) == []
            assert not await is_too_wide(page)


async def test_a_key_that_may_not_see_all_calls_says_so(serve_with: ServeWith) -> None:
    """A minted key may make a call at this page, and look at none of another key."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        headers = {"Authorization": f"Bearer {_KEY}"}
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body="{}")
        async with opened_page(f"{daemon.url}#operations") as page:
            await enter_key(page, minted.json["value"])
            await expect(page.locator("#server")).to_contain_text("this one may not see all calls", timeout=_LIMIT_MS)
            await expect(page.locator("#ops-problem")).to_be_visible()


async def test_a_moment_of_the_hour_is_looked_at_with_the_keyboard(daemon: Daemon) -> None:
    """The slider goes from sample to sample, and each chart says what it was then."""
    async with opened_page(f"{daemon.url}#operations") as page:
        async with open_socket(daemon.url, "model=any"):
            await daemon.observer.load.sample()
            await daemon.observer.load.sample()
        await until(daemon, lambda: not daemon.registry.sessions, "end of the call")
        await daemon.observer.load.sample()
        await page.evaluate(_LOOK_AGAIN)
        await expect(page.locator("#moment")).to_be_enabled(timeout=_LIMIT_MS)
        await page.focus("#moment")
        calls = page.locator("#charts .chart b").first
        await expect(calls).to_have_text("0")
        await expect(page.locator("#moment-said")).to_have_text("now")
        for _ in range(4):  # the daemon takes samples of its own as well
            await page.keyboard.press("ArrowLeft")
            if await calls.text_content() == "1":
                break
        await expect(calls).to_have_text("1")
        await expect(page.locator("#moment-said")).not_to_have_text("now")


async def test_a_call_leads_to_its_lines_in_the_log(daemon: Daemon) -> None:
    """Its ids are there, and the command that finds them, for wherever the log is."""
    async with open_socket(daemon.url, "model=any"), opened_page(f"{daemon.url}#operations") as page:
        (session,) = daemon.registry.sessions
        await page.get_by_role("button", name=f"Log and figures of {session.info.id}").click(timeout=_LIMIT_MS)
        more = page.locator("#ops-calls .more")
        await expect(more.locator(".ids")).to_contain_text(session.info.id)
        await expect(more.locator(".command code")).to_contain_text("journalctl -u bridge")
        await more.get_by_label("Where the log is").select_option("a file")
        await expect(more.locator(".command code")).to_have_text(f"grep -F '{session.info.id}' bridge.log")
        await more.get_by_role("button", name="Copy command").click()
        await expect(more.get_by_role("button", name="Copy command")).to_have_attribute("data-said", "copied")
        assert await complaints(page) == []
        assert not await is_too_wide(page)


async def test_a_hang_up_is_asked_for_twice(daemon: Daemon) -> None:
    """Only the second word ends somebody's call; then it is among the ended ones, with its result, and can be found."""
    async with open_socket(daemon.url, "model=any"), opened_page(f"{daemon.url}#operations") as page:
        (session,) = daemon.registry.sessions
        button = page.get_by_role("button", name=f"Hang up {session.info.id}")
        await button.click(timeout=_LIMIT_MS)
        await expect(page.locator("#confirm")).to_contain_text(session.info.id)
        assert await complaints(page) == []
        await page.keyboard.press("Escape")
        await expect(page.locator("#confirm")).to_be_hidden()
        await expect(button).to_be_focused()
        assert session.lifetime.is_open
        await button.click()
        await page.get_by_role("button", name="Hang up", exact=True).last.click()
        await session.lifetime.closed.wait()
        await page.get_by_role("button", name="Ended").click()
        row = page.locator(f'#ops-calls tr[data-id="{session.info.id}"]')
        await expect(row).to_contain_text("success", timeout=_LIMIT_MS)
        await expect(row).to_contain_text("hangup")
        assert await complaints(page) == []
        await page.fill("#find-call", "no such call")
        await expect(page.locator("#ops-calls-empty")).to_have_text("No ended call is found by “no such call”.")
        await page.fill("#find-call", session.info.id[3:12])
        await expect(row).to_be_visible(timeout=_LIMIT_MS)


async def test_a_telephone_call_is_found_by_its_number(serve_with: ServeWith) -> None:
    """However the number is written; the row says who calls and through which carrier."""
    async with serve_with(telnyx_secret=(_SECRET,)) as daemon:
        phone = dial(Dialling(carrier="telnyx", url=daemon.url, secret=_SECRET))
        async with phone, opened_page(f"{daemon.url}#operations") as page:
            row = page.locator("#ops-calls tbody tr")
            await expect(row).to_contain_text("+15550001111 (telnyx)", timeout=_LIMIT_MS)
            await page.fill("#find-call", "555 000-9999")
            await expect(page.locator("#ops-calls-empty")).to_be_visible(timeout=_LIMIT_MS)
            await page.fill("#find-call", "+1 555 000-1111")
            await expect(row).to_be_visible(timeout=_LIMIT_MS)


async def test_an_upstream_that_is_down_says_so(serve_with: ServeWith) -> None:
    """By the code with which a call gave it up."""
    async with Service.serving(Refusal(503)) as service:
        async with serve_with(upstream=service.url, upstream_fallback=("local",)) as daemon:
            async with open_socket(daemon.url, "model=any"), opened_page(f"{daemon.url}#operations") as page:
                row = page.locator("#upstreams tbody tr")
                await expect(row).to_contain_text("down: upstream", timeout=_LIMIT_MS)
                assert await complaints(page) == []


async def test_a_server_that_drains_or_is_gone_says_so(serve_with: ServeWith) -> None:
    """On top of every page; what it said last stays in sight."""
    async with serve_with() as daemon, opened_page(f"{daemon.url}#operations") as page:
        await expect(page.locator("#server")).to_have_text("ready", timeout=_LIMIT_MS)
        daemon.registry.stop_accepting()
        await page.evaluate(_LOOK_AGAIN)
        await expect(page.locator("#server")).to_have_text("draining: no new calls are taken", timeout=_LIMIT_MS)
        await expect(page.locator("#checks .wrong")).to_contain_text("about to stop")
        assert await complaints(page) == []
        await page.route("**/*", lambda route: route.abort())
        await page.evaluate(_LOOK_AGAIN)
        await expect(page.locator("#server")).to_have_attribute("data-state", "silent", timeout=_LIMIT_MS)
        await expect(page.locator("#ops-problem")).to_be_visible(timeout=_LIMIT_MS)
        assert await complaints(page) == []
