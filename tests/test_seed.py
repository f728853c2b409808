"""Every parameter, value and default of the beta reference, and where it is served.

The reference describes a protocol, a gateway and a web page in one. So its tables are here once more, each with its own
kind of proof: what a session is told comes back from a live daemon, a listener that has made a choice hears sound of
that form, an event is translated and has its fields. Where real services and stock clients do otherwise, the row says
what is found instead and why.
"""

import ast
import base64
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from bridge.config import MediaSettings
from bridge.daemon import Daemon
from bridge.media.passing import packet_samples
from bridge.wire import server_events as server
from bridge.wire.audio import OPUS
from bridge.wire.dialects.beta import Beta, to_beta
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.sdk.every_event import BETA_NAMES, every_server_event
from tests.settings import config_for_tests

_TESTS = Path(__file__).parent
_BETA = {"OpenAI-Beta": "realtime=v1"}
_MODEL = "gpt-4o-realtime-preview"
_TOOL = {"type": "function", "name": "get_weather", "description": "Of a city.", "parameters": {"type": "object"}}
_SPEECH_MS = 400


class Setting(NamedTuple):
    """A field of the flat session, by its path: what it may be, what it may not, and what it is at first."""

    values: tuple[Any, ...]
    default: Any
    refused: tuple[Any, ...] = ()
    found: Any = None
    """In the place of the reference's default."""
    why: str = ""
    told: str = ""
    """The name under which it comes back, if that is another one."""


_REAL = "what OpenAI's service has, and what stock clients expect to find"

SETTINGS: dict[str, Setting] = {
    "modalities": Setting((["text"], ["text", "audio"]), ["text"], ([], ["video"]), ["audio", "text"], _REAL),
    "instructions": Setting(("", "Your knowledge cutoff is 2023-10."), ""),
    "voice": Setting(("alloy", "echo", "shimmer", "verse"), "alloy", (1,)),
    "input_audio_format": Setting(("pcm16", "g711_ulaw", "g711_alaw"), "pcm16", ("mp3", 16)),
    "output_audio_format": Setting(("pcm16", "g711_ulaw", "g711_alaw"), "pcm16", ("opus", 16)),
    "input_audio_transcription.model": Setting(("whisper-1",), "whisper-1", (1,), None, "off until it is asked for"),
    "input_audio_transcription.language": Setting(("en", "zh"), None, (1,)),
    "input_audio_transcription.prompt": Setting(("Names of places.",), None, (1,)),
    "turn_detection.type": Setting(("server_vad",), "server_vad", ("none",)),
    "turn_detection.threshold": Setting((0.0, 0.5, 1.0), 0.5, (-0.1, 1.1, "low")),
    "turn_detection.prefix_padding_ms": Setting((0, 300, 500, 5000), 500, (-1, 5001, 0.5), 300, _REAL),
    "turn_detection.silence_duration_ms": Setting((100, 500, 1000, 10_000), 1000, (99, 10_001), 500, _REAL),
    "tools": Setting(([], [_TOOL]), [], ([{"type": "function"}], "get_weather")),
    "tool_choice": Setting(("auto", "none", "required"), "auto", ("sometimes",)),
    "temperature": Setting((0.0, 1.0, 2.0), 1.0, (-0.1, 2.1, "hot"), 0.8, _REAL),
    "max_output_tokens": Setting(
        (1, 4096, "inf"), "inf", (0, 4097, "all"), told="max_response_output_tokens"
    ),
    "metadata": Setting(({"client_id": "c1", "session_type": "support"},), {}, ({"client_id": 1},)),
}  # fmt: skip


class Stated(NamedTuple):
    """A field that says again what the formats say: one value fits each, others are refused by their name."""

    fits: dict[str, Any]
    others: tuple[Any, ...]


STATED: dict[str, Stated] = {
    "sample_rate": Stated(
        {"pcm16": 24_000, "g711_ulaw": 8000, "g711_alaw": 8000}, (8000, 16_000, 24_000, 44_100, 48_000)
    ),
    "channels": Stated({"pcm16": 1, "g711_ulaw": 1, "g711_alaw": 1}, (1, 2)),
    "bits_per_sample": Stated({"pcm16": 16, "g711_ulaw": 8, "g711_alaw": 8}, (8, 16)),
    "encoding": Stated(
        {name: name for name in ("pcm16", "g711_ulaw", "g711_alaw")}, ("pcm16", "g711_ulaw", "g711_alaw", "opus")
    ),
    "compression": Stated(dict.fromkeys(("pcm16", "g711_ulaw", "g711_alaw"), "none"), ("none", "opus", "mp3")),
}


