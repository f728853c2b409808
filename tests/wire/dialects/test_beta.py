"""The beta dialect as tables, both ways."""

import contextlib
import json
from typing import Any

import msgspec
import pytest

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire.dialects.beta import Beta, decode_client_event, session_to_beta, session_to_ga, to_beta
from bridge.wire.own_events import server_event_types
from bridge.wire.server_events import SessionUpdated
from bridge.wire.sessions import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    NoiseReduction,
    PcmaFormat,
    PcmuFormat,
    ServerVad,
    SessionConfig,
    Transcription,
    default_session,
    default_transcription,
    merged,
)
from tests.sdk.every_event import BETA_NAMES, every_server_event

_EVENTS = every_server_event()
_FULL_SESSION = {
    "modalities": ["audio", "text"],
    "instructions": "Be kind.",
    "voice": "verse",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_alaw",
    "input_audio_transcription": {"model": "whisper-1", "language": "en"},
    "input_audio_noise_reduction": {"type": "near_field"},
    "metadata": {"client_id": "c1"},
    "turn_detection": {
        "type": "server_vad",
        "threshold": 0.25,
        "prefix_padding_ms": 500,
        "silence_duration_ms": 1000,
        "idle_timeout_ms": None,
        "create_response": False,
        "interrupt_response": False,
    },
    "tools": [{"type": "function", "name": "f", "description": "", "parameters": {}}],
    "tool_choice": "required",
    "temperature": 1.5,
    "max_response_output_tokens": 200,
    "speed": 1.25,
    "tracing": "auto",
}
_USER: dict[str, Any] = {"type": "message", "role": "user"}


def _decode(event: object, beta: Beta | None = None) -> client.ClientEvent:
    return decode_client_event(json.dumps(event), beta or Beta())


def _refusal(event: object, beta: Beta | None = None) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        _decode(event, beta)
    return caught.value


def _update(**session: object) -> SessionConfig:
    event = _decode({"type": "session.update", "session": session})
    assert isinstance(event, client.SessionUpdate)
    return event.session


# Server events


def test_every_server_event_has_a_beta_name() -> None:
    """The table of names is complete, and so are the samples."""
    tags = {str(kind.__struct_config__.tag) for kind in server_event_types()}
    assert tags == set(BETA_NAMES) == set(_EVENTS)


@pytest.mark.parametrize("name", _EVENTS)
def test_server_event_in_beta(name: str) -> None:
    """Renamed or dropped; whatever has no other shape in beta is the same, field by field."""
    event = _EVENTS[name]
    told = to_beta(event, Beta())
    assert (None if told is None else told["type"]) == BETA_NAMES[name]
    if told is not None:
        original = msgspec.to_builtins(event)
        reshaped = {"type", "session", "item", "response", "name"}
        assert {k: v for k, v in told.items() if k not in reshaped} == {
            k: v for k, v in original.items() if k not in reshaped
        }


@pytest.mark.parametrize("name", _EVENTS)
def test_translation_leaves_the_event_alone(name: str) -> None:
    """GA listeners get the same event afterwards."""
    event = every_server_event()[name]
    before = msgspec.json.encode(event)
    to_beta(event, Beta())
    assert msgspec.json.encode(event) == before


