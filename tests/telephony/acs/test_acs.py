"""Azure Communication Services: its signed tokens against a key set of our own, and messages both ways."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from bridge.telephony.acs.dialect import ACS_DIALECT
from bridge.telephony.dialect import CallStarted, CarrierFault, Dtmf
from bridge.telephony.json_dialect import JsonDialect
from bridge.wire.audio import pcm16_at
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.telephony.calling import gone, new_token, opened
from tests.telephony.rows import SETTINGS

_AUDIENCE = SETTINGS["acs_audience"][0]
_ISSUER = "https://acscallautomation.communication.azure.com"
_METADATA = {"subscriptionId": "s-1", "encoding": "PCM", "sampleRate": 24000, "channels": 1, "length": 960}
_START = json.dumps({"kind": "AudioMetadata", "audioMetadata": _METADATA})
_KEY = rsa.generate_private_key(65537, 2048)
_SET = {"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key())), "kid": "k1"}]}
_dialect = partial(JsonDialect, ACS_DIALECT)


def _token(kid: str = "k1", **claims: Any) -> str:
    now = int(time.time())
    given = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "iat": now,
        "exp": now + 300,
        "jti": str(time.perf_counter_ns()),
        **claims,
    }
    return jwt.encode(given, _KEY, algorithm="RS256", headers={"kid": kid})


class _KeySet:
    """Publishes the keys, and counts how often they were fetched."""

    def __init__(self, body: bytes) -> None:
        self.fetched = 0
        self._body = body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        await reader.readuntil(b"\r\n\r\n")
        self.fetched += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self._body) + self._body
        )
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def _serving(serve_with: ServeWith, body: bytes) -> AsyncIterator[tuple[Daemon, _KeySet]]:
    key_set = _KeySet(body)
    async with await asyncio.start_server(key_set.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        async with serve_with(**SETTINGS, acs_jwks_url=url) as daemon:
            yield daemon, key_set


@asynccontextmanager
async def _socket(daemon: Daemon, token: str, call: str = "call-1", query: str = "") -> AsyncIterator[ClientConnection]:
    url = f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/acs{query}"
    headers = {"x-ms-call-connection-id": call} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with connect(url, additional_headers=headers, proxy=None) as connection:
        yield connection


async def _refusal(daemon: Daemon, token: str, call: str = "call-1") -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with _socket(daemon, token, call):
            pass
    return refused.value.response.status_code, json.loads(refused.value.response.body or b"")["error"]["code"]


async def test_signed_token(serve_with: ServeWith) -> None:
    """Azure's, for this resource, by a key of its set, fetched once. Its call comes back with it, and no other does."""
    async with _serving(serve_with, json.dumps(_SET).encode()) as (daemon, key_set):
        token = _token()
        async with _socket(daemon, token) as connection:
            await connection.send(_START)
            session = await opened(daemon)
            assert session.context.carrier_ids["x-ms-call-connection-id"] == "call-1"
            async with _socket(daemon, token) as again:
                await again.send(_START)
            assert await _refusal(daemon, token, "call-2") == (403, "replayed_signature")
        await gone(daemon)
        for wrong, code in (
            (token, "replayed_signature"),
            (_token(aud="another"), "invalid_signature"),
            (_token(iss="https://evil.example"), "invalid_signature"),
            (_token(exp=int(time.time()) - 1), "expired_signature"),
            (_token("k2"), "invalid_signature"),
            ("a.b.c", "invalid_signature"),
        ):
            assert await _refusal(daemon, wrong) == (403, code)
        assert key_set.fetched == 1
        assert daemon.registry.sessions == []


async def test_a_token_is_for_one_call(serve_with: ServeWith) -> None:
    """One that was used for a call is not let into another that is running, by whose id it asks."""
    async with _serving(serve_with, json.dumps(_SET).encode()) as (daemon, _):
        used = _token()
        async with _socket(daemon, used, "call-1") as connection:
            await connection.send(_START)
            await opened(daemon)
        await gone(daemon)
        async with _socket(daemon, _token(), "call-2") as connection:
            await connection.send(_START)
            await opened(daemon)
            assert await _refusal(daemon, used, "call-2") == (403, "replayed_signature")
            assert await _refusal(daemon, used, "call-1") == (403, "replayed_signature")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"keys":[]}'])
async def test_without_keys_nobody_is_let_in(serve_with: ServeWith, body: bytes) -> None:
    """What cannot be checked is refused, and can be tried again."""
    async with _serving(serve_with, body) as (daemon, _):
        assert (await _refusal(daemon, _token()))[0] == 503


async def test_key_in_the_address(open_daemon: Daemon) -> None:
    """Who answers the call with a key of the bridge's in ``transportUrl`` needs no token of Azure's."""
    async with _socket(open_daemon, "", query=f"?token={new_token(open_daemon)}") as connection:
        await connection.send(_START)
        await opened(open_daemon)


async def test_a_key_beside_azures_token_has_its_session(serve_with: ServeWith) -> None:
    """Azure proves whose call it is; the key in the address says what session it gets, once."""
    async with _serving(serve_with, json.dumps(_SET).encode()) as (daemon, _):
        body = json.dumps(
            {"bridge": {"role": "telephone"}, "session": {"type": "realtime", "instructions": "Be brief."}}
        )
        key = (await request("POST", f"{daemon.url}v1/realtime/client_secrets", body=body)).json["value"]
        async with _socket(daemon, _token(), query=f"?token={key}") as connection:
            await connection.send(_START)
            session = await opened(daemon)
            assert session.state.config.instructions == "Be brief."
        await gone(daemon)
        async with _socket(daemon, _token(), "call-2", query=f"?token={key}") as connection:
            await connection.send(_START)
            await connection.wait_closed()
        assert daemon.telephony.calls.refused == {"acs.invalid_token": 1}


@pytest.mark.parametrize("fold", [str, lambda name: name[0].upper() + name[1:]])
def test_messages_of_the_carrier(fold: Any) -> None:
    """Names count in any case; the call's id is the header's, whatever the message says."""

    def said(kind: str, **content: Any) -> str:
        name = kind[0].lower() + kind[1:]
        inner = {fold(key): value for key, value in content.items()}
        return json.dumps({fold("kind"): kind, fold(name): inner})

    ids = {"x-ms-call-connection-id": "call-1", "x-ms-call-correlation-id": "", "subscriptionId": "s-1"}
    dialect = _dialect(of_upgrade={"x-ms-call-connection-id": "call-1"})
    start = said("AudioMetadata", **_METADATA)
    assert dialect.decode_message(start) == [CallStarted("call-1", pcm16_at(24000), {}, None, ids=ids)]
    data = said("AudioData", timestamp="x", participantRawID="4:+1", data="6APoAw==", silent=True)
    assert dialect.decode_message(data) == [b"\xe8\x03\xe8\x03"]
    assert dialect.decode_message(said("DtmfData", data="3")) == [Dtmf("3")]
    assert dialect.decode_message(said("Whatever")) == [CarrierFault("unknown_message")]


def test_messages_to_the_carrier() -> None:
    """As the reference has them."""
    dialect = _dialect()
    dialect.decode_message(_START)
    sound = {"kind": "AudioData", "audioData": {"data": "6AM="}, "stopAudio": None}
    assert json.loads(dialect.encode_sound(b"\xe8\x03")) == sound
    assert json.loads(dialect.encode_clear()[0]) == {"kind": "StopAudio", "audioData": None, "stopAudio": {}}
    assert dialect.encode_mark("b1") == dialect.encode_hang_up() == dialect.encode_key("1") == []
