"""The log of calls to which everything happens: each line can be found by the call's id."""

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict, WrappedLogger

from bridge.context import CallContext, TraceContext
from bridge.log import configure
from bridge.webrtc.dial import dial
from bridge.webrtc.runner import PeerRunner
from bridge.wire.message import EncodedMessage
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.telephony.calling import calling, dialling, gone, session_of, until
from tests.telephony.rows import SETTINGS
from tests.upstream.service import Refusal, Service, Visit
from tests.webrtc.calling import Recorder

_PACKAGE = Path(__file__).parents[2] / "bridge"

_OF_THE_PROCESS = ("daemon.", "peer.complexity", "peer.socket_closed", "registry.overloaded", "registry.relieved")
"""What the lines begin with that belong to no call."""

_PROCESS_LOGGERS = {
    "serve",
    "session.fanout.listener",
    "context",
    "daemon",
    "handover",
    "api.http",
    "api.refusals",
    "api.server",
    "api.tls_listener",
    "calls.events",
    "cluster.carriers",
    "cluster.events",
    "cluster.notes_store",
    "cluster.link",
    "cluster.member",
    "cluster.nodes",
    "cluster.store",
    "calls.overload",
    "calls.reaper",
    "doctor.stages",
    "engine.local",
    "engine.local_llm",
    "engine.speech_server",
    "log",
    "observe.worker_pages",
    "observe.load",
    "observe.otlp",
    "observe.readiness",
    "observe.webhooks",
    "recording.recorder",
    "recording.retention",
    "recording.uploads",
    "reload",
    "supervisor.command",
    "supervisor.process",
    "supervisor.supervisor",
    "supervisor.worker",
    "telephony.asterisk.carrier",
    "telephony.audiosocket.connection",
    "telephony.carrier_calls",
    "telephony.hang_up",
    "telephony.jwks",
    "telephony.service",
    "webrtc.endpoint",
    "webrtc.runner",
}
"""The modules that have something to say which belongs to no call, or to none yet."""


def _without_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Reading its source lines would block the loop, which no test may."""
    event.pop("exc_info", None)
    return event


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log from debug up, as a file has it."""
    before, root = structlog.get_config(), logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    stream = io.StringIO()
    configure("json", "debug", stream)
    structlog.configure(processors=[_without_traceback, *structlog.get_config()["processors"]])
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def _read(stream: io.StringIO) -> dict[str, list[dict[str, Any]]]:
    """The lines of calls by their event."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, stream.getvalue().splitlines()):
        if not line["event"].startswith(_OF_THE_PROCESS):
            found.setdefault(line["event"], []).append(line)
    return found


def _fail(*_: object) -> None:
    raise RuntimeError("nobody thought of this")


async def _greet(visit: Visit) -> None:
    await visit.greet()
    await visit.say("session.updated", session=(await visit.hear("session.update"))["session"])


async def _greet_and_vanish(visit: Visit) -> None:
    await _greet(visit)
    await visit.cut()


async def _greet_and_stay(visit: Visit) -> None:
    await _greet(visit)
    await visit.until_closed()


def _remove_files(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


async def test_every_line_of_a_telephone_call(
    serve_with: ServeWith, lines: io.StringIO, tmp_path: Path, short_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its upstream refuses and is lost, its recording, one event and its leg fail: every line names the call."""
    parameters = {"lang": "en", "apiToken": "hush-hush", "story": "once " * 200}
    async with (
        Service.serving(Refusal(503), _greet_and_vanish, _greet_and_stay) as service,
        serve_with(
            **SETTINGS, upstream=service.url, upstream_key="k", record_dir=str(tmp_path), record_calls=True
        ) as daemon,
        calling(dialling(daemon, "twilio", call="CA1", parameters=parameters)) as caller,
    ):
        session = await session_of(daemon, caller)
        caller.say(short_pcm)
        await service.visit(2)
        await until(daemon, lambda: "upstream.lost" in lines.getvalue(), "loss of the upstream")
        async with open_socket(daemon.url, f"call_id={session.info.id}") as listener:
            monkeypatch.setattr(session.upstream, "receive_client_event", _fail)
            await listener.send({"type": "input_audio_buffer.commit"})
            await listener.until("error")
            _remove_files(tmp_path)  # the recording cannot be completed
            monkeypatch.setattr(session.upstream, "receive_caller_audio", _fail)
            await gone(daemon)
        await until(daemon, lambda: "recorder.failed" in lines.getvalue(), "end of the recording")
    found = _read(lines)
    told = {"call.opened", "call.closed", "recorder.failed", "session.event_failed", "telephony.handler_failed"}
    assert told | {"upstream.lost", "upstream.retry"} <= found.keys()
    assert {line.get("call_id") for named in found.values() for line in named} == {session.info.id}
    for line in (*found["call.opened"], *found["call.closed"]):
        assert line["caller"].startswith("127.0.0.1:")
        assert line["carrier_ids"]["callSid"] == "CA1"
        assert line["carrier_ids"].keys() == {"callSid", "streamSid"}
        metadata = line["metadata"]
        assert (metadata["lang"], metadata["apiToken"], len(metadata["story"])) == ("en", "[redacted]", 256)
    [retry] = found["upstream.retry"]
    assert (retry["url"], retry["code"]) == (service.url.partition("?")[0], "upstream_http_503")
    assert "503" in retry["message"]
    assert "hush-hush" not in lines.getvalue()


