"""What clients may say, right and wrong."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire import items
from bridge.wire.client_events import decode_client_event
from bridge.wire.server_events import ConversationItemAdded, encode
from tests.wire.readers import READERS

USER_TEXT = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}

EVERY_EVENT: list[tuple[dict[str, Any], type]] = [
    ({"type": "session.update", "session": {"type": "realtime"}}, client.SessionUpdate),
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, client.InputAudioBufferAppend),
    ({"type": "input_audio_buffer.commit"}, client.InputAudioBufferCommit),
    ({"type": "input_audio_buffer.clear"}, client.InputAudioBufferClear),
    ({"type": "output_audio_buffer.clear"}, client.OutputAudioBufferClear),
    ({"type": "conversation.item.create", "item": USER_TEXT}, client.ConversationItemCreate),
    ({"type": "conversation.item.retrieve", "item_id": "item_1"}, client.ConversationItemRetrieve),
    ({"type": "conversation.item.delete", "item_id": "item_1"}, client.ConversationItemDelete),
    (
        {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1},
        client.ConversationItemTruncate,
    ),
    ({"type": "response.create"}, client.ResponseCreate),
    ({"type": "response.cancel"}, client.ResponseCancel),
    ({"type": "bridge.flow.pause"}, client.FlowPause),
    ({"type": "bridge.flow.resume"}, client.FlowResume),
    ({"type": "bridge.mark", "name": "here"}, client.Mark),
]


def decode(event: object) -> client.ClientEvent:
    return decode_client_event(json.dumps(event))


def refusal(event: object) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        decode(event)
    return caught.value


@pytest.mark.parametrize(("event", "kind"), EVERY_EVENT, ids=[event["type"] for event, _ in EVERY_EVENT])
def test_every_event_decodes(event: dict[str, Any], kind: type) -> None:
    """Each client event becomes its own class, with its event_id, from text and from bytes."""
    assert type(decode(event)) is kind
    tagged = json.dumps(event | {"event_id": "event_mine"})
    assert decode_client_event(tagged) == decode_client_event(tagged.encode())
    assert decode_client_event(tagged).event_id == "event_mine"
    assert decode(event | {"event_id": None}).event_id is None


def test_every_event_is_tried() -> None:
    """The list above is the whole union."""
    assert {kind for _, kind in EVERY_EVENT} == set(client.ClientEvent.__args__)


def test_fields_may_come_in_any_order() -> None:
    """The type may stand last."""
    event = decode_client_event('{"item_id": "item_1", "type": "conversation.item.delete"}')
    assert event == client.ConversationItemDelete(item_id="item_1")


def test_items_of_every_kind() -> None:
    """Messages of each content, function calls and their outputs are items."""
    content = [
        {"type": "input_text", "text": "a"},
        {"type": "input_audio", "audio": "AAAA"},
        {"type": "input_image", "image_url": "data:,"},
    ]
    answer = [{"type": "output_text", "text": "b"}, {"type": "output_audio", "transcript": "c"}]
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
    messages: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": content},
        {"type": "message", "role": "assistant", "content": answer},
        {"type": "message", "role": "system", "content": content[:1]},
    ]
    for item in (*messages, call, output):
        event = decode({"type": "conversation.item.create", "item": item, "previous_item_id": "root"})
        assert isinstance(event, client.ConversationItemCreate)
        assert (
            json.loads(encode(ConversationItemAdded(item=event.item)))["item"].items() >= {"type": item["type"]}.items()
        )
    assert isinstance(event, client.ConversationItemCreate)
    assert isinstance(event.item, items.FunctionCallOutput)


def test_absent_response_fields_are_told_from_null() -> None:
    """A response.create says which settings it leaves alone."""
    responses: list[dict[str, object]] = [
        {},
        {"response": {}},
        {"response": {"metadata": None, "output_modalities": ["text"]}},
    ]
    bare, empty, null = (decode({"type": "response.create"} | more) for more in responses)
    assert isinstance(bare, client.ResponseCreate)
    assert isinstance(empty, client.ResponseCreate)
    assert isinstance(null, client.ResponseCreate)
    assert bare.response is UNSET
    assert isinstance(empty.response, items.ResponseConfig)
    assert empty.response.metadata is UNSET
    assert isinstance(null.response, items.ResponseConfig)
    assert null.response.metadata is None
    assert null.response.output_modalities == ["text"]


def session_update(**session: object) -> dict[str, object]:
    return {"type": "session.update", "session": session}


def create(**item: object) -> dict[str, object]:
    return {"type": "conversation.item.create", "item": item}


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({}, "missing_required_parameter", "type"),
        ({"type": "no.such.event"}, "invalid_value", "type"),
        ({"type": 7}, "invalid_value", "type"),
        ({"type": None}, "invalid_value", "type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": []}, "invalid_value", "session"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 1}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.clear", "event_id": 5}, "invalid_value", "event_id"),
        ({"type": "input_audio_buffer.clear", "event_id": "x" * 513}, "invalid_value", "event_id"),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0},
            "missing_required_parameter",
            "audio_end_ms",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": -1, "audio_end_ms": 0},
            "invalid_value",
            "content_index",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 0.5},
            "invalid_value",
            "audio_end_ms",
        ),
        (create(), "missing_required_parameter", "item.type"),
        (create(type="song"), "invalid_value", "item.type"),
        (create(type="message", content=[]), "missing_required_parameter", "item.role"),
        (create(type="message", role="dog", content=[]), "invalid_value", "item.role"),
        (
            create(type="message", role="user", content=[{"type": "input_text", "text": "a"}, {"type": "input_text"}]),
            "missing_required_parameter",
            "item.content[1].text",
        ),
        (create(type="message", role="user", content=[{"type": "smell"}]), "invalid_value", "item.content[0].type"),
        (session_update(output_modalities=[]), "invalid_value", "session.output_modalities"),
        (session_update(output_modalities=["text", "audio"]), "invalid_value", "session.output_modalities"),
        (session_update(output_modalities=["dance"]), "invalid_value", "session.output_modalities[0]"),
        (session_update(audio=[]), "invalid_value", "session.audio"),
        (
            session_update(audio={"input": {"format": {"type": "audio/opus"}}}),
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            session_update(audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}}),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            session_update(audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}),
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (session_update(audio={"output": {"speed": 9}}), "invalid_value", "session.audio.output.speed"),
        (session_update(max_output_tokens=0), "invalid_value", "session.max_output_tokens"),
        (session_update(max_output_tokens="lots"), "invalid_value", "session.max_output_tokens"),
        (session_update(tools=[{"type": "function"}]), "missing_required_parameter", "session.tools[0].name"),
        ({"type": "response.create", "response": {"conversation": 1}}, "invalid_value", "response.conversation"),
        ({"type": "response.create", "response": {"metadata": {"a": 1}}}, "invalid_value", "response.metadata[...]"),
        ([], "invalid_value", None),
        ("text", "invalid_value", None),
        (None, "invalid_value", None),
    ],
)
def test_each_mistake_names_its_field(event: object, code: str, param: str | None) -> None:
    """A wrong event is refused with a code and the path of the field that is to blame."""
    error = refusal(event)
    assert (error.code, error.param) == (code, param)
    assert error.type == "invalid_request_error"
    assert error.message.endswith(".")
    assert param is None or param in error.message or param == "type"


def test_an_unknown_type_is_quoted_but_not_at_length() -> None:
    """The message names the type that nobody knows, up to a bound."""
    assert refusal({"type": "no.such.event"}).message == "Unknown event type: 'no.such.event'."
    assert len(refusal({"type": "x" * 10_000}).message) < 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        '{"type": "response.cancel"} {}',
        b"\xff\xfe",
        '{"type":"response.cancel","response_id":"\\ud800 alone"}',
    ],
    ids=["empty", "cut", "words", "two", "not UTF-8", "half a surrogate pair"],
)
def test_what_is_not_json_is_said_to_be_none(text: str | bytes) -> None:
    """Whatever cannot be parsed is refused as such, however it is broken."""
    with pytest.raises(BadEvent) as caught:
        decode_client_event(text)
    assert (caught.value.code, caught.value.param) == ("invalid_json", None)


def test_what_is_too_deep_is_refused() -> None:
    """Brackets without end are refused before they cost anything; it may be JSON, so it closes nothing."""
    with pytest.raises(BadEvent) as caught:
        decode_client_event('{"type":"session.update","session":{"tracing":' + "[" * 10_000)
    assert caught.value.code == "invalid_value"


@pytest.mark.parametrize(
    ("text", "event_id"),
    [
        ('{"type": 5, "event_id": "event_1"}', "event_1"),
        ('{"event_id": "event_1"}', "event_1"),
        ('{"event_id": "' + "x" * 600 + '"}', "x" * 512),
        ('{"event_id": 5}', None),
        ('{"event_id": null}', None),
        ('{"event_id": "event_1"', None),
        ('["event_id"]', None),
        ("[" * 100_000, None),
    ],
)
def test_the_event_id_of_a_wrong_event(text: str, event_id: str | None) -> None:
    """The error has the id of the event that it answers, in each dialect, if that event has one at all."""
    for read in READERS:
        for message in (text, text.encode()):
            with pytest.raises(BadEvent) as caught:
                read(message)
            assert caught.value.event_id == event_id
            assert caught.value.anew().event_id == event_id


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(event=st.sampled_from([event for event, _ in EVERY_EVENT]), data=st.data())
def test_only_bad_event_is_ever_raised(event: dict[str, Any], data: st.DataObject) -> None:
    """With any value in any place of any event, it decodes or is a ``BadEvent``; what decodes can be written again."""
    changed = json.loads(json.dumps(event))
    place = changed
    while True:
        key = data.draw(st.sampled_from(list(place)))
        inner = place[key]
        if not (isinstance(inner, dict) and inner and data.draw(st.booleans())):
            break
        place = inner
    place[key] = data.draw(_json)
    with contextlib.suppress(BadEvent):
        decoded = decode(changed)
        if isinstance(decoded, client.ConversationItemCreate):
            assert json.loads(encode(ConversationItemAdded(item=decoded.item)))


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        ("user", "output_text"),
        ("user", "output_audio"),
        ("assistant", "input_text"),
        ("assistant", "input_audio"),
        ("system", "input_audio"),
        ("system", "output_text"),
    ],
)
def test_content_of_somebody_else(role: str, kind: str) -> None:
    """A message has the content of its role; what has not is refused by its place, alone or as a response's input."""
    part = {"type": kind, "text": "a"}
    item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": "a"}, part][role != "user" :]}
    index = int(role == "user")
    for event, path in (
        ({"type": "conversation.item.create", "item": item}, "item"),
        ({"type": "response.create", "response": {"input": [USER_TEXT, item]}}, "response.input[1]"),
    ):
        with pytest.raises(BadEvent) as refused:
            decode(event)
        assert refused.value.param == f"{path}.content[{index}].type"
        assert kind in refused.value.message


