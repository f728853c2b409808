"""How much a message may be, judged by its text: the number of its values, and its length by its type."""

import json
from typing import Any

import pytest

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire.bounds import MAX_EVENT_BYTES, MAX_VALUES, require_few_values
from bridge.wire.client_events import decode_json, read_client_message, read_session
from bridge.wire.dialects import beta
from bridge.wire.live import client_events as live
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.translations import APPEND, read_translation_message
from tests.wire.readers import READERS

_MIB = 1024 * 1024


def _update(**session: object) -> str:
    return json.dumps({"type": "session.update", "session": {"type": "realtime", **session}})


def _create(*content: object) -> str:
    item = {"type": "message", "role": "user", "content": list(content)}
    return json.dumps({"type": "conversation.item.create", "event_id": "mine", "item": item})


def _tool(number: int, **more: object) -> dict[str, Any]:
    return {"type": "function", "name": f"f{number}", **more}


def _audio(megabytes: int) -> str:
    return "AAAA" * (megabytes * _MIB // 4)


_ZEROS = "[" + "0," * MAX_VALUES + "0]"
_TOO_LARGE = {
    "array": '{"type": "x", "a": ' + _ZEROS + "}",
    "keys": _update(**{f"k{number}": 0 for number in range(MAX_VALUES)}),
    "tools": _update(tools=[_tool(number) for number in range(100_000)]),
    "empty tools": _update(tools=[{}] * MAX_VALUES),
    "parts": _create(*[{"type": "input_text", "text": ""}] * 100_000),
    "strings": '{"type": "x", "a": [' + '"",' * 600_000 + '""]}',
    "arrays in a long item": _create({"type": "input_audio", "audio": _audio(3), "a": json.loads(_ZEROS)}),
    "escapes in a long item": _create({"type": "input_text", "text": '"' * (4 * _MIB)}),
    "long text": '{"type": "x", "a": "' + "a" * MAX_EVENT_BYTES + '"}',
    "long text of a type that comes last": '{"a": "' + "a" * MAX_EVENT_BYTES + '", "type": "x"}',
    "no type": " " * MAX_EVENT_BYTES + "{}",
    "type that is none": '{"type": ["session.update"], "a": "' + "a" * MAX_EVENT_BYTES + '"}',
}


@pytest.mark.parametrize("text", _TOO_LARGE.values(), ids=_TOO_LARGE.keys())
def test_what_is_too_large(text: str) -> None:
    """Nothing is made of it, whoever says it, in whichever dialect."""
    for read in (
        lambda: read_client_message(text),
        lambda: read_client_message(text.encode()),
        lambda: beta.read_client_message(text, beta.Beta()),
        lambda: decode_relayed(text),
        lambda: decode_relayed(text.encode()),
    ):
        with pytest.raises(BadEvent) as caught:
            read()
        assert caught.value.code == "event_too_large"


def test_what_is_no_json_is_said_at_once() -> None:
    """However long it is: an event that breaks off is not JSON."""
    text = '{"type": "conversation.item.create", "event_id": "mine", "item": "' + "A" * (14 * _MIB)
    for read in (read_client_message, lambda long: beta.read_client_message(long, beta.Beta())):
        with pytest.raises(BadEvent) as caught:
            read(text)
        assert caught.value.code == "invalid_json"


def test_values_within_strings_are_none() -> None:
    """Prose, tables and JSON within a string count as one value, quotes and backslashes in it too."""
    for words in ("a, b, " * 100_000, '{"a": [1, 2]}, ' * 50_000, '\\", ' * 100_000, "\\\\, " * 100_000):
        text = _update(instructions=words, tools=[_tool(number) for number in range(100)])
        for encoded in (text, text.encode()):
            require_few_values(encoded)
        message = read_client_message(text)
        assert message.complaint is None
        assert message.body["session"]["instructions"] == words


def test_tools_as_they_are() -> None:
    """A long list of real tools is taken: 400 functions with a schema each, more than 200 kB."""
    properties = {
        name: {"type": "string", "description": f"The {name} of the repository, as it is written in its address."}
        for name in ("owner", "name", "branch", "path", "state", "label")
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    tools = [_tool(number, description="Does it, or says why not.", parameters=schema) for number in range(400)]
    text = _update(tools=tools)
    assert len(text) > 200_000
    event = read_client_message(text).known
    assert isinstance(event, client.SessionUpdate)
    assert isinstance(event.session.tools, list)
    assert len(event.session.tools) == 400
    assert len(decode_relayed(text.replace("session.update", "session.updated"))["session"]["tools"]) == 400  # type: ignore[index]


@pytest.mark.parametrize("read", [read_client_message, lambda text: beta.read_client_message(text, beta.Beta())])
def test_sound_and_pictures_may_be_long(read: Any) -> None:
    """Appends of 15 MiB, items with 12 MB of sound or a picture of 5 MB, as base64, in both dialects."""
    sound = _audio(20)
    for event_id in ("mine", None):
        append = {"type": "input_audio_buffer.append", "event_id": event_id, "audio": sound}
        for text in (json.dumps(append), json.dumps(dict(reversed(append.items())))):
            event = read(text).known
            assert isinstance(event, client.InputAudioBufferAppend)
            assert (event.audio, event.event_id) == (sound, event_id)
    message = read(_create({"type": "input_audio", "audio": _audio(16)}))
    assert message.complaint is None
    picture = "data:image/png;base64," + "iVBO/w+A" * (5 * _MIB // 8)
    escaped = _create({"type": "input_image", "image_url": picture}).replace("/", "\\/")  # as PHP writes it
    message = read(escaped)
    assert message.complaint is None
    assert message.body["item"]["content"][0]["image_url"] == picture


def test_long_append_that_is_wrong() -> None:
    """What is wrong with it is named, and its id can be told."""
    text = json.dumps({"type": "input_audio_buffer.append", "event_id": "mine", "sound": _audio(3)})
    with pytest.raises(BadEvent) as caught:
        read_client_message(text)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "audio")
    assert caught.value.event_id == "mine"


@pytest.mark.parametrize(
    "text",
    [
        '{"event_id": "mine", "type": "x", "a": "' + "a" * MAX_EVENT_BYTES + '"}',
        '{"event_id": "mine", "type": "x", "a": ' + _ZEROS + "}",
    ],
    ids=["long", "many values"],
)
def test_the_id_of_what_is_too_large(text: str) -> None:
    """It is read once, and the error has its id, in each dialect."""
    for read in READERS:
        with pytest.raises(BadEvent) as caught:
            read(text)
        assert (caught.value.code, caught.value.event_id) == ("event_too_large", "mine")


def test_a_long_append_of_each_dialect() -> None:
    """Its sound is taken, if it is up to 15 MiB, wherever its type stands."""
    sound = _audio(3)
    append = json.dumps({"audio": sound, "type": APPEND, "event_id": "mine"})
    assert read_translation_message(append).event == client.InputAudioBufferAppend(audio=sound, event_id="mine")
    append = json.dumps({"audio": sound, "type": live.APPEND, "event_id": "mine"})
    message = live.read_live_message(append, live.LiveBearer.PRIMARY)
    assert message.body == {"audio": sound, "type": live.APPEND, "event_id": "mine"}


def test_items_and_sound_of_a_server_may_be_long() -> None:
    """An item that was asked for comes with its sound; a delta is as long as its sound."""
    item = {"id": "i", "type": "message", "role": "user", "content": [{"type": "input_audio", "audio": _audio(12)}]}
    body = decode_relayed(json.dumps({"type": "conversation.item.retrieved", "event_id": "e", "item": item}).encode())
    assert isinstance(body, dict)
    assert body["item"] == item
    delta = decode_relayed(json.dumps({"type": "response.output_audio.delta", "delta": _audio(12)}))
    assert isinstance(delta, AudioDelta)


def test_bodies_of_requests() -> None:
    """A session in a request has the same limit of values."""
    with pytest.raises(BadEvent) as caught:
        read_session(decode_json(_ZEROS))
    assert caught.value.code == "event_too_large"


def test_lists_are_judged_up_to_a_number() -> None:
    """What is in a list beyond it is not looked at: the complaint names the list, or the first misfit in it."""
    message = read_client_message(_create(*[{"type": "input_text", "text": ""}] * 4097))
    assert message.complaint is not None
    assert (message.complaint.code, message.complaint.param) == ("array_above_max_length", "item.content")
    assert read_client_message(_create(*[{"type": "input_text", "text": ""}] * 4096)).complaint is None
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
    text = json.dumps({"type": "response.create", "response": {"input": [item] * 2000}})
    assert read_client_message(text).complaint is None
    message = read_client_message(_create(*[{}] * 4096))
    assert message.complaint is not None
    assert message.complaint.param == "item.content[0].type"
