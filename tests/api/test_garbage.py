"""Garbage, and what is nearly right, at each entry: client events of both dialects, offers, HTTP bodies."""

import asyncio
import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from bridge.api.ice_servers import TurnServers
from bridge.api.keys import Keys
from bridge.api.proxies import TrustedProxies
from bridge.api.server import new_app
from bridge.calls.keys import LocalKeyStore
from bridge.calls.quotas import LocalKeyAllowance, LocalQuotas
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.config import TurnSettings
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.errors import BadOffer
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import ListenerState
from bridge.webrtc.sdp import parse_offer
from bridge.wire.stats import WEBSOCKET, Dialect, ListenerRole
from tests.fakes import FakeSink

_OFFER = (Path(__file__).parents[1] / "webrtc/offers/chrome.sdp").read_bytes()
_SOUND = "AAAA" * 1600  # 100 ms of PCM16
_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": [1]}}}}
_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}

_SHARED: list[Any] = [
    {"type": "input_audio_buffer.append", "audio": _SOUND},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1},
    {"type": "response.cancel", "response_id": None},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
    },
]
_GA_EVENTS: list[Any] = [
    *_SHARED,
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "audio": {
                "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": _VAD, "transcription": {}},
                "output": {"format": {"type": "audio/pcmu"}, "voice": "alloy", "speed": 1.0},
            },
            "tools": [_TOOL],
            "tool_choice": {"type": "function", "name": "f"},
            "max_output_tokens": "inf",
            "truncation": {
                "type": "retention_ratio",
                "retention_ratio": 0.5,
                "token_limits": {"post_instructions": 9},
            },
            "include": ["item.input_audio_transcription.logprobs"],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True, "reason": "ok"},
    },
    {"type": "response.create", "response": {"input": [{"type": "item_reference", "id": "item_1"}]}},
    {
        "type": "conversation.item.create",
        "item": {
            "id": "item_1",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}, {"type": "input_audio", "audio": _SOUND}],
        },
    },
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "output_modalities": ["text"],
            "audio": {"output": {"voice": "alloy"}},
            "tools": [_TOOL],
            "metadata": {"a": "b"},
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        },
    },
]
_FLAT: Any = {
    "audio": {},  # GA's, in front of what belongs into it
    "modalities": ["audio", "text"],
    "voice": "alloy",
    "input_audio_format": "pcm16",
    "output_audio_format": "g711_alaw",
    "input_audio_transcription": {"model": "whisper-1"},
    "turn_detection": _VAD,
    "tools": [_TOOL],
    "temperature": 0.8,
    "max_response_output_tokens": 100,
}
_BETA_EVENTS: list[Any] = [
    *_SHARED,
    {"type": "session.update", "session": _FLAT},
    {"type": "session.update", **_FLAT},
    {"type": "transcription_session.update", "session": {"input_audio_format": "pcm16"}},
    {
        "type": "conversation.item.create",
        "item": {"id": "item_1", "type": "message", "role": "user", "content": [{"type": "text", "text": "hi"}]},
    },
    {
        "type": "response.create",
        "response": {
            "modalities": ["text", "audio"],
            "voice": "alloy",
            "output_audio_format": "pcm16",
            "temperature": 1,
            "input": [{"type": "message", "role": "user", "content": [{"type": "text", "text": "hi"}]}],
        },
    },
]
_BODIES: list[Any] = [
    {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": _GA_EVENTS[9]["session"]},
    {"bridge": {"max_duration_s": 5, "role": "observer", "allowed_origins": ["https://a.example"]}},
    _FLAT,
]

_words = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates as well
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _words
    | st.sampled_from(
        ["", "audio", "text", "root", "item_1", "realtime", "transcription", "g711_ulaw", -1, 0, 1, 2**63]
    )
)
_json = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3))
_changes = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from(["replace", "delete", "add"]), _json), min_size=0, max_size=3
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key of it, outermost first."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def _changed(value: Any, changes: list[tuple[int, str, Any]]) -> Any:
    """``value`` with something replaced, left out or added, anywhere in it."""
    value = copy.deepcopy(value)
    for at, what, new in changes:
        places = list(_places(value))
        if not places:
            return new
        holder, key = places[at % len(places)]
        if what == "replace":
            holder[key] = new
        elif what == "delete":
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(new)[:20]] = new
        else:
            holder.append(new)
    return value


