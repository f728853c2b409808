"""A trace of each call, as a real receiver of OTLP gets it; and W3C trace context from outside and on."""

import asyncio
import json
import sqlite3
import time
from base64 import b64encode
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.config import load
from bridge.context import TraceContext
from bridge.errors import ConfigError
from bridge.observe.tracing import wants_content
from bridge.observe.webhook_store import Delivery, WebhookStore
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.machine import scaled
from tests.observe.collector import Collector, Received
from tests.observe.receiver import SECRET, Receiver
from tests.telephony.calling import calling, dialling, session_of
from tests.telephony.rows import SETTINGS
from tests.upstream.service import Refusal, Service, Visit

_LIMIT_S = scaled(15.0)
_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
_PARENT = f"00-{_TRACE}-{_SPAN}-01"
_GIVEN: Any = {"additional_headers": {"traceparent": _PARENT, "tracestate": "shop=1"}}
_CLIENT, _SERVER = 3, 2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches do not wait for more, and tries end soon: by OpenTelemetry's own variables, which count here."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


async def _speak(client: EventSocket, pcm: bytes) -> None:
    for start in range(0, len(pcm), 48_000):
        piece = b64encode(pcm[start : start + 48_000]).decode()
        await client.send({"type": "input_audio_buffer.append", "audio": piece})


async def _write(client: EventSocket, text: str, number: int = 1) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send({"type": "conversation.item.create", "item": item})
    await client.send({"type": "response.create"})
    await client.until("response.done", number=number)


def _named(spans: list[Received], name: str) -> Received:
    (found,) = [span for span in spans if span.name == name]
    return found


async def test_a_call_is_a_trace_with_its_turns(serve_with: ServeWith, short_pcm: bytes) -> None:
    """It is below the request's span; each turn has its stages, with the conventions' names; nothing that was said."""
    async with Collector.collecting() as collector, serve_with(otlp_endpoint=collector.url) as daemon:
        async with open_socket(daemon.url, "model=any", **_GIVEN) as client:
            await _speak(client, short_pcm)
            await client.until("response.done")
            await _write(client, "A secret of mine", number=2)
            session = client.events[0]["session"]
            listed = (await request("GET", f"{daemon.url}v1/calls?q={_TRACE}")).json["data"]
            assert [(call["id"], call["trace_id"]) for call in listed] == [(session["id"], _TRACE)]
        (call,) = await collector.until("call websocket")
    assert (call.trace_id, call.parent_id, call.kind, call.is_error) == (_TRACE, _SPAN, _SERVER, False)
    assert call.resource["service.name"] == "bridge"
    wanted = {
        "bridge.call.id": session["id"],
        "bridge.call.transport": "websocket",
        "bridge.call.result": "success",
        "bridge.call.reason": "client_closed",
        "bridge.call.turns": 2,
        "gen_ai.conversation.id": session["id"],
        "gen_ai.request.model": "any",
    }
    assert wanted.items() <= call.attributes.items()
    assert all(span.trace_id == _TRACE for span in collector.spans)
    setup, spoken, written = collector.below(call)
    assert (setup.name, spoken.name, written.name) == ("setup", "turn", "turn")
    stages = collector.below(spoken)
    assert [stage.name for stage in stages] == ["speech", "wait", "chat any"]
    speech, wait, chat = stages
    assert speech.ended_s == wait.began_s
    assert spoken.notes == ["first sound"]
    assert chat.kind == wait.kind == _CLIENT
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "any",
        "gen_ai.output.type": "speech",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.conversation.id": session["id"],
    }.items() <= chat.attributes.items()
    assert chat.attributes["gen_ai.usage.output_tokens"] >= 0
    assert [stage.name for stage in collector.below(written)] == ["chat any"]
    for span in collector.spans:
        assert span.began_s <= span.ended_s
        assert "secret" not in json.dumps(span.attributes)


