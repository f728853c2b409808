"""Twilio Media Streams: its messages both ways, and its signatures against the reference's vectors."""

import json
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, Ended, MarkPlayed
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.twilio.dialect import TWILIO_DIALECT, write_twiml
from bridge.telephony.twilio.sign_in import SETTINGS_HEADER, SIGNATURE_HEADER, is_signed, sign
from bridge.wire.audio import G711_ALAW, G711_ULAW

_dialect = partial(JsonDialect, TWILIO_DIALECT)
_STREAM, _CALL = "MZ11111111111111111111111111111111", "CA33333333333333333333333333333333"
_TOKEN = "0123456789abcdef0123456789abcdef"
_URL = "wss://bridge.example.com/twilio/media"
_SHA1 = "nPw+nZIzNlb4/A2jsIh3MO8SVBE="
_SHA256 = "7adk3fVDdsfB4gpLahmER0/4DetD5QTK16rrMKUrCX4="
_START: dict[str, Any] = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": _STREAM,
    "start": {
        "streamSid": _STREAM,
        "accountSid": "AC22222222222222222222222222222222",
        "callSid": _CALL,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "k7Qd", "lang": "en"},
    },
}

_IDS = {"callSid": _CALL, "streamSid": _STREAM}


def _said(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, "sequenceNumber": "2", "streamSid": _STREAM, **fields})


def _media(payload: str, **fields: Any) -> str:
    return _said("media", media={"track": "inbound", "chunk": "1", "timestamp": "20", "payload": payload, **fields})


def _started(**start: Any) -> JsonDialect:
    dialect = _dialect()
    dialect.decode_message(json.dumps({**_START, "start": {**_START["start"], **start}}))
    return dialect


def test_start() -> None:
    """``connected`` says nothing; ``start`` has the call, its parameters, and the token apart from them."""
    dialect = _dialect()
    assert dialect.decode_message('{"event":"connected","protocol":"Call","version":"1.0.0"}') == []
    assert dialect.decode_message(json.dumps(_START)) == [
        CallStarted(_CALL, G711_ULAW, {"lang": "en"}, "k7Qd", ids=_IDS)
    ]


def test_start_without_what_is_optional() -> None:
    """Clones leave out what they have no use for; parameters may be numbers."""
    dialect = _dialect()
    ids = {"callSid": "", "streamSid": "s"}
    assert dialect.decode_message('{"event":"start","start":{"streamSid":"s"}}') == [
        CallStarted("s", G711_ULAW, ids=ids)
    ]
    dialect = _dialect()
    start = {"callSid": "c", "mediaFormat": {"encoding": "audio/x-alaw", "sampleRate": "8000"},
             "customParameters": {"n": 1}}  # fmt: skip
    said = json.dumps({"event": "start", "streamSid": "s", "start": start})
    assert dialect.decode_message(said) == [
        CallStarted("c", G711_ALAW, {"n": "1"}, ids={"callSid": "c", "streamSid": "s"})
    ]


@pytest.mark.parametrize(
    ("start", "parameters"),
    [
        ({"customParameters": None}, {}),
        ({"customParameters": {"a": None, "n": 1}}, {"n": "1"}),
        ({"customParameters": [{"name": "n", "value": 1}]}, {"n": "1"}),
        ({"customParameters": ""}, {}),
        ({"customParameters": '{"n": 1}'}, {"n": "1"}),
        ({"customParameters": '{"n": "\\ud800"}'}, {}),
        ({"mediaFormat": None, "customParameters": {}}, {}),
        ({"mediaFormat": {"encoding": None, "sampleRate": None, "channels": None}, "customParameters": {}}, {}),
        ({"tracks": None, "accountSid": None, "streamSid": None, "customParameters": {}}, {}),
    ],
)
def test_null_is_as_if_it_were_not_there(start: dict[str, Any], parameters: dict[str, str]) -> None:
    """Clones write it for what they do not have."""
    said = json.dumps({**_START, "start": {**_START["start"], **start}})
    assert _dialect().decode_message(said) == [CallStarted(_CALL, G711_ULAW, parameters, ids=_IDS)]


def test_call_without_an_id_is_called_as_its_stream() -> None:
    """Whether it is null or not there."""
    said = json.dumps({**_START, "start": {"callSid": None}})
    assert _dialect().decode_message(said) == [
        CallStarted(_STREAM, G711_ULAW, ids={"callSid": "", "streamSid": _STREAM})
    ]


@pytest.mark.parametrize("track", [None, "", "inbound", "inbound_track", "INBOUND"])
def test_the_callers_track(track: str | None) -> None:
    """Clones have other words for it, or none."""
    assert _started().decode_message(_media("/w==", track=track)) == [b"\xff"]


