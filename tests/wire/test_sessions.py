"""Session configurations: the defaults, and one laid over the other."""

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat
from bridge.wire.sessions import (
    Format,
    FunctionTool,
    PcmaFormat,
    PcmFormat,
    PcmuFormat,
    SessionConfig,
    default_session,
    format_of,
    merged,
)


def session(**fields: object) -> SessionConfig:
    return msgspec.convert(fields, SessionConfig)


def written(config: SessionConfig) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return decoded


@pytest.fixture
def base() -> SessionConfig:
    return default_session(session_id="sess_1", model="parrot", expires_at=1_900_000_000)


def test_default_session_is_the_documented_one(base: SessionConfig) -> None:
    """A session that nobody configured has each field of the GA shape."""
    assert written(base) == {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_1",
        "model": "parrot",
        "expires_at": 1_900_000_000,
        "output_modalities": ["audio"],
        "instructions": "",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 500,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
    }


def test_an_empty_update_changes_nothing(base: SessionConfig) -> None:
    """What an update leaves out stays."""
    assert merged(base, session()) == base
    assert merged(base, session(audio={})) == base
    assert merged(base, session(audio={"input": {}, "output": {}})) == base


def test_a_field_is_replaced(base: SessionConfig) -> None:
    """A field of an update stands, all others stay, and the base itself is not touched."""
    before = written(base)
    assert written(merged(base, session(instructions="sing"))) == before | {"instructions": "sing"}
    assert written(base) == before


def test_audio_is_laid_over_field_by_field(base: SessionConfig) -> None:
    """One field deep inside ``audio`` changes nothing beside it."""
    expected = written(base)
    expected["audio"]["output"]["voice"] = "verse"
    expected["audio"]["input"]["format"] = {"type": "audio/pcmu"}
    update = session(audio={"output": {"voice": "verse"}, "input": {"format": {"type": "audio/pcmu"}}})
    assert written(merged(base, update)) == expected


def test_null_switches_off(base: SessionConfig) -> None:
    """Null is a value: no turn detection, no transcription."""
    with_transcription = merged(base, session(audio={"input": {"transcription": {"model": "whisper-1"}}}))
    assert written(with_transcription)["audio"]["input"]["transcription"] == {"model": "whisper-1"}
    off = merged(with_transcription, session(audio={"input": {"transcription": None, "turn_detection": None}}))
    assert written(off)["audio"]["input"] == written(base)["audio"]["input"] | {"turn_detection": None}


def test_turn_detection_is_one_value(base: SessionConfig) -> None:
    """A new turn detection replaces the old one as a whole, with defaults where it says nothing."""
    strict = merged(base, session(audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 0.9}}}))
    patient = session(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}})
    turns = written(merged(strict, patient))["audio"]["input"]["turn_detection"]
    assert (turns["threshold"], turns["silence_duration_ms"]) == (0.5, 900)
    semantic = session(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}})
    assert written(merged(strict, semantic))["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }


def test_lists_are_replaced(base: SessionConfig) -> None:
    """Tools are not added up: an update brings all of them, or none."""
    first = merged(base, session(tools=[{"type": "function", "name": "first"}]))
    second = merged(first, session(tools=[{"type": "function", "name": "second"}]))
    assert second.tools == [FunctionTool(name="second")]
    assert merged(second, session(tools=[])).tools == []


def test_an_update_of_nothing_is_the_update() -> None:
    """Laid over an empty base, nested objects come through whole."""
    update = session(audio={"input": {"format": {"type": "audio/pcma"}}}, instructions="x")
    assert merged(SessionConfig(), update) == update


@pytest.mark.parametrize(
    ("given", "meant"),
    [(PcmFormat(), PCM16), (PcmuFormat(), G711_ULAW), (PcmaFormat(), G711_ALAW), (UNSET, PCM16)],
)
def test_format_of(given: Format | UnsetType, meant: AudioFormat) -> None:
    """Each GA format stands for one of ours; without one it is PCM."""
    assert format_of(given) is meant
    assert isinstance(given, UnsetType) or given.__struct_config__.tag == meant.media_type


@pytest.mark.parametrize(("audio_format", "bytes_per_ms"), [(PCM16, 48), (G711_ULAW, 8), (G711_ALAW, 8)])
def test_bytes_per_ms(audio_format: AudioFormat, bytes_per_ms: int) -> None:
    """A millisecond is a whole number of bytes in every format."""
    assert audio_format.bytes_per_ms == bytes_per_ms
