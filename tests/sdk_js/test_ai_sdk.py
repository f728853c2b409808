"""The npm packages ``ai`` and ``@ai-sdk/openai``: a page's session, with a key from the application's own server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.sdk_js.node import API_KEY, played_through
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(40, func_only=True)]

_COUNTED = ", ".join(map(str, range(1, 31))) + "."


@pytest.fixture
async def tls_assistant(tls: tuple[Path, Path], models: Local) -> AsyncIterator[Daemon]:
    """A daemon over TLS that hears and speaks; ``getToken`` names no address but a ``wss:`` one."""
    certificate, key = map(str, tls)
    config = config_for_tests(engine="local", api_key=(API_KEY,), tls_cert=certificate, tls_key=key)
    async with Daemon(config, local=models) as serving:
        yield serving


async def test_it_talks_calls_a_function_and_is_interrupted(
    tls: tuple[Path, Path], tls_assistant: Daemon, sounds: dict[str, str]
) -> None:
    """A spoken question calls the function; speech stops an answer that plays; what is written is answered."""
    inputs = {"certificate": tls[0], "url": tls_assistant.url, "key": API_KEY, "sounds": sounds}
    log = await played_through("ai_sdk.mjs", "session", **inputs)
    assert log.refusals == []
    (token,) = log.of("sdk.token")
    assert token["token"] == "ek_"
    assert token["url"].startswith(tls_assistant.url.replace("https:", "wss:", 1))
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    assert len(log.of("conversation.item.truncated")) == 1
    (history,) = log.of("sdk.history")
    asked = [
        ("user", "What is the weather in Paris?"),
        ("assistant", ({"city": "Paris"}, "sunny in Paris")),
        ("assistant", "sunny in Paris."),
    ]
    assert [(message["role"], _content(*message["parts"])) for message in history["messages"]] == [
        *asked,
        ("user", "Please count to 30."),
        ("assistant", _COUNTED),
        *asked,
        ("user", "Say good morning."),
        ("assistant", "Good morning."),
    ]


def _content(part: dict[str, Any]) -> Any:
    """A message's text, or what a function was given and gave back."""
    return part["text"] if part["type"] == "text" else (part["input"], part["output"])
