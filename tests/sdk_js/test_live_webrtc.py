"""The browser class ``OpenAILiveWebRTC`` of the npm package ``openai``, in Chromium and on another origin."""

import json
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.web import request
from tests.sdk_js.answering import Answering, answered_by
from tests.sdk_js.chromium import opened_page, page_server
from tests.sdk_js.node import API_KEY
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.browser, pytest.mark.timeout(60, func_only=True)]

_TALK = """async ([server, key]) => {
    const page = await import("/live_page.mjs");
    return await page.talk(server, key);
}"""


@pytest.mark.parametrize("who", ["engine", "websocket", "webrtc"])
async def test_a_page_calls_as_a_live_client(who: Answering) -> None:
    """With an ``ek_`` key it makes a session, is answered, hears, and is told of the end."""
    with page_server() as port:
        origin = f"http://127.0.0.1:{port}"
        async with (
            answered_by(who) as upstreams,
            Daemon(config_for_tests(api_key=(API_KEY,), allow_origin=(origin,), **upstreams)) as daemon,
        ):
            headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
            wanted = json.dumps({"session": {"type": "realtime", "model": "gpt-live-1"}})
            minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body=wanted)
            key = json.loads(minted.body)["value"]
            async with opened_page(f"{origin}/page.html") as page:
                call: dict[str, Any] = await page.evaluate(_TALK, [daemon.url, key])
    assert key.startswith("ek_")
    assert call["status"] == 201
    assert call["id"].startswith("live_")
    assert call["energy"] > 0
    types = [event["type"] for event in call["events"]]
    assert types[0] == "session.started"
    assert "session.output_audio.delta" not in types
    assert call["events"][-1]["type"] == "session.closed"
    assert call["events"][-1]["session"]["id"] == call["id"]
    assert [kind for kind in types if kind == "error" or kind.startswith("bridge.")] == []
