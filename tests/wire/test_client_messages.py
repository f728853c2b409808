"""What clients write beyond what the bridge knows: it is kept, and refused only if the bridge must understand it."""

import json
from typing import Any

import pytest
from hypothesis import given

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire.client_events import read_client_message, read_session
from bridge.wire.dialects import beta
from bridge.wire.sessions import FunctionTool, SessionConfig, SessionRequest, laid_over, merged
from tests.wire.strange import strange_events

_TEXT = {"type": "input_text", "text": "hi"}
_MESSAGE = {"type": "message", "role": "user", "content": [_TEXT]}


def _update(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def _create(**item: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


UNKNOWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "event": ({"type": "session.close", "reason": "done"}, "invalid_value", "type"),
    "field of an event": ({"type": "input_audio_buffer.commit", "final": True}, "unknown_parameter", "final"),
    "field of a session": (_update(beta_fields={"chat_mode": "video"}), "unknown_parameter", "session.beta_fields"),
    "flat field": (_update(voice="ara"), "unknown_parameter", "session.voice"),
    "field of the sound": (
        _update(audio={"input": {"echo_cancellation": True}}),
        "unknown_parameter",
        "session.audio.input.echo_cancellation",
    ),
    "field of a setting": (
        _update(audio={"input": {"transcription": {"model": "m", "hotwords": ["a"]}}}),
        "unknown_parameter",
        "session.audio.input.transcription.hotwords",
    ),
    "tool": (_update(tools=[{"type": "web_search"}, {"type": "x_search"}]), "invalid_value", "session.tools[0].type"),
    "turn detection": (
        _update(audio={"input": {"turn_detection": {"type": "client_vad"}}}),
        "invalid_value",
        "session.audio.input.turn_detection.type",
    ),
    "value of turn detection": (
        _update(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 20}}}),
        "invalid_value",
        "session.audio.input.turn_detection.silence_duration_ms",
    ),
    "include": (_update(include=["item.emotion"]), "invalid_value", "session.include[0]"),
    "session type": (
        {"type": "session.update", "session": {"type": "dictation", "target": "de"}},
        "invalid_value",
        "session.type",
    ),
    "no session type": (
        {"type": "session.update", "session": {"instructions": "sing"}},
        "missing_required_parameter",
        "session.type",
    ),
    "whole session": ({"type": "session.update", "session": ["sing"]}, "invalid_value", "session"),
    "voice": (_update(audio={"output": {"voice": 7}}), "invalid_value", "session.audio.output.voice"),
    "speed": (_update(audio={"output": {"speed": 3}}), "invalid_value", "session.audio.output.speed"),
    "item": (_create(type="x_memory", id="item_1", text="a"), "invalid_value", "item.type"),
    "item without id": (_create(type="x_memory", text="a"), "invalid_value", "item.type"),
    "content": (
        _create(type="message", role="user", content=[_TEXT, {"type": "input_video", "url": "a"}]),
        "invalid_value",
        "item.content[1].type",
    ),
    "role": (_create(type="message", role="developer", content=[_TEXT]), "invalid_value", "item.role"),
    "field of an item": (_create(**_MESSAGE, phase="final"), "unknown_parameter", "item.phase"),
    "field of a response": (
        {"type": "response.create", "response": {"seed": 4, "input": [_MESSAGE]}},
        "unknown_parameter",
        "response.seed",
    ),
}


@pytest.mark.parametrize(("event", "code", "param"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_the_bridge_does_not_know_is_kept(event: dict[str, Any], code: str, param: str) -> None:
    """The JSON is whole, and the complaint is the one that a service with closed sets answers with."""
    message = read_client_message(json.dumps({**event, "event_id": "event_1"}))
    assert message.body == {**event, "event_id": "event_1"}
    assert message.event.event_id == "event_1"
    assert message.complaint is not None
    assert (message.complaint.code, message.complaint.param) == (code, param)
    with pytest.raises(BadEvent):
        _ = message.known


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (_update(audio={"input": {"format": {"type": "audio/opus"}}}), "session.audio.input.format.type"),
        (
            _update(audio={"output": {"format": {"type": "audio/pcm", "rate": 16000}}}),
            "session.audio.output.format.rate",
        ),
        (
            _update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": 1}}}),
            "session.audio.input.turn_detection.interrupt_response",
        ),
        (
            {"type": "response.create", "response": {"audio": {"output": {"format": "pcm16"}}}},
            "response.audio.output.format",
        ),
        (_create(**_MESSAGE, id=7), "item.id"),
        ({"type": "session.close", "event_id": 7}, "event_id"),
        ({"type": "response.create", "event_id": ["a"], "response": {"seed": 1}}, "event_id"),
        ({"type": "bridge.flow.stop"}, "type"),
        ({"type": "bridge.mark", "name": 7}, "name"),
        ({"type": "output_audio_buffer.clear", "event_id": 7}, "event_id"),
        ({"type": 7}, "type"),
        ({}, "type"),
        ([], None),
    ],
)
def test_what_the_bridge_must_understand_is_checked(event: Any, param: str | None) -> None:
    """Whoever answers: formats, the turn detection that the bridge acts on, ids, and its own events."""
    with pytest.raises(BadEvent) as refused:
        read_client_message(json.dumps(event))
    assert refused.value.param == param