class Choice(NamedTuple):
    """What a listener asks for on its URL, and what it gets of it: bytes of sound in a second, bytes in one event."""

    query: str
    bytes_per_s: int
    chunk_bytes: int | None = None


CHOICES: dict[str, Choice] = {
    "sample_rate 8000": Choice("audio=pcm16&rate=8000", 16_000),
    "sample_rate 16000": Choice("audio=pcm16&rate=16000", 32_000),
    "sample_rate 24000, the default": Choice("audio=pcm16", 48_000),
    "sample_rate 44100": Choice("audio=pcm16&rate=44100", 88_200),
    "sample_rate 48000": Choice("audio=pcm16&rate=48000", 96_000),
    "channels 1": Choice("audio=pcm16&channels=1", 48_000),
    "channels 2": Choice("audio=pcm16&channels=2", 96_000),
    "bits_per_sample 16, encoding pcm16": Choice("audio=pcm16&rate=24000", 48_000),
    "bits_per_sample 8, encoding g711_ulaw": Choice("audio=g711_ulaw", 8000),
    "bits_per_sample 8, encoding g711_alaw": Choice("audio=g711_alaw", 8000),
    "chunk_size 1024": Choice("audio=pcm16&chunk_size=1024", 48_000, 1024),
    "chunk_size 2048": Choice("audio=pcm16&chunk_size=2048", 48_000, 2048),
    "chunk_size 4096": Choice("audio=pcm16&chunk_size=4096", 48_000, 4096),
    "latency low": Choice("audio=pcm16&latency=low", 48_000, 960),
    "latency balanced": Choice("audio=pcm16&latency=balanced", 48_000, 2880),
    "latency high": Choice("audio=pcm16&latency=high", 48_000, 9600),
    "compression none": Choice("audio=pcm16&compression=none", 48_000),
}


class Packets(NamedTuple):
    """What a listener asks for on its URL, what each message that it gets holds, and how much sound that is."""

    query: str
    is_one: Callable[[bytes], bool]
    packet_ms: int


COMPRESSED: dict[str, Packets] = {
    "compression opus": Packets(
        "audio=pcm16&compression=opus", lambda packet: packet_samples(packet, OPUS.rate_hz) == 960, 20
    ),
    "compression mp3": Packets("audio=pcm16&compression=mp3", lambda frame: frame.startswith(b"\xff\xf3"), 24),
}


class Said(NamedTuple):
    """A client event as the reference writes it, with the event that answers it and what that one says."""

    event: dict[str, Any]
    answer: str
    tells: dict[str, Any]


_SOUND = base64.b64encode(bytes(48 * _SPEECH_MS)).decode()
_MESSAGE = {"type": "message", "status": "completed"}


def _item(**item: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "previous_item_id": None, "item": item}


def _content(**part: Any) -> dict[str, Any]:
    return _item(**_MESSAGE, role="user", content=[part])


