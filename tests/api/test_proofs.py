"""Dangers from outside of the protocol: names that lie, clocks that jump, secrets that libraries might log."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.api.describe import openapi
from bridge.calls.keys import Grant, KeyPurpose, LocalKeyStore, redeem_telephone_key
from bridge.config import load
from bridge.errors import ConfigError
from bridge.outgoing import TLS
from bridge.webrtc.ice_full import IceServers
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request

_HOUR_S = 3600.0
_TTL_S = 60
_QUERIES = ("model=m", "call_id=rtc_any", "role=agent", "intent=transcription")
_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
_PASSWORD = "turn-password-7c1f"


def _guarded() -> list[tuple[str, str]]:
    """Every operation that asks for a key, but for WebSockets: method and path."""
    return sorted(
        (method.upper(), path.replace("{call_id}", "rtc_any"))
        for path, operations in openapi()["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") != [] and "101" not in operation["responses"]
    )


async def test_name_that_was_made_to_point_here(serve_with: ServeWith) -> None:
    """A page whose name resolves to this machine (DNS rebinding) gets nothing of a daemon without keys."""
    async with serve_with(page_keys=True, allow_origin=("https://app.example",)) as daemon:
        host = f"evil.example:{daemon.port}"
        lies: list[dict[str, str]] = [
            {"Host": host},
            {"Host": host, "Origin": f"http://{host}"},
            {"Host": f"127.0.0.1:{daemon.port}", "Origin": f"http://{host}"},
        ]
        operations = _guarded()
        assert len(operations) > 15
        for headers in lies:
            for method, path in operations:
                reply = await request(method, f"{daemon.url}{path[1:]}", headers=headers)
                assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden"), (method, path, headers)
            for path in (*(f"v1/realtime?{query}" for query in _QUERIES), "v1/calls/events"):
                reply = await request("GET", daemon.url + path, headers={**_UPGRADE, **headers})
                assert reply.status in (400, 403), (path, headers)
            reply = await request("GET", f"{daemon.url}session", headers=headers)
            assert reply.status == 403
        assert daemon.registry.sessions == []


@pytest.mark.parametrize("jump_s", [-_HOUR_S, _HOUR_S])
async def test_wall_clock_that_jumps(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    """An hour back or forth in mid-call ends no call, and neither prolongs a key nor ends it; recordings go on."""
    key = "sk-1"
    auth = {"Authorization": f"Bearer {key}"}
    async with serve_with(api_key=(key,), record_dir=str(tmp_path), record_calls=True, call_limit_s=600) as daemon:
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=auth)
        client_auth = {"Authorization": f"Bearer {minted.json['value']}"}
        async with open_socket(daemon.url, "model=m", additional_headers=auth) as call:
            [session] = daemon.registry.sessions
            wall = time.time
            monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
            async with open_socket(daemon.url, "model=m", additional_headers=client_auth) as later:
                await later.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Hm."}})
                await later.until("session.updated")
            await call.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Hm."}})
            await call.until("session.updated")
            assert daemon.registry.sessions[0] is session
            assert 0 <= session.lifetime.seconds < 300
            call_id = session.info.id
    names = os.listdir(tmp_path)
    [lines] = [name for name in names if name.startswith(f"{call_id}-") and name.endswith(".jsonl")]
    moments = [json.loads(line)["at_ms"] for line in (tmp_path / lines).read_text().splitlines()]
    assert moments == sorted(moments)
    assert all(0 <= at_ms < 300_000 for at_ms in moments)
    assert not [name for name in names if name.endswith(".part")]


@pytest.mark.parametrize("jump_s", [-_HOUR_S, _HOUR_S])
async def test_keys_live_by_a_clock_that_does_not_jump(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """What the wall clock says concerns no key: it is good for as long as it was minted for."""
    keys = LocalKeyStore()
    key = await keys.mint(Grant(key_id="key_1", purpose=KeyPurpose.TELEPHONE, is_single_use=True), ttl_s=_TTL_S)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
    assert (await redeem_telephone_key(keys, key)).key_id == "key_1"


async def test_turn_credentials_are_in_no_log(
    serve_with: ServeWith, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A call that is dialled by a TURN server logs no password of it, nor do the libraries at their most talkative."""
    caplog.set_level(logging.DEBUG)
    server = f"turn:user:{_PASSWORD}@127.0.0.1:9"
    async with serve_with() as service:
        upstream = {
            "upstream": f"{service.url}v1/realtime/calls",
            "upstream_connect_timeout_s": 2.0,
            "upstream_tries": 1,
        }
        async with serve_with(**upstream, upstream_ice_server=(server,)) as daemon:
            async with open_socket(daemon.url, "model=m", first=None) as call:
                await call.wait(lambda: bool(call.of("session.created") or call.of("error")), "an answer")
            assert _PASSWORD not in repr(daemon.reloader.config)
        assert all(_PASSWORD not in json.dumps(event) for event in call.events)
    output = capfd.readouterr()
    assert "daemon.serving" in output.out + output.err
    assert _PASSWORD not in output.out + output.err + caplog.text
    assert _PASSWORD not in repr(IceServers.parse((server,)))


@pytest.mark.parametrize(
    "given",
    [
        *("turn:host", "turn:host:3478", "turn:u:p@host:99999", "stun:host:0", "stun:host:65536", "turns:host"),
        *("turns:u:p@host?transport=udp", "stun:host?transport=tcp", "turn:u:p@host?transport=sctp"),
    ],
)
def test_ice_servers_that_can_never_work(given: str) -> None:
    """A relay without a user, and a port that is none, are refused at the start."""
    with pytest.raises(ConfigError, match="upstream_ice_server: must"):
        IceServers.parse([given])


@pytest.mark.parametrize(
    ("given", "server", "transport", "has_tls"),
    [
        ("turn:u:p@host", ("host", 3478), "udp", False),
        ("turn:u:p@host:99?transport=udp", ("host", 99), "udp", False),
        ("turn:u:p@[2001:db8::1]?transport=tcp", ("2001:db8::1", 3478), "tcp", False),
        ("turns:u:p@host", ("host", 5349), "tcp", True),
        ("turns:u:p?@host:443?transport=tcp", ("host", 443), "tcp", True),
    ],
)
def test_ways_to_a_turn_server(given: str, server: tuple[str, int], transport: str, has_tls: bool) -> None:
    """By UDP unless TCP is named, or TLS, for which the system's authorities are trusted."""
    servers = IceServers.parse([given], TLS)
    assert (servers.turn, servers.turn_transport, servers.turn_tls) == (server, transport, TLS if has_tls else None)


@pytest.mark.parametrize("given", [f"turn:user:{_PASSWORD}", f"turn:user {_PASSWORD}@host", f"turns:{_PASSWORD}"])
def test_bad_turn_server_is_not_told(given: str) -> None:
    """A setting that holds a secret is refused without being shown."""

    def start() -> Any:
        return IceServers.parse(load({}, {"BRIDGE_UPSTREAM_ICE_SERVER": given}, None).upstream.upstream_ice_server)

    with pytest.raises(ConfigError) as refused:
        start()
    assert _PASSWORD not in refused.value.message
