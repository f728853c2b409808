"""Reverse proxies: whose word on a client's address, scheme and host is taken, and whose is not."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from bridge.api.proxies import Forwarded, TrustedProxies
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request

_PAGE = "https://app.example"
_PAGES = {"api_key": ("sk-of-the-server",), "allow_origin": (_PAGE,), "page_keys": True, "page_keys_per_minute": 1}


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("10.200.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:192.0.2.7", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("unix:", False),
        ("testclient", False),
    ],
)
def test_trusted_addresses(address: str, is_trusted: bool) -> None:
    """Single addresses and whole networks of both kinds; what is no address is nobody's."""
    assert TrustedProxies(["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]).is_trusted(address) is is_trusted


@pytest.mark.parametrize(
    ("network", "address", "is_trusted"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:10.1.0.0/112", "10.1.200.3", True),
        ("::ffff:10.1.0.0/112", "10.2.0.1", False),
        ("::/0", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
    ],
)
def test_networks_in_other_words(network: str, address: str, is_trusted: bool) -> None:
    """A network of IPv4 may be written as IPv6 has it, and is the same one."""
    assert TrustedProxies([network]).is_trusted(address) is is_trusted


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.0.0.1", ["2001:db8::9"], "2001:db8::9"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("203.0.113.1", ["1.1.1.1"], "203.0.113.1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_client_behind_proxies(peer: str, forwarded_for: list[str], client: str) -> None:
    """It is whom the last trusted proxy was asked by; what stands further in front may be made up."""
    assert TrustedProxies(["10.0.0.0/8"]).client_of(peer, forwarded_for) == client


async def _seen(peer: str, kind: str = "http", **headers: str) -> Scope:
    """The request as the endpoints see it."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is said")

    fields = {"host": "inside:8080", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    scope = {"type": kind, "scheme": "ws" if kind == "websocket" else "http", "client": (peer, 4711), "headers": raw}
    await Forwarded(app, TrustedProxies(["10.0.0.0/8"]))(scope, receive, send)
    return seen[0]


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
async def test_request_is_what_the_client_asked(kind: str, scheme: str) -> None:
    """Behind a trusted proxy client, scheme and host are the client's; from anybody else the headers mean nothing."""
    said = {
        "x_forwarded_for": "203.0.113.9",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "evil.example, bridge.example.com",
    }
    scope = await _seen("10.0.0.1", kind, **said)
    assert (scope["client"][0], scope["scheme"]) == ("203.0.113.9", scheme)
    assert dict(scope["headers"])[b"host"] == b"bridge.example.com"
    for peer in ("127.0.0.1", "203.0.113.1"):
        scope = await _seen(peer, kind, **said)
        assert (scope["client"], scope["scheme"]) == ((peer, 4711), scheme.removesuffix("s"))
        assert dict(scope["headers"])[b"host"] == b"inside:8080"


async def test_what_a_proxy_says_must_make_sense() -> None:
    """A scheme or host that is none leaves the request as it is."""
    for host in ("a b", "a/b", "a@b", "", "[::1", "a:999999"):
        scope = await _seen("10.0.0.1", x_forwarded_proto="gopher", x_forwarded_host=host)
        assert (scope["scheme"], dict(scope["headers"])[b"host"]) == ("http", b"inside:8080"), host


async def test_limit_by_address_is_lifted_by_no_header(serve_with: ServeWith) -> None:
    """By default nobody is trusted, loopback included: a page that makes up addresses gets one address's keys."""
    async with serve_with(**_PAGES) as daemon:
        asked = [
            await request("GET", f"{daemon.url}session", headers={"Origin": _PAGE, "X-Forwarded-For": forwarded})
            for forwarded in ("203.0.113.1", "203.0.113.2", "203.0.113.3")
        ]
        assert [reply.status for reply in asked] == [200, 429, 429]


async def test_limit_by_address_behind_a_proxy(serve_with: ServeWith) -> None:
    """Behind a trusted proxy each client has its own limit, whatever it writes in front of its address itself."""
    async with serve_with(**_PAGES, trusted_proxies=("127.0.0.0/8",)) as daemon:
        asked = [
            await request("GET", f"{daemon.url}session", headers={"Origin": _PAGE, "X-Forwarded-For": forwarded})
            for forwarded in ("203.0.113.1", "203.0.113.2", "203.0.113.1", "198.51.100.7, 203.0.113.2")
        ]
        assert [reply.status for reply in asked] == [200, 200, 429, 429]


async def test_own_page_behind_a_proxy(serve_with: ServeWith) -> None:
    """The bridge's own page is the one at the proxy's host; that anybody else may not say."""
    key = "sk-of-the-server"
    headers = {
        "Authorization": f"Bearer {key}",
        "Origin": "https://bridge.example.com",
        "X-Forwarded-Host": "bridge.example.com",
        "X-Forwarded-Proto": "https",
    }
    for trusted, status in ((("127.0.0.1",), 200), ((), 403)):
        async with serve_with(api_key=(key,), trusted_proxies=trusted) as daemon:
            assert (await request("GET", f"{daemon.url}v1/calls", headers=headers)).status == status