@pytest.mark.parametrize("track", ["outbound", "outbound_track"])
def test_the_answers_track(track: str) -> None:
    """What the caller hears is not what they say."""
    assert _started().decode_message(_media("/w==", track=track)) == []


@pytest.mark.parametrize(
    "media_format", [{"encoding": "audio/opus"}, {"encoding": "audio/x-mulaw", "sampleRate": 16000}]
)
def test_start_in_another_format(media_format: dict[str, Any]) -> None:
    """What cannot be heard is refused, and the field is named."""
    with pytest.raises(BadRequest) as caught:
        _started(mediaFormat=media_format)
    assert (caught.value.code, caught.value.param) == ("unsupported_format", "start.mediaFormat")


@pytest.mark.parametrize("length", [1, 160, 161, 1600, 8000])
def test_media(length: int) -> None:
    """Sound of any length, as it is."""
    dialect, sound = _started(), bytes(range(256)) * 32
    echoed = json.loads(dialect.encode_sound(sound[:length]))
    assert dialect.decode_message(_media(echoed["media"]["payload"])) == [sound[:length]]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (_said("mark", mark={"name": "b7"}), [MarkPlayed("b7")]),
        *((_said("dtmf", dtmf={"track": "inbound_track", "digit": key}), [Dtmf(key)]) for key in "0123456789*#ABCD"),
        (_said("stop", stop={"accountSid": "AC2", "callSid": _CALL}), [Ended()]),
        (_said("dtmf", dtmf={"track": None, "digit": 5}), [Dtmf("5")]),
        (_said("dtmf", dtmf={"digit": None}), [CarrierFault("malformed_message")]),
        (_media(""), []),
        (_media("/w==", track="outbound"), []),
        (_media("/w==", chunk=1, timestamp=20, more={"a": [1]}), [b"\xff"]),
        (json.dumps(_START), [CarrierFault("second_start")]),
        (_media("not base64"), [CarrierFault("invalid_base64")]),
        (_media("/w"), [CarrierFault("invalid_base64")]),
        (_said("dtmf", dtmf={"digit": "x"}), [CarrierFault("unknown_key")]),
        (_said("dtmf"), [CarrierFault("malformed_message")]),
        (_said("media"), [CarrierFault("malformed_message")]),
        (_said("mark", mark={}), [CarrierFault("malformed_message")]),
        (_said("media", media={"payload": 1}), [CarrierFault("malformed_message")]),
        (_said("whatever"), [CarrierFault("unknown_message")]),
        (json.dumps({"event": "mark", "streamSid": "MZ2", "mark": {"name": "b7"}}), [CarrierFault("other_stream")]),
        ("{", [CarrierFault("malformed_message")]),
        ("[]", [CarrierFault("malformed_message")]),
        ('{"event":7}', [CarrierFault("malformed_message")]),
        ("[" * 100_000, [CarrierFault("malformed_message")]),
        ("\ud800", [CarrierFault("malformed_message")]),
        (b"\x00\x01", [CarrierFault("binary_message")]),
    ],
)
def test_every_other_message(message: str | bytes, events: list[CarrierEvent]) -> None:
    """Each says what the reference says; what is of no use is told, and the call goes on."""
    dialect = _started()
    assert dialect.decode_message(message) == events
    assert dialect.decode_message(_media("/w==")) == [b"\xff"]


@pytest.mark.parametrize("message", [_media("/w=="), _said("mark", mark={"name": "a"}), _said("stop")])
def test_nothing_counts_before_the_start(message: str) -> None:
    """Nobody knows whose it would be."""
    assert _dialect().decode_message(message) == [CarrierFault("message_before_start")]


def test_start_without_a_stream() -> None:
    """There would be nothing to answer to."""
    assert _dialect().decode_message('{"event":"start","start":{}}') == [CarrierFault("malformed_message")]
    assert _dialect().decode_message('{"event":"start","streamSid":"s"}') == [CarrierFault("malformed_message")]


def test_messages_to_the_carrier() -> None:
    """Exactly the documented fields, and no word for hanging up."""
    dialect = _started()
    assert json.loads(dialect.encode_sound(b"\x7f\xff")) == {
        "event": "media",
        "streamSid": _STREAM,
        "media": {"payload": "f/8="},
    }
    assert [json.loads(said) for said in dialect.encode_mark("b1")] == [
        {"event": "mark", "streamSid": _STREAM, "mark": {"name": "b1"}}
    ]
    assert [json.loads(said) for said in dialect.encode_clear()] == [{"event": "clear", "streamSid": _STREAM}]
    assert dialect.encode_hang_up() == []


