"""Asterisk's chan_websocket: its events in both forms, its commands in kind."""

import json
from typing import Any

import pytest

from bridge.errors import BadRequest
from bridge.telephony.asterisk.dialect import FORMATS, Asterisk
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, Flow, MarkPlayed
from bridge.wire.audio import G711_ULAW, AudioFormat

_JSON_START = (
    '{"event":"MEDIA_START","connection_id":"bridge1","channel":"WebSocket/bridge1/0x7f00","channel_id":"pbx-1.42",'
    '"format":"ulaw","optimal_frame_size":160,"ptime":20,"channel_variables":{"TENANT":"a","LEVEL":3}}'
)
_PLAIN_START = (
    "MEDIA_START connection_id:bridge1 channel:WebSocket/bridge1/0x7f00 channel_id:pbx-1.42 format:ulaw "
    "optimal_frame_size:160 ptime:20"
)

_IDS = {"channel_id": "pbx-1.42", "connection_id": "bridge1", "channel": "WebSocket/bridge1/0x7f00"}


def _started(start: str) -> Asterisk:
    dialect = Asterisk()
    dialect.decode_message(start)
    return dialect


def test_start_in_json() -> None:
    """With the channel's variables as parameters, besides those of the URI."""
    dialect = Asterisk({"lang": "en"}, token="t")
    assert dialect.decode_message(_JSON_START) == [
        CallStarted("pbx-1.42", G711_ULAW, {"lang": "en", "TENANT": "a", "LEVEL": "3"}, "t", ids=_IDS)
    ]


def test_start_in_plain_text() -> None:
    """A value may hold colons; keys differ from version to version."""
    assert Asterisk().decode_message(_PLAIN_START) == [CallStarted("pbx-1.42", G711_ULAW, ids=_IDS)]
    early = "MEDIA_START connection_id:a:b channel:WebSocket/x optimal_frame_size:160"
    assert Asterisk().decode_message(early) == [
        CallStarted("a:b", G711_ULAW, ids={"connection_id": "a:b", "channel": "WebSocket/x"})
    ]


@pytest.mark.parametrize(("codec", "audio_format"), FORMATS.items())
def test_formats(codec: str, audio_format: AudioFormat) -> None:
    """By Asterisk's own names."""
    [started] = Asterisk().decode_message(_PLAIN_START.replace("ulaw", codec))
    assert isinstance(started, CallStarted)
    assert started.audio_format is audio_format


def test_other_formats_are_refused() -> None:
    """With what to dial instead."""
    with pytest.raises(BadRequest, match=r"c\(ulaw\|alaw") as caught:
        Asterisk().decode_message(_PLAIN_START.replace("ulaw", "opus"))
    assert (caught.value.code, caught.value.param) == ("unsupported_format", "format")


def test_media_before_the_start() -> None:
    """Under load it comes first: a second of it is kept, whole samples only."""
    dialect = Asterisk()
    assert dialect.decode_message(b"a" * 160) == []
    assert dialect.decode_message(b"b" * 160) == []
    assert dialect.decode_message(_JSON_START)[1:] == [b"a" * 160 + b"b" * 160]
    dialect = Asterisk()
    for _ in range(1000):
        dialect.decode_message(b"a" * 641)
    [_, early] = dialect.decode_message(_PLAIN_START.replace("ulaw", "slin16"))
    assert early == b"a" * 384_000
    dialect = Asterisk()
    dialect.decode_message(b"abc")
    assert dialect.decode_message(_PLAIN_START.replace("ulaw", "slin"))[1:] == [b"ab"]


@pytest.mark.parametrize("length", [1, 160, 161, 1600, 8000])
def test_media(length: int) -> None:
    """Sound of any length, as it is."""
    assert _started(_PLAIN_START).decode_message(b"a" * length) == [b"a" * length]


