"""Parameters that the beta reference names and beta never had, as far as a session can take them."""

import json
from typing import Any

import msgspec
import pytest

from bridge.errors import BadEvent
from bridge.wire import client_events as client
from bridge.wire.dialects.beta import Beta, decode_client_event, session_to_beta, to_beta
from bridge.wire.items import Response
from bridge.wire.server_events import ResponseCreated, ResponseDone
from bridge.wire.sessions import AudioConfig, AudioInput, SessionConfig, Transcription

_USER: dict[str, Any] = {"type": "message", "role": "user"}


def _decode(event: object) -> client.ClientEvent:
    return decode_client_event(json.dumps(event), Beta())


def _refusal(event: object) -> BadEvent:
    with pytest.raises(BadEvent) as caught:
        _decode(event)
    return caught.value


def _update(**session: object) -> SessionConfig:
    event = _decode({"type": "session.update", "session": session})
    assert isinstance(event, client.SessionUpdate)
    return event.session


@pytest.mark.parametrize(
    ("asked", "ga"),
    [
        ({"enabled": True, "model": "whisper-1", "language": "auto"}, Transcription(model="whisper-1")),
        ({"enabled": True, "language": "zh", "prompt": "names"}, Transcription(language="zh", prompt="names")),
        ({"enabled": False, "model": "whisper-1"}, None),
    ],
)
def test_transcription_as_the_beta_reference_has_it(asked: dict[str, Any], ga: Transcription | None) -> None:
    """It can be switched, and the language left to the service."""
    assert _update(input_audio_transcription=asked).audio == AudioConfig(input=AudioInput(transcription=ga))


def test_switch_of_transcription_is_a_boolean() -> None:
    """Anything else is refused by name."""
    refusal = _refusal({"type": "session.update", "session": {"input_audio_transcription": {"enabled": "no"}}})
    assert refusal.param == "session.input_audio_transcription.enabled"


@pytest.mark.parametrize(
    "session",
    [
        {"sample_rate": 24000, "channels": 1, "bits_per_sample": 16},
        {"sample_rate": 8000, "bits_per_sample": 8},
        {"input_audio_format": "pcm16", "input_audio_sample_rate": 24000, "bits_per_sample": 16},
        {"input_audio_format": "g711_ulaw", "input_audio_sample_rate": 8000, "output_audio_sample_rate": 24000},
        {"sample_rate": None, "channels": None},
    ],
)
def test_format_that_is_stated(session: dict[str, Any]) -> None:
    """What the formats say anyway may be said."""
    assert msgspec.to_builtins(_update(**session)).keys() <= {"type", "audio"}


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"sample_rate": 16000}, "sample_rate"),
        ({"sample_rate": "24000"}, "sample_rate"),
        ({"sample_rate": []}, "sample_rate"),
        ({"channels": 2}, "channels"),
        ({"bits_per_sample": 24}, "bits_per_sample"),
        ({"input_audio_format": "pcm16", "input_audio_sample_rate": 8000}, "input_audio_sample_rate"),
        ({"output_audio_format": "g711_alaw", "output_audio_sample_rate": 24000}, "output_audio_sample_rate"),
        ({"input_audio_format": "g711_alaw", "bits_per_sample": 16}, "bits_per_sample"),
        ({"input_audio_format": [], "sample_rate": 1}, "input_audio_format"),
    ],
)
def test_format_that_cannot_be(session: dict[str, Any], param: str) -> None:
    """A rate or a channel that the session does not have is refused: it would be taken for noise."""
    assert _refusal({"type": "session.update", "session": session}).param == f"session.{param}"