CLIENT_EVENTS: dict[str, Said] = {
    "session.update": Said(
        {"type": "session.update", "turn_detection": None}, "session.updated", {"session.turn_detection": None}
    ),
    "input_audio_buffer.append, .commit": Said(
        {"type": "input_audio_buffer.commit"}, "input_audio_buffer.committed", {"previous_item_id": None}
    ),
    "input_audio_buffer.clear": Said({"type": "input_audio_buffer.clear"}, "input_audio_buffer.cleared", {}),
    "item: id, type message, role user, content text": Said(
        _item(**_MESSAGE, id="msg_1", role="user", content=[{"type": "text", "text": "Hello"}]),
        "conversation.item.created",
        {"item.id": "msg_1", "item.status": "completed", "item.content.0.text": "Hello"},
    ),
    "item: role assistant": Said(
        _item(**_MESSAGE, role="assistant", content=[{"type": "text", "text": "Hi"}]),
        "conversation.item.created",
        {"item.role": "assistant", "item.content.0.type": "text"},
    ),
    "item: role system": Said(
        _item(**_MESSAGE, role="system", content=[{"type": "text", "text": "Be kind."}]),
        "conversation.item.created",
        {"item.role": "system"},
    ),
    "item: status in_progress": Said(
        _item(type="message", status="in_progress", role="user", content=[{"type": "text", "text": "Hello"}]),
        "conversation.item.created",
        {"item.status": "completed"},  # an item that a client makes is complete, as it is at the real service
    ),
    "item: content audio": Said(
        _content(type="audio", audio=_SOUND), "conversation.item.created", {"item.content.0.type": "input_audio"}
    ),
    "item: content transcript": Said(
        _content(type="transcript", transcript="Spoken."),
        "conversation.item.created",
        {"item.content.0.text": "Spoken."},
    ),
    "content: format plain, encoding utf-8": Said(
        _content(type="text", text="Hello", format="plain", encoding="utf-8"),
        "conversation.item.created",
        {"item.content.0.text": "Hello"},
    ),
    "content: format markdown": Said(
        _content(type="text", text="*Hello*", format="markdown"),
        "conversation.item.created",
        {"item.content.0.text": "*Hello*"},
    ),
    "content: format html": Said(
        _content(type="text", text="<b>Hello</b>", format="html"),
        "conversation.item.created",
        {"item.content.0.text": "<b>Hello</b>"},
    ),
    "content: encoding base64": Said(
        _content(type="text", text=base64.b64encode("Grüße".encode()).decode(), encoding="base64"),
        "conversation.item.created",
        {"item.content.0.text": "Grüße"},
    ),
    "item: type function_call, call_id, name, arguments": Said(
        _item(type="function_call", call_id="call_1", name="get_weather", arguments="{}"),
        "conversation.item.created",
        {"item.call_id": "call_1", "item.name": "get_weather", "item.arguments": "{}"},
    ),
    "item: type function_call_output, output": Said(
        _item(type="function_call_output", call_id="call_0", output="sunny"),
        "conversation.item.created",
        {"item.call_id": "call_0", "item.output": "sunny"},
    ),
    "item: previous_item_id": Said(
        {**_content(type="text", text="first"), "previous_item_id": "msg_0"},
        "conversation.item.created",
        {"previous_item_id": "msg_0"},
    ),
    "conversation.item.truncate": Said(
        {"type": "conversation.item.truncate", "item_id": "msg_0", "content_index": 0, "audio_end_ms": 1500},
        "error",
        {"error.param": "item_id"},  # which is no spoken answer; one that is, is cut in the tests of interruptions
    ),
    "conversation.item.delete": Said(
        {"type": "conversation.item.delete", "item_id": "msg_0"}, "conversation.item.deleted", {"item_id": "msg_0"}
    ),
    "response.create": Said(
        {
            "type": "response.create",
            "response": {
                "modalities": ["text"],
                "instructions": "Please assist the user.",
                "voice": "echo",
                "output_audio_format": "g711_ulaw",
                "tools": [_TOOL],
                "tool_choice": "none",
                "temperature": 0.7,
                "max_output_tokens": 150,
            },
        },
        "response.done",
        {
            "response.modalities": ["text"],
            "response.voice": "echo",
            "response.output_audio_format": "g711_ulaw",
            "response.temperature": 0.7,
            "response.max_output_tokens": 150,
            "response.status": "completed",
            "response.output.0.content.0.text": "You wrote: Hello",
        },
    ),
    "response.create, tool_choice required": Said(
        {"type": "response.create", "response": {"tools": [_TOOL], "tool_choice": "required"}},
        "response.function_call_arguments.done",
        {"arguments": "{}"},
    ),
    "response.cancel": Said(
        {"type": "response.cancel"}, "error", {"error.code": "response_cancel_not_active"}
    ),
}  # fmt: skip

