"""``@openai/agents-realtime`` over WebRTC, in Chromium, on a page of another origin."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Error, Page

from bridge.daemon import Daemon
from tests.end_to_end.event_log import Event
from tests.end_to_end.web import open_socket, request
from tests.sdk_js.chromium import opened_page, page_server
from tests.sdk_js.node import API_KEY
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.browser, pytest.mark.timeout(40, func_only=True)]

_BEARER = {"Authorization": f"Bearer {API_KEY}"}
_TIMED_OUT_MS = 5000  # after which the SDK goes on without an acknowledged session
_MANUAL = {"audio": {"input": {"turnDetection": None}}}
_LAST_BYTES = 2 * 24 * 500  # behind the jitter buffer's contents at the time of muting
_START = """async (inputs) => {
    const { Caller } = await import("/agents_page.mjs");
    window.caller = new Caller(inputs);
}"""
_WAIT_FOR_INSTRUCTIONS = """(instructions) => caller.events.wait(
    () => caller.events.of("session.updated").some(({ session }) => session.instructions === instructions),
    "session.updated by the sideband",
)"""


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    """Where the page's files are."""
    with page_server() as port:
        yield port


@pytest.fixture
async def daemon(page_port: int) -> AsyncIterator[Daemon]:
    """A daemon that wants a key, and takes pages of one other origin."""
    origin = f"http://127.0.0.1:{page_port}"
    config = config_for_tests(api_key=(API_KEY,), allow_origin=(origin,))
    async with Daemon(config) as serving:
        yield serving


@pytest.fixture
async def page(page_port: int) -> AsyncIterator[Page]:
    """An empty page of the allowed origin."""
    async with opened_page(f"http://127.0.0.1:{page_port}/page.html") as opened:
        yield opened


async def _key(daemon: Daemon, **session: Any) -> str:
    """A key for a page, as an application's server gets it."""
    body = json.dumps({"session": {"type": "realtime", "model": "gpt-realtime", **session}})
    headers = {**_BEARER, "Content-Type": "application/json"}
    reply = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body=body)
    assert reply.status == 200, reply
    return str(reply.json["value"])


async def _connect(page: Page, daemon: Daemon, **inputs: Any) -> str:
    """The call's id, once the SDK is connected and its settings are acknowledged."""
    await page.evaluate(_START, {"url": daemon.url, **inputs})
    call = await page.evaluate("(key) => caller.connect(key)", await _key(daemon))
    assert call["ms"] < _TIMED_OUT_MS
    assert call["callId"].startswith("rtc_")
    return str(call["callId"])


async def _hang_up(page: Page, daemon: Daemon, *, but: str = "") -> list[Event]:
    """Closes as an application does; everything that came, of which the SDK had nothing to complain, ``but`` this."""
    (session,) = daemon.registry.sessions
    await page.evaluate("caller.session.close()")
    await session.lifetime.closed.wait()
    complaints = await page.evaluate("caller.complaints")
    assert [complaint for complaint in complaints if not but or but not in str(complaint)] == []
    events: list[Event] = await page.evaluate("caller.events.all")
    return events


async def _until(page: Page, event_type: str, number: int = 1) -> Event:
    event: Event = await page.evaluate("([type, number]) => caller.events.until(type, number)", [event_type, number])
    return event


def _types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


async def test_page_talks_hears_and_writes(daemon: Daemon, page: Page) -> None:
    """Speech is answered audibly, without sound on the data channel; a written message is answered; closing ends it."""
    await _connect(page, daemon)
    await _until(page, "session.updated")
    await _until(page, "output_audio_buffer.started")
    await page.evaluate("caller.hears()")
    await _until(page, "output_audio_buffer.stopped")
    await page.evaluate("caller.session.sendMessage('Good morning')")
    assert (await _until(page, "response.output_text.done"))["text"] == "You wrote: Good morning"
    await _until(page, "response.done", 2)
    history = await page.evaluate("caller.session.history")
    events = await _hang_up(page, daemon)
    assert [item["role"] for item in history] == ["user", "assistant", "user", "assistant"]
    assert history[3]["content"][0]["text"] == "You wrote: Good morning"
    types = _types(events)
    assert types[0] == "session.created"
    assert "response.output_audio.delta" not in types
    assert types.index("response.output_audio.done") < types.index("response.done")
    assert types.index("response.done") < types.index("output_audio_buffer.stopped")
    assert await page.evaluate("caller.transport.status") == "disconnected"


