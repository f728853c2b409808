"""The console in Chromium, and what axe-core has to say of it."""

from typing import Any

from playwright.async_api import Page

from tests.foreign.peers import FOLDER

__all__ = ["DARK", "LIGHT", "PHONE", "WIDE", "complaints", "enter_key", "is_too_wide"]

LIGHT, DARK = "light", "dark"
WIDE, PHONE = (1440, 900), (390, 844)

_AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
_JUDGE = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.flatMap(
    ({ id, help, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html} ${failureSummary}`)
)"""


async def complaints(page: Page) -> list[str]:
    """What axe finds, in both themes; the page is left in the light one."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_AXE.read_text())
    found: list[str] = []
    for theme in (DARK, LIGHT):
        scheme: Any = theme
        await page.emulate_media(color_scheme=scheme)
        found += [f"{theme}: {complaint}" for complaint in await page.evaluate(_JUDGE)]
    return found


async def is_too_wide(page: Page) -> bool:
    """Something on it makes a phone scroll sideways."""
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    wide = bool(await page.evaluate("document.documentElement.scrollWidth > innerWidth"))
    await page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    return wide


async def enter_key(page: Page, key: str) -> None:
    """Types the API key under Settings."""
    await page.click("#settings summary")
    await page.fill("#key", key)
    await page.keyboard.press("Tab")
    await page.click("#settings summary")
