"""The npm package ``openai`` as a Live client over a WebSocket, with its sideband beside it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.sdk_js.answering import Answering, answered_by
from tests.sdk_js.node import API_KEY, WriteSound, played_through
from tests.settings import config_for_tests

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(40, func_only=True)]


@asynccontextmanager
async def _talking_to(tls: tuple[Path, Path], who: Answering) -> AsyncIterator[dict[str, Any]]:
    """The inputs by which a scenario finds the daemon and trusts it."""
    certificate, key = map(str, tls)
    async with answered_by(who) as upstreams:
        config = config_for_tests(api_key=(API_KEY,), tls_cert=certificate, tls_key=key, **upstreams)
        async with Daemon(config) as daemon:
            yield {"certificate": certificate, "url": daemon.url, "key": API_KEY}


@pytest.mark.parametrize("who", ["engine", "websocket", "webrtc"])
async def test_spoken_turn_is_answered(tls: tuple[Path, Path], write_sound: WriteSound, who: Answering) -> None:
    """The session begins, hears, answers and ends; the sideband sees the same, hears both sides, and ends it."""
    async with _talking_to(tls, who) as told:
        log = await played_through("live_ws.mjs", "spokenTurn", sound=write_sound("pcm16"), **told)
    assert log.refusals == []
    of_client, of_sideband = ([e for e in log.events if e.get("by") == name] for name in ("client", "sideband"))
    assert of_client[0]["type"] == of_sideband[0]["type"] == "session.started"
    assert of_client[0]["session"] == of_sideband[0]["session"]
    assert any(event["type"] == "session.output_audio.delta" for event in of_client)
    reflected = [event for event in of_sideband if event["type"] == "session.output_audio.delta"]
    assert reflected
    assert all(event["start_ms"] < event["end_ms"] for event in reflected)
    assert any(event["type"] == "session.input_audio.append" for event in of_sideband)
    ends = [event for event in log.events if event["type"] == "session.closed"]
    assert {event["reason"] for event in ends} == {"close_requested"}
    assert sorted((e["by"], e["code"]) for e in log.of("sdk.closed")) == [("client", 1000), ("sideband", 1000)]


@pytest.mark.parametrize("who", ["engine", "websocket", "webrtc"])
async def test_function_is_called(tls: tuple[Path, Path], write_sound: WriteSound, who: Answering) -> None:
    """A call comes as an event of the Responses API, and its output is spoken of."""
    async with _talking_to(tls, who) as told:
        log = await played_through("live_ws.mjs", "functionIsCalled", sound=write_sound("pcm16"), **told)
    assert log.refusals == []
    inner = [event["event"] for event in log.of("response.event")]
    assert [event["type"] for event in inner[:3]] == [
        "response.created",
        "response.output_item.done",
        "response.completed",
    ]
    assert (inner[1]["item"]["name"], json.loads(inner[1]["item"]["arguments"]).keys()) == ("get_weather", {"city"})
    assert log.of("session.delegation.created")[0]["delegation"]["target"] == "responses"
    assert "sunny" in "".join(event["delta"] for event in log.of("session.output_transcript.delta"))
    assert log.of("session.closed")[0]["reason"] == "close_requested"
