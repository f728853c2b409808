"""Sinch: the callback's signature, its SVAML, and messages both ways."""

import json
from functools import partial
from typing import Any

import pytest

from bridge.client.carriers.sinch import SinchCarrier, signed_headers
from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierFault, CarrierReply
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.leg import CarrierLine
from bridge.telephony.sinch.dialect import SINCH_DIALECT, write_svaml
from bridge.telephony.sinch.sign_in import is_signed, sign
from bridge.wire.audio import pcm16_at
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.telephony.rows import SETTINGS

_SECRET, _BODY, _AT = "MDEyMzQ1Njc4OWFiY2RlZg==", b'{"event":"call.incoming"}', "2026-01-01T00:00:00Z"
_SIGNATURE, _NOW = "rme/POuj6+HNRFl+Wq4B+imi4ybWvcMcN7YF9sWJ1WQ=", 1767225600.0
_sign = partial(sign, content_type="application/json")
_dialect = partial(JsonDialect, SINCH_DIALECT)


def test_signature_vectors() -> None:
    """That of Sinch's own page, and that of the reference."""
    body = b'{"event":"ace","callid":"822aa4b7-05b4-4d83-87c7-1f835ee0b6f6_257",' \
        b'"timestamp":"2014-09-24T10:59:41Z","version":1}'  # fmt: skip
    path, at = "/sinch/callback/ace", "2014-09-24T10:59:41Z"
    expected = "Tg6fMyo8mj9pYfWQ9ssbx3Tc1BNC87IEygAfLbJqZb4="
    assert _sign("BeIukql3pTKJ8RGL5zo0DA==", "POST", path, body, timestamp=at) == expected
    assert _sign(_SECRET, "POST", "/v1/telephony/sinch", _BODY, timestamp=_AT) == _SIGNATURE


@pytest.mark.parametrize(
    ("changed", "is_right"),
    [
        ({}, True),
        ({"header": f"Service key:{_SIGNATURE}"}, True),
        ({"now": _NOW + 300}, True),
        ({"secrets": ["d3Jvbmc=", _SECRET]}, True),
        ({"now": _NOW + 301}, False),
        ({"now": _NOW - 301}, False),
        ({"secrets": []}, False),
        ({"secrets": ["d3Jvbmc="]}, False),
        ({"secrets": ["no base64"]}, False),
        ({"body": _BODY + b" "}, False),
        ({"path": "/v1/telephony/sinch/"}, False),
        ({"method": "GET"}, False),
        ({"content_type": "application/json; charset=utf-8"}, False),
        ({"timestamp": "2026-01-01T00:00:01Z"}, False),
        ({"timestamp": "2026-01-01T00:00:00"}, False),
        ({"timestamp": "soon"}, False),
        ({"header": _SIGNATURE}, False),
        ({"header": f"Basic key:{_SIGNATURE}"}, False),
        ({"header": "application key:\ud800é"}, False),
        ({"header": ""}, False),
    ],
)
def test_signature(changed: dict[str, Any], is_right: bool) -> None:
    """Of this request within five minutes, by one of the secrets; nothing else."""
    given: dict[str, Any] = {
        "secrets": [_SECRET], "header": f"application key:{_SIGNATURE}", "method": "POST", "body": _BODY,
        "path": "/v1/telephony/sinch", "content_type": "application/json", "timestamp": _AT, "now": _NOW,
    } | changed  # fmt: skip
    assert is_signed(**given) is is_right


