"""The stock Python SDK ``openai`` as a Live client of the engine: over a WebSocket, with sidebands."""

import asyncio
import base64
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import EventLog
from tests.end_to_end.sound import decode, encode, match, samples_of
from tests.end_to_end.web import request
from tests.sdk.live import MODEL, LiveLog, append_sound, live_listening, output_pcm
from tests.sdk.stock import stock_client

_ECHO: Any = {"model": MODEL, "delegation": {"type": "responses", "responses": {"model": "gpt-5"}}}
_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_TOOLS: Any = {
    "model": MODEL,
    "delegation": {"type": "responses", "responses": {"model": "gpt-5", "tools": [_WEATHER]}},
}


def _loudest(pcm: bytes) -> int:
    return int(abs(samples_of(pcm).astype("i4")).max()) if pcm else 0


def _words(log: EventLog, side: str) -> str:
    return "".join(event["delta"] for event in log.of(f"session.{side}_transcript.delta"))


async def _heard(log: LiveLog) -> None:
    await log.wait(lambda: _loudest(output_pcm(log)[-9600:]) > 1000, "sound")


async def test_a_live_client_is_heard_and_answered(daemon: Daemon, short_pcm: bytes) -> None:
    """The client speaks first; the answer comes in real time, with silence around it, and with its words."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_ECHO, event_id="first")
            started = await log.until("session.started")
            began = time.monotonic()
            await append_sound(connection, short_pcm)
            await _heard(log)
            await log.wait(lambda: len(output_pcm(log)) > 48_000 * 5, "five seconds")
            seconds = time.monotonic() - began
            await connection.session.close(event_id="mine")
            closed = await log.until("session.closed")
            await log.is_over.wait()
    assert log.types[0] == "session.started"
    session = started["session"]
    assert session["id"].startswith("live_")
    assert (session["model"], session["status"]) == (MODEL, "active")
    assert session["audio"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["delegation"] == _ECHO["delegation"]
    assert seconds > 4.5
    assert match(samples_of(output_pcm(log)), samples_of(short_pcm[: 48 * 2000])).correlation > 0.95
    assert _words(log, "output").startswith("(your own words")
    for event in log.of("session.output_transcript.delta"):
        assert event["start_ms"] % 200 == event["end_ms"] % 200 == 0
        assert event["start_ms"] < event["end_ms"] <= 5400
    assert (closed["reason"], closed["session"]["id"]) == ("close_requested", session["id"])
    assert closed["usage"]["seconds"] >= 4
    assert log.close_code == 1000
    assert log.of("error") == []


@pytest.mark.parametrize(("law", "name"), [("audio/pcmu", "g711_ulaw"), ("audio/pcma", "g711_alaw")])
async def test_a_session_in_g711(daemon: Daemon, short_pcm: bytes, law: str, name: str) -> None:
    """Sound goes both ways in the session's format, silence included."""
    session: Any = {**_ECHO, "audio": {"format": {"type": law, "rate": 8000}}}
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=session)
            await append_sound(connection, encode(short_pcm, name))
            await log.wait(lambda: len(output_pcm(log)) > 8000 * 5, "five seconds")
    heard = decode(output_pcm(log), name)
    assert int(abs(heard.astype("i4")).max()) > 1000
    assert int(abs(heard[-4000:].astype("i4")).max()) < 100