async def test_a_telephone_call_is_heard_when_it_is_played(
    serve_with: ServeWith, short_pcm: bytes, tmp_path: Path
) -> None:
    """The wait lasts until the carrier plays; the carrier's parameter brings the trace, and webhooks pass it on."""
    async with Receiver.receiving() as receiver, Collector.collecting() as collector:
        hooks: dict[str, Any] = {
            "webhook_url": (receiver.url,),
            "webhook_secret": (SECRET,),
            "webhook_queue": str(tmp_path / "hooks.db"),
            "webhook_private": True,
        }
        settings = {**SETTINGS, **hooks, "otlp_endpoint": collector.url, "incoming_wait": ("twilio",)}
        async with serve_with(**settings) as daemon:
            parameters = {"traceparent": _PARENT}
            async with calling(dialling(daemon, "twilio", parameters=parameters)) as caller:
                (incoming,) = await receiver.until(1)
                path = f"{daemon.url}v1/realtime/calls/{incoming.data.call_id}/accept"
                assert (await request("POST", path, body='{"type": "realtime"}')).status == 200
                session = await session_of(daemon, caller)
                caller.say(short_pcm)
                await caller.hear_answer()
            (call,) = await collector.until("call twilio")
            await receiver.until(3)
    assert session.context.trace is not None
    assert (call.trace_id, call.parent_id, call.span_id) == (_TRACE, _SPAN, session.context.trace.span_id)
    waiting, turn, setup = (_named(collector.below(call), name) for name in ("waiting", "turn", "setup"))
    assert call.began_s == waiting.began_s <= waiting.ended_s <= setup.ended_s
    assert turn.notes == ["first sound"]
    _named(collector.below(turn), "wait")
    told = {received.headers["traceparent"] for received in receiver.taken}
    assert told == {f"00-{_TRACE}-{call.span_id}-01"}


async def test_dials_and_their_failures(serve_with: ServeWith) -> None:
    """Each try is a span, with why it failed; the upstream that answers learns of the trace."""

    async def answer(visit: Visit) -> None:
        await visit.greet()
        await visit.until_closed()

    async with Service.serving(Refusal(503), answer) as service, Collector.collecting() as collector:
        async with serve_with(upstream=service.url, otlp_endpoint=collector.url) as daemon:
            async with open_socket(daemon.url, "model=any", **_GIVEN):
                visit = await service.visit(1)
            (call,) = await collector.until("call websocket")
    refused, answered = [span for span in collector.below(call) if span.name == "dial upstream"]
    assert (refused.kind, refused.is_error, refused.attributes["error.type"]) == (_CLIENT, True, "upstream_http_503")
    assert (answered.is_error, answered.attributes["bridge.upstream.dial"]) == (False, 2)
    assert visit.headers["traceparent"] == f"00-{_TRACE}-{call.span_id}-01"
    assert visit.headers["tracestate"] == "shop=1"