@pytest.mark.parametrize("item_id", ["", "x" * 513])
def test_id_that_is_none(item_id: str) -> None:
    """An item's id is not empty, and not longer than an event's."""
    with pytest.raises(BadEvent) as refused:
        decode({"type": "conversation.item.create", "item": {**USER_TEXT, "id": item_id}})
    assert refused.value.param == "item.id"


@pytest.mark.parametrize(
    "field", ["modalities", "voice", "output_audio_format", "temperature", "max_response_output_tokens"]
)
def test_flat_response_is_refused(field: str) -> None:
    """Beta's names in a GA response are unknown parameters, rather than forgotten."""
    with pytest.raises(BadEvent) as refused:
        decode({"type": "response.create", "response": {field: None}})
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", f"response.{field}")


def test_flat_session_in_a_body_is_refused() -> None:
    """So are they in the session of a form or of a key."""
    with pytest.raises(BadEvent) as refused:
        client.decode_session(b'{"type": "realtime", "voice": "echo"}')
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "session.voice")


def test_response_may_have_remote_tools() -> None:
    """As a session may."""
    event = decode({"type": "response.create", "response": {"tools": [{"type": "mcp", "server_label": "files"}]}})
    assert isinstance(event, client.ResponseCreate)
    assert msgspec.to_builtins(event.response) == {"tools": [{"type": "mcp", "server_label": "files"}]}
