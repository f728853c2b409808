"""``openai-realtime-api``, a beta client; what it cannot place among its items it would drop without a word."""

from typing import Any

import pytest

from tests.sdk_js.node import Scenario, WriteSound, played_through

pytestmark = [pytest.mark.foreign, pytest.mark.timeout(20, func_only=True)]

_SCRIPT = "beta_client.mjs"
_GA_PREFIXES = ("conversation.item.added", "conversation.item.done", "response.output_audio", "response.output_text")
_ANSWER = (
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
)


async def _played(name: str, **inputs: Any) -> Scenario:
    """A scenario in which no event was out of place, without its id or of the other dialect."""
    log = await played_through(_SCRIPT, name, **inputs)
    assert log.of("sdk.error") == []
    events = [event for event in log.events if not event["type"].startswith("sdk.")]
    assert [event for event in events if not event.get("event_id")] == []
    assert [kind for kind in log.types if kind.startswith(_GA_PREFIXES)] == []
    assert log.types[:2] == ["session.created", "conversation.created"]
    return log


def _items(log: Scenario) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = log.of("sdk.items")[0]["items"]
    return items


def _order_of_answer(log: Scenario) -> list[str]:
    """The types of the answer's events, each where it came first."""
    types = log.types[log.types.index("response.created") :]
    return [kind for kind in dict.fromkeys(types) if kind in _ANSWER]


async def test_message_is_answered(talking_to: dict[str, Any]) -> None:
    """The session is flat, and the client ends up with both items and the answer's text."""
    log = await _played("text", **talking_to)
    assert log.of("error") == []
    session = log.of("session.updated")[0]["session"]
    assert sorted(session["modalities"]) == ["audio", "text"]
    assert (session["input_audio_format"], session["output_audio_format"]) == ("pcm16", "pcm16")
    assert (session["turn_detection"], session["temperature"]) == (None, 0.8)
    assert session["max_response_output_tokens"] == 4096
    assert [(item["role"], item["status"], item["text"]) for item in _items(log)] == [
        ("user", "completed", "hello"),
        ("assistant", "completed", "You wrote: hello"),
    ]


async def test_key_and_dialect_may_be_subprotocols(talking_to: dict[str, Any]) -> None:
    """Without headers the key and the dialect come as subprotocols, of which only ``realtime`` is answered."""
    log = await _played("subprotocols", **talking_to)
    assert log.of("error") == []
    assert log.of("sdk.subprotocol")[0]["chosen"] == "realtime"
    assert _items(log)[1]["text"] == "You wrote: hello"


async def test_spoken_turn_is_answered(talking_to: dict[str, Any], write_sound: WriteSound, speech_pcm: bytes) -> None:
    """A detected turn's item has the speech, and the answer's item all of its sound and words."""
    log = await _played("spokenTurn", sound=write_sound("pcm16"), **talking_to)
    assert log.of("error") == []
    assert _order_of_answer(log) == list(_ANSWER)
    assert len(log.of("sdk.interrupted")) == 1
    user, assistant = _items(log)
    assert (user["role"], assistant["role"], assistant["status"]) == ("user", "assistant", "completed")
    assert user["samples"] > len(speech_pcm) // 2 * 0.9
    assert assistant["samples"] == pytest.approx(user["samples"], abs=24)
    assert assistant["transcript"].startswith("(your own words")


async def test_turn_is_taken_by_hand_truncated_and_deleted(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """Without turn detection the client commits; an item can be cut to what was heard, and another deleted."""
    log = await _played("manualTurn", sound=write_sound("pcm16"), **talking_to)
    assert log.of("error") == []
    (assistant,) = _items(log)
    assert (assistant["samples"], assistant["transcript"]) == (12_000, "")


async def test_answer_is_cancelled(talking_to: dict[str, Any], write_sound: WriteSound) -> None:
    """``cancelResponse`` ends the answer and truncates its item to the sample that was played last."""
    log = await _played("cancel", sound=write_sound("pcm16"), **talking_to)
    assert log.of("error") == []
    assert log.of("response.done")[0]["response"]["status"] == "cancelled"
    assert _items(log)[1]["samples"] == 2400


async def test_tool_is_called_and_its_output_answered(talking_to: dict[str, Any]) -> None:
    """The client runs the function with whole arguments, and its result is answered in a second response."""
    log = await _played("tool", **talking_to)
    assert log.of("error") == []
    assert log.of("sdk.tool_called") == [{"type": "sdk.tool_called", "given": {"city": "example"}}]
    assert "name" not in log.of("response.function_call_arguments.done")[0]
    assert [item["type"] for item in _items(log)] == ["message", "function_call", "function_call_output", "message"]
    assert _items(log)[3]["text"] == 'The function answered: {"sky":"blue over example"}'


async def test_mistakes_are_errors_in_the_clients_words(talking_to: dict[str, Any]) -> None:
    """An error names the setting as beta has it and the event that it answers; the session goes on."""
    log = await _played("errors", **talking_to)
    errors = [event["error"] for event in log.of("error")]
    assert [(error["code"], error["param"]) for error in errors] == [
        ("response_cancel_not_active", None),
        ("invalid_value", "session.temperature"),
    ]
    assert all(error["event_id"].startswith("evt_") for error in errors)
    assert _items(log)[1]["text"] == "You wrote: still there?"
