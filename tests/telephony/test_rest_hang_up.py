"""Calls that the bridge ends are hung up by the carrier's HTTP API, if closing the stream does not do it."""

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from bridge.telephony import hang_up
from bridge.telephony.bandwidth.carrier import BANDWIDTH
from bridge.telephony.bandwidth.settings import BandwidthSettings
from bridge.telephony.hang_up import NOBODYS, HttpHangUp
from bridge.telephony.http_api import ApiRequest, HttpApi
from bridge.telephony.table import CARRIERS
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.settings import config_for_tests
from tests.telephony.calling import calling, dialling, opened, until
from tests.telephony.fake_api import FakeApi
from tests.telephony.rows import SETTINGS

__all__ = ["WAYS", "Way"]

_KEY = rsa.generate_private_key(65537, 2048)
_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    carrier: str
    settings: dict[str, Any]
    line: str
    """The request, for the call ``call/1``."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    url_setting: str = ""
    """The setting with the API's address; empty: it is fixed, as ``_API``."""


WAYS = [
    Way(
        carrier="plivo",
        settings={"plivo_auth_id": "MA1"},
        line="DELETE /Account/MA1/Call/call%2F1/ HTTP/1.1",
        headers={"authorization": "Basic TUExOjAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGRlZWZm"},
    ),
    Way(
        carrier="vobiz",
        settings={"vobiz_auth_id": "MA1"},
        line="DELETE /Account/MA1/Call/call%2F1/ HTTP/1.1",
        headers={"x-auth-id": "MA1", "x-auth-token": "00112233445566778899aabbccddeeff"},
    ),
    Way(
        carrier="vonage",
        settings={"vonage_application_id": "app-1", "vonage_private_key": _PEM},
        line="PUT /calls/call%2F1 HTTP/1.1",
        body=b'{"action":"hangup"}',
    ),
    Way(
        carrier="infobip",
        settings={"infobip_api_key": "KEY"},
        line="POST /calls/1/calls/call%2F1/hangup HTTP/1.1",
        headers={"authorization": "App KEY"},
        body=b"{}",
        url_setting="infobip_url",
    ),
    Way(
        carrier="bandwidth",
        settings={"bandwidth_account_id": "A1", "bandwidth_client_id": "id", "bandwidth_client_secret": "secret"},
        line="POST /accounts/A1/calls/call%2F1 HTTP/1.1",
        headers={"authorization": "Bearer T"},
        body=b'{"state":"completed"}',
    ),
    Way(
        carrier="acs",
        settings={"acs_access_key": "MDEyMzQ1Njc4OWFiY2RlZg=="},
        line="POST /calling/callConnections/call%2F1:terminate?api-version=2024-09-15 HTTP/1.1",
        url_setting="acs_endpoint",
    ),
]


@asynccontextmanager
async def _ended(serve_with: ServeWith, way: Way, api: FakeApi) -> AsyncIterator[Callable[[], Any]]:
    """A call that the bridge has ended; yields what tells how many hang-ups have failed."""
    settings = SETTINGS | way.settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hang_up, "_PAUSE_S", 0.0)
        if way.url_setting:
            settings[way.url_setting] = api.url
        else:
            module = importlib.import_module(f"bridge.telephony.{way.carrier}.carrier")
            patch.setattr(module, "_API", api.url)
            patch.setattr(module, "_TOKEN_URL", f"{api.url}/oauth2/token", raising=False)
        async with serve_with(**settings) as daemon:
            given = {"application_id": "app-1"} if way.carrier == "vonage" else {}
            async with calling(dialling(daemon, way.carrier, call="call/1", parameters=given)):
                session = await opened(daemon)
                await request("DELETE", f"{daemon.url}v1/realtime/calls/{session.info.id}")
                await until(daemon, lambda: bool(api.requests), "hang-up")

            async def failures() -> int:
                return int((await request("GET", f"{daemon.url}v1/telephony")).json["hang_ups_failed"])

            yield failures


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.carrier)
async def test_a_call_that_the_bridge_ends_is_hung_up(serve_with: ServeWith, way: Way) -> None:
    """Once, with the account's key; whatever characters the call's id has. That it is gone already is just as good."""
    for status in (204, 404):
        async with FakeApi(status).serving() as api, _ended(serve_with, way, api) as failures:
            assert await failures() == 0
        [(line, headers, body)] = api.requests
        assert (line, body.replace(b" ", b"")) == (way.line, way.body)
        assert way.headers.items() <= headers.items()
        if way.carrier == "vonage":
            token = headers["authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, _KEY.public_key(), algorithms=["RS256"])
            assert claims.keys() == {"application_id", "iat", "exp", "jti"}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.carrier)
