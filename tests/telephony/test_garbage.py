"""Garbage, and what is nearly right, into each carrier's dialect: it means something, or it is ``Trouble``."""

import copy
import json
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadRequest
from bridge.telephony.asterisk.dialect import Asterisk
from bridge.telephony.audiosocket.dialect import AudioSocket, Splitter
from bridge.telephony.dialect import CarrierEvent, Dialect
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.telnyx.dialect import TELNYX_DIALECT
from bridge.telephony.twilio.dialect import TWILIO_DIALECT

_DIALECTS: list[Callable[[], Dialect]] = [
    Asterisk,
    *(partial(JsonDialect, spec) for spec in (TWILIO_DIALECT, TELNYX_DIALECT)),
]
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
        dialect: Dialect = new()
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