async def test_what_was_said_by_the_standard_variable_alone(
    serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` lets the answer and the instructions in."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    async with Collector.collecting() as collector, serve_with(otlp_endpoint=collector.url) as daemon:
        async with open_socket(daemon.url, "model=any") as client:
            await client.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Be kind."}})
            await client.until("session.updated")
            await _write(client, "Hello there")
        (chat,) = await collector.until("chat any")
    assert json.loads(chat.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    (message,) = json.loads(chat.attributes["gen_ai.output.messages"])
    assert message["role"] == "assistant"
    assert message["parts"][0]["content"]


@pytest.mark.parametrize(
    ("value", "is_so"),
    [("", False), ("false", False), ("NO_CONTENT", False), ("true", True), ("SPAN_AND_EVENT", True)],
)
def test_the_words_for_content(value: str, is_so: bool) -> None:
    """As OpenTelemetry's instrumentations read them."""
    assert wants_content({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": value}) is is_so


async def test_a_collector_that_is_down_holds_nothing_up(serve_with: ServeWith) -> None:
    """Calls go on, what is lost is counted, and the end of the daemon does not wait for it."""
    async with Collector.collecting() as collector:
        url = collector.url
    async with serve_with(otlp_endpoint=url) as daemon:
        async with open_socket(daemon.url, "model=any") as client:
            await _write(client, "Hello")
        async with asyncio.timeout(_LIMIT_S):
            while True:
                text = (await request("GET", f"{daemon.url}metrics")).body.decode()
                if "bridge_trace_spans_dropped_total 0.0" not in text:
                    break
                async with open_socket(daemon.url, "model=any"):
                    pass
        assert "bridge_trace_spans_exported_total 0.0" in text


async def test_a_collector_that_says_nothing_does_not_delay_the_end(serve_with: ServeWith) -> None:
    """Its connection is open, and no answer comes: the loop runs on, and the stop has a limit."""
    async with Collector.collecting() as collector:
        collector.is_silent = True
        async with serve_with(otlp_endpoint=collector.url) as daemon:
            async with open_socket(daemon.url, "model=any"):
                pass
            await collector.until_asked()
            began = time.monotonic()
            async with open_socket(daemon.url, "model=any") as client:
                await _write(client, "Hello")
        assert time.monotonic() - began < scaled(8.0)


async def test_a_trace_that_nobody_wants(serve_with: ServeWith) -> None:
    """The sampled flag of the request counts: no span, but the same trace on the call's lines and to the upstream."""
    headers: Any = {"additional_headers": {"traceparent": f"00-{_TRACE}-{_SPAN}-00"}}
    async with Collector.collecting() as collector, serve_with(otlp_endpoint=collector.url) as daemon:
        async with open_socket(daemon.url, "model=any", **headers) as client:
            await _write(client, "Hello")
            (listed,) = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
        async with open_socket(daemon.url, "model=other"):
            pass
        await collector.until("call websocket")
    assert listed["trace_id"] == _TRACE
    assert {span.attributes["gen_ai.request.model"] for span in collector.spans if span.name.startswith("call")} == {
        "other"
    }


async def test_without_tracing_the_context_is_passed_on_as_it_came(serve_with: ServeWith) -> None:
    """It is off unless an endpoint is set; a call that came with no trace has none."""

    async def answer(visit: Visit) -> None:
        await visit.greet()
        await visit.until_closed()

    async with Service.serving(answer) as service, serve_with(upstream=service.url) as daemon:
        async with open_socket(daemon.url, "model=any", **_GIVEN):
            assert (await service.visit(1)).headers["traceparent"] == _PARENT
        async with open_socket(daemon.url, "model=any"):
            assert "traceparent" not in (await service.visit(2)).headers
            (listed,) = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
            assert listed["trace_id"] is None
        assert "bridge_trace" not in (await request("GET", f"{daemon.url}metrics")).body.decode()


async def test_an_offer_brings_its_trace(serve_with: ServeWith, offer: str) -> None:
    """As an upgrade does."""
    async with serve_with() as daemon:
        headers = {"Content-Type": "application/sdp", "traceparent": _PARENT}
        assert (await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=offer)).status == 201
        (session,) = daemon.registry.sessions
        assert session.context.trace == TraceContext(_TRACE, _SPAN)


def test_trace_context_is_read_as_the_standard_has_it() -> None:
    """W3C Trace Context, sections 3.2 and 3.3: what is malformed counts as none; later versions may say more."""
    assert TraceContext.of({"traceparent": _PARENT}) == TraceContext(_TRACE, _SPAN)
    assert TraceContext.of({"traceparent": f"cc-{_TRACE}-{_SPAN}-00-more"}) == TraceContext(_TRACE, _SPAN, False)
    for wrong in (
        "",
        f"ff-{_TRACE}-{_SPAN}-01",
        f"00-{_TRACE}-{_SPAN}-01-more",
        f"00-{'0' * 32}-{_SPAN}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE.upper()}-{_SPAN}-01",
        f"00-{_TRACE}-{_SPAN}",
    ):
        assert TraceContext.of({"traceparent": wrong}) is None, wrong
    given = TraceContext.of({"traceparent": _PARENT, "tracestate": "a=1,b=2"})
    assert given is not None
    assert given.headers == {"traceparent": _PARENT, "tracestate": "a=1,b=2"}
    for state in ("x" * 513, "a=\x07", "a=ü"):
        odd = TraceContext.of({"traceparent": _PARENT, "tracestate": state})
        assert odd is not None
        assert odd.headers == {"traceparent": _PARENT}


def test_a_file_of_webhooks_of_an_earlier_version(tmp_path: Path) -> None:
    """It gets the new column, and keeps what waits in it."""
    path = str(tmp_path / "hooks.db")
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TABLE deliveries (number INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT NOT NULL, "
            "subject TEXT NOT NULL, "
            "event_id TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL, created_at REAL NOT NULL, "
            "attempts INTEGER NOT NULL DEFAULT 0, died_at REAL) STRICT"
        )
        file.execute(
            "INSERT INTO deliveries (url, subject, event_id, type, body, created_at) "
            "VALUES ('u', 's', 'e', 't', x'7b7d', 1)"
        )
        file.commit()
    store = WebhookStore(path)
    (waiting,), given_up = store.adopt(["u"], 2.0)
    assert (waiting, given_up) == (Delivery(1, "u", "s", "e", "t", b"{}", 1.0), 0)
    store.add_deliveries([Delivery(0, "u", "s", "f", "t", b"{}", 2.0, traceparent=_PARENT)])
    store.close()
    again = WebhookStore(path)
    assert [one.traceparent for one in again.adopt(["u"], 3.0)[0]] == ["", _PARENT]
    again.close()


def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at the start, as is one without the extra that it needs."""
    with pytest.raises(ConfigError, match="otlp_endpoint: must be http"):
        load({"otlp_endpoint": "collector:4318"}, {}, None)
    monkeypatch.setattr("bridge.config.observing.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs OpenTelemetry: pip install '.\[otel\]'"):
        load({"otlp_endpoint": "http://127.0.0.1:4318"}, {}, None)
