"""A session of its own over a WebSocket: sound in and out as events, everything else of the protocol."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.event_log import Event, outbound_sound, stream_numbers
from tests.end_to_end.sound import RATES_HZ, decode, encode, match, resample, samples_of
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.machine import scaled

_MEDIA_TYPES = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_PIECE_BYTES = 4800
_LONGEST_APPEND_BYTES = 15 * 1024 * 1024 * 3 // 4 // 4 * 4
_LAG_LIMIT_S = scaled(0.125)  # parsing 15 MiB is some of it
_FRAME_S = 0.020
_TOO_LONG = 22 * 1024 * 1024
_TOOL = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def _append(client: EventSocket, sound: bytes) -> None:
    for at in range(0, len(sound), _PIECE_BYTES):
        piece = base64.b64encode(sound[at : at + _PIECE_BYTES]).decode()
        await client.send({"type": "input_audio_buffer.append", "audio": piece})


async def _type(client: EventSocket, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    await client.send({"type": "conversation.item.create", "item": item})
    await client.send({"type": "response.create"})


async def _configure(client: EventSocket, session: Mapping[str, Any]) -> Event:
    await client.send({"type": "session.update", "session": {"type": "realtime", **session}})
    return await client.until("session.updated")


@pytest.mark.parametrize("audio_format", RATES_HZ)
async def test_speech_is_answered_in_the_session_format(daemon: Daemon, speech_pcm: bytes, audio_format: str) -> None:
    """Sound appended faster than it was spoken makes a turn, and the answer is that sound again."""
    speech = encode(speech_pcm + bytes(2 * 24 * 800), audio_format)
    async with open_socket(daemon.url, "model=any") as client:
        sound_format = {"format": {"type": _MEDIA_TYPES[audio_format]}}
        await _configure(client, {"audio": {"input": sound_format, "output": sound_format}})
        await _append(client, speech)
        done = await client.until("response.done")
    assert done["response"]["status"] == "completed"
    types = [kind for kind in client.types if kind.startswith("input_audio_buffer.")]
    assert types == [f"input_audio_buffer.{what}" for what in ("speech_started", "speech_stopped", "committed")]
    deltas = client.of("response.output_audio.delta")
    assert stream_numbers(deltas) == list(range(1, len(deltas) + 1))
    answer = decode(outbound_sound(deltas), audio_format)
    found = match(answer, resample(samples_of(speech_pcm), 24_000, RATES_HZ[audio_format]))
    assert found.correlation > 0.99
    assert client.types.index("response.output_audio.done") > client.types.index("response.output_audio.delta")


async def test_typed_message_is_answered_in_text(daemon: Daemon) -> None:
    """A text item and response.create bring text deltas whose sum is the answer."""
    async with open_socket(daemon.url, "model=any") as client:
        await _type(client, "one\ntwo")
        done = await client.until("response.done")
    text = "".join(event["delta"] for event in client.of("response.output_text.delta"))
    assert text == "You wrote: one\ntwo"
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": text}]


async def test_function_is_called_and_its_output_answered(daemon: Daemon) -> None:
    """With tools, the first function is called with arguments of its schema; its output is answered in text."""
    async with open_socket(daemon.url, "model=any") as client:
        updated = await _configure(client, {"tools": [_TOOL]})
        assert updated["session"]["tools"] == [_TOOL]
        await _type(client, "What is the weather?")
        call = await client.until("response.function_call_arguments.done")
        assert call["name"] == "get_weather"
        assert isinstance(json.loads(call["arguments"])["city"], str)
        await client.until("response.done")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        await client.send({"type": "conversation.item.create", "item": output})
        await client.send({"type": "response.create"})
        await client.until("response.done", number=2)
    assert client.of("response.output_text.done")[0]["text"] == "The function answered: sunny"


async def test_response_is_cancelled(daemon: Daemon, speech_pcm: bytes) -> None:
    """A cancel ends the answer where it stands, and says who asked for it."""
    async with open_socket(daemon.url, "model=any") as client:
        await _append(client, speech_pcm + bytes(2 * 24 * 800))
        await client.until("response.output_audio.delta")
        await client.send({"type": "response.cancel"})
        response = (await client.until("response.done"))["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert len(outbound_sound(client.events)) < len(speech_pcm)


async def test_items_are_retrieved_truncated_and_deleted(daemon: Daemon, speech_pcm: bytes) -> None:
    """The caller's item comes with its sound, the answer's can be cut, and either can go."""
    async with open_socket(daemon.url, "model=any") as client:
        await _append(client, speech_pcm + bytes(2 * 24 * 800))
        await client.until("response.done")
        theirs = client.of("input_audio_buffer.committed")[0]["item_id"]
        ours = client.of("response.output_item.done")[0]["item"]["id"]
        await client.send({"type": "conversation.item.retrieve", "item_id": theirs})
        item = (await client.until("conversation.item.retrieved"))["item"]
        assert base64.b64decode(item["content"][0]["audio"]) == outbound_sound(client.events)
        cut = {"item_id": ours, "content_index": 0, "audio_end_ms": 500}
        await client.send({"type": "conversation.item.truncate", **cut})
        truncated = await client.until("conversation.item.truncated")
        assert {name: truncated[name] for name in cut} == cut
        await client.send({"type": "conversation.item.delete", "item_id": ours})
        assert (await client.until("conversation.item.deleted"))["item_id"] == ours
        await client.send({"type": "conversation.item.retrieve", "item_id": ours})
        assert (await client.until("error"))["error"]["param"] == "item_id"


async def test_transcript_of_the_caller_is_never_invented(daemon: Daemon, short_pcm: bytes) -> None:
    """Transcription asked for fails openly; the answer's own transcript says what it is."""
    async with open_socket(daemon.url, "model=any") as client:
        await _configure(client, {"audio": {"input": {"transcription": {"model": "whisper-1"}}}})
        await _append(client, short_pcm)
        failed = await client.until("conversation.item.input_audio_transcription.failed")
        spoken = await client.until("response.output_audio_transcript.done")
    assert failed["error"]["code"] == "transcription_unavailable"
    assert spoken["transcript"].startswith("(your own words, ")


