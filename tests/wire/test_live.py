"""The words of Live: what sessions and events are taken, and which field is named if one is not."""

import json
from typing import Any

import pytest

from bridge.errors import BadEvent, OverLimit
from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, pcm16_at
from bridge.wire.live.client_events import (
    CommentaryAppend,
    LiveBearer,
    LiveEvent,
    live_client_event_types,
    read_live_event,
    read_live_message,
)
from bridge.wire.live.server_events import live_error, live_server_event_types
from bridge.wire.live.sessions import format_of_live, model_of, read_live_session, read_live_update
from bridge.wire.server_events import encode

_PRIMARY, _CHANNEL, _SIDEBAND = LiveBearer


def _event(text: str | bytes | dict[str, Any], bearer: LiveBearer = _PRIMARY) -> LiveEvent:
    return read_live_event(read_live_message(json.dumps(text) if isinstance(text, dict) else text, bearer))


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.model"),
        ({"model": ""}, "invalid_value", "session.model"),
        ({"model": 7}, "invalid_value", "session.model"),
        ({"model": "m", "turn_detection": None}, "unknown_parameter", "session.turn_detection"),
        ({"model": "m", "tools": []}, "unknown_parameter", "session.tools"),
        ({"model": "m", "type": "realtime"}, "unknown_parameter", "session.type"),
        ({"model": "m", "audio": None}, "invalid_value", "session.audio"),
        ({"model": "m", "audio": {"input": {}}}, "unknown_parameter", "session.audio.input"),
        ({"model": "m", "audio": {"format": {"type": "audio/pcm"}}}, "missing_required_parameter",
         "session.audio.format.rate"),
        ({"model": "m", "audio": {"format": {"type": "audio/pcm", "rate": 8000}}}, "invalid_value",
         "session.audio.format.rate"),
        ({"model": "m", "delegation": {"type": "nobody"}}, "invalid_value", "session.delegation.type"),
        ({"model": "m", "delegation": {"type": "responses"}}, "missing_required_parameter",
         "session.delegation.responses"),
        ({"model": "m", "delegation": {"type": "responses", "responses": {}}}, "missing_required_parameter",
         "session.delegation.responses.model"),
        ({"model": "m", "input": [{"type": "message", "role": "system", "content": []}]}, "invalid_value",
         "session.input[0].role"),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "invalid_value",
         "session.input[0].content[0].type"),
        ({"model": "m", "idle_timeout_s": 5}, "unknown_parameter", "session.idle_timeout_s"),
    ],
)  # fmt: skip
def test_a_session_that_does_not_fit_is_refused_by_its_field(session: Any, code: str, param: str) -> None:
    """Live is strict: whatever it does not know, in any depth, is an error that names it."""
    with pytest.raises(BadEvent) as caught:
        read_live_session(session, is_socket=True)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_format_goes_with_a_socket_and_an_idle_timeout_with_webrtc() -> None:
    """Only a WebSocket chooses a format; only a POST has ``idle_timeout_s``."""
    with pytest.raises(BadEvent) as caught:
        read_live_session({"model": "m", "audio": {"format": {"type": "audio/pcmu", "rate": 8000}}}, is_socket=False)
    assert caught.value.param == "session.audio.format"
    assert read_live_session({"model": "m", "idle_timeout_s": 5}, is_socket=False).idle_timeout_s == 5


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, PCM16),
        ({"audio": {"output": {"voice": {"id": "voice_1"}}}}, PCM16),
        ({"audio": {"format": {"type": "audio/pcm", "rate": 24000}}}, PCM16),
        ({"audio": {"format": {"type": "audio/pcm", "rate": 16000}}}, pcm16_at(16000)),
        ({"audio": {"format": {"type": "audio/pcmu", "rate": 8000}}}, G711_ULAW),
        ({"audio": {"format": {"type": "audio/pcma", "rate": 8000}}}, G711_ALAW),
    ],
)  # fmt: skip
def test_each_format_is_known(asked: dict[str, Any], expected: object) -> None:
    """The format of a session is one of the protocol's five; without one it is PCM of 24 kHz."""
    assert format_of_live(read_live_session({"model": "m", **asked}, is_socket=True)) is expected