async def test_callback(serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is good once; an incoming call gets a stream, with who calls whom, and other events get nothing."""
    monkeypatch.setattr("time.time", lambda: _NOW)
    incoming = b'{"event":"ice","callid":"c1","cli":"+15550001111","to":{"type":"number","endpoint":"+15550002222"}}'

    async def answer(body: bytes, **headers: str) -> Any:
        signed = signed_headers(_SECRET, "/v1/telephony/sinch", body, _AT)
        sent = {"Content-Type": "application/json", **signed, **headers}
        reply = await request("POST", f"{daemon.url}v1/telephony/sinch", headers=sent, body=body)
        return reply.json["error"]["code"] if reply.status != 200 else reply.json

    async with serve_with(**SETTINGS) as daemon:
        action = (await answer(incoming))["action"]
        given = {header["key"]: header["value"] for header in action["callHeaders"]}
        assert given.items() >= {"from": "+15550001111", "to": "+15550002222"}.items()
        assert len(given["token"]) > 20
        assert action["destination"]["endpoint"] == "wss://bridge.example.com/v1/telephony/sinch"
        assert await answer(incoming) == "replayed_signature"
        for event in (b'{"event":"dice","callid":"c1"}', b'{"event":"ace","to":7}'):
            assert await answer(event) == {}
        assert await answer(incoming + b" ", Authorization="application key:wrong") == "invalid_signature"
        assert await answer(incoming + b"  ", Authorization="") == "invalid_signature"
        reply = await request("POST", f"{daemon.url}v1/telephony/sinch", body=incoming)
        assert (reply.status, reply.json["error"]["code"]) == (403, "missing_signature")


def test_svaml() -> None:
    """Whatever the parameters hold comes out as it went in."""
    action = json.loads(write_svaml("wss://b.example/x", {"token": 'a"<é'}))["action"]
    assert (action["name"], action["callHeaders"]) == ("connectStream", [{"key": "token", "value": 'a"<é'}])
    assert action["streamingOptions"] == {"version": 1, "sampleRate": 16000}


_CONNECT = {
    "command": "connect",
    "version": 1,
    "callId": "c",
    "applicationKey": "k",
    "codec": "PCM",
    "sampleRate": 8000,
}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000, 96_000])
def test_start(rate_hz: int) -> None:
    """``connect`` is answered after it was taken, and its headers are the call's parameters and token."""
    said = {**_CONNECT, "sampleRate": rate_hz, "callHeaders": {"token": "t", "lang": "en"}}
    ids = {"callId": "c", "applicationKey": "k"}
    assert _dialect().decode_message(json.dumps(said)) == [
        CallStarted("c", pcm16_at(rate_hz), {"lang": "en"}, "t", ids=ids),
        CarrierReply(('{"command":"answer"}',)),
    ]


def test_what_is_not_served() -> None:
    """Another rate or codec; sound before the start; an odd number of bytes."""
    for wrong in ({"sampleRate": 11025}, {"codec": "OPUS"}):
        with pytest.raises(BadRequest, match="ask Sinch for PCM at"):
            _dialect().decode_message(json.dumps({**_CONNECT, **wrong}))
    dialect = _dialect()
    assert dialect.decode_message(b"\1\2") == [CarrierFault("message_before_start")]
    dialect.decode_message(json.dumps(_CONNECT))
    assert dialect.decode_message(b"\1\2") == [b"\1\2"]
    assert dialect.decode_message(b"\1") == [CarrierFault("odd_sound")]


def test_messages_to_the_carrier() -> None:
    """Sound as it is, ``clear``; no marks, no keys, no word that hangs up."""
    dialect = _dialect()
    dialect.decode_message(json.dumps(_CONNECT))
    assert dialect.encode_sound(b"\1\2") == b"\1\2"
    assert dialect.encode_clear() == ['{"command":"clear"}']
    assert dialect.encode_mark("m") == dialect.encode_key("1") == dialect.encode_hang_up() == []


def test_heartbeat() -> None:
    """A line without sound says every 20 s that it is there, so that Sinch does not end it after a minute."""
    sent: list[list[str | bytes]] = []

    class Kept:
        """What is sent."""

        buffered_bytes = 0

        def write_messages(self, messages: list[str | bytes]) -> None:
            """Keeps them."""
            sent.append(messages)

        def close(self, code: int, reason: str) -> None:
            """Nothing is kept."""

    carrier = SinchCarrier("c", 16_000, {})
    carrier.receive_bridge_message('{"command":"answer"}')
    line = CarrierLine(_dialect(), Kept())
    for tick in range(200 * 50):
        line.beat(100.0 + tick / 50)
        for message in [message for messages in sent[-1:] for message in messages if tick % 1000 == 0]:
            carrier.receive_bridge_message(message)
        carrier.play_frame()
    assert sent == [['{"command":"heartbeat"}']] * 10
    assert (carrier.has_hung_up, carrier.complaints) == (False, [])
    for _ in range(3001):
        carrier.play_frame()
    assert carrier.has_hung_up
