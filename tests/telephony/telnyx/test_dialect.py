"""Telnyx media streaming: its messages both ways, in any order."""

import json
from functools import partial
from typing import Any

import pytest

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, Ended, MarkPlayed
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.telnyx.dialect import ANSWER_CODEC, ANSWER_RATE, TELNYX_DIALECT
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

_dialect = partial(JsonDialect, TELNYX_DIALECT)
_STREAM = "5a0c3a52-0c1d-4b0e-9c0d-3b3f8f6f1a10"
_START: dict[str, Any] = {
    "user_id": "u-1",
    "call_control_id": "v3:abc",
    "call_session_id": "s-1",
    "from": "+15550001111",
    "to": "+15550002222",
    "tags": [],
    "client_state": "eyJ0IjoxfQ==",
    "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
}

_NUMBERS = {"from": "+15550001111", "to": "+15550002222"}
_IDS = {"call_control_id": "v3:abc", "call_session_id": "s-1", "stream_id": _STREAM}


def _said(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, "sequence_number": "4", "stream_id": _STREAM, **fields})


def _start(**changes: Any) -> str:
    return _said("start", start={**_START, **changes})


def _chunk(number: Any, sound: bytes = b"", track: str = "inbound") -> str:
    payload = json.loads(_dialect().encode_sound(sound or bytes([int(number)])))["media"]["payload"]
    return _said("media", media={"track": track, "chunk": number, "timestamp": "40", "payload": payload})


def _started() -> JsonDialect:
    dialect = _dialect()
    dialect.decode_message(_start())
    return dialect


def test_start() -> None:
    """``connected`` says nothing, ``start`` has the call."""
    dialect = _dialect()
    assert dialect.decode_message('{"event":"connected","version":"1.0.0"}') == []
    assert dialect.decode_message(_start()) == [CallStarted("v3:abc", G711_ULAW, _NUMBERS, None, G711_ULAW, _IDS)]


@pytest.mark.parametrize(
    ("encoding", "rate", "audio_format"),
    [
        ("PCMU", 8000, G711_ULAW),
        ("PCMA", "8000", G711_ALAW),
        (None, None, G711_ULAW),
        ("L16", 8000, pcm16_at(8000)),
        ("L16", 16000, pcm16_at(16000)),
        ("L16", 24000, pcm16_at(24000)),
        ("L16", 48000, pcm16_at(48000)),
    ],
)
def test_codecs(encoding: str, rate: Any, audio_format: AudioFormat) -> None:
    """What the caller's sound is in is said in ``start``; of the answer's codec that says nothing, which is PCMU."""
    [started] = _dialect().decode_message(_start(media_format={"encoding": encoding, "sample_rate": rate}))
    assert isinstance(started, CallStarted)
    assert started.audio_format is audio_format
    assert started.answer_format is G711_ULAW


@pytest.mark.parametrize(
    ("codec", "rate", "answer_format"),
    [
        ("PCMU", None, G711_ULAW),
        ("PCMA", "8000", G711_ALAW),
        ("L16", None, pcm16_at(8000)),
        ("L16", "16000", pcm16_at(16000)),
        ("L16", "22050", pcm16_at(22050)),
        ("L16", "48000", pcm16_at(48000)),
    ],
)
def test_codec_of_the_answer(codec: str, rate: str | None, answer_format: AudioFormat) -> None:
    """As the application asked Telnyx for it, told on the URL or in the parameters, by Telnyx's own names."""
    told = {ANSWER_CODEC: codec} | ({ANSWER_RATE: rate} if rate is not None else {})
    by_url, by_parameters = _dialect(query=told), _dialect()
    expected = [CallStarted("v3:abc", G711_ALAW, _NUMBERS, None, answer_format, _IDS)]
    start = {"media_format": {"encoding": "PCMA", "sample_rate": 8000}}
    assert by_url.decode_message(_start(**start)) == expected
    assert by_parameters.decode_message(_start(**start, custom_parameters=told)) == expected


@pytest.mark.parametrize(("codec", "rate"), [("G722", "8000"), ("OPUS", "16000"), ("PCMU", "16000"), ("L16", "44100")])
def test_other_codecs_of_the_answer_are_refused(codec: str, rate: str) -> None:
    """Noise in the caller's ear would be no answer."""
    with pytest.raises(BadRequest) as caught:
        _dialect(query={ANSWER_CODEC: codec, ANSWER_RATE: rate}).decode_message(_start())
    assert (caught.value.code, caught.value.param) == ("unsupported_format", ANSWER_CODEC)