# Signatures


@pytest.mark.parametrize(
    ("url", "parameters", "algorithm", "signature"),
    [
        (_URL, {}, "HMAC_SHA1", _SHA1),
        (_URL, {}, "HMAC_SHA256", _SHA256),
        (f"{_URL}/", {}, "HMAC_SHA1", "lP8QNlUTf9duPKqSrnZOFUyzdcw="),
        (
            "https://bridge.example.com/twilio/voice",
            {"To": "+15550002222", "CallSid": "CA00000000000000000000000000000001", "From": "+15550001111"},
            "HMAC_SHA1",
            "6Ciqj8dTGX3PjaY6ENCfIeOSPWQ=",
        ),
    ],
)
def test_signature_vectors(url: str, parameters: dict[str, str], algorithm: str, signature: str) -> None:
    """Those of the reference, made and recognised."""
    assert sign(_TOKEN, url, parameters, algorithm=algorithm) == signature
    headers = {SIGNATURE_HEADER: signature}
    if algorithm != "HMAC_SHA1":
        headers[SETTINGS_HEADER] = f"key=SK1,algorithm={algorithm}"
    assert is_signed([_TOKEN], url, headers, parameters)
    assert is_signed(["another", _TOKEN], url, headers, parameters)
    assert not is_signed(["another"], url, headers, parameters)
    assert not is_signed([], url, headers, parameters)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE_HEADER: ""},
        {SIGNATURE_HEADER: _SHA256},
        {SIGNATURE_HEADER: "lP8QNlUTf9duPKqSrnZOFUyzdcw="},
        {SIGNATURE_HEADER: _SHA1, SETTINGS_HEADER: "key=SK1,algorithm=HMAC_SHA256"},
        {SIGNATURE_HEADER: _SHA1, SETTINGS_HEADER: "key=SK1,algorithm=HMAC_MD5"},
        {SIGNATURE_HEADER: _SHA1, SETTINGS_HEADER: "nonsense"},
        {SIGNATURE_HEADER: "\ud800é"},
    ],
)
def test_wrong_signatures(headers: dict[str, str]) -> None:
    """Another algorithm's, another address's, none at all, and no signature's shape."""
    assert not is_signed([_TOKEN], _URL, headers)


def test_signature_of_another_scheme() -> None:
    """A stream's address is ``wss://``; the same path by ``https://`` is another address."""
    signature = {SIGNATURE_HEADER: sign(_TOKEN, _URL.replace("wss", "https"))}
    assert not is_signed([_TOKEN], _URL, signature)


@pytest.mark.parametrize("signed", ["wss://b.example/x", "wss://b.example:443/x"])
@pytest.mark.parametrize("ours", ["wss://b.example/x", "wss://b.example:443/x"])
def test_default_port_may_be_written(signed: str, ours: str) -> None:
    """Some sign it with the port, some without."""
    assert is_signed([_TOKEN], ours, {SIGNATURE_HEADER: sign(_TOKEN, signed)})


def test_another_port_is_another_address() -> None:
    """And is signed as it stands."""
    signature = {SIGNATURE_HEADER: sign(_TOKEN, "wss://b.example:8443/x")}
    assert is_signed([_TOKEN], "wss://b.example:8443/x", signature)
    assert not is_signed([_TOKEN], "wss://b.example/x", signature)


def test_query_is_signed_either_way() -> None:
    """As it stands, or folded into the parameters as on streams."""
    url = "wss://b.example/x?b=2&a=1"
    for signature in (sign(_TOKEN, url), sign(_TOKEN, "wss://b.example/x", {"a": "1", "b": "2"})):
        assert is_signed([_TOKEN], url, {SIGNATURE_HEADER: signature})
    assert not is_signed([_TOKEN], url, {SIGNATURE_HEADER: sign(_TOKEN, "wss://b.example/x")})


def test_twiml() -> None:
    """A stream with its parameters, whatever characters they hold, and whom Twilio asks behind its end."""
    awkward = "a\"<&'é"
    root = ElementTree.fromstring(write_twiml(f"{_URL}?a=1&b=2", {"token": "t", "from": awkward}, "https://a/b?c&d"))
    assert [child.tag for child in root] == ["Connect", "Redirect"]
    assert (root.findtext("./Redirect"), root[1].get("method")) == ("https://a/b?c&d", "POST")
    stream = root.find("./Connect/Stream")
    assert stream is not None
    assert stream.get("url") == f"{_URL}?a=1&b=2"
    assert {entry.get("name"): entry.get("value") for entry in stream} == {"token": "t", "from": awkward}