async def test_what_may_pass_is_tried_again(serve_with: ServeWith, way: Way) -> None:
    """A busy API is asked three times, one that refuses the key once; both are counted."""
    for status, tries in ((503, 3), (401, 1)):
        async with FakeApi(status).serving() as api, _ended(serve_with, way, api) as failures:
            while await failures() < 1:
                pass
        assert len(api.requests) == tries


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.carrier)
async def test_a_key_is_tried_as_it_is_used(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the request of a hang-up, once, for a call that nobody has; what the carrier answers is told."""
    carrier = next(one for one in CARRIERS if one.name == way.carrier)
    async with FakeApi(404, 401, 503).serving() as api:
        settings = SETTINGS | way.settings
        if way.url_setting:
            settings[way.url_setting] = api.url
        else:
            module = importlib.import_module(f"bridge.telephony.{way.carrier}.carrier")
            monkeypatch.setattr(module, "_API", api.url)
            monkeypatch.setattr(module, "_TOKEN_URL", f"{api.url}/oauth2/token", raising=False)
        config = config_for_tests(**settings)
        hung_up_by = carrier.new_hang_up(next(one for one in config.carriers if isinstance(one, carrier.settings)))
        assert isinstance(hung_up_by, HttpHangUp)
        assert [await hung_up_by.try_key() for _ in range(3)] == [404, 401, 503]
    line, headers, body = api.requests[0]
    assert (line, body.replace(b" ", b"")) == (way.line.replace("call%2F1", NOBODYS), way.body)
    assert way.headers.items() <= headers.items()
    assert ("authorization" in headers) is (way.carrier != "vobiz")
    assert await hung_up_by.try_key() == "ConnectError"
    assert hung_up_by.failures == 0


async def test_a_token_serves_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bandwidth's: it is fetched once for many calls; if none is to be had, the call's hang-up has failed, at once."""
    settings = BandwidthSettings(bandwidth_account_id="A1", bandwidth_client_id="id", bandwidth_client_secret="s")
    async with FakeApi(200).serving() as api:
        monkeypatch.setattr("bridge.telephony.bandwidth.carrier._API", api.url)
        monkeypatch.setattr("bridge.telephony.bandwidth.carrier._TOKEN_URL", f"{api.url}/oauth2/token")
        way = BANDWIDTH.new_hang_up(settings)
        assert way is not None
        for call in ("call-1", "call-2"):
            await way.hang_up(call)
        assert (len(api.requests), api.tokens, way.failures) == (2, 1, 0)
        refused = BANDWIDTH.new_hang_up(settings)
        assert isinstance(refused, HttpHangUp)
        api.token_status = 401
        with capture_logs() as lines:
            await refused.hang_up("call-3")
            assert await refused.try_key() == 401
        assert (len(api.requests), api.tokens, refused.failures) == (2, 3, 1)
        assert [line["problem"] for line in lines] == ["HTTP 401 for a token"]


@pytest.mark.parametrize(
    "call", [".", "..", "", "é" * 12_000, "x" * 257], ids=["dot", "dots", "none", "long", "longer"]
)
async def test_an_odd_id_ends_no_call(call: str) -> None:
    """An id that would lead elsewhere, or is longer than any, is not asked for, and is counted as a failure."""
    async with FakeApi(204).serving() as api:
        way = HttpHangUp(HttpApi(carrier="plivo", url=api.url), ApiRequest(path="/Call/{call}/", method="DELETE"))
        await way.hang_up(call)
    assert api.requests == []
    assert way.failures == 1


async def test_a_key_that_cannot_be_used_fails_alone() -> None:
    """Whatever goes wrong on the way to the carrier ends no other call."""

    async def authorize(http: Any) -> Any:
        raise TypeError("Password was not given but private key is encrypted")

    async with FakeApi(204).serving() as api:
        way = HttpHangUp(HttpApi(carrier="vonage", url=api.url, authorize=authorize), ApiRequest(path="/calls/{call}"))
        with capture_logs() as lines:
            await way.hang_up("call-1")
    assert (api.requests, way.failures) == ([], 1)
    assert [(line["event"], line["problem"]) for line in lines] == [("telephony.hang_up_failed", "TypeError")]