@pytest.mark.parametrize("name", ["call_session_id", "media_format", "custom_parameters", "stream_auth_token", "from"])
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    """In ``start``, and for the track of sound."""
    dialect = _dialect()
    numbers = {known: number for known, number in _NUMBERS.items() if known != name}
    ids = {known: "" if known == name else value for known, value in _IDS.items()}
    assert dialect.decode_message(_start(**{name: None})) == [
        CallStarted("v3:abc", G711_ULAW, numbers, None, G711_ULAW, ids)
    ]
    for track in (None, "inbound_track", "inbound"):
        assert dialect.decode_message(_said("media", media={"track": track, "payload": "/w=="})) == [b"\xff"]
    for track in ("outbound", "outbound_track", "other"):
        assert dialect.decode_message(_said("media", media={"track": track, "payload": "/w=="})) == []


@pytest.mark.parametrize(("encoding", "rate"), [("OPUS", 16000), ("G722", 8000), ("PCMU", 16000), ("L16", 11025)])
def test_other_codecs_are_refused(encoding: str, rate: int) -> None:
    """With what to ask Telnyx for instead."""
    with pytest.raises(BadRequest, match="ask Telnyx for PCMU") as caught:
        _dialect().decode_message(_start(media_format={"encoding": encoding, "sample_rate": rate}))
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize(
    ("given", "parameters", "token"),
    [
        ({"custom_parameters": {"token": "t", "a": 1}}, {"a": "1"}, "t"),
        ({"custom_parameters": [{"name": "token", "value": "t"}, {"name": "a", "value": "1"}]}, {"a": "1"}, "t"),
        ({"stream_auth_token": "t"}, {}, "t"),
        ({"custom_parameters": {"from": "the queue"}}, {"from": "the queue"}, None),
        ({"custom_parameters": None}, {}, None),
        ({"custom_parameters": {"a": None, "b": 1}}, {"b": "1"}, None),
        ({"custom_parameters": [{"name": "a", "value": None}, {"name": None}, 7]}, {}, None),
    ],
)
def test_parameters_and_token(given: dict[str, Any], parameters: dict[str, str], token: str | None) -> None:
    """As an object or as a list; the token comes with them, or in a field of its own. They win over the numbers."""
    assert _dialect().decode_message(_start(**given)) == [
        CallStarted("v3:abc", G711_ULAW, _NUMBERS | parameters, token, G711_ULAW, _IDS)
    ]


def test_token_of_the_upgrade_and_of_connected() -> None:
    """The header's is good, and ``connected`` may bring it as well, in either place."""
    name = "x-telnyx-streaming-auth-token"
    for connected in ({name: "c"}, {"connected": {name: "c"}}):
        dialect = _dialect()
        dialect.decode_message(json.dumps({"event": "connected", **connected}))
        assert dialect.decode_message(_start()) == [CallStarted("v3:abc", G711_ULAW, _NUMBERS, "c", G711_ULAW, _IDS)]
    dialect = _dialect("h")
    dialect.decode_message('{"event":"connected","version":"1.0.0"}')
    assert dialect.decode_message(_start()) == [CallStarted("v3:abc", G711_ULAW, _NUMBERS, "h", G711_ULAW, _IDS)]


