"""The stock Python SDK ``openai``, beta: flat sessions, the old names, and its own types as judges."""

import base64
import json
from typing import Any

import pytest
from openai.types.beta.realtime.session_create_response import SessionCreateResponse
from openai.types.beta.realtime.transcription_session import TranscriptionSession

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import Event
from tests.end_to_end.sound import RATES_HZ, decode, encode, match, resample, samples_of
from tests.end_to_end.web import open_socket
from tests.sdk.stock import BETA, listening, speak, stock_client, without_repeats

# The SDK says that its beta is on the way out; so does everybody. It has to work all the same.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_KEY = "sk-the-key-of-the-sdk-tests"
_MODEL: Any = "gpt-4o-realtime-preview"
_TOOL: Any = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"const": 1}}}}
_SPOKEN_TURN = [
    "session.created",
    "conversation.created",
    "session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "conversation.item.input_audio_transcription.failed",
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]
_TEXT_TURN = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.text.delta",
    "response.text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]


def _sound(events: list[Event]) -> bytes:
    return b"".join(base64.b64decode(event["delta"]) for event in events if event["type"] == "response.audio.delta")


async def _type(connection: Any, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})


async def test_spoken_turn(daemon: Daemon, short_pcm: bytes) -> None:
    """A beta client meets every item in ``conversation.item.created`` before anything else is said of it."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(
            session={
                "modalities": ["text", "audio"],
                "voice": "verse",
                "temperature": 0.9,
                "input_audio_transcription": {"model": "whisper-1"},
                "turn_detection": {"type": "server_vad", "threshold": 0.4, "silence_duration_ms": 500},
            }
        )
        await speak(connection, short_pcm)
        done = await log.until("response.done")
    assert without_repeats(log.types) == _SPOKEN_TURN
    session = log.of("session.updated")[0]["session"]
    assert (session["voice"], session["temperature"], session["modalities"]) == ("verse", 0.9, ["audio", "text"])
    assert session["turn_detection"]["threshold"] == 0.4
    assert session["input_audio_transcription"]["model"] == "whisper-1"
    asked, answered = log.of("conversation.item.created")
    assert asked["item"]["content"][0]["type"] == "input_audio"
    assert answered["previous_item_id"] == asked["item"]["id"]
    assert log.of("conversation.created")[0]["conversation"]["id"] == done["response"]["conversation_id"]
    assert done["response"]["output"][0]["content"][0]["type"] == "audio"
    assert (done["response"]["modalities"], done["response"]["output_audio_format"]) == (["audio", "text"], "pcm16")
    assert match(samples_of(_sound(log.events)), samples_of(short_pcm)).correlation > 0.95


async def test_response_tells_its_voice(daemon: Daemon) -> None:
    """A response's ``voice`` and ``output_audio_format`` are those that it has: the session's."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(session={"voice": "verse", "output_audio_format": "g711_ulaw"})
        await _type(connection, "hello")
        await connection.response.create()
        response = (await log.until("response.done"))["response"]
    assert (response["voice"], response["output_audio_format"]) == ("verse", "g711_ulaw")


async def test_tool_call(daemon: Daemon) -> None:
    """The arguments' done event has no name; the item has."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(session={"tools": [_TOOL], "tool_choice": "required"})
        await _type(connection, "add")
        await connection.response.create()
        call = (await log.until("response.done"))["response"]["output"][0]
        assert without_repeats(log.types)[-8:] == [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.created",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.done",
        ]
        done = log.of("response.function_call_arguments.done")[0]
        assert "name" not in done
        assert (call["name"], json.loads(done["arguments"])) == ("add", {"a": 1})
        await connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": call["call_id"], "output": "2"}
        )
        await connection.response.create()
        answer = (await log.until("response.done", number=2))["response"]["output"][0]
    assert answer["content"] == [{"type": "text", "text": "The function answered: 2"}]


async def test_interruption(daemon: Daemon, speech_pcm: bytes) -> None:
    """A cancel by hand and one by speech; the item is truncated to what was played."""
    turns: Any = {"type": "server_vad", "silence_duration_ms": 3000}
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(session={"turn_detection": turns})
        await speak(connection, speech_pcm + bytes(48 * 3500))
        delta = await log.until("response.audio.delta")
        await connection.response.cancel()
        response = (await log.until("response.done"))["response"]
        assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "client_cancelled")
        await connection.conversation.item.truncate(item_id=delta["item_id"], content_index=0, audio_end_ms=100)
        assert (await log.until("conversation.item.truncated"))["audio_end_ms"] == 100
        await connection.response.create()
        await log.until("response.created", number=2)
        await speak(connection, speech_pcm[: 48 * 2000])
        response = (await log.until("response.done", number=2))["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")


async def test_manual_turns(daemon: Daemon, short_pcm: bytes) -> None:
    """``turn_detection: null`` turns it off; clear forgets, commit and create answer."""
    no_turns: Any = None
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(session={"turn_detection": no_turns})
        await speak(connection, short_pcm)
        await connection.input_audio_buffer.clear()
        await log.until("input_audio_buffer.cleared")
        await speak(connection, short_pcm)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        await log.until("response.done")
    assert log.of("session.updated")[0]["session"]["turn_detection"] is None
    assert log.of("input_audio_buffer.speech_started") == []
    assert _sound(log.events) == short_pcm


@pytest.mark.parametrize("name", ["g711_ulaw", "g711_alaw"])
async def test_g711(daemon: Daemon, short_pcm: bytes, name: Any) -> None:
    """Either law, both ways."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await connection.session.update(session={"input_audio_format": name, "output_audio_format": name})
        await speak(connection, encode(short_pcm, name), piece_bytes=160)
        await log.until("response.done")
    session = log.of("session.updated")[0]["session"]
    assert (session["input_audio_format"], session["output_audio_format"]) == (name, name)
    source = resample(samples_of(short_pcm), 24_000, RATES_HZ[name])
    assert match(decode(_sound(log.events), name), source).correlation > 0.95


