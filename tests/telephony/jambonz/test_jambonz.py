"""jambonz: the webhook's signature, its verbs, and messages both ways."""

import json
from functools import partial
from typing import Any

import pytest

from bridge.client.carriers.dialling import open_socket
from bridge.daemon import Daemon
from bridge.errors import BadRequest
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, MarkPlayed
from bridge.telephony.jambonz.dialect import JAMBONZ_DIALECT, write_verbs
from bridge.telephony.jambonz.sign_in import is_signed
from bridge.telephony.json_dialect import JsonDialect
from bridge.wire.audio import pcm16_at
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.telephony.calling import dialling
from tests.telephony.rows import SETTINGS

_SECRET, _BODY = "0123456789abcdef0123456789abcdef", b'{"call_sid":"aad0115d"}'
_SIGNATURE = "3b8bf39734f91e8c8eafa1e8dc42c94527cced59981fae835517f648ae86aa67"
_NOW = 1700000000.0
_dialect = partial(JsonDialect, JAMBONZ_DIALECT)


def test_signature_vector() -> None:
    """That of the reference, among others, within five minutes; nothing else."""
    header = f"t=1700000000,v1=00,v1={_SIGNATURE}"
    for now in (_NOW, _NOW + 300, _NOW - 300):
        assert is_signed(["another", _SECRET], header, _BODY, now=now)
    for secrets, shown, body, now in (
        ([_SECRET], header, _BODY, _NOW + 301),
        ([_SECRET], header, _BODY, _NOW - 301),
        (["another"], header, _BODY, _NOW),
        ([], header, _BODY, _NOW),
        ([_SECRET], header, _BODY + b" ", _NOW),
        ([_SECRET], f"t=1700000001,v1={_SIGNATURE}", _BODY, _NOW),
        ([_SECRET], f"v1={_SIGNATURE}", _BODY, _NOW),
        ([_SECRET], f"t=,v1={_SIGNATURE}", _BODY, _NOW),
        ([_SECRET], f"t={'9' * 5000},v1={_SIGNATURE}", _BODY, _NOW),
        ([_SECRET], f"t=1700000000,v0={_SIGNATURE}", _BODY, _NOW),
        ([_SECRET], "", _BODY, _NOW),
        ([_SECRET], "t=1700000000,v1=\ud800é", _BODY, _NOW),
    ):
        assert not is_signed(secrets, shown, body, now=now)


async def _code(daemon: Daemon, headers: dict[str, str]) -> Any:
    headers = {"Content-Type": "application/json", **headers}
    reply = await request("POST", f"{daemon.url}v1/telephony/jambonz", headers=headers, body=_BODY)
    return reply.json["error"]["code"] if reply.status != 200 else [verb["verb"] for verb in reply.json]


async def test_signed_webhook(serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is good once; without one the password is asked for."""
    monkeypatch.setattr("time.time", lambda: _NOW)
    signed = {"Jambonz-Signature": f"t=1700000000,v1={_SIGNATURE}"}
    async with serve_with(**SETTINGS, jambonz_webhook_secret=(_SECRET,)) as daemon:
        assert await _code(daemon, signed) == ["answer", "listen", "hangup"]
        assert await _code(daemon, signed) == "replayed_signature"
        respelled = {"Jambonz-Signature": f"x, t=1700000000, v1={_SIGNATURE}"}
        assert await _code(daemon, respelled) == "replayed_signature"
        assert await _code(daemon, {"Jambonz-Signature": "t=1700000000,v1=00"}) == "invalid_signature"
        assert await _code(daemon, {}) == "missing_secret"
        assert await _code(daemon, {"Authorization": "Basic eDp3cm9uZw=="}) == "invalid_secret"


async def test_either_subprotocol_is_chosen(open_daemon: Daemon) -> None:
    """jambonz' own, and that with which the module is compiled."""
    for name in ("audio.jambonz.org", "audio.drachtio.org"):
        wire = await open_socket(dialling(open_daemon, "jambonz").socket, headers={}, subprotocol=name)
        assert wire.connection.subprotocol == name
        await wire.close()


def test_verbs() -> None:
    """Both ways at one rate, streaming, with keys; whatever the parameters hold comes out as it went in."""
    answer, listen, hangup = json.loads(write_verbs("wss://b.example/x", {"token": 'a"<é'}))
    assert (answer, hangup) == ({"verb": "answer"}, {"verb": "hangup"})
    assert listen["metadata"] == {"token": 'a"<é'}
    assert listen["sampleRate"] == listen["bidirectionalAudio"]["sampleRate"] == 24000
    assert listen["bidirectionalAudio"]["streaming"] is True


_CALL = {"sampleRate": 16000, "mixType": "mono", "callSid": "c", "callId": "s", "token": "t", "lang": "en", "sip": {}}


@pytest.mark.parametrize(("rate", "rate_hz"), [(8000, 8000), ("24000", 24000), (48000, 48000), (None, 8000)])
def test_start(rate: Any, rate_hz: int) -> None:
    """The first text is the call, and all that is no object of it is a parameter."""
    said = json.dumps({**_CALL, "sampleRate": rate})
    parameters = {"mixType": "mono", "callSid": "c", "callId": "s", "lang": "en"}
    ids = {"callSid": "c", "callId": "s"}
    assert _dialect().decode_message(said) == [CallStarted("c", pcm16_at(rate_hz), parameters, "t", ids=ids)]


def test_other_rates_are_refused() -> None:
    """64 kHz is nobody's."""
    with pytest.raises(BadRequest, match="ask jambonz for L16 at 8000, 16000, 24000, 48000 Hz") as refused:
        _dialect().decode_message(json.dumps({**_CALL, "sampleRate": 64000}))
    assert refused.value.param == "sampleRate"


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (b"\x01\x02", [b"\x01\x02"]),
        (b"", []),
        ('{"event":"dtmf","dtmf":"2","duration":"1600"}', [Dtmf("2")]),
        ('{"type":"mark","data":{"name":"b1","event":"playout"}}', [MarkPlayed("b1")]),
        ('{"type":"mark","data":{"name":"b1","event":"cleared"}}', [MarkPlayed("b1")]),
        ('{"type":"playDone"}', []),
        ('{"msg":"buffer overrun"}', [CarrierFault("malformed_message")]),
    ],
)
def test_messages_of_the_carrier(message: str | bytes, events: list[CarrierEvent]) -> None:
    """Each means what the reference says."""
    dialect = _dialect()
    dialect.decode_message(json.dumps(_CALL))
    assert dialect.decode_message(message) == events


def test_messages_to_the_carrier() -> None:
    """Sound as it is, commands as JSON."""
    dialect = _dialect()
    dialect.decode_message(json.dumps(_CALL))
    assert dialect.encode_sound(b"\x01\x02") == b"\x01\x02"
    assert json.loads(dialect.encode_mark("b1")[0]) == {"type": "mark", "data": {"name": "b1"}}
    assert dialect.encode_clear() == ['{"type":"killAudio"}']
    assert dialect.encode_hang_up() == ['{"type":"disconnect"}']
    assert dialect.encode_key("1") == []
