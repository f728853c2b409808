"""Targets: events as JSON, those that clients send and those that services send, in both dialects."""

import asyncio
import json
from contextlib import suppress
from functools import cache
from typing import Any

from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.errors import BadEvent
from bridge.session.fanout.backlog import Limits
from bridge.session.state import SessionState
from bridge.upstream.relay import Relay
from bridge.upstream.target import Profile, load_profile
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.dialects.beta import Beta, to_beta
from bridge.wire.relayed import AudioDelta, decode_relayed
from bridge.wire.server_events import Body, encode
from bridge.wire.stats import WEBSOCKET, Dialect, ListenerRole
from tests.api.test_garbage import _BETA_EVENTS, _GA_EVENTS
from tests.engine.talk import Recorder
from tests.fakes import CONTEXT, FakeSink
from tests.fuzz.oracle import Target, values_changed

__all__ = ["TARGETS"]


# What clients send


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_note)
    return loop


_unhandled: list[dict[str, Any]] = []


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _unhandled.append(context)


def _of_client(events: list[Any]) -> list[bytes]:
    lines = [json.dumps(event).encode() for event in events]
    return [*lines, b"\n".join(lines[-4:])]


async def _converse(texts: list[str], *, dialect: Dialect) -> None:
    """Each message is answered by one complaint at most; whatever it was, the session lives on."""
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 9, "call_limit_s": 60.0, "backlog": Limits()}
    async with Registry(lambda info: Engine(Parrot(), info.context), CallLimits(**limits)) as registry:
        session = registry.open(Terms(model="parrot"), transport=WEBSOCKET)
        session.audience.attach(FakeSink(), role=ListenerRole.OWNER)
        sink = FakeSink()
        listener = session.audience.attach(sink, role=ListenerRole.CONTROLLER, dialect=dialect)
        for text in texts:
            sink.forget()
            session.receive_client_text(listener, text)
            errors = [event["error"] for event in sink.of_type("error")]
            assert sum(error["type"] == "invalid_request_error" for error in errors) <= 1, errors
            assert all(error["message"] and error["code"] != "internal_error" for error in errors), errors
            await asyncio.sleep(0)
            assert not session.lifetime.closed.is_set()
        session.close("hangup")


def _client(data: bytes, *, dialect: Dialect) -> None:
    texts = [line.decode("utf-8", "replace") for line in data.split(b"\n")[:6]]
    _unhandled.clear()
    _loop().run_until_complete(_converse(texts, dialect=dialect))
    assert _unhandled == []


def _client_ga(data: bytes) -> None:
    _client(data, dialect=Dialect.GA)


def _client_beta(data: bytes) -> None:
    _client(data, dialect=Dialect.BETA)


def _client_ga_seeds() -> list[bytes]:
    return _of_client(_GA_EVENTS)


def _client_beta_seeds() -> list[bytes]:
    return _of_client(_BETA_EVENTS)


# What services send

_IDS = {"response_id": "resp_1", "item_id": "item_b", "output_index": 0, "content_index": 0}
_USER = {"id": "item_a", "object": "realtime.item", "type": "message", "role": "user", "status": "completed",
         "content": [{"type": "input_audio", "transcript": None}]}  # fmt: skip
_ITEM = {"id": "item_b", "object": "realtime.item", "type": "message", "role": "assistant", "status": "in_progress",
         "content": []}  # fmt: skip
_CALL = {"id": "item_c", "type": "function_call", "name": "f", "call_id": "call_1", "arguments": "{}"}
_RESPONSE = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": [], "usage": None,
             "output_modalities": ["audio"], "conversation_id": "conv_1", "metadata": {"a": "b"}}  # fmt: skip