_APPEND = "input_audio_buffer.append"
_WRONG = {
    "no object": ("[1, 2]", "invalid_value", None),
    "no type": ('{"event_id": "mine"}', "missing_required_parameter", "type"),
    "unknown type": ('{"type": "party.start", "event_id": "mine"}', "invalid_value", "type"),
    "server's type": ('{"type": "response.done", "event_id": "mine"}', "invalid_value", "type"),
    "no audio": (f'{{"type": "{_APPEND}", "event_id": "mine"}}', "missing_required_parameter", "audio"),
    "bad base64": (f'{{"type": "{_APPEND}", "event_id": "mine", "audio": "*"}}', "invalid_audio", "audio"),
    "unknown item": (
        '{"type": "conversation.item.delete", "event_id": "mine", "item_id": "nope"}',
        "invalid_value",
        "item_id",
    ),
    "empty commit": (
        '{"type": "input_audio_buffer.commit", "event_id": "mine"}',
        "input_audio_buffer_commit_empty",
        None,
    ),
    "nothing to cancel": ('{"type": "response.cancel", "event_id": "mine"}', "response_cancel_not_active", None),
    "bad setting": (
        '{"type": "session.update", "event_id": "mine", "session": {"audio": {"output": {"speed": 99}}}}',
        "invalid_value",
        "session.audio.output.speed",
    ),
    "too deep": (f'{{"type": "session.update", "session": {{"tracing": {"[" * 10_000}', "invalid_value", None),
}


@pytest.mark.parametrize("case", _WRONG)
async def test_wrong_event_is_answered_by_an_error(daemon: Daemon, case: str) -> None:
    """The error names code, field and event; the session goes on."""
    text, code, param = _WRONG[case]
    async with open_socket(daemon.url, "model=any") as client:
        await client.connection.send(text)
        error = (await client.until("error"))["error"]
        assert error["type"] == "invalid_request_error"
        assert (error["code"], error["param"]) == (code, param)
        assert error["message"]
        assert error["event_id"] == ("mine" if "mine" in text else None)
        await _type(client, "still there?")
        await client.until("response.done")


async def _worst_lag(done: asyncio.Event) -> float:
    """How late the event loop was at its worst until ``done``: what every other call suffers meanwhile."""
    loop, worst = asyncio.get_running_loop(), 0.0
    while not done.is_set():
        due = loop.time() + _FRAME_S
        await asyncio.sleep(_FRAME_S)
        worst = max(worst, loop.time() - due)
    return worst


