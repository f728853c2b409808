"""The npm package ``openai`` as a Live client over a WebSocket, with its sideband beside it."""

from typing import Any

import pytest

from tests.sdk_js.node import WriteSound, played_through

pytestmark = pytest.mark.timeout(40, func_only=True)  # the packages may have to be installed first


async def test_spoken_turn_is_answered(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """The session begins, hears, answers and ends; the sideband sees the same, hears both sides, and ends it."""
    log = await played_through("live_ws.mjs", "spokenTurn", sound=write_sound("pcm16"), **talking_to)
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
