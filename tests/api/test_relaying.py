"""What clients write reaches an upstream as they wrote it, however it comes in; the engine says what it is not."""

import json
from typing import Any

import pytest

from bridge.config import NamedUpstream
from bridge.wire.sessions import laid_over
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.upstream.service import Event, Service, Visit
from tests.wire.test_client_messages import UNKNOWN

_BETA = {"OpenAI-Beta": "realtime=v1"}
_JSON = {"Content-Type": "application/json"}
_NEW: dict[str, Any] = {
    "instructions": "Sing.",
    "beta_fields": {"chat_mode": "video"},
    "tools": [{"type": "x_search"}, {"type": "function", "name": "f"}],
    "include": ["item.emotion"],
    "max_output_tokens": None,
}
_SOUND: dict[str, Any] = {
    "input": {
        "turn_detection": {"type": "client_vad"},
        "transcription": {"model": "m", "hotwords": ["bridge"], "keywords": ["a"], "delay": "low"},
        "echo_cancellation": True,
    }
}


async def _echo(visit: Visit) -> None:
    """A service that takes whatever it is told, and says so."""
    session: Event = {"type": "realtime", "id": "sess_theirs", "object": "realtime.session", "mood": "calm"}
    await visit.say("session.created", session=session)
    while True:
        event = await visit.hear()
        if event["type"] == "session.update" and isinstance(event["session"], dict):
            session = laid_over(session, event["session"])
            await visit.say("session.updated", session=session)
        elif event["type"] == "session.close":
            await visit.say("session.closed", reason="asked")


async def _echo_in_beta(visit: Visit) -> None:
    """The same of another dialect."""
    session: Event = {"id": "sess_theirs", "object": "realtime.session", "modalities": ["text", "audio"]}
    await visit.say("session.created", session=session)
    while True:
        event = await visit.hear()
        if event["type"].endswith("session.update") and isinstance(event["session"], dict):
            session |= event["session"]
            await visit.say(f"{event['type']}d", session=session)


def _written(events: list[Event]) -> list[Event]:
    """Without their ids, which the bridge may have added."""
    return [{name: value for name, value in event.items() if name != "event_id"} for event in events]