_IDS = "response_id item_id output_index content_index"
SERVER_EVENTS: dict[str, str] = {
    "error": "error.type error.code error.message error.param error.event_id",
    "session.created": "session.id session.object session.model session.modalities session.status session.metadata",
    "session.updated": "session.id session.object session.model session.modalities session.voice session.tools",
    "conversation.created": "conversation.id conversation.object",
    "conversation.item.created": "previous_item_id item.id item.type item.status item.role item.content",
    "conversation.item.input_audio_transcription.completed": "item_id content_index transcript",
    "conversation.item.input_audio_transcription.failed": "item_id content_index error.type error.code error.message",
    "conversation.item.truncated": "item_id content_index audio_end_ms",
    "conversation.item.deleted": "item_id",
    "input_audio_buffer.committed": "previous_item_id item_id",
    "input_audio_buffer.cleared": "",
    "input_audio_buffer.speech_started": "audio_start_ms item_id",
    "input_audio_buffer.speech_stopped": "audio_end_ms item_id",
    "response.created": "response.id response.object response.status response.status_details response.output",
    "response.done": "response.id response.status response.status_details response.output response.usage.total_tokens "
    "response.usage.input_tokens response.usage.output_tokens",
    "response.output_item.added": "response_id output_index item",
    "response.output_item.done": "response_id output_index item",
    "response.content_part.added": f"{_IDS} part.type part.transcript",
    "response.content_part.done": f"{_IDS} part.type part.text",
    "response.text.delta": f"{_IDS} delta",
    "response.text.done": f"{_IDS} text",
    "response.audio_transcript.delta": f"{_IDS} delta",
    "response.audio_transcript.done": f"{_IDS} transcript",
    "response.audio.delta": f"{_IDS} delta",
    "response.audio.done": _IDS,
    "response.function_call_arguments.delta": "response_id item_id output_index call_id delta",
    "response.function_call_arguments.done": "response_id item_id output_index call_id arguments",
    "rate_limits.updated": "rate_limits.0.name rate_limits.0.limit rate_limits.0.remaining rate_limits.0.reset_seconds",
}

ELSEWHERE: dict[str, str] = {
    "voice dialogue, in two directions": "sdk/test_beta_reference.py::test_from_key_to_call",
    "text and voice in one conversation": "sdk/test_beta_reference.py::test_conversation_in_the_references_words",
    "text only": "sdk/test_openai_python_beta.py::test_typed_text",
    "function calling": "sdk/test_openai_python_beta.py::test_tool_call",
    "automatic voice detection": "engine/test_turns.py",
    "transcription": "sdk/test_voice.py::test_a_transcription_session_only_writes",
    "interruption: truncate and cancel": "sdk/test_openai_python_beta.py::test_interruption",
    "a key for one minute": "api/test_secrets.py::test_beta_session",
    "a key for one connection": "api/test_secrets.py::test_one_connection_for_many_at_a_time",
    "the standard key stays on the server": "api/test_secrets.py::test_minted_key_mints_no_other",
    "GET /session, with CORS": "sdk/test_beta_reference.py::test_token_server_knows_its_pages",
    "POST /v1/realtime?model= with an offer": "sdk/test_beta_reference.py::test_from_key_to_call",
    "addTrack, ontrack, oai-events in a browser": "sdk_js/test_plain_page.py",
    "OpenAI-Beta: realtime=v1": "api/test_calls.py::test_dialect_of_the_data_channel",
    "session status ended, error": "session/test_session_end.py::test_the_status_of_a_call_that_is_over",
    "session error": "session/test_session_end.py::test_an_upstream_that_fails_ends_the_call",
    "session metadata": "sdk/test_beta_reference.py::test_metadata_from_the_key_to_the_list_of_calls",
    "item status in_progress, incomplete": "engine/test_service_answers.py::test_cancel",
    "response status cancelled": "engine/test_service_answers.py::test_cancel",
    "response status failed, and degraded operation": "end_to_end/test_upstream_faults.py",
    "audio_unintelligible": "engine/test_transcription.py",
    "error: network, retry": "end_to_end/test_upstream_faults.py::test_what_passes_is_waited_for",
    "error: authentication": "end_to_end/test_http.py::test_without_the_right_key",
    "error: configuration": "end_to_end/test_process.py::test_bad_setting_stops_the_start",
    "error: codec": "end_to_end/test_http.py::test_offer_of_which_no_call_can_be_made",
    "error: expired token": "api/test_keys.py::test_expiry",
    "error: session timeout": "session/test_session_end.py::test_a_session_expires",
    "error: concurrency limit": "end_to_end/test_http.py::test_one_call_too_many",
    "recovery: reconnect and resume": "end_to_end/test_comeback.py",
    "HTTPS": "end_to_end/test_process.py::test_bad_certificate_stops_the_start",
    "watch for abnormal activity": "end_to_end/test_discovery.py",
}
"""What takes more than a row: the test, or the file of tests, that proves it."""


