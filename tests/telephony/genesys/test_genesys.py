"""Genesys: signatures against the reference's vector, numbers, pings, the probe, and both ends of a session."""

import base64
import hmac
import json
from typing import Any

import pytest

from bridge.client import CallFailed
from bridge.client.carriers.dialling import open_socket
from bridge.client.carriers.genesys import signed_headers
from bridge.daemon import Daemon
from bridge.errors import BadRequest, Forbidden
from bridge.telephony.dialect import CallStarted, CarrierFault, CarrierReply, Dtmf, Ended
from bridge.telephony.genesys.dialect import AudioHookState, Genesys
from bridge.telephony.genesys.sign_in import base_of, read_signature
from bridge.wire.audio import G711_ULAW, pcm16_at
from tests.telephony.calling import dialling
from tests.telephony.rows import SETTINGS

_ID = "0a0b0c0d-0000-4000-8000-0000000000aa"
_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
_PARAMS = (
    '("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" '
    '"audiohook-correlation-id" "x-api-key");keyid="a2V5LTE=";nonce="MTIzNDU2Nzg5MDEyMzQ1Njc4";'
    'alg="hmac-sha256";created=1700000000;expires=1700000030'
)
_HEADERS = {
    "audiohook-organization-id": "11111111-0000-4000-8000-000000000001",
    "audiohook-session-id": _ID,
    "audiohook-correlation-id": "0a0b0c0d-0000-4000-8000-0000000000bb",
    "x-api-key": "a2V5LTE=",
    "signature-input": f"sig1={_PARAMS}",
    "signature": "sig1=:E++yt0m4GPOTFzKq+fObVhZglAYc+99MQ4D9Xg/SD7Q=:",
}
_PLACE = {"target": "/v1/telephony/genesys", "authority": "bridge.example.com"}


# Signatures


def test_signature_vector() -> None:
    """That of the reference is good with its secret, within ten seconds of its time; its nonce is told."""
    for now in (1700000000.0, 1700000010.0, 1699999990.0):
        nonce = read_signature(["another", _SECRET], _HEADERS, now=now, **_PLACE)
        assert nonce == "MTIzNDU2Nzg5MDEyMzQ1Njc4"


@pytest.mark.parametrize(
    ("headers", "place", "secrets", "now", "code"),
    [
        ({}, {}, [_SECRET], 1700000011.0, "expired_signature"),
        ({}, {}, [_SECRET], 1699999989.0, "expired_signature"),
        ({}, {}, ["YW5vdGhlcg=="], 1700000000.0, "invalid_signature"),
        ({}, {}, [], 1700000000.0, "invalid_signature"),
        ({}, {"target": "/v1/telephony/genesys?a=1"}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({}, {"authority": "evil.example"}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"x-api-key": "x"}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"audiohook-session-id": "x"}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"signature": ""}, {}, [_SECRET], 1700000000.0, "missing_signature"),
        ({"signature-input": ""}, {}, [_SECRET], 1700000000.0, "missing_signature"),
        ({"signature": "sig1=:AAAA:"}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"signature": "sig2=:E++yt0m4GPOTFzKq+fObVhZglAYc+99MQ4D9Xg/SD7Q=:"}, {}, [_SECRET], 1700000000.0,
         "invalid_signature"),
        ({"signature-input": "sig1=()"}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"signature-input": "x" * 5000}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
        ({"signature": "\ud800"}, {}, [_SECRET], 1700000000.0, "invalid_signature"),
    ],
)  # fmt: skip
def test_no_other_signature_is_good(
    headers: dict[str, str], place: dict[str, str], secrets: list[str], now: float, code: str
) -> None:
    """Of another time, secret, place or header; and no signature's shape."""
    with pytest.raises(Forbidden) as refused:
        read_signature(secrets, _HEADERS | headers, now=now, **_PLACE | place)
    assert refused.value.code == code


def test_all_that_matters_is_signed() -> None:
    """A right signature that leaves out the session is none, however well it is made."""

    params = '("@request-target" "x-api-key");keyid="a2V5LTE=";nonce="MTIzNDU2Nzg5MDEyMzQ1Njc4";created=1700000000'
    values = {"@request-target": _PLACE["target"], "x-api-key": "a2V5LTE="}
    signed = base_of(params, ("@request-target", "x-api-key"), values)
    digest = hmac.digest(base64.b64decode(_SECRET), signed.encode(), "sha256")
    made = {"signature-input": f"sig1={params}", "signature": f"sig1=:{base64.b64encode(digest).decode()}:"}
    with pytest.raises(Forbidden):
        read_signature([_SECRET], _HEADERS | made, now=1700000000.0, **_PLACE)


