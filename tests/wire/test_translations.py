"""The words of translations: what is read, what is refused, and how sound is written."""

import base64
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadEvent
from bridge.wire import server_events as server
from bridge.wire.audio import G711_ULAW, OPUS, PCM16
from bridge.wire.client_events import FlowPause, InputAudioBufferAppend, OtherEvent
from bridge.wire.codecs.translation import TranslationCodec
from bridge.wire.translations import read_translation, read_translation_message
from tests.wire.strange import any_json


def test_an_append_is_that_of_any_session() -> None:
    """Only its name differs, so that sound goes the same way."""
    text = json.dumps({"type": "session.input_audio_buffer.append", "audio": "AAAA", "event_id": "mine"})
    message = read_translation_message(text)
    assert message.event == InputAudioBufferAppend(audio="AAAA", event_id="mine")


@pytest.mark.parametrize("kind", ["session.update", "session.close", "session.of_tomorrow"])
def test_what_the_service_judges_is_kept_as_it_was_written(kind: str) -> None:
    """Known or not: fields of tomorrow reach it."""
    body = {"type": kind, "event_id": "mine", "session": {"audio": {"of_tomorrow": [1, None]}}}
    message = read_translation_message(json.dumps(body))
    assert isinstance(message.event, OtherEvent)
    assert (message.event.event_id, message.body, message.complaint) == ("mine", body, None)


def test_a_pause_is_asked_for_as_everywhere() -> None:
    """The bridge's own events are the same in every protocol."""
    assert isinstance(read_translation_message('{"type":"bridge.flow.pause"}').event, FlowPause)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"type": "response.create"}, "type"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "type"),
        ({"type": "session.input_audio_buffer.append"}, "audio"),
        ({"type": "session.close", "event_id": 5}, "event_id"),
        ({"type": "session.close", "event_id": "x" * 513}, "event_id"),
        ({"type": "bridge.of_tomorrow"}, "type"),
        ({}, "type"),
        ([], None),
    ],
)
def test_what_is_refused_here(body: Any, param: str | None) -> None:
    """Each names its field."""
    with pytest.raises(BadEvent) as refused:
        read_translation_message(json.dumps(body))
    assert refused.value.param == param


@given(any_json)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """Nothing else is raised."""
    for read in (read_translation, lambda body: read_translation_message(json.dumps(body))):
        with suppress(BadEvent):
            read(value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """The same for what is no JSON."""
    with pytest.raises(BadEvent):
        read_translation_message(text)


def test_a_session_keeps_what_the_bridge_does_not_know() -> None:
    """Its service judges; the model and the type are what the bridge acts on."""
    wanted = read_translation({"model": "any", "audio": {"output": {"language": "de"}}, "of_tomorrow": 1})
    assert (wanted.config.model, wanted.config.type, wanted.complaint) == ("any", "translation", None)
    assert wanted.body == {
        "model": "any", "type": "translation", "audio": {"output": {"language": "de"}}, "of_tomorrow": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("track", "audio_format", "expected"),
    [
        ("output", PCM16, {"type": "session.output_audio.delta", "elapsed_ms": 200, "sample_rate": 24000,
                           "channels": 1, "format": "pcm16", "delta": "AAAA"}),
        ("output", G711_ULAW, {"type": "session.output_audio.delta", "elapsed_ms": 600, "delta": "AAAA"}),
        ("output", OPUS, {"type": "session.output_audio.delta", "timestamp": 4800, "delta": "AAAA"}),
        ("input", PCM16, {"type": "session.input_audio_buffer.append", "audio": "AAAA"}),
    ],
)  # fmt: skip
def test_how_sound_is_written(track: str, audio_format: Any, expected: dict[str, Any]) -> None:
    """Under the names of translations; what its type says of samples is said of samples alone."""
    part: Any = None if track == "input" else SimpleNamespace()
    writer = TranslationCodec().sound(track).writer(track, audio_format, "event_x_", part)
    message = writer.encode_sound(7, 4800, base64.b64decode("AAAA"), 20)
    assert json.loads(message.payload) == {"event_id": "event_x_7", **expected}
    assert (message.event_id, message.audio_ms, message.is_live) == ("event_x_7", 20, True)


def test_events_of_answers_are_none_of_its_own() -> None:
    """What the bridge says of playing an answer has no name here; the service's own events are as they are."""
    codec = TranslationCodec()
    assert codec.encode(server.OutputAudioBufferStarted(response_id="translation")) is None
    body = {"type": "session.output_transcript.delta", "event_id": "e", "delta": "uno ", "of_tomorrow": 1}
    encoded = codec.encode(body)
    assert encoded is not None
    assert json.loads(encoded.text) == body


def test_the_end_is_told_once() -> None:
    """By the service, or else by the bridge."""
    codec = TranslationCodec()
    assert codec.farewell() == {"type": "session.closed"}
    codec.encode({"type": "session.closed", "event_id": "e"})
    assert codec.farewell() is None