_EVENTS: list[tuple[str, dict[str, Any], list[CarrierEvent]]] = [
    ("DTMF_END digit:5", {"event": "DTMF_END", "digit": "5", "channel_id": "pbx-1.42"}, [Dtmf("5")]),
    ("DTMF_END digit:x", {"event": "DTMF_END", "digit": "x"}, [CarrierFault("unknown_key")]),
    ("MEDIA_XOFF", {"event": "MEDIA_XOFF", "channel_id": "pbx-1.42"}, [Flow(False)]),
    ("MEDIA_XON", {"event": "MEDIA_XON", "channel_id": "pbx-1.42"}, [Flow(True)]),
    ("QUEUE_DRAINED", {"event": "QUEUE_DRAINED", "channel_id": "pbx-1.42"}, []),
    (
        "STATUS channel_id:pbx-1.42 queue_length:0 xon_level:800 xoff_level:900 queue_full:false",
        {"event": "STATUS", "queue_length": 0, "queue_full": False},
        [],
    ),
    ("MEDIA_MARK_PROCESSED b7", {"event": "MEDIA_MARK_PROCESSED", "correlation_id": "b7"}, [MarkPlayed("b7")]),
    ("MEDIA_MARK_PROCESSED", {"event": "MEDIA_MARK_PROCESSED", "correlation_id": ""}, [MarkPlayed("")]),
    ("MEDIA_BUFFERING_COMPLETED b7", {"event": "MEDIA_BUFFERING_COMPLETED", "correlation_id": "b7"}, []),
    (
        "ERROR channel_id:pbx-1.42 error_text:no such command",
        {"event": "ERROR", "error_text": "no such command"},
        [CarrierFault("carrier_error", "no such command")],
    ),
    ("SOMETHING_NEW", {"event": "SOMETHING_NEW", "channel_id": "pbx-1.42"}, [CarrierFault("unknown_message")]),
    (_PLAIN_START, json.loads(_JSON_START), [CarrierFault("second_start")]),
]


@pytest.mark.parametrize(("plain", "as_json", "events"), _EVENTS)
def test_every_event_in_both_forms(plain: str, as_json: dict[str, Any], events: list[CarrierEvent]) -> None:
    """They mean the same."""
    assert _started(_PLAIN_START).decode_message(plain) == events
    assert _started(_JSON_START).decode_message(json.dumps(as_json)) == events


@pytest.mark.parametrize("key", "0123456789*#ABCD")
def test_keys(key: str) -> None:
    """Each that telephones have."""
    assert _started(_PLAIN_START).decode_message(f"DTMF_END digit:{key} channel_id:pbx-1.42") == [Dtmf(key)]


@pytest.mark.parametrize("message", ["", "hello there", "{", '{"event":1}', '{"command":"X"}', "[1]", "{" * 100_000])
def test_malformed_events(message: str) -> None:
    """Are told, and the call goes on."""
    dialect = _started(_JSON_START)
    assert dialect.decode_message(message) == [CarrierFault("malformed_message")]
    assert dialect.decode_message(b"a") == [b"a"]


def test_half_a_sample() -> None:
    """Would turn all that follows into noise."""
    dialect = _started(_PLAIN_START.replace("ulaw", "slin"))
    assert dialect.decode_message(b"abc") == [CarrierFault("odd_sound")]
    assert dialect.decode_message(b"") == []
    assert dialect.decode_message(b"ab") == [b"ab"]


def test_commands_in_kind() -> None:
    """Plain text to a plain channel, JSON to a JSON one; sound as it is; no command over 128 bytes."""
    plain, as_json = _started(_PLAIN_START), _started(_JSON_START)
    assert plain.encode_sound(b"ab") == as_json.encode_sound(b"ab") == b"ab"
    assert [*plain.encode_mark("b1"), *plain.encode_clear(), *plain.encode_hang_up()] == [
        "MARK_MEDIA b1",
        "FLUSH_MEDIA",
        "HANGUP",
    ]
    said = [
        str(message) for message in (*as_json.encode_mark("b1"), *as_json.encode_clear(), *as_json.encode_hang_up())
    ]
    assert [json.loads(message) for message in said] == [
        {"command": "MARK_MEDIA", "correlation_id": "b1"},
        {"command": "FLUSH_MEDIA"},
        {"command": "HANGUP"},
    ]
    assert max(map(len, [*said, *map(str, as_json.encode_mark("b" + "9" * 20))])) < 128
