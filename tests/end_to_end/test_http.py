"""The doors over HTTP: who is let in, what is answered, and how each refusal looks."""

import json
import logging
from collections.abc import Mapping

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, open_socket, request

_KEY = "test-key-of-the-doors"
_SDP = {"Content-Type": "application/sdp"}
_FOREIGN = {"Origin": "https://elsewhere.example"}


async def _post(
    daemon: Daemon, sdp: str | bytes, *, path: str = "v1/realtime/calls", headers: Mapping[str, str] | None = None
) -> Reply:
    return await request("POST", daemon.url + path, headers={**_SDP, **(headers or {})}, body=sdp)


def _error(reply: Reply) -> tuple[int, str, str, str | None]:
    """Status, type, code and param; the body has the one shape that all errors have."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"error"}
    error = reply.json["error"]
    assert error.keys() == {"type", "code", "message", "param"}
    assert error["message"]
    return reply.status, error["type"], error["code"], error["param"]


async def _refusal(daemon: Daemon, query: str, headers: Mapping[str, str] | None = None) -> Reply:
    """How a WebSocket is refused: by an HTTP response, before the upgrade."""
    with pytest.raises(InvalidStatus) as refused:
        async with open_socket(daemon.url, query, additional_headers=headers):
            pass
    response = refused.value.response
    fields = {name.lower(): value for name, value in response.headers.raw_items()}
    return Reply(response.status_code, fields, bytes(response.body or b""))


async def test_offer_of_another_content_type(daemon: Daemon, offer: str) -> None:
    """Only application/sdp is an offer; parameters behind it do not matter."""
    reply = await _post(daemon, offer, headers={"Content-Type": "application/json"})
    assert _error(reply) == (400, "invalid_request_error", "invalid_request", "Content-Type")
    assert (await _post(daemon, offer, headers={"Content-Type": "Application/SDP; charset=utf-8"})).status == 201


@pytest.mark.parametrize(
    ("old", "new", "param"),
    [
        ("v=0", "hello", "sdp"),
        ("opus/48000/2", "speex/48000/2", "rtpmap"),
        ("a=fingerprint:", "a=footprint:", "fingerprint"),
        ("a=ice-pwd:", "a=ice:", "ice-pwd"),
        ("a=ice-ufrag:", "a=ice:", "ice-ufrag"),
        ("m=", "x=", "m"),
    ],
)
async def test_offer_of_which_no_call_can_be_made(daemon: Daemon, offer: str, old: str, new: str, param: str) -> None:
    """The refusal names what is wrong; no call is left behind."""
    assert old in offer
    reply = await _post(daemon, offer.replace(old, new))
    assert _error(reply) == (400, "invalid_request_error", "invalid_offer", param)
    assert "location" not in reply.headers
    assert daemon.registry.sessions == []


async def test_body_that_is_no_offer(daemon: Daemon) -> None:
    """Nothing, no text and too much are refused alike."""
    for body in ("", b"\xff\xfe\x00", "v=0\r\n" + "a=x\r\n" * 30_000):
        assert _error(await _post(daemon, body)) == (400, "invalid_request_error", "invalid_offer", "sdp")


async def test_unknown_call(daemon: Daemon) -> None:
    """404, whichever door asks for it."""
    expected = (404, "invalid_request_error", "call_id_not_found", "call_id")
    for method, path in (
        ("POST", "v1/realtime/calls/rtc_nope/hangup"),
        ("DELETE", "v1/realtime/calls/rtc_nope"),
        ("GET", "v1/calls/rtc_nope"),
    ):
        assert _error(await request(method, daemon.url + path)) == expected
    assert _error(await _refusal(daemon, "call_id=rtc_nope")) == expected


@pytest.mark.parametrize("query", ["", "model=a&call_id=b", "call_id=b&role=king", "call_id=b&audio=flac"])
async def test_query_that_does_not_fit(daemon: Daemon, query: str) -> None:
    """A socket with a query that says nothing, or too much, is refused with 400."""
    status, kind, code, _ = _error(await _refusal(daemon, query))
    assert (status, kind, code) == (400, "invalid_request_error", "invalid_request")


async def test_refusal_of_a_socket_is_no_error_of_ours(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    """What strangers ask for in vain fills no log."""
    assert (await _refusal(daemon, "call_id=rtc_nope")).status == 404
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {_KEY}"}])
async def test_without_the_right_key(serve_with: ServeWith, offer: str, headers: Mapping[str, str]) -> None:
    """401 at every door, and nothing is begun."""
    expected = (401, "invalid_request_error", "invalid_api_key", None)
    async with serve_with(api_key=(_KEY,)) as daemon:
        assert _error(await _post(daemon, offer, headers=headers)) == expected
        assert _error(await request("GET", f"{daemon.url}v1/calls", headers=headers)) == expected
        hangup = f"{daemon.url}v1/realtime/calls/rtc_nope/hangup"
        assert _error(await request("POST", hangup, headers=headers)) == expected
        assert _error(await _refusal(daemon, "model=any", headers)) == expected
        assert daemon.registry.sessions == []
        assert (await request("GET", f"{daemon.url}healthz")).body == b"ok"


async def test_with_the_right_key(serve_with: ServeWith) -> None:
    """Any of the keys, in each way that known clients send one."""
    async with serve_with(api_key=("another", _KEY)) as daemon:
        for headers in ({"Authorization": f"Bearer {_KEY}"}, {"authorization": "bearer another"}, {"api-key": _KEY}):
            assert (await request("GET", f"{daemon.url}v1/calls", headers=headers)).status == 200
            async with open_socket(daemon.url, "model=any", additional_headers=headers):
                pass
        async with RealPeer(daemon.url, headers={"Authorization": f"Bearer {_KEY}"}) as peer:
            assert peer.reply.status == 201


async def test_key_in_a_subprotocol_is_never_echoed(serve_with: ServeWith) -> None:
    """A browser's way to send a key: ``realtime`` is chosen of what it offers."""
    offered = ["realtime", f"openai-insecure-api-key.{_KEY}", "openai-beta.realtime-v1"]
    async with serve_with(api_key=(_KEY,)) as daemon:
        async with open_socket(daemon.url, "model=any", subprotocols=offered) as client:
            assert client.connection.subprotocol == "realtime"
            assert client.connection.response is not None
            assert _KEY not in str(client.connection.response.headers)
        async with open_socket(daemon.url, "model=any", subprotocols=offered[1:]) as client:
            assert client.connection.subprotocol is None