def _near(valid: list[Any]) -> st.SearchStrategy[Any]:
    return st.builds(_changed, st.sampled_from(valid), _changes)


def _texts(valid: list[Any]) -> st.SearchStrategy[str]:
    """JSON mostly, cut sometimes, and anything at all."""
    message = st.builds(json.dumps, _near(valid))
    cut = st.builds(lambda text, at: text[: at % (len(text) + 1)], message, st.integers(0, 500))
    return st.one_of(message, message, message, st.builds(json.dumps, _json), cut, st.text(max_size=20))


def _is_json(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)  # NaN and Infinity are Python's own

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@pytest.fixture
def run() -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine in one event loop for all examples."""
    with asyncio.Runner() as runner:
        yield runner.run


async def _converse(texts: list[str], *, dialect: Dialect) -> None:
    """Each message is answered by one error event at most; whatever it was, the session lives on."""
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 9, "call_limit_s": 60.0, "backlog": Limits()}
    async with Registry(lambda info: Engine(Parrot(), info.context), CallLimits(**limits)) as registry:
        session = registry.open(Terms(model="parrot"), transport=WEBSOCKET)
        owner = session.audience.attach(FakeSink(), role=ListenerRole.OWNER)
        for text in texts:
            sink = FakeSink()
            listener = session.audience.attach(sink, role=ListenerRole.CONTROLLER, dialect=dialect)
            sink.forget()
            session.receive_client_text(listener, text)
            refused = [event for event in sink.of_type("error") if event["error"]["type"] == "invalid_request_error"]
            assert len(refused) <= 1, sink.events
            assert all(event["event_id"] and event["error"]["message"] for event in refused)
            assert sink.closed is None
            if [event["error"]["code"] for event in refused] == ["invalid_json"]:
                assert not _is_json(text) or "\\ud" in text, text
            await asyncio.sleep(0)
            session.detach(listener)
            assert not session.lifetime.closed.is_set()
        sink = FakeSink()
        session.receive_client_text(
            session.audience.attach(sink, role=ListenerRole.CONTROLLER), '{"type": "input_audio_buffer.clear"}'
        )
        assert sink.types[-1] == "input_audio_buffer.cleared"
        assert owner.state is not ListenerState.CLOSED
        session.close("hangup")


@given(texts=st.lists(_texts(_GA_EVENTS), min_size=1, max_size=5))
def test_events_of_a_ga_client(run: Callable[[Any], Any], texts: list[str]) -> None:
    """No message does worse than an error event."""
    run(_converse(texts, dialect=Dialect.GA))


@given(texts=st.lists(_texts(_BETA_EVENTS), min_size=1, max_size=5))
def test_events_of_a_beta_client(run: Callable[[Any], Any], texts: list[str]) -> None:
    """The same through the translation."""
    run(_converse(texts, dialect=Dialect.BETA))


@pytest.mark.parametrize("dialect", [Dialect.GA, Dialect.BETA])
async def test_every_depth(dialect: Dialect) -> None:
    """However deep a message is nested, it is taken or refused; afterwards listeners of both dialects come in."""
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 9, "call_limit_s": 60.0, "backlog": Limits()}
    taken = set()
    for depth in range(700, 1010, 2):
        async with Registry(lambda info: Engine(Parrot(), info.context), CallLimits(**limits)) as registry:
            session = registry.open(Terms(model="parrot"), transport=WEBSOCKET)
            sink = FakeSink()
            listener = session.audience.attach(sink, role=ListenerRole.OWNER, dialect=dialect)
            sink.forget()
            deep = f'{{"a": {"[" * depth}{"]" * depth}}}'
            tool = f'{{"type": "function", "name": "f", "parameters": {deep}}}'
            session.receive_client_text(
                listener, f'{{"type": "session.update", "session": {{"type": "realtime", "tools": [{tool}]}}}}'
            )
            (answer,) = sink.events
            assert answer["type"] == "session.updated" or answer["error"]["code"] == "invalid_value"
            taken.add(answer["type"] == "session.updated")
            for spoken in (Dialect.GA, Dialect.BETA):
                other = FakeSink()
                session.audience.attach(other, role=ListenerRole.CONTROLLER, dialect=spoken)
                assert other.types[0] == "session.created"
            session.close("hangup")
    assert taken == {False, True}


def _mixed(lines: list[bytes], changes: list[tuple[int, str, bytes]]) -> bytes:
    lines = list(lines)
    for at, what, new in changes:
        place = at % len(lines) if lines else 0
        if what == "replace" and lines:
            lines[place] = lines[place][: at % 12] + new
        elif what == "delete" and lines:
            del lines[place]
        else:
            lines.insert(place, lines[place] if lines and at % 2 else new)
    return b"\r\n".join(lines)


_offers = st.one_of(
    st.builds(
        _mixed,
        st.just(_OFFER.split(b"\r\n")),
        st.lists(
            st.tuples(
                st.integers(0, 1000),
                st.sampled_from(["replace", "delete", "add"]),
                st.one_of(
                    st.binary(max_size=12),
                    st.sampled_from(
                        [b"m=audio 9 X 111", b"a=group:BUNDLE 0 0", b"a=mid:0", b"a=sctp-port:99999999999"]
                    ),
                ),
            ),
            max_size=6,
        ),
    ),
    st.binary(max_size=300),
)


@given(body=_offers)
def test_offers(body: bytes) -> None:
    """Read, or refused by name."""
    with contextlib.suppress(BadOffer):
        assert parse_offer(body).ice_ufrag


class _NoEndpoint:
    """Takes no calls: what a good offer leads to is tested elsewhere."""

    def accept(self, offer: object, session: object, context: object) -> None:
        raise BadOffer("No calls here.")


async def _post(app: Starlette, path: str, content_type: str, body: bytes) -> tuple[int, bytes]:
    """One request straight into the application."""
    came = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(came, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode("latin-1", "replace"))],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def _ask(path: str, content_type: str, body: bytes) -> None:
    limits: Any = {"max_calls": 1, "max_listeners_per_call": 1, "call_limit_s": 60.0, "backlog": Limits()}
    async with Registry(lambda info: Engine(Parrot(), info.context), CallLimits(**limits)) as registry:
        keys = Keys((), (), LocalKeyStore())
        calls = CallService(registry, keys.store, LocalQuotas.of(calls=1), webrtc=cast(Any, _NoEndpoint()))
        app = new_app(
            calls,
            keys,
            models=dict,
            page_keys=LocalKeyAllowance(10),
            proxies=TrustedProxies(),
            turn=TurnServers(TurnSettings()),
        )
        status, answer = await _post(app, path, content_type, body)
        assert status in (200, 400, 413, 415), (status, answer)
        if status != 200:
            assert json.loads(answer)["error"]["message"]
        assert registry.sessions == []


@given(
    door=st.sampled_from(["client_secrets", "sessions", "transcription_sessions"]),
    body=_texts(_BODIES),
)
def test_json_bodies(run: Callable[[Any], Any], door: str, body: str) -> None:
    """A key, or a 400 in the protocol's own form."""
    run(_ask(f"/v1/realtime/{door}", "application/json", body.encode("utf-8", "surrogatepass")))


_FIELDS = st.sampled_from(
    [
        b'Content-Disposition: form-data; name="sdp"',
        b'Content-Disposition: form-data; name="session"',
        b"Content-Disposition: form-data; name*=utf-8''sdp; name*0*=x",
        b"Content-Type: application/json; charset=no-such",
        b"Content-Transfer-Encoding: base64",
        b"Content-Type: multipart/mixed; boundary=limit",
        b"",
    ]
)
_parts = st.tuples(
    st.lists(_FIELDS | st.binary(max_size=20), max_size=3),
    st.one_of(st.just(_OFFER), _texts(_GA_EVENTS).map(lambda text: text.encode("utf-8", "replace")), st.binary()),
)


@given(
    parts=st.lists(_parts, max_size=4), content_type=st.sampled_from(["; boundary=limit", "", "; boundary=", "; x=ü"])
)
def test_form_bodies(run: Callable[[Any], Any], parts: list[tuple[list[bytes], bytes]], content_type: str) -> None:
    """Nothing but a 400 comes of it."""
    body = b"".join(b"--limit\r\n" + b"\r\n".join(head) + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    run(_ask("/v1/realtime/calls", f"multipart/form-data{content_type}", body + b"--limit--\r\n"))
