"""Other servers' events, read leniently: nothing that is known of one is lost, and nothing that is not is an error."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadEvent
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.relayed import AudioDelta, decode_relayed, understood
from bridge.wire.server_events import ServerEvent
from tests.sdk.every_event import every_server_event
from tests.wire.strange import any_json, strange_events

_MESSAGE: dict[str, Any] = {"id": "item_1", "type": "message", "role": "user", "content": []}


@given(st.binary(max_size=60) | st.text(max_size=60) | any_json.map(lambda value: json.dumps(value)))
def test_any_text_is_an_event_or_a_bad_one(text: bytes | str) -> None:
    """Whatever a server sends is read, or refused as ``upstream_protocol``; nothing else happens."""
    with suppress(_Refused):
        message = _decoded(text)
        if isinstance(message, dict):
            assert isinstance(message["type"], str)
            assert message == json.loads(text)


class _Refused(Exception):
    pass


def _decoded(text: bytes | str) -> Any:
    try:
        return decode_relayed(text)
    except BadEvent as error:
        raise (_Refused if error.code == "upstream_protocol" else AssertionError)(error.code) from error


@given(strange_events)
def test_any_event_is_understood_as_far_as_it_goes(body: dict[str, Any]) -> None:
    """What is understood is of the event's own kind, or of none; the body is left as it is."""
    before = json.dumps(body)
    message = decode_relayed(before)
    if isinstance(message, AudioDelta):
        return
    event = understood(message)
    assert type(event) is ServerEvent or event.type == body["type"]
    assert json.dumps(message) == before


@pytest.mark.parametrize("event", every_server_event().values(), ids=lambda event: str(event.type))
def test_every_event_of_ours_is_understood(event: ServerEvent) -> None:
    """Whatever one bridge says, the next one understands whole, but for its own events."""
    body = msgspec.json.decode(server.encode(event))
    if event.type.startswith("bridge."):
        assert type(understood(body)) is ServerEvent
    else:
        assert understood(body) == event


@pytest.mark.parametrize("name", ["response.output_audio.delta", "response.audio.delta"])
def test_sound_is_read_without_a_body(name: str) -> None:
    """In either dialect; what it does not say of its place is as of the first part."""
    text = json.dumps({"type": name, "delta": "AAAA", "response_id": "r", "item_id": "i", "obfuscation": "x"})
    assert decode_relayed(text) == AudioDelta(type=name, delta="AAAA", response_id="r", item_id="i")


@pytest.mark.parametrize("text", ["[1]", '"text"', "{}", '{"type":3}', "nonsense", b"\xff", "[" * 10_000])
def test_what_is_no_event_is_refused(text: bytes | str) -> None:
    """No JSON, no object, no type, and nests without end."""
    with pytest.raises(BadEvent, match=r"upstream sent"):
        decode_relayed(text)


def test_a_field_that_does_not_fit_is_left_out() -> None:
    """The rest is understood: a status that the bridge does not know, an item among others, a nested setting."""
    added = understood({"type": "conversation.item.added", "item": {**_MESSAGE, "status": "pondering"}})
    assert isinstance(added, server.ConversationItemAdded)
    assert added.item.id == "item_1"
    response = {"id": "resp_1", "status": "completed", "output": [{"type": "hologram"}, _MESSAGE, {"type": "smell"}]}
    done = understood({"type": "response.done", "response": response})
    assert isinstance(done, server.ResponseDone)
    assert [item.id for item in done.response.output] == ["item_1"]
    updated = understood(
        {"type": "session.updated", "session": {"type": "realtime", "audio": {"input": {"format": 3}}}}
    )
    assert isinstance(updated, server.SessionUpdated)


def test_parts_that_are_not_known_are_left_out() -> None:
    """Of a message's content, what is known stays."""
    content = [{"type": "input_video", "frames": []}, {"type": "input_text", "text": "hi"}]
    added = understood({"type": "conversation.item.added", "item": {**_MESSAGE, "content": content}})
    assert isinstance(added, server.ConversationItemAdded)
    assert isinstance(added.item, items.Message)
    assert added.item.content == [items.InputText(text="hi")]


def test_there_is_a_bound_to_leniency() -> None:
    """With more that does not fit than anybody would get wrong, or without what makes the event, it is of no kind."""
    assert type(understood({"type": "response.done", "response": {"status": "completed"}})) is ServerEvent
    assert type(understood({"type": "conversation.item.added", "item": {"type": "hologram"}})) is ServerEvent
    assert type(understood({"type": "never.heard.of"})) is ServerEvent