def test_item_in_beta() -> None:
    """An assistant's parts are ``audio`` and ``text``, a user's keep their names; ids and status stay."""
    for name in ("conversation.item.added", "response.output_item.done"):
        told = to_beta(_EVENTS[name], Beta())
        assert told is not None
        assert [part["type"] for part in told["item"]["content"]] == ["audio", "text"]
        assert (told["item"]["id"], told["item"]["object"]) == ("item_1", "realtime.item")
    retrieved = to_beta(_EVENTS["conversation.item.retrieved"], Beta())
    assert retrieved is not None
    assert retrieved["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_response_in_beta() -> None:
    """Flat: modalities with their text, a format by its name, a temperature; nothing nested is left."""
    beta = Beta()
    beta.temperature = 1.5
    told = to_beta(_EVENTS["response.done"], beta)
    assert told is not None
    response = told["response"]
    assert (response["modalities"], response["output_audio_format"]) == (["audio", "text"], "pcm16")
    assert response["temperature"] == 1.5
    assert not {"output_modalities", "audio"} & response.keys()
    assert [part["type"] for part in response["output"][0]["content"]] == ["audio", "text"]
    assert response["usage"]["total_tokens"] == 3


def test_arguments_done_has_no_name() -> None:
    """The name of the function is GA's."""
    told = to_beta(_EVENTS["response.function_call_arguments.done"], Beta())
    assert told is not None
    assert (told["arguments"], told["call_id"]) == ("{}", "call_1")
    assert "name" not in told


def test_transcription_session_has_its_own_event() -> None:
    """``session.updated`` of a transcription session has another name in beta."""
    session = default_transcription(session_id="sess_1", model="whisper-1", expires_at=1)
    told = to_beta(SessionUpdated(session=session), Beta())
    assert told is not None
    assert told["type"] == "transcription_session.updated"
    assert told["session"]["object"] == "realtime.transcription_session"


# Sessions


def test_session_both_ways() -> None:
    """A flat session with every field becomes the nested one, and is the same when it comes back."""
    beta = Beta()
    event = _decode({"type": "session.update", "session": _FULL_SESSION}, beta)
    assert isinstance(event, client.SessionUpdate)
    whole = merged(default_session(session_id="sess_1", model="parrot", expires_at=7), event.session)
    told = session_to_beta(msgspec.to_builtins(whole), beta)
    fixed = {
        "id": "sess_1",
        "object": "realtime.session",
        "model": "parrot",
        "expires_at": 7,
        "client_secret": None,
        "status": "active",
    }
    assert told == {**_FULL_SESSION, **fixed}


def test_session_in_ga() -> None:
    """Each flat field stands where GA has it."""
    update = _update(**_FULL_SESSION)
    assert update.output_modalities == ["audio"]
    assert update.max_output_tokens == 200
    assert update.type == "realtime"
    assert update.audio == AudioConfig(
        input=AudioInput(
            format=PcmuFormat(),
            transcription=Transcription(model="whisper-1", language="en"),
            noise_reduction=NoiseReduction("near_field"),
            turn_detection=ServerVad(
                threshold=0.25,
                prefix_padding_ms=500,
                silence_duration_ms=1000,
                create_response=False,
                interrupt_response=False,
            ),
        ),
        output=AudioOutput(format=PcmaFormat(), voice="verse", speed=1.25),
    )


def test_null_clears() -> None:
    """What null turns off in beta, it turns off in GA."""
    update = _update(turn_detection=None, input_audio_transcription=None, input_audio_noise_reduction=None)
    assert update.audio == AudioConfig(input=AudioInput(transcription=None, noise_reduction=None, turn_detection=None))


@pytest.mark.parametrize(
    ("beta", "ga"), [(["text"], ["text"]), (["audio", "text"], ["audio"]), (["text", "audio"], ["audio"])]
)
def test_modalities(beta: list[str], ga: list[str]) -> None:
    """Beta's audio always comes with its text; GA names the one that is wanted."""
    assert _update(modalities=beta).output_modalities == ga


@pytest.mark.parametrize("value", [0, 0.0, 0.6, 1.2, 2, 2.0])
def test_temperature_in_range(value: float) -> None:
    """The beta reference's range, ends included; told again in the session."""
    beta = Beta()
    assert session_to_ga({"temperature": value}, beta).config == SessionConfig(type="realtime")
    assert session_to_beta({}, beta)["temperature"] == value


@pytest.mark.parametrize("value", [-0.1, 2.1, "1", True, [], 1e300])
def test_temperature_out_of_range(value: object) -> None:
    """Anything else is refused by the name that the client wrote, in a session and in a response."""
    assert _refusal({"type": "session.update", "session": {"temperature": value}}).param == "session.temperature"
    assert _refusal({"type": "response.create", "response": {"temperature": value}}).param == "response.temperature"


def test_refused_update_changes_nothing() -> None:
    """A temperature beside a field that is wrong is not taken."""
    beta = Beta()
    _refusal({"type": "session.update", "session": {"temperature": 1.5, "voice": 3}}, beta)
    assert session_to_beta({}, beta)["temperature"] == session_to_beta({}, Beta())["temperature"]


@pytest.mark.parametrize(
    ("field", "fits", "does_not"),
    [
        ("threshold", [0, 0.5, 1], [-0.01, 1.01]),
        ("prefix_padding_ms", [0, 500, 5000], [-1, 5001]),
        ("silence_duration_ms", [100, 1000, 10_000], [99, 10_001]),
    ],
)
def test_ranges_of_turn_detection(field: str, fits: list[float], does_not: list[float]) -> None:
    """The beta reference's ranges, ends included."""
    for value in fits:
        turns = {"type": "server_vad", field: value}
        audio = _update(turn_detection=turns).audio
        assert isinstance(audio, AudioConfig)
        assert isinstance(audio.input, AudioInput)
        assert getattr(audio.input.turn_detection, field) == value
    for value in does_not:
        turns = {"type": "server_vad", field: value}
        refusal = _refusal({"type": "session.update", "session": {"turn_detection": turns}})
        assert refusal.param == f"session.turn_detection.{field}"


@pytest.mark.parametrize("name", ["max_response_output_tokens", "max_output_tokens"])
def test_range_of_output_tokens(name: str) -> None:
    """1 to 4096, or ``inf``, by either name: OpenAI's or the beta reference's; a refusal says the one that was used."""
    for value in (1, 4096, "inf"):
        assert _update(**{name: value}).max_output_tokens == value
    for value in (0, 4097, "endless"):
        assert _refusal({"type": "session.update", "session": {name: value}}).param == f"session.{name}"


def test_flat_update_without_session() -> None:
    """The beta reference's form: the fields at the top; the event's own are not among them."""
    event = _decode({"type": "session.update", "event_id": "event_1", "voice": "echo", "timestamp": 1})
    assert isinstance(event, client.SessionUpdate)
    assert event.event_id == "event_1"
    assert event.session.audio == AudioConfig(output=AudioOutput(voice="echo"))


def test_update_of_a_transcription_session_keeps_its_type() -> None:
    """``transcription_session.update`` is for a transcription session, and makes nothing else of it."""
    event = _decode({"type": "transcription_session.update", "session": {"input_audio_format": "pcm16"}})
    assert isinstance(event, client.SessionUpdate)
    whole = merged(default_transcription(session_id="sess_1", model="whisper-1", expires_at=1), event.session)
    assert whole.type == "transcription"


# Client events

_SAME: list[dict[str, Any]] = [
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1},
    {"type": "response.create"},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "bridge.flow.pause"},
    {"type": "bridge.flow.resume"},
    {"type": "bridge.mark", "name": "here"},
]