def test_what_is_known_is_understood_beside_what_is_not() -> None:
    """A tool among others, a setting beside a new one."""
    session = {"tools": [{"type": "x_search"}, {"type": "function", "name": "f"}], "instructions": "sing", "new": 1}
    event = read_client_message(json.dumps(_update(**session))).event
    assert isinstance(event, client.SessionUpdate)
    assert event.session == SessionConfig(type="realtime", tools=[FunctionTool(name="f")], instructions="sing")


@pytest.mark.parametrize(
    "session",
    [
        {"transcription": {"delay": "low", "keywords": ["bridge"], "languages": ["de", "en"]}},
        {"turn_detection": {"type": "server_vad", "model_version": "v2"}},
        {"turn_detection": {"type": "semantic_vad", "model_version": "v2"}},
    ],
)
def test_settings_of_this_summer(session: dict[str, Any]) -> None:
    """They are part of the protocol, so the engine takes them too."""
    event = read_client_message(json.dumps(_update(audio={"input": session}))).known
    assert isinstance(event, client.SessionUpdate)


def test_mcp_tools_and_items() -> None:
    """With what they have had since summer; an item of remote tools is an item like any."""
    tool = {"type": "mcp", "server_label": "a", "tunnel_id": "t", "defer_loading": True, "allowed_callers": ["direct"]}
    read_client_message(json.dumps(_update(tools=[tool]))).known  # noqa: B018
    call = {"server_label": "a", "name": "f", "arguments": "{}"}
    for item, kind in (
        ({"type": "mcp_call", **call, "output": "1", "error": None}, items.McpCall),
        ({"type": "mcp_approval_request", **call}, items.McpApprovalRequest),
        (
            {"type": "mcp_list_tools", "server_label": "a", "tools": [{"name": "f", "input_schema": {}}]},
            items.McpListTools,
        ),
    ):
        event = read_client_message(json.dumps(_create(**item, id="item_1"))).known
        assert isinstance(event, client.ConversationItemCreate)
        assert isinstance(event.item, kind)


def test_a_beta_client_is_kept_whole_in_other_words() -> None:
    """What neither dialect knows stands where it stood; a complaint names it as the client wrote it."""
    flat = {"voice": "verse", "beta_fields": {"chat_mode": "video"}, "tools": [{"type": "web_search"}]}
    message = beta.read_client_message(json.dumps({"type": "session.update", "session": flat}), beta.Beta())
    assert message.body["session"] == {
        "type": "realtime",
        "audio": {"output": {"voice": "verse"}},
        "beta_fields": {"chat_mode": "video"},
        "tools": [{"type": "web_search"}],
    }
    assert message.complaint is not None
    assert message.complaint.param == "session.tools[0].type"


@given(strange_events)
def test_any_event_is_read_or_refused(body: dict[str, Any]) -> None:
    """Nothing but ``BadEvent`` is ever raised, and what is read is left as it is."""
    text = json.dumps(body)
    try:
        message = read_client_message(text)
    except BadEvent:
        return
    assert message.body in ({}, json.loads(text))


# Sessions as requests ask for them


def test_a_requested_session_is_kept_whole() -> None:
    """What is understood, what was written, and what the engine would say."""
    body = {"type": "realtime", "instructions": "sing", "beta_fields": {"a": 1}, "include": ["item.emotion"]}
    request = read_session(body)
    assert request.config == SessionConfig(type="realtime", instructions="sing")
    assert request.body is body
    assert request.complaint is not None
    assert request.complaint.param == "session.include[0]"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (7, "session"),
        ([], "session"),
        ({"audio": {"input": {"format": {"type": "mp3"}}}}, "session.audio.input.format.type"),
    ],
)
def test_a_requested_session_that_cannot_be_begun(body: Any, param: str) -> None:
    """No object, or no format of ours."""
    with pytest.raises(BadEvent) as refused:
        read_session(body)
    assert refused.value.param == param


def test_plain_sessions_are_laid_over_as_typed_ones_are() -> None:
    """Sound field by field, all else as a whole."""
    base = {
        "audio": {"input": {"new": 1, "turn_detection": {"type": "a", "b": 1}}, "output": {"voice": "x"}},
        "c": {"d": 1},
    }
    update = {"audio": {"input": {"turn_detection": {"type": "e"}}}, "c": {"f": 2}}
    assert laid_over(base, update) == {
        "audio": {"input": {"new": 1, "turn_detection": {"type": "e"}}, "output": {"voice": "x"}},
        "c": {"f": 2},
    }
    first, second = SessionConfig(instructions="a", model="m"), SessionConfig(instructions="b")
    both = SessionRequest.of(first).with_update(SessionRequest.of(second))
    assert both == SessionRequest.of(merged(first, second))
