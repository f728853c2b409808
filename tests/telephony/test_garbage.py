"""Garbage, and what is nearly right, into each carrier's dialect: it means something, or it is ``CarrierFault``."""

import copy
import json
import pkgutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

import bridge.telephony
from bridge.errors import BadRequest
from bridge.telephony.asterisk.dialect import Asterisk
from bridge.telephony.audiosocket.dialect import AudioSocket, Splitter
from bridge.telephony.dialect import CarrierDialect, CarrierEvent
from bridge.telephony.genesys.dialect import Genesys
from bridge.telephony.json_dialect import JsonDialect, JsonSpec

_SPECS = [
    spec
    for package in pkgutil.iter_modules(bridge.telephony.__path__, "bridge.telephony.")
    if package.ispkg
    for spec in vars(import_module(f"{package.name}.dialect")).values()
    if isinstance(spec, JsonSpec) and package.name.endswith(f".{spec.name}")
]
_DIALECTS: list[Callable[[], CarrierDialect]] = [Asterisk, Genesys, *(partial(JsonDialect, spec) for spec in _SPECS)]
_SAMPLES: list[Any] = [
    {"event": "connected", "protocol": "Call", "version": "1.0.0"},
    {
        "event": "start",
        "streamSid": "MZ1",
        "stream_id": "s",
        "start": {
            "streamSid": "MZ1",
            "callSid": "CA1",
            "call_control_id": "c",
            "customParameters": {"token": "t"},
            "custom_parameters": [{"name": "a", "value": 1}],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
            "media_format": {"encoding": "PCMU", "sample_rate": 8000},
        },
    },
    {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "uuid": "u", "token": "t"},
    {"event": "websocket:notify", "payload": {"name": "b1"}},
    {"event": "websocket:dtmf", "digit": "5", "dtmf": {"digit": "5"}},
    {
        "event": "start",
        "start": {"callId": "c", "streamId": "s", "mediaFormat": {"encoding": "audio/x-mulaw"}},
        "extra_headers": "token=t;a=1",
    },
    {
        "version": "2",
        "type": "open",
        "seq": 1,
        "id": "i",
        "parameters": {
            "conversationId": "c",
            "participant": {},
            "media": [{"format": "PCMU", "channels": ["external"], "rate": 8000}],
            "inputVariables": {"a": 1},
        },
    },
    {"version": "2", "type": "dtmf", "seq": 2, "serverseq": 0, "id": "i", "parameters": {"digit": "5"}},
    {"kind": "AudioMetadata", "audioMetadata": {"encoding": "PCM", "sampleRate": 16000}},
    {"kind": "AudioData", "audioData": {"data": "AAA="}},
    {"eventType": "start", "metadata": {"callId": "c", "tracks": [{"mediaFormat": {"encoding": "audio/PCMU"}}]}},
    {"sampleRate": 16000, "callSid": "c", "token": "t"},
    {"type": "mark", "data": {"name": "b1", "event": "playout"}},
    {"event": "playedStream", "streamId": "s", "name": "b1"},
    {"event": "media", "media": {"track": "inbound", "chunk": "1", "payload": "/w=="}},
    {"event": "dtmf", "dtmf": {"digit": "5"}},
    {"event": "mark", "mark": {"name": "b1"}},
    {"event": "error", "payload": {"code": 100004, "title": "invalid_media"}},
    {"event": "stop"},
    {"event": "MEDIA_START", "channel_id": "c", "format": "ulaw", "channel_variables": {"A": 1}},
    {"event": "DTMF_END", "digit": "5"},
    {"event": "MEDIA_MARK_PROCESSED", "correlation_id": "b1"},
    {"event": "ERROR", "error_text": "x"},
]
_WORDS = [
    "MEDIA_START",
    "channel_id:c",
    "format:ulaw",
    "format:opus",
    "DTMF_END",
    "digit:5",
    "MEDIA_XOFF",
    "STATUS",
    ":",
    "",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _nearly_right(draw: st.DrawFn) -> str:
    """A message with one value replaced, one left out, or as it should be."""
    message = copy.deepcopy(draw(st.sampled_from(_SAMPLES)))
    place: Any = message
    while True:
        name = draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or not place[name] or draw(st.booleans()):
            break
        place = place[name]
    match draw(st.sampled_from(["keep", "replace", "remove"])):
        case "replace":
            place[name] = draw(_JSON)
        case "remove":
            del place[name]
    return json.dumps(message)


_MESSAGES = st.lists(
    _nearly_right()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | _JSON.map(json.dumps)
    | st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join),
    max_size=12,
)


@given(messages=_MESSAGES)
def test_no_message_crashes_a_dialect(messages: list[str | bytes]) -> None:
    """In any order; only a format that is not served is refused, and what is said back can be sent."""
    for new in _DIALECTS:
        dialect: CarrierDialect = new()
        refusals: list[str] = []
        for message in messages:
            try:
                events = dialect.decode_message(message)
            except BadRequest as refusal:
                refusals.append(refusal.code)
                break
            assert all(isinstance(event, get_args(CarrierEvent)) for event in events)
        assert refusals in ([], ["unsupported_format"])
        said = [
            dialect.encode_sound(b"ab"),
            *dialect.encode_mark("b1"),
            *dialect.encode_clear(),
            *dialect.encode_hang_up(),
        ]
        assert all(isinstance(message, str | bytes) for message in said)


@given(pieces=st.lists(st.binary(max_size=64), max_size=12))
def test_no_bytes_crash_audiosocket(pieces: list[bytes]) -> None:
    """However they are cut: what the stream holds is the same."""
    dialect, splitter = AudioSocket(), Splitter()
    frames = [frame for piece in pieces for frame in splitter.push(piece)]
    assert frames == Splitter().push(b"".join(pieces))
    for frame in frames:
        assert all(isinstance(event, get_args(CarrierEvent)) for event in dialect.decode_message(frame))
