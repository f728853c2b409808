"""CORS: pages that a key names may read what their key gets them, errors included; others read nothing."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, request

_KEY = "sk-the-api-key-of-these-tests"
_LISTED, _NAMED, _OTHER = "https://listed.example", "https://named.example", "https://other.example"
_SETTINGS: dict[str, Any] = {"api_key": (_KEY,), "allow_origin": (_LISTED,)}


async def _mint(daemon: Daemon, *origins: str) -> str:
    body = b'{"bridge": {"allowed_origins": [%s]}}' % b",".join(b'"%s"' % origin.encode() for origin in origins)
    headers = {"Authorization": f"Bearer {_KEY}"}
    reply = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body=body)
    return str(reply.json["value"])


async def _ask(daemon: Daemon, origin: str, key: str, *, method: str = "GET", path: str = "v1/calls") -> Reply:
    headers = {"Authorization": f"Bearer {key}", "Origin": origin}
    return await request(method, daemon.url + path, headers=headers)


async def _preflight(daemon: Daemon, origin: str, **more: str) -> Reply:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-openai-agents-sdk",
        **more,
    }
    return await request("OPTIONS", f"{daemon.url}v1/realtime/calls", headers=headers)


def _reader(reply: Reply) -> str | None:
    """The origin that may read the answer."""
    return reply.headers.get("access-control-allow-origin")


async def test_page_that_a_key_names_reads_its_answers(serve_with: ServeWith) -> None:
    """Success, and errors of each kind: of its body, its path, its method; ``Location`` as well."""
    async with serve_with(**_SETTINGS) as daemon:
        key = await _mint(daemon, _NAMED)
        for method, path, status in (
            ("GET", "v1/calls", 200),
            ("GET", "v1/calls/rtc_nope", 404),
            ("POST", "v1/realtime/calls", 400),
            ("POST", "v1/realtime/client_secrets", 403),
            ("GET", "nowhere", 404),
            ("DELETE", "v1/calls", 405),
        ):
            reply = await _ask(daemon, _NAMED, key, method=method, path=path)
            assert (reply.status, _reader(reply)) == (status, _NAMED)
            assert (
                reply.headers["access-control-expose-headers"]
                == "Location, Link, Retry-After, ETag, Accept-Patch, Bridge-Resume-Key, Bridge-Warning"
            )
            assert "Origin" in reply.headers["vary"]


async def test_other_pages_read_nothing(serve_with: ServeWith) -> None:
    """The key is no good to them, nor is their own key to the named page; what they are told they cannot read."""
    async with serve_with(**_SETTINGS) as daemon:
        key, other = await _mint(daemon, _NAMED), await _mint(daemon, _OTHER)
        for origin, shown in ((_OTHER, key), (_NAMED, other), (_NAMED, _KEY), ("https://else.example", key)):
            reply = await _ask(daemon, origin, shown)
            assert (reply.status, _reader(reply)) == (403, None)
        reply = await _ask(daemon, _NAMED, "ek_never_issued")
        assert _reader(reply) is None


async def test_listed_page_reads_why_its_key_is_no_good(serve_with: ServeWith) -> None:
    """A key of another page is refused, legibly to a page of allow_origin."""
    async with serve_with(**_SETTINGS) as daemon:
        reply = await _ask(daemon, _LISTED, await _mint(daemon, _NAMED))
        assert (reply.status, _reader(reply)) == (403, _LISTED)


async def test_preflight_for_pages_that_some_key_names(serve_with: ServeWith) -> None:
    """It shows no key, so any key that names the page will do; before there is one, and for others, it fails."""
    async with serve_with(**_SETTINGS) as daemon:
        assert _reader(await _preflight(daemon, _NAMED)) is None
        await _mint(daemon, _OTHER, _NAMED)
        reply = await _preflight(daemon, _NAMED)
        assert (reply.status, _reader(reply)) == (200, _NAMED)
        allowed = {name.strip() for name in reply.headers["access-control-allow-headers"].split(",")}
        assert allowed >= {"authorization", "content-type", "x-openai-agents-sdk"}
        assert _reader(await _preflight(daemon, "https://else.example")) is None
        assert _reader(await _preflight(daemon, _LISTED)) == _LISTED


async def test_page_from_outside_of_a_private_network(serve_with: ServeWith) -> None:
    """A browser asks whether the page may reach into it; an allowed one may."""
    asked = {"Access-Control-Request-Private-Network": "true"}
    async with serve_with(**_SETTINGS) as daemon:
        reply = await _preflight(daemon, _LISTED, **asked)
        assert (reply.status, reply.headers["access-control-allow-private-network"]) == (200, "true")
        assert (await _preflight(daemon, _OTHER, **asked)).status == 400


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://rebound.example:8080"])
async def test_open_daemon_lets_a_named_page_in_and_no_other(daemon: Daemon, origin: str) -> None:
    """Without API keys a page elsewhere needs a minted key all the same; without it, it neither enters nor reads."""
    key = (await request("POST", f"{daemon.url}v1/realtime/client_secrets")).json["value"]
    for shown in (key, ""):
        reply = await _ask(daemon, origin, shown)
        assert (reply.status, _reader(reply)) == (403, None)
    named = await _mint(daemon, _NAMED)
    assert _reader(await _ask(daemon, _NAMED, named)) == _NAMED
    assert (await _ask(daemon, _NAMED, "")).status == 403


async def test_a_page_learns_when_to_come_back(serve_with: ServeWith) -> None:
    """A refusal for want of room is legible with its ``Retry-After``."""
    held = {"Authorization": f"Bearer {_KEY}"}
    async with serve_with(**_SETTINGS, max_calls=1) as daemon, RealPeer(daemon.url, headers=held) as peer:
        headers = {**held, "Content-Type": "application/sdp", "Origin": _LISTED}
        reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=headers, body=peer.offer)
        assert (reply.status, _reader(reply)) == (429, _LISTED)
        assert int(reply.headers["retry-after"]) > 0
        assert "Retry-After" in reply.headers["access-control-expose-headers"].split(", ")


async def test_every_page_reads_where_every_origin_is_allowed(serve_with: ServeWith) -> None:
    """With ``*``: the preflight, answers and refusals; without a key it reads a 401."""
    async with serve_with(api_key=(_KEY,), allow_origin=("*",)) as daemon:
        reply = await _preflight(daemon, _OTHER)
        assert (reply.status, _reader(reply)) == (200, "*")
        for key, status in ((_KEY, 200), ("wrong", 401)):
            for origin in (_OTHER, "null"):
                reply = await _ask(daemon, origin, key)
                assert (reply.status, _reader(reply)) == (status, "*")
        async with RealPeer(daemon.url, headers={"Authorization": f"Bearer {_KEY}", "Origin": _OTHER}) as peer:
            assert peer.reply.status == 201


async def test_an_allowed_page_however_its_origin_is_written(serve_with: ServeWith) -> None:
    """It reads what it gets, under the name that it gave itself."""
    async with serve_with(api_key=(_KEY,), allow_origin=(f"{_LISTED}:443",)) as daemon:
        for origin in (_LISTED, f"{_LISTED}:443", _LISTED.upper()):
            reply = await _ask(daemon, origin, _KEY)
            assert (reply.status, _reader(reply)) == (200, origin)