# Sessions


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    """One for the whole table."""
    async with Daemon(config_for_tests()) as serving:
        yield serving


@asynccontextmanager
async def _client(daemon: Daemon) -> AsyncIterator[EventSocket]:
    async with open_socket(daemon.url, f"model={_MODEL}", additional_headers=_BETA) as client:
        yield client


def _at(value: Any, path: str) -> Any:
    """What stands at ``a.b.0``; fails where there is nothing."""
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def _wrapped(path: str, value: Any) -> dict[str, Any]:
    """The flat session in which ``value`` stands at ``path``."""
    head, _, rest = path.partition(".")
    inner = {rest: value} if rest else value
    return {head: {"type": "server_vad", **inner} if head == "turn_detection" else inner}


async def _answer(client: EventSocket, event: dict[str, Any], *kinds: str) -> dict[str, Any]:
    before = len(client.of(*kinds))
    await client.send(event)
    await client.wait(lambda: len(client.of(*kinds)) > before, " or ".join(kinds))
    return client.of(*kinds)[before]


@pytest.mark.parametrize("is_flat", [True, False], ids=["flat", "nested"])
@pytest.mark.parametrize("path", SETTINGS)
async def test_setting(daemon: Daemon, path: str, *, is_flat: bool) -> None:
    """Each value is told back; one that it may not be is refused by its path and changes nothing."""
    setting = SETTINGS[path]
    async with _client(daemon) as client:
        for value in (*setting.values, *setting.refused):
            fields = _wrapped(path, value)
            event = {"type": "session.update", "timestamp": 1, **(fields if is_flat else {"session": fields})}
            answer = await _answer(client, event, "session.updated", "error")
            if any(value is refused for refused in setting.refused):
                assert answer["type"] == "error", value
                assert answer["error"]["param"].startswith(f"session.{path.partition('.')[0]}")
                assert answer["error"]["type"] == "invalid_request_error"
                continue
            assert answer["type"] == "session.updated", answer
            told = _at(answer["session"], setting.told or path)
            assert (sorted(told), told) == (sorted(value), told) if path == "modalities" else told == value


@pytest.mark.parametrize("path", SETTINGS)
async def test_default(daemon: Daemon, path: str) -> None:
    """It is the reference's, or the one that its row gives a reason for."""
    setting = SETTINGS[path]
    async with _client(daemon) as client:
        session = client.events[0]["session"]
        if path.startswith("input_audio_transcription"):
            assert session["input_audio_transcription"] is None
        else:
            expected = setting.found if setting.why else setting.default
            assert _at(session, setting.told or path) == expected
    assert (setting.found is None) or setting.why


async def test_transcription_is_switched_and_knows_any_language(daemon: Daemon) -> None:
    """``enabled`` true and false, the language ``auto``: which is none in particular."""
    async with _client(daemon) as client:
        for wanted, expected in (
            ({"enabled": True, "model": "whisper-1", "language": "auto"}, {"model": "whisper-1"}),
            ({"enabled": False, "model": "whisper-1"}, None),
        ):
            event = {"type": "session.update", "input_audio_transcription": wanted}
            answer = await _answer(client, event, "session.updated", "error")
            assert answer["session"]["input_audio_transcription"] == expected


@pytest.mark.parametrize("audio_format", ["pcm16", "g711_ulaw", "g711_alaw"])
@pytest.mark.parametrize("name", STATED)
async def test_what_is_stated_beside_a_format(daemon: Daemon, name: str, audio_format: str) -> None:
    """The value that the format has is taken; another one would be noise, and is refused by its name."""
    stated = STATED[name]
    async with _client(daemon) as client:
        for value in {*stated.others, stated.fits[audio_format]}:
            formats = {"input_audio_format": audio_format, "output_audio_format": audio_format}
            event = {"type": "session.update", "session": {**formats, name: value}}
            answer = await _answer(client, event, "session.updated", "error")
            if value == stated.fits[audio_format]:
                assert answer["session"]["input_audio_format"] == audio_format
            else:
                assert answer["error"]["param"] == f"session.{name}"


