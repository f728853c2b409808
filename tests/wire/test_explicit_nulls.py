"""Null from typed clients, which write every field: it stands for "not given", and an upstream gets it as written."""

import json
from typing import Any

import msgspec
import pytest

from bridge.wire import client_events as client
from bridge.wire.client_events import ClientMessage, read_client_message
from bridge.wire.dialects import beta
from bridge.wire.sessions import SessionConfig, default_session, merged

_NAME_PATHS = {
    "session.update": (
        "event_id",
        "session.model",
        "session.object",
        "session.id",
        "session.expires_at",
        "session.output_modalities",
        "session.instructions",
        "session.audio",
        "session.audio.input",
        "session.audio.output",
        "session.audio.input.format",
        "session.audio.output.format",
        "session.audio.output.voice",
        "session.audio.output.speed",
        "session.audio.input.noise_reduction.type",
        "session.audio.input.noise_reduction.strength",
        "session.audio.input.transcription.model",
        "session.audio.input.turn_detection.threshold",
        "session.audio.input.turn_detection.prefix_padding_ms",
        "session.audio.input.turn_detection.silence_duration_ms",
        "session.audio.input.turn_detection.create_response",
        "session.audio.input.turn_detection.interrupt_response",
        "session.tools",
        "session.tool_choice",
        "session.parallel_tool_calls",
        "session.max_output_tokens",
        "session.truncation",
        "session.include",
    ),
    "response.create": (
        "event_id",
        "response",
        "response.conversation",
        "response.output_modalities",
        "response.instructions",
        "response.audio",
        "response.audio.output",
        "response.audio.output.format",
        "response.audio.output.voice",
        "response.tools",
        "response.tool_choice",
        "response.parallel_tool_calls",
        "response.max_output_tokens",
        "response.metadata",
        "response.input",
    ),
    "conversation.item.create": (
        "event_id",
        "previous_item_id",
        "item.id",
        "item.object",
        "item.status",
        "item.content[0].audio",
        "item.content[0].transcript",
        "item.content[1].detail",
    ),
    "response.cancel": ("event_id", "response_id"),
}
_CASES = [(kind, path) for kind, paths in _NAME_PATHS.items() for path in paths]

_FLAT_PATHS = {
    "session.update": (
        "model",
        "modalities",
        "instructions",
        "voice",
        "speed",
        "input_audio_transcription",
        "input_audio_noise_reduction",
        "turn_detection",
        "tools",
        "tool_choice",
        "temperature",
        "max_response_output_tokens",
        "input_audio_format",
        "output_audio_format",
        "include",
        "tracing",
    ),
    "response.create": (
        "modalities",
        "instructions",
        "voice",
        "output_audio_format",
        "tools",
        "tool_choice",
        "temperature",
        "max_output_tokens",
        "max_response_output_tokens",
        "conversation",
        "metadata",
        "input",
    ),
    "conversation.item.create": ("id", "object", "status", "call_id", "name", "arguments", "output"),
}
_FLAT_CASES = [(kind, name) for kind, names in _FLAT_PATHS.items() for name in names]


def _event(kind: str) -> dict[str, Any]:
    """An event with the objects in which the fields stand."""
    turns = {"type": "server_vad", "threshold": 0.7}
    sound = {"noise_reduction": {"type": "near_field"}, "transcription": {"language": "de"}, "turn_detection": turns}
    content = [{"type": "input_audio", "audio": "AAAA"}, {"type": "input_image", "image_url": "data:,"}]
    bodies: dict[str, dict[str, Any]] = {
        "session.update": {"session": {"type": "realtime", "audio": {"input": sound, "output": {}}}},
        "response.create": {"response": {"audio": {"output": {}}}},
        "conversation.item.create": {"item": {"type": "message", "role": "user", "content": content}},
        "response.cancel": {},
    }
    return bodies[kind] | {"type": kind}


def _with_null(kind: str, path: str, *, is_left_out: bool = False) -> dict[str, Any]:
    event = _event(kind)
    *parents, last = path.replace("[", ".").replace("]", "").split(".")
    place: Any = event
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    place[last] = None
    if is_left_out:
        del place[last]
    return event