async def test_every_line_of_a_call_over_webrtc(
    serve_with: ServeWith, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peer's handler fails; a library that writes in the call's task names the call as well."""
    caller, call_ids = Recorder(), []
    async with serve_with() as daemon, PeerRunner() as runner:

        async def signal(offer: str) -> bytes:
            reply = await request(
                "POST", f"{daemon.url}v1/realtime/calls", headers={"Content-Type": "application/sdp"}, body=offer
            )
            [session] = daemon.registry.sessions
            monkeypatch.setattr(session.legs, "receive_text", _fail)
            monkeypatch.setattr(
                session.legs, "connected", lambda _: logging.getLogger("aiortc").warning("library speaks")
            )
            call_ids.append(session.info.id)
            return reply.body

        async with dial(runner, caller, signal):
            await caller.until(lambda: caller.texts)
            caller.sinks[0].send_message(EncodedMessage(b"{}"))
            await gone(daemon)
    found = _read(lines)
    assert {"call.closed", "peer.handler_failed", "library speaks"} <= found.keys()
    of_the_daemon = [line for line in found.pop("peer.state") if "call_id" in line]  # the caller's peer has no call
    assert {line["call_id"] for line in of_the_daemon} == set(call_ids)
    assert {line.get("call_id") for named in found.values() for line in named} == set(call_ids)


def test_a_secret_among_the_metadata_is_not_shown() -> None:
    """What opens an endpoint is left out of the lines, whatever its name; so is what is beyond the bounds."""
    metadata = {"carrier_call_id": "uuid", "a": "b"} | {f"name{number}": "v" for number in range(50)}
    context = CallContext(call_id="rtc_1", session_id="sess_1", metadata=metadata, secrets=("uuid",))
    assert "uuid" not in str(context.origin)
    assert "secrets" not in repr(context)
    assert context.origin["metadata"]["a"] == "b"
    assert len(context.origin["metadata"]) == 15


def test_a_telephone_number_is_not_written_down() -> None:
    """Its last two digits tell callers apart, and say nothing of who they are; other digits stay as they are."""
    metadata = {
        "from": "0151 2345678",
        "sip": "sip:+15551234567@pbx",
        "order": "123456789",
        "note": "+1 (555) 123-45.69",
    }
    shown = CallContext(call_id="rtc_1", session_id="sess_1", metadata=metadata).origin["metadata"]
    assert shown == {"from": "…78", "sip": "sip:…67@pbx", "order": "123456789", "note": "…69"}


def test_a_trace_is_on_the_lines_as_well(lines: io.StringIO) -> None:
    """A call that is a part of a trace names both."""
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    CallContext(call_id="rtc_1", session_id="sess_1", trace=trace).logger("session").info("call.lost")
    [line] = _read(lines)["call.lost"]
    assert (line["call_id"], line["trace_id"]) == ("rtc_1", "0af7651916cd43dd8448eb211c80319c")


def test_whoever_works_for_a_call_has_its_logger() -> None:
    """Only modules with something to say beyond any call make a logger of their own."""
    found = set()
    for path in _PACKAGE.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(ast.unparse(call).rpartition(".")[2] == "get_logger" for call in calls):
            found.add(".".join(path.relative_to(_PACKAGE).with_suffix("").parts))
    assert found == _PROCESS_LOGGERS
