"""Vonage and Infobip: signed tokens, the NCCO, and messages both ways."""

import base64
import hashlib
import hmac
import json
import time
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bridge.client.carriers.vonage import signed_token
from bridge.daemon import Daemon
from bridge.errors import BridgeError, Forbidden
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, MarkPlayed
from bridge.telephony.infobip.dialect import INFOBIP_DIALECT
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.jwt import Replays, Rs256Signer, read_jwks, read_jwt, signed_hs256, signed_rs256
from bridge.telephony.vonage.dialect import VONAGE_DIALECT, write_ncco
from bridge.wire.audio import pcm16_at
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.telephony.rows import SETTINGS

_SECRET = "0123456789abcdef0123456789abcdef"
_CLAIMS = {
    "iss": "Vonage",
    "iat": 1700000000,
    "jti": "0a0b0c0d-0000-4000-8000-000000000001",
    "api_key": "abcd1234",
    "application_id": "11111111-0000-4000-8000-000000000009",
}
_SIGNATURE = "LxyWUvM1TJFnocueD0ytlL01-YtTQ6UnrDaCHayMHZw"
_dialect = partial(JsonDialect, VONAGE_DIALECT)


def _encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=").decode()


_VECTOR = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(_CLAIMS)}.{_SIGNATURE}"


# Signed tokens


def test_token_vector() -> None:
    """That of the reference is read, within five minutes of its time."""
    for now in (1700000000.0, 1699999701.0, 1700000299.0):
        assert read_jwt(_VECTOR, signed_hs256(["another", _SECRET]), now=now) == _CLAIMS
    for now, secrets, code in (
        (1699999699.0, [_SECRET], "expired_signature"),
        (1700000301.0, [_SECRET], "expired_signature"),
        (1700000000.0, ["another"], "invalid_signature"),
        (1700000000.0, [], "invalid_signature"),
    ):
        with pytest.raises(Forbidden) as refused:
            read_jwt(_VECTOR, signed_hs256(secrets), now=now)
        assert refused.value.code == code


def _signed(header: Any, claims: Any) -> str:
    signed = f"{_encoded(header)}.{_encoded(claims)}"
    digest = hmac.digest(_SECRET.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "a.b.c", "\ud800.é.x", "x" * 10_000, _VECTOR[:-1], _VECTOR + ".x",
        f"{_encoded({'alg': 'none'})}.{_encoded(_CLAIMS)}.",
        _signed({"alg": "none"}, _CLAIMS),
        _signed({"alg": "HS512"}, _CLAIMS),
        _signed([], _CLAIMS),
        _signed({"alg": "HS256"}, []),
        _signed({"alg": "HS256"}, {}),
        _signed({"alg": "HS256"}, {"iat": "now"}),
        f"{_VECTOR}=",
        _signed({"alg": "HS256"}, {"iat": 1700000000, "exp": 1699999999}),
        _signed({"alg": "HS256"}, {"iat": 1700000000, "nbf": 1700009999}),
    ],
)  # fmt: skip
def test_no_other_token_is_good(token: str) -> None:
    """Another algorithm, none, no time or another, and no token's shape."""
    with pytest.raises(Forbidden):
        read_jwt(token, signed_hs256([_SECRET]), now=1700000000.0)