async def test_foreign_page_is_refused(daemon: Daemon, offer: str) -> None:
    """A page of another origin gets 403 on every door, a WebSocket before its upgrade."""
    expected = (403, "invalid_request_error", "forbidden", "Origin")
    assert _error(await _post(daemon, offer, headers=_FOREIGN)) == expected
    assert _error(await request("GET", f"{daemon.url}v1/calls", headers=_FOREIGN)) == expected
    assert _error(await _refusal(daemon, "model=any", _FOREIGN)) == expected
    assert daemon.registry.sessions == []


async def test_foreign_page_with_a_key_needs_to_be_allowed(serve_with: ServeWith, offer: str) -> None:
    """With keys configured not even loopback pages are trusted, only those of allow_origin and our own."""
    key = {"Authorization": f"Bearer {_KEY}"}
    async with serve_with(api_key=(_KEY,), allow_origin=("https://app.example",)) as daemon:
        own = daemon.url.rstrip("/")
        for origin, status in (
            ("https://elsewhere.example", 403),
            ("http://localhost:3000", 403),
            ("null", 403),
            ("https://app.example.elsewhere.example", 403),
            ("https://app.example", 201),
            (own, 201),
        ):
            reply = await _post(daemon, offer, headers={**key, "Origin": origin})
            assert reply.status == status, origin


async def test_keyless_daemon_answers_to_loopback_names_only(daemon: Daemon, offer: str) -> None:
    """A name that somebody else's DNS points here is refused, so a page cannot reach it by rebinding."""
    headers = {"Host": "rebound.example"}
    assert _error(await _post(daemon, offer, headers=headers))[0] == 403
    assert _error(await request("GET", f"{daemon.url}v1/calls", headers=headers))[0] == 403
    for host in ("localhost", "127.0.0.1:1", "[::1]:8080"):
        assert (await request("GET", f"{daemon.url}v1/calls", headers={"Host": host})).status == 200