async def test_an_encoding_alone_is_the_format(daemon: Daemon) -> None:
    """Of both directions, unless one of them is named beside it."""
    async with _client(daemon) as client:
        for encoding in ("g711_ulaw", "g711_alaw", "pcm16"):
            event = {"type": "session.update", "encoding": encoding}
            session = (await _answer(client, event, "session.updated", "error"))["session"]
            assert (session["input_audio_format"], session["output_audio_format"]) == (encoding, encoding)


# Listeners


@asynccontextmanager
async def _owner(daemon: Daemon) -> AsyncIterator[tuple[EventSocket, str]]:
    """A session that takes sound as it comes, and its call's id."""
    async with _client(daemon) as owner:
        await _answer(owner, {"type": "session.update", "turn_detection": None}, "session.updated")
        yield owner, f"call_id={owner.events[0]['session']['id']}"


@pytest.mark.parametrize("name", CHOICES)
async def test_choice_of_a_listener(daemon: Daemon, name: str) -> None:
    """It hears the caller in the form that it has asked for, as much of it as was said, in pieces of that size."""
    choice = CHOICES[name]
    expected = choice.bytes_per_s * _SPEECH_MS // 1000
    async with _owner(daemon) as (owner, call), open_socket(daemon.url, f"{call}&{choice.query}") as listener:
        for _ in range(3):
            await owner.send({"type": "input_audio_buffer.append", "audio": _SOUND})
        await listener.wait(lambda: len(inbound_sound(listener.events)) >= 2 * expected, f"{name} of sound")
        await owner.connection.close()
        await listener.closed.wait()
    sounds = [base64.b64decode(event["audio"]) for event in listener.of("input_audio_buffer.append")]
    assert 3 * expected - choice.bytes_per_s // 100 <= sum(map(len, sounds)) <= 3 * expected
    if choice.chunk_bytes is not None:
        assert {len(sound) for sound in sounds[:-1]} == {choice.chunk_bytes}


@pytest.mark.parametrize("name", COMPRESSED)
async def test_compression_of_a_listener(daemon: Daemon, name: str) -> None:
    """It hears the caller compressed, one packet a message, as long as what was said and in a fifth of the bytes."""
    choice = COMPRESSED[name]
    async with _owner(daemon) as (owner, call), open_socket(daemon.url, f"{call}&{choice.query}") as listener:
        for _ in range(3):
            await owner.send({"type": "input_audio_buffer.append", "audio": _SOUND})
        await listener.wait(lambda: len(listener.of("input_audio_buffer.append")) >= 20, f"{name} of sound")
        await owner.connection.close()
        await listener.closed.wait()
    packets = [base64.b64decode(event["audio"]) for event in listener.of("input_audio_buffer.append")]
    assert 3 * _SPEECH_MS <= len(packets) * choice.packet_ms <= 3 * _SPEECH_MS + 120
    assert all(map(choice.is_one, packets))
    assert sum(map(len, packets)) < 3 * _SPEECH_MS * 48 / 5


# Events


@pytest.mark.parametrize("has_id", [True, False], ids=["event_id", "no event_id"])
@pytest.mark.parametrize("name", CLIENT_EVENTS)
async def test_client_event(daemon: Daemon, name: str, *, has_id: bool) -> None:
    """It is answered as it says; an id and a time may stand on it, and the id comes back in an error."""
    said = CLIENT_EVENTS[name]
    async with _owner(daemon) as (client, _):
        before = (
            _item(**_MESSAGE, id="msg_0", role="user", content=[{"type": "text", "text": "Hello"}]),
            _item(type="function_call", call_id="call_0", name="get_weather", arguments="{}", id="item_call"),
        )
        for number, event in enumerate(reversed(before), 1):
            await client.send(event)
            await client.until("conversation.item.created", number=number)
        await client.send({"type": "input_audio_buffer.append", "audio": _SOUND, "timestamp": 1_234_567_890})
        event = {**said.event, "timestamp": 1_234_567_890, **({"event_id": "event_mine"} if has_id else {})}
        if said.event["type"] == "input_audio_buffer.commit":
            said = said._replace(tells={"previous_item_id": "msg_0"})
        answer = await _answer(client, event, said.answer)
    for path, value in said.tells.items():
        assert _at(answer, path) == value, path
    if said.answer == "error":
        assert answer["error"]["event_id"] == ("event_mine" if has_id else None)
    else:
        assert client.of("error") == []


