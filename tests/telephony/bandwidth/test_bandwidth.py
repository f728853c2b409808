"""Bandwidth: its answer document, and messages both ways in two formats."""

import json
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest

from bridge.errors import BadRequest
from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT, write_bxml
from bridge.telephony.dialect import CallStarted, CarrierFault, Ended
from bridge.telephony.json_dialect import JsonDialect
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

_dialect = partial(JsonDialect, BANDWIDTH_DIALECT)
_PCM = "audio/pcm;rate=16000;channels=1;bit-depth=16;endian=little;encoding=signed"


def _start(**parameters: str) -> str:
    media_format = {"encoding": "audio/PCMU", "sampleRate": 8000}
    metadata = {"callId": "c", "streamId": "s", "tracks": [{"name": "inbound", "mediaFormat": media_format}]}
    return json.dumps({"eventType": "start", "metadata": metadata, "streamParams": parameters})


@pytest.mark.parametrize(
    ("told", "answer_format", "content_type"),
    [
        ({}, G711_ULAW, "audio/pcmu"),
        ({"answer_encoding": "audio/pcm", "answer_rate": "16000"}, pcm16_at(16000), _PCM),
    ],
)
def test_each_way_has_its_format(told: dict[str, str], answer_format: AudioFormat, content_type: str) -> None:
    """The caller's is µ-law; the answer's is µ-law or what the stream's parameters ask for."""
    dialect = _dialect()
    [started] = dialect.decode_message(_start(token="t", lang="en", **told))
    ids = {"callId": "c", "streamId": "s"}
    assert started == CallStarted("c", G711_ULAW, {"lang": "en"}, "t", answer_format, ids)
    assert json.loads(dialect.encode_sound(b"\x7f\xff")) == {
        "eventType": "playAudio",
        "media": {"contentType": content_type, "payload": "f/8="},
    }
    assert dialect.encode_clear() == ['{"eventType":"clear"}']
    assert dialect.encode_mark("b1") == dialect.encode_hang_up() == dialect.encode_key("1") == []


def test_other_answers_are_refused() -> None:
    """With the parameter that is wrong."""
    with pytest.raises(BadRequest) as refused:
        _dialect().decode_message(_start(answer_encoding="audio/opus"))
    assert refused.value.param == "answer_encoding"


@pytest.mark.parametrize(
    ("message", "events"),
    [
        ({"eventType": "media", "track": "inbound", "payload": "/w=="}, [b"\xff"]),
        ({"eventType": "media", "track": "outbound", "payload": "/w=="}, []),
        ({"eventType": "stop", "metadata": {}}, [Ended()]),
        ({"event": "media", "payload": "/w=="}, [CarrierFault("malformed_message")]),
    ],
)
def test_messages_of_the_carrier(message: dict[str, Any], events: list[Any]) -> None:
    """Each means what the reference says."""
    dialect = _dialect()
    dialect.decode_message(_start())
    assert dialect.decode_message(json.dumps(message)) == events


def test_answer_document() -> None:
    """A stream with its parameters, whatever characters they hold, for which the document waits."""
    awkward = "a\"<&'é"
    root = ElementTree.fromstring(write_bxml("wss://b.example/x?a=1&b=2", {"token": "t", "from": awkward}))
    start, stop = root
    assert (start.tag, start.get("destination"), start.get("mode")) == (
        "StartStream", "wss://b.example/x?a=1&b=2", "bidirectional"
    )  # fmt: skip
    assert {entry.get("name"): entry.get("value") for entry in start} == {"token": "t", "from": awkward}
    assert (stop.tag, stop.attrib) == ("StopStream", {"name": start.get("name"), "wait": "true"})