async def test_upgrade(open_daemon: Daemon) -> None:
    """A nonce is good once; a key that is not known is refused; the connector's id may stand behind the path."""
    secret = SETTINGS["genesys_client_secret"][0]
    url = dialling(open_daemon, "genesys").socket

    async def tried(path: str, key: str = "a2V5LTE=", **params: Any) -> str:
        place = f"/v1/telephony/genesys{path}"
        headers = signed_headers(secret, key, place, "bridge.example.com", _ID, **params)
        try:
            wire = await open_socket(f"{url}{path}", headers=headers)
        except CallFailed as refused:
            return refused.code
        await wire.close()
        return "open"

    nonce = "n" * 24
    assert [await tried("", nonce=nonce), await tried("/bot-1"), await tried("/bot-1?a=b")] == ["open"] * 3
    assert await tried("", nonce=nonce) == "replayed_signature"
    assert await tried("", nonce="short") == "invalid_signature"
    assert await tried("", key="b3RoZXI=") == "invalid_secret"
    assert await tried("", created=1) == "expired_signature"


# Messages


def _said(kind: str, seq: int, *, serverseq: int = 0, session: str = _ID, **parameters: Any) -> str:
    said = {"version": "2", "type": kind, "seq": seq, "serverseq": serverseq, "id": session, "position": "PT0S"}
    return json.dumps({**said, "parameters": parameters})


def _open(seq: int = 1, conversation: str = "c-1", **more: Any) -> str:
    media = [
        {"type": "audio", "format": "PCMU", "channels": ["external", "internal"], "rate": 8000},
        {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000},
    ]
    participant = {"id": "p", "ani": "+15550001111", "aniName": "", "dnis": "+15550002222"}
    given = {"organizationId": "o", "conversationId": conversation, "participant": participant, "media": media}
    return _said("open", seq, **{**given, **more})


def _answered(events: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(text) for event in events if isinstance(event, CarrierReply) for text in event.messages]


def test_open() -> None:
    """The caller's sound alone is chosen, variables are parameters, and ``opened`` follows at once."""
    started, opened = Genesys(_ID).decode_message(_open(inputVariables={"lang": "en", "n": 1}))
    parameters = {"ani": "+15550001111", "dnis": "+15550002222", "lang": "en", "n": "1"}
    ids = {"sessionId": _ID, "conversationId": "c-1", "organizationId": "o"}
    assert started == CallStarted(_ID, G711_ULAW, parameters, ids=ids)
    media = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}
    assert _answered([opened]) == [
        {"version": "2", "type": "opened", "seq": 1, "clientseq": 1, "id": _ID,
         "parameters": {"media": [media], "startPaused": False}}
    ]  # fmt: skip


def test_probe() -> None:
    """A conversation of zeros is answered, and is no call."""
    events = Genesys(_ID).decode_message(_open(conversation="00000000-0000-0000-0000-000000000000"))
    assert [said["type"] for said in _answered(events)] == ["opened"]
    assert len(events) == 1


def test_media_of_others_are_refused() -> None:
    """Two channels alone, another codec, or no offer."""
    for media in ([], [{"format": "PCMU", "channels": ["external", "internal"], "rate": 8000}], None, [7],
                  [{"format": "OPUS", "channels": ["external"], "rate": 48000}]):  # fmt: skip
        with pytest.raises(BadRequest):
            Genesys(_ID).decode_message(_open(media=media))
    [started, _] = Genesys(_ID).decode_message(_open(media=[{"format": "L16", "channels": ["external"], "rate": 8000}]))
    assert isinstance(started, CallStarted)
    assert started.audio_format is pcm16_at(8000)


def test_numbers() -> None:
    """``pong`` has the ping's number; a gap, a number that we never sent, or another session ends it."""
    dialect = Genesys(_ID)
    dialect.decode_message(_open())
    [pong] = _answered(dialect.decode_message(_said("ping", 2, serverseq=1)))
    assert (pong["type"], pong["seq"], pong["clientseq"], pong["parameters"]) == ("pong", 2, 2, {})
    for wrong in (_said("ping", 4), _said("ping", 2), _said("ping", 3, serverseq=9), _said("ping", 3, session="x")):
        broken = Genesys(_ID)
        broken.decode_message(_open())
        broken.decode_message(_said("ping", 2))
        events = broken.decode_message(wrong)
        [said] = _answered(events)
        assert (said["type"], said["parameters"]["reason"]) == ("disconnect", "error")
        assert events[-1] == Ended("protocol_error")