def _read(event: dict[str, Any]) -> ClientMessage:
    return read_client_message(json.dumps(event))


@pytest.mark.parametrize(("kind", "path"), _CASES)
def test_null_is_as_good_as_absent(kind: str, path: str) -> None:
    """In a response, an item or an event's own fields, null says nothing; the JSON still has it."""
    event = _with_null(kind, path)
    message = _read(event)
    assert message.complaint is None
    assert message.body == event
    if kind != "session.update" and path != "response.metadata":  # it may be null, and has no default
        assert message.known == _read(_with_null(kind, path, is_left_out=True)).known


_CHANGED: dict[str, Any] = {
    "output_modalities": ["text"],
    "instructions": "sing",
    "audio": {
        "input": {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "semantic_vad"}},
        "output": {"format": {"type": "audio/pcma"}, "voice": "verse", "speed": 1.2},
    },
    "tools": [{"type": "function", "name": "f"}],
    "tool_choice": "required",
    "max_output_tokens": 7,
    "truncation": "disabled",
}


@pytest.mark.parametrize(
    "path",
    [
        "output_modalities",
        "instructions",
        "audio",
        "audio.input",
        "audio.output",
        "audio.input.format",
        "audio.output.format",
        "audio.output.voice",
        "audio.output.speed",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "truncation",
    ],
)
def test_null_is_the_default_in_an_update(path: str) -> None:
    """What was set before goes back to what a session begins with, and nothing else changes."""
    begun = default_session(session_id="sess_1", model="m", expires_at=1)
    before = merged(begun, msgspec.convert(_CHANGED, SessionConfig))
    session: dict[str, Any] = {"type": "realtime"}
    *parents, last = path.split(".")
    place = session
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = None
    event = _read({"type": "session.update", "session": session}).known
    assert isinstance(event, client.SessionUpdate)
    after = msgspec.to_builtins(merged(before, event.session))
    assert _at(after, path) == _at(msgspec.to_builtins(begun), path) != _at(msgspec.to_builtins(before), path)
    untouched = msgspec.to_builtins(before)
    for whole in (after, untouched):
        _place(whole, parents).pop(last)
    assert after == untouched


def _place(session: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        session = session[parent]
    return session


def _at(session: dict[str, Any], path: str) -> Any:
    *parents, last = path.split(".")
    return _place(session, parents)[last]


def test_null_of_id_and_model_changes_nothing() -> None:
    """They are no settings, and have no default."""
    fields = dict.fromkeys(("id", "object", "model", "expires_at"))
    event = _read({"type": "session.update", "session": {"type": "realtime", **fields}}).known
    assert event == client.SessionUpdate(session=SessionConfig(type="realtime"))


def test_null_turns_off_what_may_be_off() -> None:
    """In the input of a session, null is a value of its own."""
    off = dict.fromkeys(("transcription", "noise_reduction", "turn_detection"))
    event = _read({"type": "session.update", "session": {"type": "realtime", "audio": {"input": off}}}).known
    assert msgspec.to_builtins(event)["session"]["audio"]["input"] == off


@pytest.mark.parametrize(("kind", "name"), _FLAT_CASES)
def test_null_in_the_beta_dialect(kind: str, name: str) -> None:
    """Beta's flat fields may be null as well, and so may those that its items bring from elsewhere."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    holder = {"session.update": "session", "response.create": "response", "conversation.item.create": "item"}[kind]
    fields = {name: None, **(item if holder == "item" else {})}
    message = beta.read_client_message(json.dumps({"type": kind, "event_id": None, holder: fields}), beta.Beta())
    assert message.complaint is None
    assert message.event.event_id is None


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.create", "event_id": None, "response": None},
        {"type": "response.create", "response": {"instructions": None}},
    ],
    ids=["semantic-kernel", "livekit"],
)
def test_frameworks(event: dict[str, Any]) -> None:
    """What two frameworks send after every function is a plain ``response.create``, in both dialects."""
    text = json.dumps(event)
    for known in (read_client_message(text).known, beta.read_client_message(text, beta.Beta()).known):
        assert isinstance(known, client.ResponseCreate)
        assert known.response is msgspec.UNSET or known.response.instructions is msgspec.UNSET