async def test_every_event_arrives_as_it_was_written(serve_with: ServeWith) -> None:
    """Unknown events, fields, tools, turn detections and items go through, and so does what is said to them."""
    sent = [event for event, _, _ in UNKNOWN.values()]
    async with (
        Service.serving(_echo) as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        for event in [*sent, {"type": "session.close"}]:
            await client.send(event)
        await client.until("session.closed", number=2)
        assert client.of("error") == []
        heard = _written(service.visits[0].events)[:-1]
        for event, written in zip(heard, sent, strict=True):
            if written.get("item", {}).get("type") and "id" not in written["item"]:
                del event["item"]["id"]  # the bridge names it, so that its answer can be told
            assert event == written
        told = (await client.until("session.updated"))["session"]
        assert told["mood"] == "calm"
        assert client.of("session.updated")[-1]["session"]["beta_fields"] == {"chat_mode": "video"}


_PLACE: Event = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
_SAID: list[Event] = [
    {"type": "input_audio_buffer.smelled", "odour": {"kind": "coffee"}},
    {"type": "response.created", "response": {"id": "resp_1", "status": "thinking", "output": [], "effort": 3}},
    {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0,
     "item": {"id": "item_1", "type": "hologram", "shape": "cube"}},
    {"type": "conversation.item.added", "previous_item_id": None,
     "item": {"id": "item_1", "type": "hologram", "shape": "cube"}},
    {"type": "conversation.item.added", "previous_item_id": "item_1",
     "item": {"id": "item_2", "type": "message", "role": "narrator", "phase": "final",
              "content": [{"type": "output_text", "text": "a", "mood": "calm"},
                          {"type": "output_odour", "of": "tea"}]}},
    {"type": "response.content_part.added", **_PLACE, "part": {"type": "odour", "of": "tea"}},
    {"type": "response.output_text.delta", **_PLACE, "delta": "a", "logprobs": [{"token": "a", "logprob": -0.1}]},
    {"type": "response.output_odour.delta", **_PLACE, "delta": "te"},
    {"type": "rate_limits.updated", "rate_limits": [{"name": "odours", "limit": 1, "window": "day"}]},
    {"type": "error", "error": {"type": "odour_error", "code": "too_strong", "message": "Open a window.",
                                "param": None, "event_id": None, "hint": {"window": "left"}}},
    {"type": "response.done", "response": {"id": "resp_1", "status": "evaporated", "output": [], "effort": 3,
                                           "usage": {"total_tokens": 1, "odour_tokens": 1}}},
]  # fmt: skip
"""What a service of the day after tomorrow says."""


async def test_every_server_event_arrives_as_it_was_written(serve_with: ServeWith) -> None:
    """Unknown events, fields, items, content, states and kinds of errors reach a client, in order and whole."""

    async def modern(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("session.close")
        for event in _SAID:
            await visit.say(event["type"], **{name: value for name, value in event.items() if name != "type"})
        await visit.until_closed()

    async with (
        Service.serving(modern) as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        await client.send({"type": "session.close"})
        await client.until("response.done")
        assert _written(client.events)[1:] == _SAID


async def test_null_arrives_as_it_was_written(serve_with: ServeWith) -> None:
    """It is for the service to say what null means to it."""
    sent: list[Event] = [
        {"type": "response.create", "event_id": "event_1", "response": {"instructions": None}},
        {"type": "response.create", "event_id": "event_2", "response": None},
        {"type": "session.update", "event_id": "event_3", "session": {"type": "realtime", "max_output_tokens": None}},
    ]
    async with (
        Service.serving(_echo) as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any") as client,
    ):
        for event in sent:
            await client.send(event)
        await client.until("session.updated")
        assert service.visits[0].events == sent


@pytest.mark.parametrize("door", ["key", "beta key", "form", "beta form"])
async def test_a_session_at_its_creation_arrives_as_it_was_written(
    serve_with: ServeWith, offer: str, door: str
) -> None:
    """A key's or an offer's session, in either dialect, is what the upstream is asked for and clients are told."""
    is_beta = door.startswith("beta")
    nested = {"type": "realtime", **_NEW, "audio": _SOUND}
    flat = {**_NEW, "max_response_output_tokens": None, "turn_detection": {"type": "client_vad"}}
    del flat["max_output_tokens"]
    session = flat if is_beta else nested
    wanted = {"type": "realtime", **_NEW, "audio": {"input": {"turn_detection": {"type": "client_vad"}}}}
    async with Service.serving(_echo) as service, serve_with(upstream=service.url) as daemon:
        if door.endswith("form"):
            path = "v1/realtime" if is_beta else "v1/realtime/calls"
            boundary = "frontier"
            body = "".join(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{content}\r\n'
                for name, content in (("sdp", offer), ("session", json.dumps(session)))
            )
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            reply = await request("POST", daemon.url + path, headers=headers, body=f"{body}--{boundary}--\r\n")
            assert reply.status == 201, reply.body
            query = f"call_id={reply.headers['location'].rpartition('/')[2]}"
            key = {}
        else:
            path = "sessions" if is_beta else "client_secrets"
            body = json.dumps(session if is_beta else {"session": session})
            reply = await request("POST", f"{daemon.url}v1/realtime/{path}", headers=_JSON, body=body)
            assert reply.status == 200, reply.body
            secret = reply.json["client_secret"]["value"] if is_beta else reply.json["value"]
            query, key = "", {"Authorization": f"Bearer {secret}"}
        async with open_socket(daemon.url, query, additional_headers=key) as client:
            [update] = service.visits[0].events
            assert update["session"] == (wanted if is_beta else nested)
            shown = client.events[0]["session"]
            assert shown["beta_fields"] == {"chat_mode": "video"}
            if not is_beta or door == "beta form":  # a listener of a call has its own dialect
                assert shown["audio"]["input"]["turn_detection"] == {"type": "client_vad"}
            else:
                assert shown["turn_detection"] == {"type": "client_vad"}


async def test_a_server_of_the_other_dialect_gets_it_in_its_words(serve_with: ServeWith) -> None:
    """Settings where beta has them, what it does not know where it stood, and what a profile adds unless it is set."""
    async with Service.serving(_echo_in_beta) as service:
        glm = NamedUpstream(url=service.url, profile="glm")
        async with (
            serve_with(upstream="glm", upstreams={"glm": glm}) as daemon,
            open_socket(daemon.url, "model=any") as client,
        ):
            update: Event = {"type": "session.update", "session": {"type": "realtime"}}
            for session in (
                {"instructions": "Sing."},
                {**_NEW, "audio": _SOUND},
                {"instructions": "Dance."},
                {"beta_fields": {"tts_source": "e2e"}},
            ):
                await client.send({**update, "session": {**update["session"], **session}})
            await client.send({"type": "session.update", "session": ["no object"]})
            await client.send({"type": "input_audio_buffer.append_video_frame", "video_frame": "AAAA"})
            await client.until("session.updated", number=4)
            visit = service.visits[0]
            await visit.until_heard(6)
            events = _written(visit.events)
            assert [event["session"].get("beta_fields") for event in events[:4]] == [
                {"chat_mode": "audio"},
                {"chat_mode": "video"},
                {"chat_mode": "video"},
                {"chat_mode": "video", "tts_source": "e2e"},
            ]
            assert events[1]["session"] == {
                "instructions": "Sing.",
                "beta_fields": {"chat_mode": "video"},
                "tools": _NEW["tools"],
                "include": ["item.emotion"],
                "max_response_output_tokens": None,
                "turn_detection": {"type": "client_vad"},
                "input_audio_transcription": _SOUND["input"]["transcription"],
                "audio": {"input": {"echo_cancellation": True}},
            }
            assert events[4]["session"] == ["no object"]
            assert events[5]["video_frame"] == "AAAA"
            assert client.of("session.updated")[-1]["session"]["beta_fields"]["tts_source"] == "e2e"


async def test_a_beta_client_of_the_other_dialect(serve_with: ServeWith) -> None:
    """A flat session reaches a nested one, and comes back, with what neither knows."""
    async with (
        Service.serving(_echo) as service,
        serve_with(upstream=service.url) as daemon,
        open_socket(daemon.url, "model=any", additional_headers=_BETA) as client,
    ):
        await client.send(
            {"type": "session.update", "session": {"voice": "ara", "beta_fields": {"chat_mode": "video"}}}
        )
        told = (await client.until("session.updated"))["session"]
        assert (told["voice"], told["beta_fields"], told["mood"]) == ("ara", {"chat_mode": "video"}, "calm")
        [update] = _written(service.visits[0].events)
        assert update["session"] == {
            "type": "realtime",
            "audio": {"output": {"voice": "ara"}},
            "beta_fields": {"chat_mode": "video"},
        }


# The embedded engine


async def test_the_engine_says_what_it_does_not_know(serve_with: ServeWith) -> None:
    """As the real service does, field by field; the session lives."""
    async with serve_with() as daemon, open_socket(daemon.url, "model=any") as client:
        for number, (event, code, param) in enumerate(UNKNOWN.values(), start=1):
            await client.send({**event, "event_id": f"event_{number}"})
            error = (await client.until("error", number=number))["error"]
            assert (error["code"], error["param"], error["event_id"]) == (code, param, f"event_{number}")
        assert client.types == ["session.created", *["error"] * len(UNKNOWN)]


@pytest.mark.parametrize(
    ("path", "session", "code", "param"),
    [
        ("client_secrets", {"type": "realtime", "beta_fields": {}}, "unknown_parameter", "session.beta_fields"),
        ("client_secrets", {"type": "translation"}, "invalid_value", "session.type"),
        ("client_secrets", {"include": ["item.emotion"]}, "invalid_value", "session.include[0]"),
        ("sessions", {"beta_fields": {}}, "unknown_parameter", "beta_fields"),
        ("sessions", {"turn_detection": {"type": "client_vad"}}, "invalid_value", "turn_detection.type"),
    ],
)
async def test_the_engine_refuses_a_key_for_what_it_does_not_know(
    serve_with: ServeWith, path: str, session: Event, code: str, param: str
) -> None:
    """When the key is asked for, with the field's name as the request has it."""
    body = session if path == "sessions" else {"session": session}
    async with serve_with() as daemon:
        reply = await request("POST", f"{daemon.url}v1/realtime/{path}", headers=_JSON, body=json.dumps(body))
        assert reply.status == 400
        assert (reply.json["error"]["code"], reply.json["error"]["param"]) == (code, param)


async def test_who_answers_decides_by_the_model(serve_with: ServeWith) -> None:
    """With several upstreams, a session is judged by the one that its model leads to."""
    async with Service.serving(_echo) as service:
        upstreams = {"far": NamedUpstream(url=service.url, models=("far-model",))}
        async with serve_with(upstreams=upstreams) as daemon:
            for model, status in (("far-model", 200), ("near-model", 400)):
                body = json.dumps({"session": {"type": "realtime", "model": model, "beta_fields": {}}})
                url = f"{daemon.url}v1/realtime/client_secrets"
                assert (await request("POST", url, headers=_JSON, body=body)).status == status