async def test_preflight_allows_what_known_clients_send(daemon: Daemon) -> None:
    """A page on another loopback port may POST with the headers of OpenAI's SDKs; a foreign one may not."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-openai-agents-sdk",
    }
    url = f"{daemon.url}v1/realtime/calls"
    reply = await request("OPTIONS", url, headers={"Origin": "http://localhost:3000", **asked})
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in reply.headers["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in reply.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "x-openai-agents-sdk"} <= allowed
    refused = await request("OPTIONS", url, headers={**_FOREIGN, **asked})
    assert "access-control-allow-origin" not in refused.headers


async def test_page_may_read_location_and_errors(daemon: Daemon, offer: str) -> None:
    """Answers and refusals carry CORS headers, or the page would see neither."""
    page = {"Origin": "http://127.0.0.1:5173"}
    for body, status in ((offer, 201), ("hello", 400)):
        reply = await _post(daemon, body, headers=page)
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == page["Origin"]
        assert "Location" in reply.headers["access-control-expose-headers"].split(", ")


async def test_one_call_too_many(serve_with: ServeWith, offer: str) -> None:
    """429 with Retry-After, over HTTP and before an upgrade, until a call has ended."""
    expected = (429, "rate_limit_error", "too_many_calls", None)
    async with serve_with(max_calls=1) as daemon:
        async with open_socket(daemon.url, "model=any"):
            for reply in (await _post(daemon, offer), await _refusal(daemon, "model=any")):
                assert _error(reply) == expected
                assert int(reply.headers["retry-after"]) > 0
        assert (await _post(daemon, offer)).status == 201


async def test_one_listener_too_many(serve_with: ServeWith) -> None:
    """A call takes so many listeners, its owner not counted; one more gets 429."""
    async with serve_with(max_listeners_per_call=1) as daemon, open_socket(daemon.url, "model=any") as owner:
        query = f"call_id={owner.events[0]['session']['id']}"
        async with open_socket(daemon.url, query):
            assert _error(await _refusal(daemon, query))[:3] == (429, "rate_limit_error", "rate_limit_exceeded")
        async with open_socket(daemon.url, query):
            pass


async def test_draining_daemon_takes_no_new_calls(daemon: Daemon, offer: str) -> None:
    """503 with Retry-After for what is new; running sessions and their new listeners go on."""
    async with open_socket(daemon.url, "model=any") as owner:
        daemon.registry.stop_accepting()
        for reply in (await _post(daemon, offer), await _refusal(daemon, "model=any")):
            assert _error(reply) == (503, "server_error", "server_draining", None)
            assert int(reply.headers["retry-after"]) > 0
        assert (await request("GET", f"{daemon.url}readyz")).status == 503
        assert (await request("GET", f"{daemon.url}healthz")).status == 200
        async with open_socket(daemon.url, f"call_id={owner.events[0]['session']['id']}"):
            pass


async def test_failure_of_ours_leaves_no_call_behind(
    daemon: Daemon, offer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw is answered as all errors are, and takes no place from others."""

    def fail(*args: object) -> None:
        raise RuntimeError("no memory, say")

    monkeypatch.setattr(daemon.endpoint, "accept", fail)
    reply = await _post(daemon, offer)
    assert daemon.registry.sessions == []
    assert _error(reply) == (500, "server_error", "internal_error", None)
    assert "no memory" not in reply.body.decode()


async def test_health(daemon: Daemon) -> None:
    """200 while the process lives, without a key."""
    reply = await request("GET", f"{daemon.url}healthz")
    assert (reply.status, reply.body) == (200, b"ok")


async def test_console_is_served_closed_in(daemon: Daemon) -> None:
    """The page and its files come with their types, under a policy that lets nothing from elsewhere in."""
    page = await request("GET", daemon.url)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    for name, content_type in (("console.js", "text/javascript"), ("console.css", "text/css")):
        assert name in page.body.decode()
        file = await request("GET", daemon.url + name)
        assert (file.status, file.headers["content-type"].partition(";")[0]) == (200, content_type)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["nope", "v1/nope", "..%2f..%2fetc/passwd", "console.py"])
async def test_nothing_else_is_served(daemon: Daemon, path: str) -> None:
    """404 for what is no door and no file of the console."""
    assert (await request("GET", daemon.url + path)).status == 404


@pytest.mark.parametrize("path", ["v1/realtime/nope", "v1/realtime/calls", "nope"])
async def test_no_socket_is_served_elsewhere(daemon: Daemon, path: str) -> None:
    """404 before the upgrade, in the form of all errors."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{daemon.url.replace('http', 'ws', 1)}{path}?model=any", proxy=None):
            pass
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "not_found"


async def test_calls_are_listed(daemon: Daemon) -> None:
    """Each call with its state, its peer's figures and its listeners; one alone the same."""
    empty = await request("GET", f"{daemon.url}v1/calls")
    assert empty.json == {"object": "list", "data": []}
    async with (
        RealPeer(daemon.url, path="v1/realtime?model=some-model") as peer,
        open_socket(daemon.url, f"call_id={peer.call_id}&audio=g711_ulaw&role=observer"),
    ):
        (call,) = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
        alone = (await request("GET", f"{daemon.url}v1/calls/{peer.call_id}")).json
    assert call["id"] == alone["id"] == peer.call_id
    assert call["session_id"] == peer.events[0]["session"]["id"]
    expected = {"object": "realtime.call", "state": "connected", "transport": "webrtc", "model": "some-model"}
    assert {name: call[name] for name in expected} == expected
    assert call["seconds"] >= 0
    assert call["peer"]["lost"] == 0
    assert [(listener["role"], listener["audio"]) for listener in call["listeners"]] == [
        ("peer", "none"),
        ("observer", "g711_ulaw"),
    ]
