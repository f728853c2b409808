"""A web page without any SDK, in the words of the beta documentation, in Chromium and on another origin."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.sdk_js.chromium import opened_page, page_server
from tests.sdk_js.node import API_KEY
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.browser, pytest.mark.timeout(40, func_only=True)]

_TALK = """async (server) => {
    const plain = await import("/plain_page.mjs");
    const { token, status } = await plain.start(server);
    plain.send({ type: "session.update", session: { voice: "verse", temperature: 0.7 } });
    await plain.events.until("session.updated");
    await plain.events.until("response.audio.done");
    await plain.events.until("output_audio_buffer.stopped");
    const energy = await plain.energy();
    const content = [{ type: "input_text", text: "hello" }];
    plain.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
    plain.send({ type: "response.create", response: { modalities: ["text"] } });
    await plain.events.until("response.done", 2);
    const again = await plain.statusOfSecondCall(server, token.client_secret.value);
    plain.close();
    return { token, status, energy, again, events: plain.events.all };
}"""
_GA_ONLY = ("conversation.item.added", "conversation.item.done", "response.output_audio.done")


async def test_page_of_the_documentation_talks_in_beta() -> None:
    """It fetches its key from ``/session``, calls, hears, and gets every event as beta had it; the key is used up."""
    with page_server() as port:
        origin = f"http://127.0.0.1:{port}"
        config = config_for_tests(api_key=(API_KEY,), allow_origin=(origin,), page_keys=True)
        async with Daemon(config) as daemon, opened_page(f"{origin}/page.html") as page:
            call: dict[str, Any] = await page.evaluate(_TALK, daemon.url)
            for session in daemon.registry.sessions:
                await session.lifetime.closed.wait()
    assert call["status"] == 201
    assert call["token"]["client_secret"]["value"].startswith("ek_")
    assert call["energy"] > 0
    types = [event["type"] for event in call["events"]]
    assert types[:2] == ["session.created", "conversation.created"]
    assert [kind for kind in _GA_ONLY if kind in types] == []
    assert "response.audio.delta" not in types
    assert all(event["event_id"] for event in call["events"])
    updated = next(event["session"] for event in call["events"] if event["type"] == "session.updated")
    assert (updated["voice"], updated["temperature"], updated["input_audio_format"]) == ("verse", 0.7, "pcm16")
    written = [event for event in call["events"] if event["type"] == "response.text.done"]
    assert [event["text"] for event in written] == ["You wrote: hello"]
    assert (call["again"]["status"], call["again"]["error"]["type"]) == (401, "invalid_request_error")