@pytest.mark.parametrize("length", [1, 160, 161, 1600, 8000])
def test_media(length: int) -> None:
    """Sound of any length, as it is."""
    sound = (bytes(range(256)) * 32)[:length]
    assert _started().decode_message(_chunk("1", sound)) == [sound]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (_said("mark", mark={"name": "b7"}), [MarkPlayed("b7")]),
        *((_said("dtmf", occurred_at="", dtmf={"digit": key}), [Dtmf(key)]) for key in "0123456789*#ABCD"),
        (_said("stop", stop={"user_id": "u-1", "call_control_id": "v3:abc"}), [Ended()]),
        (
            _said("error", payload={"code": 100004, "title": "invalid_media", "detail": "payload not base64"}),
            [CarrierFault("carrier_error", "100004 invalid_media")],
        ),
        (_said("error"), [CarrierFault("carrier_error", " ")]),
        (_chunk("1", track="outbound"), []),
        (_start(), [CarrierFault("second_start")]),
        (_said("media", media={"chunk": "1", "payload": "not base64"}), [CarrierFault("invalid_base64")]),
        (_said("media", media={"chunk": "one", "payload": "/w=="}), [CarrierFault("malformed_message")]),
        (_said("media", media={"chunk": "4", "payload": ""}), []),
        (_said("media", media={"payload": "/w=="}), [b"\xff"]),
        (_said("media"), [CarrierFault("malformed_message")]),
        (_said("dtmf", dtmf={"digit": "12"}), [CarrierFault("unknown_key")]),
        (_said("whatever"), [CarrierFault("unknown_message")]),
        (json.dumps({"event": "stop", "stream_id": "other"}), [CarrierFault("other_stream")]),
        ("{", [CarrierFault("malformed_message")]),
        ("null", [CarrierFault("malformed_message")]),
        (b"\x00", [CarrierFault("binary_message")]),
    ],
)
def test_every_other_message(message: str | bytes, events: list[CarrierEvent]) -> None:
    """Each says what the reference says; what is of no use is told, and the call goes on."""
    dialect = _started()
    assert dialect.decode_message(message) == events
    assert dialect.decode_message(_chunk(5)) == [b"\x05"]


def test_nothing_counts_before_the_start() -> None:
    """But Telnyx may complain at any time."""
    dialect = _dialect()
    assert dialect.decode_message(_chunk("1")) == [CarrierFault("message_before_start")]
    assert dialect.decode_message(_said("start")) == [CarrierFault("malformed_message")]
    assert dialect.decode_message(_said("error", payload={"code": "100002", "title": "unknown_error"})) == [
        CarrierFault("carrier_error", "100002 unknown_error")
    ]


def _heard(numbers: list[int]) -> tuple[bytes, list[str]]:
    dialect, sound, faults = _started(), b"", []
    for number in numbers:
        for event in dialect.decode_message(_chunk(str(number))):
            if isinstance(event, bytes):
                sound += event
            elif isinstance(event, CarrierFault):
                faults.append(event.what)
    sound += b"".join(event for event in dialect.decode_message(_said("stop")) if isinstance(event, bytes))
    return sound, faults


@pytest.mark.parametrize("numbers", [[1, 2, 4, 3, 5], [1, 5, 4, 3, 2], [1, 3, 5, 7, 6, 4, 2]])
def test_chunks_are_put_in_order(numbers: list[int]) -> None:
    """Whatever comes too early waits for what is missing."""
    assert _heard(numbers) == (bytes(sorted(numbers)), [])


def test_chunks_that_come_twice_or_too_late() -> None:
    """Are left out, and told."""
    assert _heard([1, 2, 2, 1, 3]) == (bytes([1, 2, 3]), ["late_chunk"] * 2)
    assert _heard([1, 3, 3, 2]) == (bytes([1, 2, 3]), ["late_chunk"])


def test_a_lost_chunk_holds_up_little() -> None:
    """200 ms behind a gap it is given up."""
    numbers = [1, *range(3, 30)]
    dialect = _started()
    until_heard = [number for number in numbers if not any(map(_is_sound, dialect.decode_message(_chunk(str(number)))))]
    assert until_heard == list(range(3, 13))
    assert _heard(numbers) == (bytes(numbers), ["lost_chunk"])


def _is_sound(event: CarrierEvent) -> bool:
    return isinstance(event, bytes)


def test_what_waits_is_heard_before_the_end() -> None:
    """``stop`` ends the waiting."""
    dialect = _started()
    for number in (1, 3, 4):
        dialect.decode_message(_chunk(number))
    assert dialect.decode_message(_said("stop")) == [b"\x03", b"\x04", Ended()]


def test_messages_to_the_carrier() -> None:
    """Without the stream's id, and with no word for hanging up."""
    dialect = _started()
    assert json.loads(dialect.encode_sound(b"\x7f\xff")) == {"event": "media", "media": {"payload": "f/8="}}
    assert [json.loads(str(said)) for said in dialect.encode_mark("b1")] == [{"event": "mark", "mark": {"name": "b1"}}]
    assert [json.loads(str(said)) for said in dialect.encode_clear()] == [{"event": "clear"}]
    assert dialect.encode_hang_up() == []
