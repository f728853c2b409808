"""Exotel: HTTP Basic, the rate that the address asks for, and messages in the names that the start used."""

import json
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.client.carriers.dialling import basic
from bridge.daemon import Daemon
from bridge.telephony.dialect import CallStarted, Dtmf, MarkPlayed
from bridge.telephony.exotel.dialect import EXOTEL_DIALECT
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.sign_in import basic_password
from bridge.wire.audio import pcm16_at
from tests.end_to_end.web import request

_dialect = partial(JsonDialect, EXOTEL_DIALECT)


def _start(name: str = "stream_sid", **media_format: str) -> str:
    start = {name: "s1", "call_sid": "c1", "custom_parameters": {"token": "t"}, "media_format": media_format}
    return json.dumps({"event": "start", name: "s1", "start": start})


def test_basic_vector() -> None:
    """That of the reference."""
    assert basic("exotel", "s3cret") == {"Authorization": "Basic ZXhvdGVsOnMzY3JldA=="}
    assert basic_password({"authorization": "Basic ZXhvdGVsOnMzY3JldA=="}) == "s3cret"


@pytest.mark.parametrize(
    ("query", "media_format", "rate_hz"),
    [
        ({}, {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"}, 8000),
        ({"sample-rate": "16000"}, {"encoding": "audio/x-raw", "sample_rate": "8000"}, 16000),
        ({"sample-rate": "24000"}, {}, 24000),
        ({}, {}, 8000),
    ],
)
def test_the_address_decides_the_rate(query: dict[str, str], media_format: dict[str, str], rate_hz: int) -> None:
    """Whatever the start says."""
    [started] = _dialect(query=query).decode_message(_start(**media_format))
    ids = {"call_sid": "c1", "stream_sid": "s1"}
    assert started == CallStarted("c1", pcm16_at(rate_hz), {}, "t", ids=ids)


def test_a_call_is_found_by_its_numbers() -> None:
    """Who calls whom comes in the start, beside the parameters."""
    start = {"stream_sid": "s1", "call_sid": "c1", "from": "09876543210", "to": "08012345678"}
    [started] = _dialect().decode_message(json.dumps({"event": "start", "stream_sid": "s1", "start": start}))
    assert isinstance(started, CallStarted)
    assert started.parameters == {"from": "09876543210", "to": "08012345678"}


@pytest.mark.parametrize("name", ["stream_sid", "streamSid"])
def test_messages_both_ways(name: str) -> None:
    """Sound is numbered by texts; the stream's id is called as the start called it."""
    dialect = _dialect()
    dialect.decode_message(_start(name))

    def said(event: str, **content: Any) -> str:
        return json.dumps({"event": event, name: "s1", **content})

    assert dialect.decode_message(said("media", media={"payload": "AAA="})) == [b"\0\0"]
    assert dialect.decode_message(said("dtmf", dtmf={"digit": "5", "duration": "160"})) == [Dtmf("5")]
    assert dialect.decode_message(said("mark", mark={"name": "b1"})) == [MarkPlayed("b1")]
    for number in range(2):
        numbered = {"chunk": str(number + 1), "timestamp": str(200 * number), "sequenceNumber": str(number + 1)}
        media = json.loads(dialect.encode_sound(bytes(3200)))
        assert len(media["media"].pop("payload")) > 4000
        assert media == {"event": "media", name: "s1", "media": numbered}
    assert json.loads(dialect.encode_mark("b1")[0]) == {"event": "mark", name: "s1", "mark": {"name": "b1"}}
    assert json.loads(dialect.encode_clear()[0]) == {"event": "clear", name: "s1"}


async def test_address_for_the_applet(open_daemon: Daemon) -> None:
    """By the password, with a token, at the rate that was asked for; by nobody else."""
    url = f"{open_daemon.url}v1/telephony/exotel/url?sample-rate=16000&CallSid=c1"
    reply = await request("GET", url, headers=basic("exotel", "exo-secret"))
    parts = urlsplit(reply.json["url"])
    assert parts[:3] == ("wss", "bridge.example.com", "/v1/telephony/exotel")
    query = parse_qs(parts.query)
    assert query.pop("sample-rate") == ["16000"]
    assert list(query) == ["token"]
    for headers in ({}, basic("exotel", "wrong")):
        assert (await request("GET", url, headers=headers)).status == 401