async def test_page_runs_the_tool(daemon: Daemon, page: Page) -> None:
    """A function of the page is called with arguments of its schema, and its result is answered."""
    await _connect(page, daemon, hasTool=True)
    await page.evaluate("caller.session.sendMessage('What is the weather?')")
    done = await _until(page, "response.output_text.done")
    assert done["text"] == "The function answered: sunny in example"
    assert await page.evaluate("caller.toolCalls") == [{"city": "example"}]
    await _hang_up(page, daemon)


async def test_page_interrupts_the_answer(daemon: Daemon, page: Page) -> None:
    """``interrupt()`` silences the answer at once, and the server truncates it to what was heard."""
    await _connect(page, daemon)
    started = await _until(page, "output_audio_buffer.started")
    await page.evaluate("caller.hears()")
    await page.evaluate("caller.session.interrupt()")
    cleared = await _until(page, "output_audio_buffer.cleared")
    truncated = await _until(page, "conversation.item.truncated")
    await _until(page, "conversation.item.retrieved")  # the SDK asks for what is left of the item
    await page.evaluate("caller.hearsNothing()")
    # The answer may be made to its end before the SDK cancels it: it is played for longer than it takes to make.
    events = await _hang_up(page, daemon, but="response_cancel_not_active")
    assert cleared["response_id"] == started["response_id"]
    assert 0 < truncated["audio_end_ms"] < 4400
    assert "output_audio_buffer.stopped" not in _types(events)


async def test_page_takes_turns_by_hand_and_mutes(daemon: Daemon, page: Page) -> None:
    """Without turn detection, the page commits and asks; a muted microphone sends silence."""
    await _connect(page, daemon, config=_MANUAL)
    await page.evaluate("caller.session.mute(true)")
    assert await page.evaluate("caller.microphone.enabled") is False
    await page.evaluate("caller.speaks(0.7)")
    muted = base64.b64decode(await page.evaluate("caller.commits()"))
    await page.evaluate("caller.session.mute(false)")
    await page.evaluate("caller.speaks(1.2)")
    spoken = base64.b64decode(await page.evaluate("caller.commits()"))
    await page.evaluate("caller.transport.requestResponse()")
    await page.evaluate("caller.hears()")
    await _until(page, "response.done")
    events = await _hang_up(page, daemon)
    assert np.abs(np.frombuffer(muted[-_LAST_BYTES:], "<i2")).max() < 50
    assert np.abs(np.frombuffer(spoken, "<i2")).max() > 1000
    assert "input_audio_buffer.speech_started" not in _types(events)


async def test_server_steers_and_hangs_up_by_sideband(daemon: Daemon, page: Page) -> None:
    """The call's id reaches the page; a socket attached by it changes the session, and its hang-up ends the page's."""
    call_id = await _connect(page, daemon)
    async with open_socket(daemon.url, f"call_id={call_id}", additional_headers=_BEARER) as sideband:
        await sideband.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Be silent."}})
        await page.evaluate(_WAIT_FOR_INSTRUCTIONS, "Be silent.")
        reply = await request("POST", f"{daemon.url}v1/realtime/calls/{call_id}/hangup", headers=_BEARER)
        assert reply.status == 200
        await page.evaluate("caller.closed()")
        assert await sideband.close_code() == 1000
    assert daemon.registry.sessions == []


async def test_page_reads_why_it_is_refused(daemon: Daemon, page: Page) -> None:
    """An error may be read across origins too: the SDK shows its message."""
    await page.evaluate(_START, {"url": daemon.url})
    with pytest.raises(Error, match=r"failed with status 401.*expired"):
        await page.evaluate("caller.connect('ek_nobody_issued_this')")


async def test_page_of_a_foreign_origin_gets_nothing(daemon: Daemon, page_port: int) -> None:
    """The same page under a name that is not allowed cannot even ask."""
    async with opened_page(f"http://localhost:{page_port}/page.html") as page:
        await page.evaluate(_START, {"url": daemon.url})
        with pytest.raises(Error, match="Failed to fetch"):
            await page.evaluate("(key) => caller.connect(key)", await _key(daemon))
    assert daemon.registry.sessions == []