def test_what_is_fixed_is_no_update() -> None:
    """An update of what the start has fixed says so; of what is unknown, that it is unknown."""
    for name, code in (("model", "immutable_field_update"), ("instructions", "immutable_field_update"),
                       ("voice", "unknown_parameter")):  # fmt: skip
        with pytest.raises(BadEvent) as caught:
            read_live_update({name: "x"})
        assert (caught.value.code, caught.value.param) == (code, f"session.{name}")


def test_the_model_alone_can_be_read() -> None:
    """A relay needs the model, and leaves the judgement of the rest to the service."""
    assert model_of({"model": "gpt-live-1", "something": "new"}) == "gpt-live-1"
    with pytest.raises(BadEvent, match="JSON object"):
        model_of([])


def test_an_append_needs_the_key_of_its_delegation() -> None:
    """``delegation_id`` may be null and may not be absent."""
    event = _event({"type": "session.commentary.append", "content": "hi", "delegation_id": None})
    assert isinstance(event, CommentaryAppend)
    with pytest.raises(BadEvent) as caught:
        _event({"type": "session.commentary.append", "content": "hi"})
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "delegation_id")


@pytest.mark.parametrize(
    ("kind", "bearers"),
    [
        ("session.start", {_PRIMARY}),
        ("session.input_audio.append", {_PRIMARY}),
        ("session.output_audio.fixture.play", {_PRIMARY, _SIDEBAND}),
        ("transport.dtmf.send", {_SIDEBAND}),
        ("session.close", {_PRIMARY, _CHANNEL, _SIDEBAND}),
        ("session.of_tomorrow", {_PRIMARY, _CHANNEL, _SIDEBAND}),
    ],
)  # fmt: skip
def test_each_connection_may_send_its_own_events(kind: str, bearers: set[LiveBearer]) -> None:
    """A data channel starts nothing and brings no sound; only a sideband presses keys."""
    for bearer in LiveBearer:
        if bearer in bearers:
            assert read_live_message(json.dumps({"type": kind}), bearer).type == kind
        else:
            with pytest.raises(BadEvent) as caught:
                read_live_message(json.dumps({"type": kind}), bearer)
            assert caught.value.code == "event_not_allowed"


def test_an_unknown_event_is_an_error_where_nobody_else_may_know_it() -> None:
    """Realtime's events are none of Live's."""
    for kind in ("input_audio_buffer.append", "response.cancel", "conversation.item.create"):
        with pytest.raises(BadEvent, match="Unknown event type"):
            _event({"type": kind})
    for text in ("[]", "7", "{", '{"type":7}', "{}"):
        with pytest.raises(BadEvent):
            _event(text)


def test_only_events_of_sound_have_no_id() -> None:
    """Stock clients insist on an ``event_id`` in all others."""
    without = {str(kind.__struct_config__.tag) for kind in live_server_event_types()
               if "event_id" not in kind.__struct_fields__}  # fmt: skip
    assert without == {"session.input_audio.append", "session.output_audio.delta"}
    assert len(live_client_event_types()) == 16


def test_an_error_names_its_command_twice() -> None:
    """``client_event_id`` stands in the event and in its ``error``; what is not known is absent, and not null."""
    told = json.loads(encode(live_error(OverLimit("Too many.", param="session.model"), client_event_id="mine")))
    assert told["client_event_id"] == told["error"]["client_event_id"] == "mine"
    assert told["error"]["param"] == "session.model"
    bare = json.loads(encode(live_error(OverLimit("Too many."))))
    assert set(bare["error"]) == {"type", "code", "message"}
    assert "client_event_id" not in bare