def test_type_is_not_for_a_beta_client_to_set() -> None:
    """A field that beta never had makes no other session of it."""
    assert _update(type="transcription", voice="echo").type == "realtime"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"type": "text", "text": "plain", "encoding": "utf-8", "format": "markdown"}, "plain"),
        ({"type": "text", "text": "Z3LDvMOf", "encoding": "base64"}, "grüß"),
        ({"type": "text", "text": "plain", "audio": None, "transcript": None, "encoding": None}, "plain"),
        ({"type": "transcript", "transcript": "said"}, "said"),
        ({"type": "transcript", "transcript": None, "text": "said"}, "said"),
    ],
)
def test_text_as_the_beta_reference_has_it(part: dict[str, Any], text: str) -> None:
    """As it is or as base64, typed or spoken; null is as good as absent."""
    nulls = {"call_id": None, "name": None, "status": None, "id": None, "output": None}
    item = {**_USER, **nulls, "content": [part]}
    event = _decode({"type": "conversation.item.create", "item": item})
    assert isinstance(event, client.ConversationItemCreate)
    assert msgspec.to_builtins(event.item)["content"] == [{"type": "input_text", "text": text}]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "text", "text": "Z3L", "encoding": "base64"}, "text"),
        ({"type": "text", "text": "gA==", "encoding": "base64"}, "text"),
        ({"type": "text", "text": "ü", "encoding": "base64"}, "text"),
        ({"type": "text", "text": "a", "encoding": "gzip"}, "encoding"),
        ({"type": "text", "text": "a", "encoding": []}, "encoding"),
        ({"type": "transcript"}, "transcript"),
        ({"type": "output_text", "text": "not a user's"}, "type"),
    ],
)
def test_part_that_does_not_fit(part: dict[str, Any], param: str) -> None:
    """It is refused by its place in the item, alone or as a response's input."""
    item = {**_USER, "content": [{"type": "text", "text": "first"}, part]}
    assert _refusal({"type": "conversation.item.create", "item": item}).param == f"item.content[1].{param}"
    refusal = _refusal({"type": "response.create", "response": {"input": [item]}})
    assert refusal.param == f"response.input[0].content[1].{param}"


def test_metadata_is_kept_and_told() -> None:
    """An update replaces all of it, one that names none leaves it, null clears it; GA hears nothing of it."""
    beta = Beta()
    for update, told in (
        ({"metadata": {"client_id": "c1", "session_type": "support"}}, {"client_id": "c1", "session_type": "support"}),
        ({"voice": "echo"}, {"client_id": "c1", "session_type": "support"}),
        ({"metadata": {"client_id": "c2"}}, {"client_id": "c2"}),
        ({"metadata": None}, {}),
    ):
        event = decode_client_event(json.dumps({"type": "session.update", "session": update}), beta)
        assert "metadata" not in msgspec.to_builtins(event)["session"]
        session = session_to_beta({}, beta)
        assert (session["metadata"], session["status"]) == (told, "active")


@pytest.mark.parametrize(
    "metadata",
    [[], "x", {"a": 1}, {"a": None}, {"a": "x" * 513}, {"x" * 65: "a"}, {str(n): "" for n in range(17)}],
)
def test_metadata_that_does_not_fit(metadata: object) -> None:
    """Texts under names, within OpenAI's limits; anything else is refused."""
    assert _refusal({"type": "session.update", "session": {"metadata": metadata}}).param == "session.metadata"


def _responded(beta: Beta, kind: type[ResponseCreated | ResponseDone], response_id: str) -> float:
    told = to_beta(kind(response=Response(id=response_id, output_modalities=["audio"])), beta)
    assert told is not None
    temperature: float = told["response"]["temperature"]
    return temperature


def test_a_response_reports_the_temperature_that_it_was_asked_for() -> None:
    """From its beginning to its end, beside others that have the session's; a refused one leaves nothing behind."""
    beta = Beta()
    ask = {"type": "response.create", "response": {"temperature": 1.5}}
    decode_client_event(json.dumps(ask), beta)
    assert _responded(beta, ResponseCreated, "resp_1") == 1.5
    assert _responded(beta, ResponseCreated, "resp_2") == 0.8
    assert _responded(beta, ResponseDone, "resp_2") == 0.8
    assert _responded(beta, ResponseDone, "resp_1") == 1.5
    assert session_to_beta({}, beta)["temperature"] == 0.8
    decode_client_event(json.dumps(ask), beta)
    decode_client_event(json.dumps({"type": "response.create"}), beta)
    assert _responded(beta, ResponseCreated, "resp_3") == 0.8


def test_temperatures_of_responses_that_never_end_are_bounded() -> None:
    """An upstream that forgets to end its responses costs no memory: the oldest is forgotten."""
    beta = Beta()
    for number in range(100):
        decode_client_event('{"type": "response.create", "response": {"temperature": 1.5}}', beta)
        _responded(beta, ResponseCreated, f"resp_{number}")
    assert _responded(beta, ResponseDone, "resp_99") == 1.5
    assert _responded(beta, ResponseDone, "resp_0") == 0.8