def test_messages_of_genesys() -> None:
    """Each means what the reference says; sound before ``opened`` is nobody's."""
    dialect = Genesys(_ID)
    assert dialect.decode_message(b"\xff") == [CarrierFault("message_before_start")]
    dialect.decode_message(_open())
    assert dialect.decode_message(b"\xff\xfe") == [b"\xff\xfe"]
    for seq, kind in enumerate(("playback_started", "playback_completed", "paused", "resumed", "discarded"), 2):
        assert dialect.decode_message(_said(kind, seq)) == []
    [updated] = _answered(dialect.decode_message(_said("update", 7, language="en")))
    assert (updated["type"], updated["parameters"]) == ("updated", {})
    assert dialect.decode_message(_said("dtmf", 8, digit="5")) == [Dtmf("5")]
    assert dialect.decode_message(_said("error", 9, code=429, message="slow")) == [
        CarrierFault("carrier_error", "429 slow")
    ]
    assert dialect.decode_message(_said("new", 10)) == [CarrierFault("unknown_message")]
    closed, ended = dialect.decode_message(_said("close", 11, reason="end"))
    assert [said["type"] for said in _answered([closed])] == ["closed"]
    assert ended == Ended()
    assert dialect.encode_hang_up() == []
    assert dialect.decode_message(b"\xff") == []
    assert dialect.decode_message(_said("ping", 12)) == [CarrierFault("message_after_end")]


def _state(dialect: Genesys) -> AudioHookState:
    return dialect.state


def test_states() -> None:
    """A session waits, is open, is paused and goes on, is left by us, and ends with Genesys' word, in that order."""
    dialect = Genesys(_ID)
    assert dialect.decode_message(_said("ping", 1)) == [CarrierFault("message_before_start")]
    dialect.decode_message(_open(2))
    assert dialect.decode_message(_open(3)) == [CarrierFault("second_start")]
    assert dialect.decode_message(_said("paused", 4)) == []
    assert _state(dialect) is AudioHookState.PAUSED
    assert dialect.decode_message(b"\xff") == [CarrierFault("sound_while_paused")]
    assert _answered(dialect.decode_message(_said("ping", 5)))[0]["type"] == "pong"
    assert dialect.decode_message(_said("resumed", 6, start="PT1.5S", discarded="PT12S")) == []
    assert dialect.decode_message(b"\xff") == [b"\xff"]
    for wrong in ("12", "PT", "PT-1S", 1, None, f"PT{'9' * 99}S"):
        gap = Genesys(_ID)
        gap.decode_message(_open())
        assert gap.decode_message(_said("discarded", 2, start="PT0S", discarded=wrong)) == [
            CarrierFault("malformed_message")
        ]
    assert json.loads(dialect.encode_hang_up()[0])["type"] == "disconnect"
    assert _state(dialect) is AudioHookState.LEAVING
    assert dialect.encode_hang_up() == dialect.decode_message(b"\xff") == []
    assert dialect.decode_message(_said("close", 7, reason="disconnect"))[-1] == Ended()
    assert _state(dialect) is AudioHookState.CLOSED


def test_another_organization_is_refused() -> None:
    """The one that is told must be the one that has signed."""
    said, ended = Genesys(_ID, "o-1").decode_message(_open())
    [disconnect] = _answered([said])
    assert (disconnect["type"], disconnect["parameters"]["reason"]) == ("disconnect", "unauthorized")
    assert ended == Ended("protocol_error")
    assert isinstance(Genesys(_ID, "o").decode_message(_open())[0], CallStarted)


def test_messages_to_genesys() -> None:
    """``barge_in`` and ``disconnect``, numbered on; sound as it is."""
    dialect = Genesys(_ID)
    dialect.decode_message(_open())
    barge_in, disconnect = (json.loads(texts[0]) for texts in (dialect.encode_clear(), dialect.encode_hang_up()))
    assert (barge_in["seq"], barge_in["type"], barge_in["parameters"]) == (
        2, "event", {"entities": [{"type": "barge_in", "data": {}}]}
    )  # fmt: skip
    assert (disconnect["seq"], disconnect["type"], disconnect["parameters"]) == (
        3, "disconnect", {"reason": "completed", "outputVariables": {}}
    )  # fmt: skip
    assert dialect.encode_sound(b"\xff") == b"\xff"
    assert dialect.encode_mark("b1") == dialect.encode_key("1") == []
