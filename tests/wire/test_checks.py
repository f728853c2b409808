"""What a client may not say although each field is of the right type."""

import json
from typing import Any

import pytest

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire.client_events import decode_client_event, decode_session
from bridge.wire.dialects import beta
from bridge.wire.server_events import ConversationItemAdded, SessionUpdated, encode

MIB = 1024 * 1024


def update(**session: object) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def create(**item: object) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


def respond(**response: object) -> dict[str, Any]:
    return {"type": "response.create", "response": response}


def typed(role: str = "user", **part: object) -> dict[str, Any]:
    return create(type="message", role=role, content=[{"type": "input_text", "text": "a"}, part])


def refusal(event: dict[str, Any]) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        decode_client_event(json.dumps(event))
    return caught.value


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


def ratio(**fields: object) -> dict[str, Any]:
    return {"type": "retention_ratio", **fields}


@pytest.mark.parametrize("path", ["session", "response"])
def test_functions_have_names_of_their_own(path: str) -> None:
    """No name is empty, and none is given twice; servers of remote tools have other names."""
    ask = update if path == "session" else respond
    assert refusal(ask(tools=[function("f"), function("")])).param == f"{path}.tools[1].name"
    twice = refusal(ask(tools=[function("f"), {"type": "mcp", "server_label": "f"}, function("f")]))
    assert twice.param == f"{path}.tools[2].name"
    assert "'f'" in twice.message
    decode_client_event(json.dumps(ask(tools=[function("f"), {"type": "mcp", "server_label": "f"}, function("g")])))


def test_a_session_in_a_body_is_checked_as_a_whole() -> None:
    """Its tools, and the one that it forces, which must be among them."""
    for session, param in (
        ({"tools": [function("")]}, "session.tools[0].name"),
        ({"tool_choice": function("f")}, "session.tool_choice.name"),
        ({"tools": [function("g")], "tool_choice": function("f")}, "session.tool_choice.name"),
        ({"instructions": "x" * (MIB + 1)}, "session.instructions"),
    ):
        with pytest.raises(BadEvent) as caught:
            decode_session(json.dumps({"type": "realtime", **session}))
        assert caught.value.param == param
    assert decode_session(json.dumps({"tools": [function("f")], "tool_choice": function("f")})).tools


@pytest.mark.parametrize("include", [["logprobs"], ["item.input_audio_transcription.logprobs", "all"], "all"])
def test_nothing_else_can_be_included(include: object) -> None:
    """There is one thing that may be; null is nothing."""
    assert (refusal(update(include=include)).param or "").startswith("session.include")
    for fine in (["item.input_audio_transcription.logprobs"], [], None):
        decode_client_event(json.dumps(update(include=fine)))


@pytest.mark.parametrize(
    ("truncation", "field"),
    [
        ("never", ""),
        (7, ""),
        ({}, ".retention_ratio"),
        ({"type": "half"}, ".type"),
        (ratio(), ".retention_ratio"),
        (ratio(retention_ratio=1.5), ".retention_ratio"),
        (ratio(retention_ratio=0.5, token_limits=9), ".token_limits"),
        (ratio(retention_ratio=0.5, token_limits={"post_instructions": -1}), ".token_limits.post_instructions"),
    ],
)
def test_truncation_of_another_shape(truncation: object, field: str) -> None:
    """A shape that nobody knows is refused with the path of what is wrong in it."""
    assert refusal(update(truncation=truncation)).param == f"session.truncation{field}"


@pytest.mark.parametrize(
    "truncation",
    [
        "auto",
        "disabled",
        ratio(retention_ratio=0.8),
        ratio(retention_ratio=0, token_limits={"post_instructions": 5000}),
    ],
)
def test_truncation_comes_back_as_it_was_set(truncation: object) -> None:
    """Each shape that the SDKs know is taken, and told again."""
    event = decode_client_event(json.dumps(update(truncation=truncation)))
    assert isinstance(event, client.SessionUpdate)
    assert json.loads(encode(SessionUpdated(session=event.session)))["session"]["truncation"] == truncation