@pytest.mark.alone
async def test_longest_append_holds_up_nobody(daemon: Daemon) -> None:
    """What one client appends in one piece does not keep other calls from their turn."""
    silence = base64.b64encode(bytes(_LONGEST_APPEND_BYTES)).decode()
    text = f'{{"type": "{_APPEND}", "audio": "{silence}"}}'
    done = asyncio.Event()
    async with open_socket(daemon.url, "model=any") as client, asyncio.TaskGroup() as watching:
        lag = watching.create_task(_worst_lag(done))
        await client.connection.send(text)
        await client.send({"type": "input_audio_buffer.commit"})
        await client.until("conversation.item.done")
        done.set()
    assert lag.result() < _LAG_LIMIT_S


async def test_what_is_too_long_closes_the_socket(daemon: Daemon) -> None:
    """A message that is longer than any event is told to be that, and then the socket is closed."""
    async with open_socket(daemon.url, "model=any") as client:
        await client.connection.send("x" * _TOO_LONG)
        error = (await client.until("error"))["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "event_too_large")
        assert await client.close_code() == 1009
    assert daemon.registry.sessions == []


_GARBAGE: dict[str, str | bytes] = {
    "half a surrogate pair": '{"type": "response.create", "event_id": "cut \\ud83d"}',
    "no JSON": "{not json",
    "empty": "",
    "binary": b"\x00\x01",
    "empty and binary": b"",
}


async def test_the_session_outlives_messages_that_are_no_events(daemon: Daemon) -> None:
    """Each is answered by an error event, and the socket stays open as long as events come between them."""
    messages = list(_GARBAGE.values()) * 5
    async with open_socket(daemon.url, "model=any") as client:
        for number, message in enumerate(messages, start=1):
            await client.connection.send(message)
            await client.until("error", number=number)
            error = client.of("error")[-1]["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_json")
            if number == 19:
                await client.send({"type": "input_audio_buffer.clear"})
                await client.until("input_audio_buffer.cleared")
        await client.send({"type": "input_audio_buffer.clear"})
        await client.until("input_audio_buffer.cleared", number=2)


@pytest.mark.parametrize(("name", "close_code"), [("no JSON", 1007), ("binary", 1003)])
async def test_nothing_but_garbage_closes_the_socket(daemon: Daemon, name: str, close_code: int) -> None:
    """Twenty messages in a row that are no events are each answered, and the last one by the end of the session."""
    async with open_socket(daemon.url, "model=any") as client:
        for _ in range(20):
            await client.connection.send(_GARBAGE[name])
        await client.until("error", number=20)
        assert await client.close_code() == close_code
    assert daemon.registry.sessions == []


async def test_listeners_of_a_session_end_with_its_owner(daemon: Daemon, short_pcm: bytes) -> None:
    """Listeners get the same events as the owner, sound of both directions, and are closed when the owner leaves."""
    async with open_socket(daemon.url, "model=any") as owner:
        query = f"call_id={owner.events[0]['session']['id']}"
        async with (
            open_socket(daemon.url, f"{query}&audio=pcm16") as first,
            open_socket(daemon.url, f"{query}&role=observer") as second,
        ):
            await _append(owner, short_pcm)
            for client in (owner, first, second):
                await client.until("response.done")
            await owner.connection.close()
            assert [await first.close_code(), await second.close_code()] == [1000, 1000]
    assert daemon.registry.sessions == []
    assert outbound_sound(first.events) == outbound_sound(owner.events) != b""
    assert base64.b64decode("".join(e["audio"] for e in first.of(_APPEND))) == short_pcm
    quiet = [kind for kind in owner.types if kind != "response.output_audio.delta"]
    assert second.types == quiet


async def test_observer_may_listen_only(daemon: Daemon) -> None:
    """A client event of an observer is refused, and reaches nobody."""
    async with open_socket(daemon.url, "model=any") as owner:
        query = f"call_id={owner.events[0]['session']['id']}&role=observer"
        async with open_socket(daemon.url, query) as observer:
            await _type(observer, "hello")
            assert (await observer.until("error", number=2))["error"]["code"] == "forbidden"
    assert owner.types == ["session.created"]


async def test_controller_may_act(daemon: Daemon) -> None:
    """A listener with the default role drives the session, as a sideband connection does."""
    async with open_socket(daemon.url, "model=any") as owner:
        async with open_socket(daemon.url, f"call_id={owner.events[0]['session']['id']}") as controller:
            await _type(controller, "hello")
            await controller.until("response.done")
        await owner.until("response.done")
        calls = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
    assert [call["transport"] for call in calls] == ["websocket"]
