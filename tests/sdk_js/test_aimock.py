"""The npm package ``@copilotkit/aimock`` as an upstream: a Realtime service that knows GA only, and refuses beta."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from bridge.daemon import Daemon
from tests.end_to_end.cutting_proxy import CuttingProxy
from tests.end_to_end.web import open_socket
from tests.sdk_js.node import Scenario, scenario
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(20, func_only=True)]

_ANSWERS = {"hello": "Hi there!", "and again": "Still here."}


@pytest.fixture
async def service() -> AsyncIterator[Scenario]:
    """It runs in Node as long as the test does."""
    async with scenario("aimock.mjs", "service", answers=_ANSWERS) as running:
        await running.until("sdk.serving")
        yield running
        running.end_input()


def _port(service: Scenario) -> int:
    port = urlsplit(service.of("sdk.serving")[0]["url"]).port
    assert port is not None
    return port


def _daemon(port: int, **settings: Any) -> Daemon:
    upstream = f"ws://127.0.0.1:{port}/v1/realtime"
    return Daemon(config_for_tests(upstream=upstream, **settings))


async def _upgrades(service: Scenario) -> list[dict[str, str]]:
    """The headers of every Realtime connection that it was asked for, by name in lower case."""
    async with httpx2.AsyncClient() as http:
        journal = (await http.get(f"http://127.0.0.1:{_port(service)}/__aimock/journal")).json()
    return [entry["headers"] for entry in journal if entry["path"].startswith("/v1/realtime")]


async def test_typed_turns_are_answered(service: Scenario) -> None:
    """Two typed turns through the bridge end as in any other conversation; no beta header was sent."""
    async with _daemon(_port(service)) as daemon, open_socket(daemon.url, "model=gpt-realtime") as client:
        for turn, (said, answer) in enumerate(_ANSWERS.items(), 1):
            content = [{"type": "input_text", "text": said}]
            item = {"type": "message", "role": "user", "content": content}
            await client.send({"type": "conversation.item.create", "item": item})
            await client.send({"type": "response.create"})
            done = await client.until("response.done", number=turn)
            assert done["response"]["status"] == "completed"
            assert client.of("response.output_text.done")[-1]["text"] == answer
        (session,) = daemon.registry.sessions
        assert [getattr(item, "role", None) for item in session.state.conversation.items()] == ["user", "assistant"] * 2
    assert client.of("error") == []
    upgrades = await _upgrades(service)
    assert upgrades
    assert all("openai-beta" not in headers for headers in upgrades)


async def test_beta_is_refused_and_not_tried_again(service: Scenario) -> None:
    """A profile of the beta dialect ends the call with the service's own words, after one try."""
    async with (
        CuttingProxy.serving(_port(service)) as cable,
        _daemon(cable.port, upstream_profile="stepfun") as daemon,
        open_socket(daemon.url, "model=gpt-realtime") as client,
    ):
        error = (await client.until("error"))["error"]
        assert await client.close_code() == 1014
        assert (error["type"], error["code"]) == ("invalid_request_error", "beta_api_shape_disabled")
        assert "no longer supported" in error["message"]
        assert cable.connections == 1