def test_a_ga_update_says_of_what_kind_its_session_is() -> None:
    """As the GA service insists, and every GA client does; beta has no such field."""
    error = refusal({"type": "session.update", "session": {"instructions": "sing"}})
    assert (error.code, error.param) == ("missing_required_parameter", "session.type")
    flat = refusal({"type": "session.update", "session": {"voice": "echo"}})
    assert flat.param == "session.voice"
    beta.decode_client_event('{"type": "session.update", "session": {"instructions": "sing"}}', beta.Beta())


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call_output", "call_id": "", "output": "1"},
        {"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"},
    ],
)
def test_a_call_id_is_not_empty(item: dict[str, Any]) -> None:
    """Neither in an item nor in what a response is given of."""
    assert refusal(create(**item)).param == "item.call_id"
    assert refusal(respond(input=[item])).param == "response.input[0].call_id"


def test_references_are_for_responses() -> None:
    """A response may be given of items by their ids; no item is created by a reference."""
    event = decode_client_event(json.dumps(respond(input=[{"type": "item_reference", "id": "item_1"}])))
    assert isinstance(event, client.ResponseCreate)
    assert isinstance(event.response, items.ResponseConfig)
    assert event.response.input == [items.ItemReference("item_1")]
    assert refusal(respond(input=[{"type": "item_reference"}])).param == "response.input[0].id"
    assert refusal(respond(input=[{"type": "item_reference", "id": ""}])).param == "response.input[0].id"
    assert refusal(create(type="item_reference", id="item_1")).param == "item.type"


def test_an_approval_comes_through_as_it_was_given() -> None:
    """The answer to a remote tool's request is an item like others, word for word."""
    item = {"type": "mcp_approval_response", "id": "i", "approval_request_id": "r", "approve": True, "reason": "ok"}
    event = decode_client_event(json.dumps(create(**item)))
    assert isinstance(event, client.ConversationItemCreate)
    assert json.loads(encode(ConversationItemAdded(item=event.item)))["item"] == item
    assert refusal(create(type="mcp_approval_response", approve=True)).param == "item.approval_request_id"


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (typed(type="input_text", text="x" * (MIB + 1)), "item.content[1].text"),
        (typed(type="input_text", text="ä" * (MIB // 2 + 1)), "item.content[1].text"),
        (typed(type="input_audio", transcript="x" * (MIB + 1)), "item.content[1].transcript"),
        (create(type="function_call_output", call_id="c", output="x" * (MIB + 1)), "item.output"),
        (update(instructions="x" * (MIB + 1)), "session.instructions"),
        (respond(metadata={"a": "x" * (MIB + 1)}), "response.metadata.a"),
        (respond(input=[typed(type="input_text", text="x" * (MIB + 1))["item"]]), "response.input[0].content[1].text"),
        (typed(type="input_image", image_url="x" * (6 * MIB)), "item"),
        (create(type="message", role="user", content=[{"type": "input_text", "text": "x" * MIB}] * 6), "item"),
    ],
)
def test_text_that_nobody_could_read_again(event: dict[str, Any], param: str) -> None:
    """What is told again is kept below what clients read as one message: 1 MiB of text in a place, 6 MiB in all."""
    error = refusal(event)
    assert (error.code, error.param) == ("string_above_max_length", param)
    assert param in error.message
    assert len(error.message) < 200


def test_sound_is_not_text() -> None:
    """A long recording beside text is within every limit, as is a picture, and text of just 1 MiB."""
    for event in (
        typed(type="input_audio", audio="A" * (14 * MIB)),
        typed(type="input_image", image_url="x" * (5 * MIB)),
        typed(type="input_text", text="x" * MIB),
    ):
        assert isinstance(decode_client_event(json.dumps(event)), client.ConversationItemCreate)