_USAGE = {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2, "input_token_details": {"text_tokens": 1}}
_SERVER: list[Body] = [
    {"type": "session.updated", "session": {"type": "realtime", "id": "sess_1", "model": "m", "expires_at": 1,
     "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": {"type": "server_vad"}},
               "output": {"format": {"type": "audio/pcmu"}, "voice": "alloy"}}}},
    {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "item_a"},
    {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "item_a"},
    {"type": "input_audio_buffer.committed", "item_id": "item_a", "previous_item_id": None},
    {"type": "conversation.item.added", "item": _USER, "previous_item_id": None},
    {"type": "conversation.item.done", "item": _USER, "previous_item_id": None},
    {"type": "conversation.item.input_audio_transcription.completed", "item_id": "item_a", "content_index": 0,
     "transcript": "hi", "usage": {"type": "duration", "seconds": 1}},
    {"type": "response.created", "response": _RESPONSE},
    {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": _ITEM},
    {"type": "conversation.item.added", "item": _ITEM, "previous_item_id": "item_a"},
    {"type": "response.content_part.added", "part": {"type": "audio", "transcript": ""}, **_IDS},
    {"type": "response.output_audio_transcript.delta", "delta": "Hello ", **_IDS},
    {"type": "response.output_audio.delta", "delta": "AAAA", **_IDS},
    {"type": "response.output_audio.done", **_IDS},
    {"type": "response.output_item.done", "response_id": "resp_1", "output_index": 0, "item": _CALL},
    {"type": "response.done", "response": {**_RESPONSE, "status": "completed", "output": [_ITEM], "usage": _USAGE}},
    {"type": "conversation.item.truncated", "item_id": "item_b", "content_index": 0, "audio_end_ms": 10},
    {"type": "conversation.item.deleted", "item_id": "item_b"},
    {"type": "error", "error": {"type": "invalid_request_error", "code": "x", "message": "no", "event_id": "e"}},
    {"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "limit": 9, "remaining": 1}]},
]  # fmt: skip
_BETA_SERVER: list[Body] = [
    {"type": "session.created", "session": {"id": "sess_1", "object": "realtime.session", "model": "m",
     "modalities": ["text", "audio"], "voice": "alloy", "input_audio_format": "pcm16", "tools": [],
     "output_audio_format": "g711_ulaw", "input_audio_transcription": {"model": "whisper-1"},
     "turn_detection": {"type": "server_vad", "create_response": True}, "max_response_output_tokens": "inf"}},
    {"type": "conversation.item.created", "item": _USER, "previous_item_id": None},
    {"type": "conversation.item.created", "item": {**_ITEM, "content": [{"type": "text", "text": "a"}]}},
    {"type": "response.created", "response": {**_RESPONSE, "modalities": ["audio"], "voice": "alloy"}},
    {"type": "response.text.delta", "delta": "Hello ", **_IDS},
    {"type": "response.audio_transcript.delta", "delta": "Hello ", **_IDS},
    {"type": "response.audio.delta", "delta": "AAAA", **_IDS},
    {"type": "response.audio.done", **_IDS},
    {"type": "response.done", "response": {**_RESPONSE, "status": "completed", "output": [_ITEM, _CALL]}},
    *_SERVER[1:4],
]  # fmt: skip


def _of_server(events: list[Body]) -> list[bytes]:
    lines = [json.dumps({"event_id": "event_1", **event}).encode() for event in events]
    return [*lines, *(b"\n".join(lines[at : at + 6]) for at in range(0, len(lines), 5))]


class _Line:
    """A line that takes everything."""

    plays = False
    passage = None
    input_format: AudioFormat = PCM16
    output_format: AudioFormat = PCM16

    async def open(self, owner: object, state: SessionState) -> None: ...
    async def run(self) -> None: ...
    async def aclose(self) -> None: ...
    def send_client_event(self, body: Body) -> None: ...
    def send_audio(self, sound: bytes) -> None: ...


def _service(data: bytes, profile: Profile) -> None:
    """What it sends is read or refused, and told to clients of both dialects; a successor can be told of it."""
    recorder = Recorder()
    relay = Relay(recorder, recorder.state, CONTEXT.logger("upstream"))
    relay.greet(_Line(), {"type": "realtime", "id": "sess_1", "model": "m"}, 0.0)
    beta = Beta()
    for line in data.split(b"\n")[:8]:
        with suppress(BadEvent):
            message = decode_relayed(line)
            if isinstance(message, AudioDelta):
                continue
            for body in profile.decode(message):
                relay.hear(body)
    relay.brief(_Line(), {"type": "realtime", "id": "sess_2"}, 1.0, is_renewal=True)
    for event in recorder.events:
        encode(event)
        to_beta(event, beta)


def _server_ga(data: bytes) -> None:
    _service(data, load_profile("openai"))


def _server_beta(data: bytes) -> None:
    _service(data, load_profile("azure-preview"))


def _server_ga_seeds() -> list[bytes]:
    return _of_server(_SERVER)


def _server_beta_seeds() -> list[bytes]:
    return _of_server(_BETA_SERVER)


TARGETS = {
    "client_ga": Target(_client_ga, _client_ga_seeds, values_changed(_client_ga_seeds()), everyday_runs=1_500),
    "client_beta": Target(_client_beta, _client_beta_seeds, values_changed(_client_beta_seeds()), everyday_runs=1_500),
    "server_ga": Target(_server_ga, _server_ga_seeds, values_changed(_server_ga_seeds()), everyday_runs=4_000),
    "server_beta": Target(_server_beta, _server_beta_seeds, values_changed(_server_beta_seeds()), everyday_runs=4_000),
}
