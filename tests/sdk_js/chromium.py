"""Chromium with a fake microphone, on a page of another origin than the daemon's."""

import functools
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright, expect

from tests.machine import scaled
from tests.sdk_js.node import FOLDER

_SPEECH = Path(__file__).parents[1] / "data" / "speech.wav"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={_SPEECH}%noloop",
]
expect.set_options(timeout=scaled(5_000))  # wherever no other limit is named
_REFUSALS = ("Failed to load resource", "blocked by CORS policy")  # the console says so of each


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def page_server(folder: Path = FOLDER) -> Iterator[int]:
    """A folder over HTTP on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def opened_page(
    address: str, *, executable: str | None = None, flags: Sequence[str] = (), refusals: Sequence[str] = ()
) -> AsyncIterator[Page]:
    """A page in a browser of its own; an error that the page does not catch fails the test.

    What the browser says of refused requests, and with these words of ``refusals``, is no error.
    """
    executable = executable or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    assert executable, f"needs one of {', '.join(CHROMIUM_NAMES)}: make chromium"
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=[*_FLAGS, *flags])
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        await page.goto(address)
        yield page
        await browser.close()
    assert [error for error in errors if not any(words in error for words in (*_REFUSALS, *refusals))] == []