@pytest.mark.parametrize("event", _SAME, ids=[event["type"] for event in _SAME])
def test_client_event_that_is_the_same(event: dict[str, Any]) -> None:
    """Most client events have one shape in both dialects."""
    for message in (event, {**event, "event_id": "mine"}):
        assert _decode(message) == client.decode_client_event(json.dumps(message))


def test_every_client_event_is_tried() -> None:
    """The list above and the three that differ are the whole union."""
    differ = {"session.update", "conversation.item.create", "response.create"}
    tags = {kind.__struct_config__.tag for kind in client.ClientEvent.__args__}
    assert {event["type"] for event in _SAME} | differ == tags


@pytest.mark.parametrize(
    ("role", "part", "ga"),
    [
        ("user", {"type": "text", "text": "hi"}, {"type": "input_text", "text": "hi"}),
        ("user", {"type": "input_text", "text": "hi"}, {"type": "input_text", "text": "hi"}),
        ("system", {"type": "text", "text": "hi"}, {"type": "input_text", "text": "hi"}),
        ("user", {"type": "audio", "audio": "AA=="}, {"type": "input_audio", "audio": "AA==", "transcript": None}),
        ("assistant", {"type": "text", "text": "hi"}, {"type": "output_text", "text": "hi"}),
        ("assistant", {"type": "audio", "transcript": "hi"}, {"type": "output_audio", "transcript": "hi"}),
    ],
)
def test_content_of_a_created_item(role: str, part: dict[str, Any], ga: dict[str, Any]) -> None:
    """The short names of content, by who speaks."""
    item = {"type": "message", "role": role, "content": [part]}
    event = _decode({"type": "conversation.item.create", "item": item, "previous_item_id": "root"})
    assert isinstance(event, client.ConversationItemCreate)
    assert msgspec.to_builtins(event.item)["content"] == [ga]
    assert event.previous_item_id == "root"