@functools.cache
def _in_beta() -> dict[str, dict[str, Any]]:
    """One of every server event, by its name in beta."""
    told = (to_beta(event, Beta()) for event in every_server_event().values())
    return {event["type"]: json.loads(msgspec.json.encode(event)) for event in told if event is not None}


@pytest.mark.parametrize("name", SERVER_EVENTS)
def test_server_event(name: str) -> None:
    """It has the fields that the reference names, and an id of its own."""
    event = _in_beta()[name]
    for path in ("event_id", *SERVER_EVENTS[name].split()):
        _at(event, path)


def test_transcription_error_may_name_a_field() -> None:
    """``param`` is absent where there is none, as stock clients insist."""
    error = server.TranscriptionError(code="audio_unintelligible", message="What?", param="language")
    told = to_beta(server.InputAudioTranscriptionFailed(item_id="item_0", error=error), Beta())
    assert told is not None
    assert told["error"] == {
        "type": "transcription_error",
        "code": "audio_unintelligible",
        "message": "What?",
        "param": "language",
    }


def test_every_value_of_a_response_is_known() -> None:
    """The five states that a response may have, and both types of error."""
    created = every_server_event()["response.created"]
    for status in ("in_progress", "completed", "cancelled", "failed", "incomplete"):
        body = msgspec.to_builtins(created)
        body["response"]["status"] = status
        told = to_beta(msgspec.convert(body, server.ResponseCreated), Beta())
        assert told is not None
        assert told["response"]["status"] == status
    for kind in ("invalid_request_error", "server_error"):
        told = to_beta(server.Error(error=server.ErrorDetail(type=kind, message="No.")), Beta())
        assert told is not None
        assert told["error"]["type"] == kind


def test_every_server_event_has_a_row() -> None:
    """Whatever beta clients may be told by a service; of the others the events table knows."""
    own_and_later = {
        "conversation.item.retrieved",
        "conversation.item.input_audio_transcription.delta",
        *(name for name in BETA_NAMES.values() if name and name.startswith(("bridge.", "output_audio_buffer."))),
    }
    assert {name for name in BETA_NAMES.values() if name} - own_and_later == SERVER_EVENTS.keys()


# The rest


async def test_key_from_its_json(daemon: Daemon) -> None:
    """``{"model", "voice"}`` in, ``client_secret.value`` out; settings that the bridge has no use for do no harm."""
    body = json.dumps({"model": _MODEL, "voice": "verse"})
    headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
    reply = await request("POST", f"{daemon.url}v1/realtime/sessions", headers=headers, body=body)
    assert (reply.status, reply.json["model"], reply.json["voice"]) == (200, _MODEL, "verse")
    assert reply.json["client_secret"]["value"].startswith("ek_")


def test_time_to_connect() -> None:
    """30 s as the reference has it is a setting; ten are the default, because a peer that comes needs one or two."""
    assert MediaSettings(connect_timeout_s=30.0).connect_timeout_s == 30.0
    assert MediaSettings().connect_timeout_s == 10.0


def test_what_a_page_sets_for_itself() -> None:
    """``ice_servers`` and ``audio_constraints`` are the browser's own, not the server's.

    The bridge has one public address and answers whatever the page's candidates are; the console asks for a microphone
    without echo, and for no STUN server, because it needs none.
    """
    page = (_TESTS.parent / "bridge/api/console/call.js").read_text()
    assert "echoCancellation: true" in page
    assert "new RTCPeerConnection" in page


@pytest.mark.parametrize("what", ELSEWHERE)
def test_proof_elsewhere(what: str) -> None:
    """The test is there."""
    path, _, function = ELSEWHERE[what].partition("::")
    tree = ast.parse((_TESTS / path).read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in names if function else any(name.startswith("test_") for name in names)
