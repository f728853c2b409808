"""The beta dialect as an upstream speaks it: GA to beta and back is the same, by the tables that clients' beta uses."""

from typing import Any

import msgspec
import pytest
from hypothesis import given

from bridge.wire import server_events as server
from bridge.wire.client_events import decode_client_event
from bridge.wire.dialects.beta import SERVER_TYPES, Beta, session_to_ga, to_beta
from bridge.wire.dialects.beta import decode_client_event as decode_beta
from bridge.wire.dialects.beta_upstream import client_to_beta, server_to_ga, session_update_to_beta
from bridge.wire.relayed import understood
from bridge.wire.server_events import ServerEvent
from bridge.wire.sessions import default_session
from tests.sdk.every_event import every_server_event
from tests.wire.strange import strange_events

_SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be kind.",
    "output_modalities": ["audio"],
    "max_output_tokens": 100,
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}],
    "tool_choice": "auto",
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "transcription": {"model": "whisper-1"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {"type": "server_vad", "threshold": 0.4},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "verse", "speed": 1.1},
    },
}
_ITEM = {"id": "item_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
_CLIENT_EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": _SESSION},
    {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
    {"type": "conversation.item.create", "item": _ITEM},
    {"type": "conversation.item.create", "item": {"type": "function_call_output", "call_id": "c", "output": "3"}},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 3},
    {"type": "input_audio_buffer.commit"},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "output_modalities": ["text"],
            "audio": {"output": {"voice": "verse", "format": {"type": "audio/pcma"}}},
            "input": [_ITEM],
        },
    },
]


@pytest.mark.parametrize("body", _CLIENT_EVENTS, ids=lambda body: body["type"])
def test_what_a_client_says_arrives(body: dict[str, Any]) -> None:
    """A beta server that reads it as our beta door does understands what the GA client meant."""
    meant = decode_client_event(msgspec.json.encode(body))
    assert decode_beta(msgspec.json.encode(client_to_beta(body)), Beta()) == meant


def test_an_update_says_what_it_sets() -> None:
    """No more: what it leaves out is not reset; what is null stays null."""
    update = session_update_to_beta({"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    assert update == {"turn_detection": None}
    assert session_update_to_beta({"id": "sess_1", "object": "realtime.session", "expires_at": 3}) == {}
    odd = {"audio": {"input": {"format": None}, "output": {"format": {"type": "audio/opus"}}}}
    assert session_update_to_beta(odd) == {"input_audio_format": "pcm16", "output_audio_format": "pcm16"}


_TOLD = [
    event
    for event in every_server_event().values()
    if not event.type.startswith("bridge.") and to_beta(event, Beta()) is not None
]


@pytest.mark.parametrize("event", _TOLD, ids=lambda event: str(event.type))
def test_what_a_beta_server_says_is_what_ga_would(event: ServerEvent) -> None:
    """Our own events as beta tells them come back with GA's name, and are understood."""
    told = to_beta(event, Beta())
    assert told is not None
    if event.type == "response.output_audio.delta":
        return  # has its own way, without a body
    bodies = server_to_ga(msgspec.json.decode(msgspec.json.encode(told)))
    assert bodies[0]["type"] == event.type
    assert not set(SERVER_TYPES.values()) & {body["type"] for body in bodies}
    if event.type != "response.function_call_arguments.done":  # whose name beta does not say
        assert all(type(understood(body)) is not ServerEvent for body in bodies)


def test_a_session_comes_back_as_it_was() -> None:
    """Nested to flat and back: the settings that both dialects have, and no null where GA has nothing."""
    config = default_session(session_id="sess_1", model="m", expires_at=3)
    told = to_beta(server.SessionUpdated(session=config), Beta())
    assert told is not None
    [body] = server_to_ga(told)
    updated = understood(body)
    assert isinstance(updated, server.SessionUpdated)
    assert (updated.session.id, updated.session.audio) == (config.id, config.audio)
    assert updated.session.output_modalities == config.output_modalities
    assert body["session"]["audio"]["input"]["turn_detection"] == told["session"]["turn_detection"]
    assert session_to_ga({"voice": "verse"}, Beta()).config.type == "realtime"


def test_a_transcription_session_is_told_apart() -> None:
    """Its events have names of their own in beta."""
    [body] = server_to_ga({"type": "transcription_session.updated", "session": {"input_audio_format": "g711_alaw"}})
    assert body["type"] == "session.updated"
    assert body["session"] == {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcma"}}}}


def test_one_event_of_beta_is_two_of_ga() -> None:
    """A complete item is added and done at once; an answer's is done with its output item."""
    asked = {"id": "item_1", "type": "message", "role": "user", "status": "completed", "content": []}
    types = [body["type"] for body in server_to_ga({"type": "conversation.item.created", "item": asked})]
    assert types == ["conversation.item.added", "conversation.item.done"]
    begun = {**asked, "role": "assistant", "status": "in_progress"}
    types = [body["type"] for body in server_to_ga({"type": "conversation.item.created", "item": begun})]
    assert types == ["conversation.item.added"]
    types = [body["type"] for body in server_to_ga({"type": "response.output_item.done", "item": asked})]
    assert types == ["response.output_item.done", "conversation.item.done"]


def test_nulls_are_left_out() -> None:
    """Beta says null where GA says nothing; a transcript that is not there yet is null in both."""
    item = {"id": "i", "type": "message", "role": "user", "name": None, "call_id": None,
            "content": [{"type": "input_audio", "audio": None, "text": None, "transcript": None}]}  # fmt: skip
    [added, _] = server_to_ga({"type": "conversation.item.created", "item": item})
    assert added["item"] == {
        "id": "i", "type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": None}],
    }  # fmt: skip


@given(strange_events)
def test_a_strange_server_is_no_danger(body: dict[str, Any]) -> None:
    """Whatever it says becomes events with a name; nothing is raised."""
    for event in server_to_ga(body):
        assert isinstance(event["type"], str)
        understood(event)