async def test_the_application_does_what_is_delegated(daemon: Daemon, short_pcm: bytes) -> None:
    """A delegation names no task; the first commentary on it is its result, which is spoken of, and acknowledged."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session={"model": MODEL, "instructions": "Be kind."})
            await append_sound(connection, short_pcm)
            delegation = (await log.until("session.delegation.created"))["delegation"]
            await connection.session.thinking.append(
                content="It takes a while.", delegation_id=delegation["id"], event_id="thought"
            )
            await connection.session.commentary.append(
                content="It is sunny.", delegation_id=delegation["id"], event_id="result"
            )
            thought = await log.until("session.thinking.appended")
            said = await log.until("session.commentary.appended")
            await log.wait(lambda: "It is sunny." in _words(log, "output"), "the answer")
            await connection.session.commentary.append(content="x", delegation_id="dlg_nobody's", event_id="wrong")
            error = (await log.until("error"))["error"]
    assert delegation == {"id": delegation["id"], "type": "delegation", "target": "client"}
    assert (thought["client_event_id"], said["client_event_id"]) == ("thought", "result")
    assert 0 < thought["start_ms"] == thought["end_ms"] <= said["start_ms"]
    assert (error["code"], error["param"], error["client_event_id"]) == ("invalid_value", "delegation_id", "wrong")


async def test_a_responses_model_calls_a_function(daemon: Daemon, short_pcm: bytes) -> None:
    """A call comes as an event of the Responses API; an answer is asked for when every call has its output."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_TOOLS)
            await append_sound(connection, short_pcm)
            await log.wait(lambda: _nested(log)[-1:] == ["response.completed"], "the end of the response")
            call = next(e["event"]["item"] for e in log.of("response.event") if "item" in e["event"])
            delegation = log.of("session.delegation.created")[0]["delegation"]
            await connection.response.create(event_id="early")
            error = (await log.until("error"))["error"]
            await connection.response.item.create(
                item={"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            )
            await connection.response.create()
            await log.wait(lambda: "sunny" in _words(log, "output"), "the answer")
    assert _nested(log) == ["response.created", "response.output_item.done", "response.completed"]
    assert (call["type"], call["name"], json.loads(call["arguments"]).keys()) == (
        "function_call",
        "get_weather",
        {"city"},
    )
    assert delegation["target"] == "responses"
    assert {event["delegation_id"] for event in log.of("response.event")} == {delegation["id"]}
    assert (error["code"], error["client_event_id"]) == ("function_call_outputs_required", "early")


def _nested(log: EventLog) -> list[str]:
    return [event["event"]["type"] for event in log.of("response.event")]


async def test_an_update_gives_other_tools(daemon: Daemon, short_pcm: bytes) -> None:
    """``session.update`` changes what it names of the delegation, and is answered with the whole session."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_ECHO)
            await log.until("session.started")
            update: Any = {"delegation": {"type": "responses", "responses": {"tools": [_WEATHER]}}}
            await connection.session.update(session=update, event_id="more")
            updated = await log.until("session.updated")
            await connection.session.update(session={"delegation": {"type": "client"}}, event_id="other")
            error = (await log.until("error"))["error"]
            await append_sound(connection, short_pcm)
            await log.until("session.delegation.created")
    assert updated["client_event_id"] == "more"
    assert updated["session"]["delegation"]["responses"] == {"model": "gpt-5", "tools": [_WEATHER]}
    assert (error["code"], error["client_event_id"]) == ("immutable_field_update", "other")


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"model": MODEL, "turn_detection": None}, "unknown_parameter", "session.turn_detection"),
        ({"instructions": "x"}, "missing_required_parameter", "session.model"),
        ({"model": MODEL, "store": True}, "unsupported_parameter", "session.store"),
        ({"model": MODEL, "delegation": {"type": "decisions", "decisions": {}}}, "unsupported_parameter",
         "session.delegation.type"),
        ({"model": MODEL, "triggers": [{"type": "decisions"}]}, "unsupported_parameter", "session.triggers"),
        ({"model": MODEL, "delegation": {"type": "responses", "responses": {"model": "m", "tools": [
            {"type": "web_search"}]}}}, "unsupported_parameter", "session.delegation.responses.tools[0].type"),
    ],
)  # fmt: skip
async def test_a_start_that_cannot_be_is_refused_by_its_field(
    daemon: Daemon, session: Any, code: str, param: str
) -> None:
    """What is unknown, and what nothing here can do, is named; the socket may start again."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=session, event_id="wrong")
            error = (await log.until("error"))["error"]
            assert (error["code"], error["param"], error["client_event_id"]) == (code, param, "wrong")
            await connection.session.start(session={"model": MODEL})
            await log.until("session.started")


async def test_what_is_no_live_event_is_refused(daemon: Daemon) -> None:
    """Realtime's events, half a sample, and events before the start: each is told, and the session lives."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.input_audio.mute(event_id="early")
            assert (await log.until("error"))["error"]["code"] == "session_not_started"
            await connection.session.start(session=_ECHO)
            await log.until("session.started")
            for number, (raw, code) in enumerate(
                [
                    ('{"type":"input_audio_buffer.append","audio":""}', "invalid_value"),
                    ('{"type":"session.input_audio.append","audio":"AAAA"}', "invalid_audio"),
                    ('{"type":"session.input_audio.append","audio":"AAA","x":1}', "unknown_parameter"),
                    ('{"type":"session.start","session":{"model":"m"}}', "session_already_started"),
                    ('{"type":"session.output_audio.fixture.play","audio":""}', "unsupported_event"),
                    ('{"type":"session.close","reason":"x"}', "unknown_parameter"),
                    ("{", "invalid_json"),
                ],
                2,
            ):
                await connection.send_raw(raw)
                assert (await log.until("error", number=number))["error"]["code"] == code
            await connection.session.close()
            await log.until("session.closed")


async def test_a_sideband_hears_both_sides_and_steers(daemon: Daemon, short_pcm: bytes) -> None:
    """A server follows a session beside its client: what is said before it is muted, and what is heard when."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_ECHO)
            session_id = (await log.until("session.started"))["session"]["id"]
            async with sdk.live.sideband.connect(
                session_id=session_id, extra_query={"graceful_close": "true"}
            ) as beside:
                async with live_listening(beside, is_sideband=True) as seen:
                    await seen.until("session.started")
                    await append_sound(connection, short_pcm)
                    await _heard(seen)
                    await log.wait(lambda: "words" in _words(log, "output"), "words")
                    await beside.session.input_audio.mute(event_id="hush")
                    await log.until("session.input_audio.muted")
                    before = len(log.types)
                    await append_sound(connection, short_pcm)
                    await seen.wait(lambda: len(_inbound(seen)) >= 2 * len(short_pcm), "all that was said")
                    await beside.session.input_audio.unmute()
                    await log.until("session.input_audio.unmuted")
                    await beside.session.commentary.append(content="Hello.", delegation_id=None)
                    await log.until("session.commentary.appended")
                    await beside.session.close()
                    await seen.until("session.closed")
                    await seen.is_over.wait()
            await log.is_over.wait()
    assert seen.close_code == log.close_code == 1000
    assert match(samples_of(_inbound(seen)), samples_of(short_pcm)).correlation > 0.99
    spans = [(event["start_ms"], event["end_ms"]) for event in seen.of("session.output_audio.delta")]
    assert all(0 <= start < end <= following for (start, end), (following, _) in zip(spans, spans[1:], strict=False))
    assert not any("start_ms" in event for event in log.of("session.output_audio.delta"))
    assert log.of("session.input_audio.append") == []
    assert before > 0
    assert (await _status(sdk, session_id)) == 404


def _inbound(log: EventLog) -> bytes:
    return b"".join(base64.b64decode(event["audio"]) for event in log.of("session.input_audio.append"))


async def _status(sdk: openai.AsyncOpenAI, session_id: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with sdk.live.sideband.connect(session_id=session_id):
            pass
    return caught.value.response.status_code


async def test_speech_stops_the_answer_where_it_was_heard(daemon: Daemon, speech_pcm: bytes) -> None:
    """The stream goes silent as soon as the caller speaks; inside, the item is cut at what was played."""
    async with stock_client(daemon.url) as sdk, sdk.live.connect() as connection:
        async with live_listening(connection) as log:
            await connection.session.start(session=_ECHO)
            session_id = (await log.until("session.started"))["session"]["id"]
            async with sdk.realtime.connect(extra_query={"call_id": session_id}) as listener:
                inside = EventLog()
                reading = asyncio.create_task(_read(listener, inside))
                await append_sound(connection, speech_pcm[: 48 * 2200] + bytes(48 * 800))
                await inside.until("output_audio_buffer.started")
                await _heard(log)
                await append_sound(connection, speech_pcm[: 48 * 600])
                await inside.until("output_audio_buffer.cleared")
                truncated = await inside.until("conversation.item.truncated")
                at = len(output_pcm(log))
                await log.wait(lambda: len(output_pcm(log)) > at + 48 * 400, "more of the stream")
                reading.cancel()
            quiet = output_pcm(log)[at + 48 * 80 : at + 48 * 400]
    assert _loudest(quiet) == 0
    assert 0 < truncated["audio_end_ms"] < 2200
    assert not any(kind.startswith("bridge.") for kind in log.types)


async def _read(listener: Any, log: EventLog) -> None:
    while True:
        log.add(await listener.recv_bytes())


async def test_keys_open_live_sessions(serve_with: ServeWith) -> None:
    """An ``ek_`` key opens a Live session, as no service's does; a wrong one opens nothing."""
    async with serve_with(api_key=("sk-secret",)) as daemon:
        async with stock_client(daemon.url, api_key="sk-secret") as sdk:
            minted = await sdk.realtime.client_secrets.create(session={"type": "realtime", "instructions": "Be kind."})
        async with stock_client(daemon.url, api_key=minted.value) as sdk, sdk.live.connect() as connection:
            async with live_listening(connection) as log:
                await connection.session.start(session=_ECHO)
                await log.until("session.started")
        async with stock_client(daemon.url, api_key="sk-wrong") as sdk:
            with pytest.raises(InvalidStatus) as caught:
                async with sdk.live.connect():
                    pass
    assert caught.value.response.status_code == 401


async def _minted(daemon: Daemon, **asked: Any) -> str:
    headers = {"Authorization": "Bearer sk-secret", "Content-Type": "application/json"}
    reply = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body=json.dumps(asked))
    return str(reply.json["value"])


async def test_a_key_for_listening_steers_nothing(serve_with: ServeWith) -> None:
    """On a sideband it hears the session; each event that it sends is refused, and the session goes on."""
    async with serve_with(api_key=("sk-secret",)) as daemon:
        async with stock_client(daemon.url, api_key="sk-secret") as sdk, sdk.live.connect() as connection:
            async with live_listening(connection) as log:
                await connection.session.start(session=_ECHO)
                session_id = (await log.until("session.started"))["session"]["id"]
                key = await _minted(daemon, bridge={"role": "observer", "call_id": session_id})
                async with stock_client(daemon.url, api_key=key) as other:
                    async with other.live.sideband.connect(session_id=session_id) as beside:
                        async with live_listening(beside, is_sideband=True) as seen:
                            await seen.until("session.started")
                            await beside.session.input_audio.mute()
                            await beside.session.commentary.append(content="Hello.", delegation_id=None)
                            await beside.session.close()
                            await seen.until("error", number=3)
                            assert [each["error"]["code"] for each in seen.of("error")] == ["forbidden"] * 3
                            await connection.session.input_audio.mute()
                            await seen.until("session.input_audio.muted")  # it hears, and the session lives
    assert log.of("session.commentary.appended") == []


async def test_a_key_for_attaching_ends_no_session_of_somebody_else(serve_with: ServeWith) -> None:
    """It steers on a sideband, and ends the session neither there nor by ``hangup``."""
    async with serve_with(api_key=("sk-secret",)) as daemon:
        async with stock_client(daemon.url, api_key="sk-secret") as sdk, sdk.live.connect() as connection:
            async with live_listening(connection) as log:
                await connection.session.start(session=_ECHO)
                session_id = (await log.until("session.started"))["session"]["id"]
                key = await _minted(daemon, bridge={"call_id": session_id})
                async with stock_client(daemon.url, api_key=key) as other:
                    with pytest.raises(openai.PermissionDeniedError):
                        await other.live.sessions.hangup(session_id)
                    async with other.live.sideband.connect(session_id=session_id) as beside:
                        async with live_listening(beside, is_sideband=True) as seen:
                            await seen.until("session.started")
                            await beside.session.close()
                            assert (await seen.until("error"))["error"]["code"] == "forbidden"
                            await beside.session.input_audio.mute()
                            await log.until("session.input_audio.muted")


async def test_a_key_for_another_kind_of_session_opens_none(serve_with: ServeWith) -> None:
    """One for transcriptions opens no session that answers, over a WebSocket or by an offer."""
    async with serve_with(api_key=("sk-secret",)) as daemon:
        key = await _minted(daemon, session={"type": "transcription"})
        async with stock_client(daemon.url, api_key=key) as sdk:
            with pytest.raises(InvalidStatus) as caught:
                async with sdk.live.connect():
                    pass
            with pytest.raises(openai.PermissionDeniedError):
                await sdk.live.create(session=_ECHO, transport={"type": "webrtc", "sdp": "v=0"})
    assert caught.value.response.status_code == 403


async def test_a_connection_that_has_not_started_counts_as_a_call(serve_with: ServeWith) -> None:
    """So neither one key nor all together hold more connections than calls; the start itself needs no further place."""
    async with (
        serve_with(api_key=("sk-secret",), max_calls_per_key=2, max_calls=3) as daemon,
        AsyncExitStack() as stack,
    ):
        key = await _minted(daemon, session={"type": "realtime"})

        async def opened(key: str) -> Any:
            sdk = await stack.enter_async_context(stock_client(daemon.url, api_key=key))
            return await stack.enter_async_context(sdk.live.connect())

        first, second = await opened(key), await opened(key)
        with pytest.raises(InvalidStatus) as caught:
            await opened(key)
        assert caught.value.response.status_code == 429
        await opened("sk-secret")
        with pytest.raises(InvalidStatus) as caught:
            await opened("sk-secret")
        assert caught.value.response.status_code == 429
        async with live_listening(second) as log:
            await second.session.start(session={"model": 5})
            await log.until("error")
            await second.session.start(session=_ECHO)
            await log.until("session.started")
            with pytest.raises(InvalidStatus):
                await opened(key)
            await first.close()
            await opened(key)


async def test_what_no_session_here_has_is_not_found(daemon: Daemon) -> None:
    """Nothing is stored, so nothing can be forked or downloaded; nobody is called from here."""
    async with stock_client(daemon.url) as sdk:
        for ask in (
            sdk.live.sessions.download_recording("live_1"),
            sdk.live.sessions.fork("live_1", transport={"type": "webrtc", "sdp": "v=0"}),
            sdk.live.sessions.hangup("live_1"),
            sdk.live.sessions.refer("live_1", target_uri="tel:+15550001"),
            sdk.live.sessions.reject("live_1", status_code=603),
            sdk.live.sessions.accept("live_1", session={"type": "live", "model": MODEL}),
        ):
            with pytest.raises(openai.NotFoundError):
                await ask