async def test_typed_text(daemon: Daemon) -> None:
    """Text in, text out; items are retrieved and deleted."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        await _type(connection, "hello")
        item = (await log.until("conversation.item.created"))["item"]
        await connection.response.create(response={"modalities": ["text"], "temperature": 0.7})
        done = await log.until("response.done")
        await connection.conversation.item.retrieve(item_id=item["id"])
        assert (await log.until("conversation.item.retrieved"))["item"] == item
        await connection.conversation.item.delete(item_id=item["id"])
        assert (await log.until("conversation.item.deleted"))["item_id"] == item["id"]
    assert without_repeats(log.types[3 : log.types.index("response.done") + 1]) == _TEXT_TURN
    assert log.of("response.text.done")[0]["text"] == "You wrote: hello"
    assert done["response"]["output"][0]["content"] == [{"type": "text", "text": "You wrote: hello"}]
    assert done["response"]["modalities"] == ["text"]


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
        ({"type": "response.cancel"}, "response_cancel_not_active", None),
        ({"type": "session.update", "session": {"temperature": 3}}, "invalid_value", "session.temperature"),
        ({"type": "session.update", "session": {"voice": 3}}, "invalid_value", "session.voice"),
        (
            {"type": "session.update", "session": {"turn_detection": {"type": "server_vad", "threshold": 2}}},
            "invalid_value",
            "session.turn_detection.threshold",
        ),
        ({"type": "output_audio.clear"}, "invalid_value", "type"),
    ],
)
async def test_errors(daemon: Daemon, event: Any, code: str, param: str | None) -> None:
    """Errors name the field as beta has it, and the event that they answer; the session lives on."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL) as connection,
        listening(connection, BETA) as log,
    ):
        message: Any = {**event, "event_id": "mine"}
        await connection.send(message)
        error = (await log.until("error"))["error"]
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
        await _type(connection, "still here")
        await log.until("conversation.item.created")


async def test_transcription_session(daemon: Daemon, short_pcm: bytes) -> None:
    """``intent=transcription``: an update keeps it a transcription session, which never answers."""
    async with (
        stock_client(daemon.url) as sdk,
        sdk.beta.realtime.connect(model=_MODEL, extra_query={"intent": "transcription"}) as connection,
        listening(connection, BETA) as log,
    ):
        update: Any = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "whisper-1"}}
        await connection.transcription_session.update(session=update)
        await log.until("transcription_session.updated")
        await speak(connection, short_pcm)
        await log.until("conversation.item.input_audio_transcription.failed")
        await connection.response.create()
        await log.until("error")
    assert log.types[0] == "transcription_session.created"
    assert log.of("session.created", "conversation.created", "response.created", "session.updated") == []
    assert log.events[0]["session"].keys() & {"voice", "tools", "instructions", "output_audio_format"} == set()


async def test_minted_session(serve_with: ServeWith) -> None:
    """``sessions.create``: a flat session with a key for a minute, good for one connection in the beta dialect."""
    async with serve_with(api_key=(_KEY,)) as daemon, stock_client(daemon.url, api_key=_KEY) as sdk:
        raw = await sdk.beta.realtime.sessions.with_raw_response.create(
            model=_MODEL, voice="verse", modalities=["text", "audio"], temperature=1.1, instructions="Mine."
        )
        session = SessionCreateResponse.model_validate(raw.http_response.json())
        assert (session.voice, session.temperature) == ("verse", 1.1)
        key = session.client_secret.value
        async with stock_client(daemon.url, api_key=key) as client:
            async with client.beta.realtime.connect(model=_MODEL) as connection:
                async with listening(connection, BETA) as log:
                    shown = log.events[0]["session"]
                    assert (shown["instructions"], shown["temperature"], shown["voice"]) == ("Mine.", 1.1, "verse")
            with pytest.raises(Exception, match="401"):
                async with client.beta.realtime.connect(model=_MODEL):
                    pass


async def test_minted_transcription_session(serve_with: ServeWith, short_pcm: bytes) -> None:
    """``transcription_sessions.create``: the same, for a session that only listens."""
    async with serve_with(api_key=(_KEY,)) as daemon, stock_client(daemon.url, api_key=_KEY) as sdk:
        raw = await sdk.beta.realtime.transcription_sessions.with_raw_response.create(
            input_audio_format="pcm16",
            input_audio_transcription={"model": "whisper-1", "language": "en"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 400},
        )
        session = TranscriptionSession.model_validate(raw.http_response.json())
        assert session.input_audio_transcription is not None
        assert session.input_audio_transcription.language == "en"
        key = session.client_secret.value
        headers = {"Authorization": f"Bearer {key}", "OpenAI-Beta": "realtime=v1"}
        first = "transcription_session.created"
        async with open_socket(daemon.url, "intent=transcription", first=first, additional_headers=headers) as client:
            assert client.events[0]["session"]["object"] == "realtime.transcription_session"