def test_function_items() -> None:
    """Calls and their outputs have no content to rename."""
    for item in (
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
    ):
        event = _decode({"type": "conversation.item.create", "item": item})
        assert isinstance(event, client.ConversationItemCreate)
        assert msgspec.to_builtins(event.item) == item


def test_response_settings() -> None:
    """A response's flat settings are GA's nested ones; what it brings as input is renamed as well."""
    event = _decode(
        {
            "type": "response.create",
            "response": {
                "modalities": ["text", "audio"],
                "instructions": "Now.",
                "voice": "echo",
                "output_audio_format": "g711_alaw",
                "tools": [],
                "tool_choice": "none",
                "temperature": 0.8,
                "max_output_tokens": 10,
                "conversation": "none",
                "metadata": {"a": "b"},
                "input": [{**_USER, "content": [{"type": "text", "text": "hi"}]}],
            },
        }
    )
    assert isinstance(event, client.ResponseCreate)
    assert msgspec.to_builtins(event.response) == {
        "output_modalities": ["audio"],
        "instructions": "Now.",
        "audio": {"output": {"voice": "echo", "format": {"type": "audio/pcma"}}},
        "tools": [],
        "tool_choice": "none",
        "max_output_tokens": 10,
        "conversation": "none",
        "metadata": {"a": "b"},
        "input": [{**_USER, "content": [{"type": "input_text", "text": "hi"}]}],
    }


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "session.update", "session": {"input_audio_format": "mp3"}}, "session.input_audio_format"),
        ({"type": "session.update", "session": {"output_audio_format": 1}}, "session.output_audio_format"),
        ({"type": "session.update", "session": {"modalities": "text"}}, "session.modalities"),
        ({"type": "session.update", "session": {"modalities": ["video"]}}, "session.modalities"),
        ({"type": "session.update", "session": {"modalities": []}}, "session.modalities"),
        ({"type": "session.update", "session": {"speed": 2}}, "session.speed"),
        ({"type": "session.update", "session": {"voice": 1}}, "session.voice"),
        ({"type": "session.update", "session": {"tool_choice": "maybe"}}, "session.tool_choice"),
        ({"type": "session.update", "session": {"turn_detection": {"type": "x"}}}, "session.turn_detection.type"),
        (
            {"type": "session.update", "session": {"input_audio_transcription": {"model": 1}}},
            "session.input_audio_transcription.model",
        ),
        ({"type": "session.update", "session": 1}, "session"),
        ({"type": "response.create", "response": {"output_audio_format": "mp3"}}, "response.output_audio_format"),
        ({"type": "response.create", "response": {"modalities": ["video"]}}, "response.modalities"),
        ({"type": "response.create", "response": {"voice": 1}}, "response.voice"),
        ({"type": "response.create", "response": {"max_output_tokens": 0}}, "response.max_output_tokens"),
        ({"type": "conversation.item.create"}, "item"),
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0}, "audio_end_ms"),
        ({"type": "no.such.event"}, "type"),
    ],
)
def test_refusal_in_the_clients_words(event: dict[str, Any], param: str) -> None:
    """``param`` is the path of the field as the client wrote it, and the message says no GA name instead."""
    refusal = _refusal(event)
    assert refusal.param is not None
    assert refusal.param.partition("[")[0] == param
    assert "output_modalities" not in refusal.message
    assert "audio.output" not in refusal.message


@pytest.mark.parametrize("audio", ["x", None, 1, [], {"input": "x"}, {"output": None}])
def test_ga_fields_among_flat_ones(audio: object) -> None:
    """GA's ``audio`` beside beta's fields is refused at worst, never a fault of ours."""
    for flat in ({"audio": audio, "voice": "echo"}, {"voice": "echo", "audio": audio}):
        with contextlib.suppress(BadEvent):
            assert isinstance(_update(**flat), SessionConfig)


@pytest.mark.parametrize("text", ["[]", "1", '"session.update"', "null", "true"])
def test_json_that_is_no_event(text: str) -> None:
    """An event is an object."""
    with pytest.raises(BadEvent):
        decode_client_event(text, Beta())


def test_not_json() -> None:
    """Told apart from a wrong event: it ends a socket."""
    with pytest.raises(BadEvent) as caught:
        decode_client_event('{"type"', Beta())
    assert caught.value.code == "invalid_json"
