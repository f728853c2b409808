"""Plivo and Vobiz: signatures against the reference's vectors, the answer document, and messages both ways."""

import json
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest

from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierFault, Dtmf, Ended, MarkPlayed
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.plivo.dialect import PLIVO_DIALECT, write_plivo_xml
from bridge.telephony.plivo.sign_in import sign_v3, signed_v3
from bridge.telephony.vobiz.dialect import VOBIZ_DIALECT
from bridge.wire.audio import G711_ULAW

_TOKEN, _NONCE = "0123456789abcdef0123456789abcdef", "12345"
_URL = "https://bridge.example.com/v1/telephony/plivo"
_FORM = {
    "To": "+15550002222",
    "CallUUID": "c0ffee00-0000-4000-8000-000000000001",
    "From": "+15550001111",
}
_dialect = partial(JsonDialect, PLIVO_DIALECT)


def _start(**more: Any) -> str:
    start = {
        "callId": "c-1",
        "streamId": "s-1",
        "accountId": "MA",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    }
    return json.dumps({"event": "start", "sequenceNumber": 1, "start": start, **more})


@pytest.mark.parametrize(
    ("url", "form", "signature"),
    [
        (_URL, None, "z5Wu8/RqqEmCGaX+TmaRzHGDqZQQKlTbdrAPl2QfdWk="),
        (_URL.replace("https", "http"), None, "IIInw0wX8ibvqMOGT9e1xlj9T2hIXPHw4LL6OCivk1E="),
        (f"{_URL}?b=2&a=1", None, "KPJrNg6+SKmNooiLia02z3CPLMOkT6Wh7PimxedSO5M="),
        ("wss://bridge.example.com/plivo/media", None, "Gk1cdo1tjV5zepAA5QR83jacvcXKP8E0nSOQfhZKg9Y="),
        (_URL, _FORM, "uic949qHlvNNNK7r4VuvRCoTmL9h+9j13wII47RKmUc="),  # as the documents have it
        (_URL, _FORM, "JXILGjEtMWlwScZzAMhq1F+zntzfZLqI7hqUaC4n6uA="),  # as plivo 4.63, Plivo's SDK, does it
    ],
)
def test_signature_vectors(url: str, form: dict[str, str] | None, signature: str) -> None:
    """Each is recognised, among others and of several secrets; of another secret, nonce or address it is none."""
    signed = signed_v3([_TOKEN], url, signature, _NONCE, form)
    assert signed is not None
    assert signed.endswith(f".{_NONCE}")
    assert signed_v3(["another", _TOKEN], url, f"x,{signature}", _NONCE, form) == signed
    for secrets, place, shown, nonce in (
        (["another"], url, signature, _NONCE),
        ([], url, signature, _NONCE),
        ([_TOKEN], f"{url}/", signature, _NONCE),
        ([_TOKEN], url, signature, "12346"),
        ([_TOKEN], url, sign_v3(_TOKEN, url, "", form), ""),
        ([_TOKEN], url, "", _NONCE),
        ([_TOKEN], url, "\ud800é", _NONCE),
    ):
        assert signed_v3(secrets, place, shown, nonce, form) is None


@pytest.mark.parametrize("headers", ["token=abc;lang=en", "token=abc,lang=en", '{"token":"abc","lang":"en"}'])
def test_start(headers: str) -> None:
    """``start`` comes first; what stands in ``extra_headers`` is read in each form that was seen."""
    ids = {"callId": "c-1", "streamId": "s-1"}
    assert _dialect().decode_message(_start(extra_headers=headers)) == [
        CallStarted("c-1", G711_ULAW, {"lang": "en"}, "abc", ids=ids)
    ]


def test_other_formats_are_refused() -> None:
    """The byte order of PCM16 is not known."""
    start = json.loads(_start())
    start["start"]["mediaFormat"] = {"encoding": "audio/x-l16", "sampleRate": 8000}
    with pytest.raises(BadRequest, match="ask Plivo for AUDIO/X-MULAW"):
        _dialect().decode_message(json.dumps(start))


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (
            {"event": "media", "streamId": "s-1", "media": {"track": "inbound", "chunk": 1, "payload": "/w=="}},
            [b"\xff"],
        ),
        ({"event": "media", "media": {"payload": "/w=="}}, [b"\xff"]),
        ({"event": "dtmf", "streamId": "s-1", "dtmf": {"track": "inbound", "digit": "5"}}, [Dtmf("5")]),
        ({"event": "playedStream", "streamId": "s-1", "name": "b1"}, [MarkPlayed("b1")]),
        ({"event": "playedStream", "name": "b1"}, [MarkPlayed("b1")]),
        ({"event": "clearedAudio", "streamId": "s-1"}, []),
        ({"event": "playFailed", "reason": "queue"}, [CarrierFault("carrier_error", "queue")]),
        ({"event": "stop", "streamId": "s-1"}, [Ended()]),
        ({"event": "media", "streamId": "s-2", "media": {"payload": "/w=="}}, [CarrierFault("other_stream")]),
    ],
)
def test_messages_of_the_carrier(message: dict[str, Any], events: list[Any]) -> None:
    """Each means what the reference says."""
    dialect = _dialect()
    dialect.decode_message(_start())
    assert dialect.decode_message(json.dumps(message)) == events


def test_messages_to_the_carrier() -> None:
    """With exactly the fields of the reference; only Vobiz has a word for hanging up, only Plivo one for keys."""
    plivo, vobiz = _dialect(), JsonDialect(VOBIZ_DIALECT)
    for dialect in (plivo, vobiz):
        dialect.decode_message(_start())
        assert json.loads(dialect.encode_sound(b"\x7f\xff")) == {
            "event": "playAudio",
            "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "f/8="},
        }
        assert json.loads(dialect.encode_mark("b1")[0]) == {"event": "checkpoint", "streamId": "s-1", "name": "b1"}
        assert json.loads(dialect.encode_clear()[0]) == {"event": "clearAudio", "streamId": "s-1"}
    assert json.loads(plivo.encode_key("#")[0]) == {"event": "sendDTMF", "dtmf": "#"}
    assert vobiz.encode_key("#") == plivo.encode_hang_up() == []
    assert json.loads(vobiz.encode_hang_up()[0]) == {"event": "stop", "streamId": "s-1"}


def test_answer_document() -> None:
    """The address is text, escaped; the headers keep letters and digits alone, as Plivo demands."""
    root = ElementTree.fromstring(
        write_plivo_xml("wss://b.example/x?a=1&b=<", {"token": "ab12", "from": '+1"555<&,=;'})
    )
    stream = root.find("./Stream")
    assert stream is not None
    assert stream.text == "wss://b.example/x?a=1&b=<"
    assert stream.attrib == {
        "bidirectional": "true",
        "keepCallAlive": "true",
        "contentType": "audio/x-mulaw;rate=8000",
        "extraHeaders": "token=ab12,from=1555",
    }