def test_tokens_with_a_key_pair() -> None:
    """Those that we sign are read by PyJWT, and PyJWT's by us, with the key that the set names."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    claims = {"application_id": "a", "iat": int(time.time())}
    assert jwt.decode(Rs256Signer(pem).sign(claims), key.public_key(), algorithms=["RS256"]) == claims
    entry = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    keys = read_jwks(json.dumps({"keys": [{**entry, "kid": "k1"}, {"kty": "EC", "kid": "k2"}]}).encode())
    assert list(keys) == ["k1"]
    token = jwt.encode(claims, pem, algorithm="RS256", headers={"kid": "k1"})
    assert read_jwt(token, signed_rs256(keys), now=time.time()) == claims
    for wrong in (
        jwt.encode(claims, pem, algorithm="RS256", headers={"kid": "k9"}),
        jwt.encode(claims, "x" * 32, algorithm="HS256", headers={"kid": "k1"}),
        f"{token[:-8]}AAAAAAAA",
    ):
        with pytest.raises(Forbidden):
            read_jwt(wrong, signed_rs256(keys), now=time.time())
    for document in (b"", b"{}", b'{"keys":7}', b'{"keys":[{"kty":"RSA"}]}', b'{"keys":[7]}'):
        with pytest.raises(ValueError, match="This is not a key set"):
            read_jwks(document)


def test_what_was_shown_once_is_not_good_again() -> None:
    """Until it would be too old anyway."""
    replays = Replays(keep_s=600)
    replays.require_new("a", now=100.0)
    replays.require_new("b", now=100.0)
    with pytest.raises(BridgeError, match="already been used"):
        replays.require_new("a", now=699.0)
    replays.require_new("a", now=701.0)
    replays.require_new("c", now=100.0, until=9000.0)
    with pytest.raises(BridgeError, match="already been used"):
        replays.require_new("c", now=8999.0)


def test_what_is_remembered_is_small() -> None:
    """Tokens may be long, and are secrets as long as they last: their hash is kept, and nothing of themselves."""
    replays = Replays()
    replays.require_new("x" * 8000, now=100.0, call="y" * 8000)
    kept = repr(vars(replays))
    assert len(kept) < 1000
    assert "xx" not in kept


def test_what_was_shown_for_a_call_is_for_no_other() -> None:
    """A call may come back with it, while it is there; another may not come with it, and then the first still may."""
    replays = Replays()
    replays.require_new("a", now=100.0, call="c1")
    for call, may_return, is_good in (("c2", True, False), ("c1", False, False), ("c1", True, True), ("", True, False)):
        if is_good:
            replays.require_new("a", now=101.0, call=call, may_return=may_return)
        else:
            with pytest.raises(BridgeError, match="already been used"):
                replays.require_new("a", now=101.0, call=call, may_return=may_return)


# The webhook


async def _webhook(daemon: Daemon, body: bytes, token: str | None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    reply = await request("POST", f"{daemon.url}v1/telephony/vonage", headers=headers, body=body)
    return reply.status, reply.json


async def test_webhook(open_daemon: Daemon) -> None:
    """A signed one is answered with an NCCO, once; one with another body, of another secret, or again, is not."""
    secret = SETTINGS["vonage_signature_secret"][0]
    body = json.dumps({"uuid": "u-1", "from": "15550001111", "to": "15550002222"}).encode()
    given = hashlib.sha256(body).hexdigest()
    token = signed_token(secret, payload_hash=given)
    status, [action] = await _webhook(open_daemon, body, token)
    assert (status, action["action"]) == (200, "connect")
    [endpoint] = action["endpoint"]
    assert endpoint.pop("headers").keys() == {"token", "uuid", "from", "to"}
    assert endpoint == {
        "type": "websocket",
        "uri": "wss://bridge.example.com/v1/telephony/vonage",
        "content-type": "audio/l16;rate=16000",
    }
    for sent, shown, code in (
        (body, token, "replayed_signature"),
        (body.replace(b"1111", b"9999"), signed_token(secret, payload_hash=given), "invalid_signature"),
        (body, signed_token(secret), "invalid_signature"),
        (body, signed_token("wrong", payload_hash=given), "invalid_signature"),
        (body, signed_token(secret, payload_hash=given, iat=int(time.time()) - 600), "expired_signature"),
        (body, None, "missing_signature"),
    ):
        status, told = await _webhook(open_daemon, sent, shown)
        assert (status, told["error"]["code"]) == (403, code)


async def test_calls_of_one_application(serve_with: ServeWith) -> None:
    """If the application is set, no other one's token opens anything."""
    secret = SETTINGS["vonage_signature_secret"][0]
    async with serve_with(**SETTINGS, vonage_application_id="app-1") as daemon:
        for application, status in (("app-2", 403), ("app-1", 200)):
            body = b'{"uuid":"u"}'
            token = signed_token(secret, payload_hash=hashlib.sha256(body).hexdigest(), application_id=application)
            assert (await _webhook(daemon, body, token))[0] == status


def test_ncco_is_escaped() -> None:
    """Whatever characters the parameters hold, they come out as they went in."""
    awkward = "a\"<&'\\é\n"
    [action] = json.loads(write_ncco("wss://b.example/x", {"token": "t", "from": awkward}))
    assert action["endpoint"][0]["headers"] == {"token": "t", "from": awkward}


# Messages


def _connected(**more: Any) -> str:
    return json.dumps({"event": "websocket:connected", "content-type": "audio/l16;rate=16000", **more})


@pytest.mark.parametrize(
    ("content_type", "rate_hz"),
    [
        ("audio/l16;rate=8000", 8000),
        ("audio/l16;rate=16000", 16000),
        ("audio/l16;rate=24000", 24000),
        ("audio/l16", 16000),
    ],
)
def test_start(content_type: str, rate_hz: int) -> None:
    """The rate stands in the content type, and what the NCCO gave stands beside it."""
    said = json.dumps({"event": "websocket:connected", "content-type": content_type, "uuid": "u", "token": "t", "n": 1})
    ids = {"uuid": "u", "conversation_uuid": ""}
    assert _dialect().decode_message(said) == [
        CallStarted("u", pcm16_at(rate_hz), {"uuid": "u", "n": "1"}, "t", ids=ids)
    ]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (b"\x01\x02", [b"\x01\x02"]),
        (b"\x01", [CarrierFault("odd_sound")]),
        (b"", []),
        ('{"event":"websocket:dtmf","digit":"5","duration":260}', [Dtmf("5")]),
        ('{"event":"websocket:dtmf","dtmf":{"digit":7}}', [Dtmf("7")]),
        ('{"event":"websocket:notify","payload":{"name":"b1"}}', [MarkPlayed("b1")]),
        ('{"event":"websocket:cleared"}', []),
        ('{"event":"websocket:new"}', [CarrierFault("unknown_message")]),
    ],
)
def test_messages_of_the_carrier(message: str | bytes, events: list[CarrierEvent]) -> None:
    """Each means what the reference says."""
    dialect = _dialect()
    dialect.decode_message(_connected(uuid="u"))
    assert dialect.decode_message(message) == events


def test_nothing_counts_before_the_start() -> None:
    """Nobody knows whose sound it would be."""
    assert _dialect().decode_message(b"\x01\x02") == [CarrierFault("message_before_start")]


def test_messages_to_the_carrier() -> None:
    """Sound as it is, actions as JSON; Infobip knows none of them."""
    vonage, infobip = _dialect(), JsonDialect(INFOBIP_DIALECT)
    for dialect in (vonage, infobip):
        dialect.decode_message(_connected(uuid="u"))
        assert dialect.encode_sound(b"\x01\x02") == b"\x01\x02"
        assert dialect.encode_hang_up() == dialect.encode_key("5") == []
    assert json.loads(vonage.encode_mark("b1")[0]) == {"action": "notify", "payload": {"name": "b1"}}
    assert vonage.encode_clear() == ['{"action":"clear"}']
    assert infobip.encode_mark("b1") == infobip.encode_clear() == []
