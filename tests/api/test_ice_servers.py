"""TURN servers that callers are told of, and the credentials that are made for them."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from bridge.api.ice_servers import TurnServers
from bridge.config import TurnSettings, of_flat
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import Reply, request
from tests.settings import SECTIONS

_KEY, _SECRET, _PAGE = "sk-the-api-key-of-these-tests", "the-secret-of-the-relay", "https://app.example"
_URLS = ("turn:turn.example:3478", "turns:turn.example:5349?transport=tcp")
_TURN: dict[str, Any] = {"turn_url": _URLS, "turn_secret": _SECRET}


async def _asked(daemon: Daemon, method: str, path: str, key: str | None = _KEY, **body: Any) -> Reply:
    headers = {"Content-Type": "application/json", "Origin": _PAGE}
    headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
    return await request(method, f"{daemon.url}{path}", headers=headers, body=json.dumps(body) if body else b"")


def _require_good(server: dict[str, Any], *, ttl_s: int) -> str:
    """The entry is one that the relay will take, for about ``ttl_s``; who it is for."""
    expires, _, user = server["username"].partition(":")
    assert 0 <= int(time.time()) + ttl_s - int(expires) <= 5
    wanted = hmac.new(_SECRET.encode(), server["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(server["credential"], validate=True) == wanted
    assert server["urls"] == list(_URLS)
    return str(user)


def test_credentials_as_coturn_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of a name is what another program (openssl dgst -sha1 -hmac) says."""
    monkeypatch.setattr(time, "time", lambda: 1_900_000_000 - 7200.0)
    turn = TurnServers(TurnSettings(turn_url=("turn:t.example",), turn_secret="north"))
    (server,) = turn.ice_servers("key_1")
    assert server.username == "1900000000:key_1"
    assert base64.b64decode(server.credential).hex() == "8b8a2ee148128d719a31d59aee240fd19d75034a"
    assert server.credential not in repr(server)


def test_link_headers() -> None:
    """One for each address, as WHIP clients read them."""
    turn = TurnServers(TurnSettings(turn_url=_URLS, turn_secret=_SECRET))
    links = turn.link_headers("rtc_1")
    assert [link.partition(">")[0] for link in links] == [f"<{url}" for url in _URLS]
    for link in links:
        _, *parameters = link.split("; ")
        assert [parameter.partition("=")[0] for parameter in parameters] == [
            *("rel", "username", "credential", "credential-type")
        ]
        assert parameters[0] == 'rel="ice-server"'
        assert parameters[3] == 'credential-type="password"'
    assert TurnServers(TurnSettings()).link_headers("rtc_1") == []


async def test_beside_each_kind_of_key(serve_with: ServeWith) -> None:
    """Each key that makes calls comes with credentials of its own; they are good for as long as the key at least."""
    settings = {"api_key": (_KEY,), "allow_origin": (_PAGE,), "page_keys": True, "turn_ttl_s": 600}
    async with serve_with(**settings, **_TURN) as daemon:
        replies = [
            await _asked(daemon, "POST", "v1/realtime/client_secrets", expires_after={"seconds": 7000}),
            await _asked(daemon, "POST", "v1/realtime/sessions"),
            await _asked(daemon, "POST", "v1/realtime/transcription_sessions"),
            await _asked(daemon, "GET", "session", None),
            await _asked(daemon, "GET", "v1/realtime/ice_servers"),
        ]
        users = set()
        for reply, ttl_s in zip(replies, (7000, 600, 600, 600, 600), strict=True):
            assert reply.status == 200, reply
            assert reply.headers["cache-control"] == "no-store"
            (server,) = reply.json["iceServers"]
            users.add(_require_good(server, ttl_s=ttl_s))
        assert len(users) == 5
        key = replies[0].json["value"]
        (server,) = (await _asked(daemon, "GET", "v1/realtime/ice_servers", key)).json["iceServers"]
        assert _require_good(server, ttl_s=600) in users
        listener = await _asked(daemon, "POST", "v1/realtime/client_secrets", bridge={"role": "observer"})
        assert "iceServers" not in listener.json
        refused = await _asked(daemon, "GET", "v1/realtime/ice_servers", listener.json["value"])
        assert refused.status == 403
        assert (await _asked(daemon, "GET", "v1/realtime/ice_servers", None)).status == 401


async def test_without_a_relay(serve_with: ServeWith) -> None:
    """Answers are as the protocol has them, and the list is empty."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,)) as daemon:
        assert "iceServers" not in (await _asked(daemon, "POST", "v1/realtime/client_secrets")).json
        assert "iceServers" not in (await _asked(daemon, "POST", "v1/realtime/sessions")).json
        assert (await _asked(daemon, "GET", "v1/realtime/ice_servers")).json == {"iceServers": []}


async def test_secrets_stay_where_they_are(
    serve_with: ServeWith, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the secret that is shared nor a credential is in the log, and the settings do not show it."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,), log_level="debug", **_TURN) as daemon:
        reply = await _asked(daemon, "GET", "v1/realtime/ice_servers")
        credential = reply.json["iceServers"][0]["credential"]
        assert _SECRET not in repr(daemon.reloader.config)
        assert _SECRET not in json.dumps((await _asked(daemon, "GET", "openapi.json")).json)
    output = capfd.readouterr()
    logged = output.out + output.err + caplog.text
    assert "daemon.serving" in logged
    assert _SECRET not in logged
    assert credential not in logged


@pytest.mark.parametrize(
    "url",
    [
        *("turn.example", "stun:turn.example", "turn:", "turn:turn.example:0", "turn:turn.example:65536"),
        *("turn:user:sekrit@turn.example", "turns:turn.example?transport=sctp", "turn://turn.example", "turn:a b"),
    ],
)
def test_addresses_that_no_browser_takes(url: str) -> None:
    """They are refused at the start, and not shown: there may be a password in them."""
    faults = [*of_flat({"turn_url": (url,), "turn_secret": "s"}, SECTIONS).faults()]
    assert [fault.setting for fault in faults] == ["turn_url"]
    assert "sekrit" not in faults[0].reason


def test_one_without_the_other() -> None:
    """Neither is of use alone."""
    assert [f.setting for f in of_flat({"turn_url": ("turn:t.example",)}, SECTIONS).faults()] == ["turn_url"]
    assert [f.setting for f in of_flat({"turn_secret": "s"}, SECTIONS).faults()] == ["turn_secret"]
    for url in ("turn:[2001:db8::1]:3478?transport=udp", "turns:t.example", *_URLS):
        assert not [*of_flat({"turn_url": (url,), "turn_secret": "s"}, SECTIONS).faults()]
