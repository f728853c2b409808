"""Keys: who is let in, for what, for how long, and from which page."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.datastructures import Headers

from bridge.api.keys import Keys, subprotocols
from bridge.calls import keys as keys_module
from bridge.calls.keys import Grant, KeyPurpose, LocalKeyStore, redeem_telephone_key
from bridge.errors import Draining, Forbidden, OverLimit, Unauthorized
from tests.fakes import FakeClock

_KEY = "sk-one-of-the-api-keys"
_PAGE = "https://app.example"


def _headers(key: str | None = None, **fields: str) -> Headers:
    given = {"host": "bridge.example", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return Headers({**given, "authorization": f"Bearer {key}"} if key is not None else given)


def _keys(clock: FakeClock | None = None, *, origins: tuple[str, ...] = ()) -> Keys:
    return Keys((_KEY, "another"), origins, LocalKeyStore(clock=clock or FakeClock()))


async def _use(keys: Keys, headers: Headers) -> Grant:
    grant = await keys.admit(headers)
    await keys.store.spend(grant.token)
    return grant


def _grant(**caps: Any) -> Grant:
    return Grant(**{"key_id": "key_1", "purpose": "client", **caps})


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": f"Bearer {_KEY}"},
        {"authorization": f"bearer  {_KEY} "},
        {"api_key": _KEY},
        {"sec_websocket_protocol": f"realtime, openai-insecure-api-key.{_KEY}, openai-beta.realtime-v1"},
    ],
)
async def test_each_way_to_send_a_key(fields: dict[str, str]) -> None:
    """Bearer, Azure's header, a browser's subprotocol."""
    grant = await _keys().admit(_headers(**fields))
    assert (grant.key_id, grant.is_minted, grant.role) == ("api", False, "controller")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {_KEY}"},
        {"authorization": f"Bearer {_KEY}x"},
        {"authorization": f"Bearer {_KEY[:-1]}"},
        {"authorization": "Bearer kö\x00y"},
        {"api_key": "wrong"},
        {"sec_websocket_protocol": "realtime"},
        {"sec_websocket_protocol": "openai-insecure-api-key."},
    ],
)
async def test_without_the_right_key(fields: dict[str, str]) -> None:
    """401, and the refusal says nothing of what was sent."""
    with pytest.raises(Unauthorized) as refused:
        await _keys().admit(_headers(**fields))
    assert refused.value.code == "invalid_api_key"
    assert _KEY[:-1] not in refused.value.message


@pytest.mark.parametrize("key", [None, "wrong", "ek_unknown", "expired"])
async def test_a_wrong_key_of_a_wrong_origin(key: str | None) -> None:
    """The key is what is wrong first: with another origin it would be refused as well."""
    clock = FakeClock()
    keys = _keys(clock)
    if key == "expired":
        key = await keys.store.mint(_grant(allowed_origins=(_PAGE,)), ttl_s=1)
        clock.now += 2
    with pytest.raises(Unauthorized):
        await keys.admit(_headers(key, origin="https://evil.example"))


def test_subprotocols_over_several_headers() -> None:
    """A list may be split over lines, with any space."""
    raw = [(b"sec-websocket-protocol", b"realtime ,"), (b"sec-websocket-protocol", b" b,, c")]
    assert subprotocols(Headers(raw=raw)) == ["realtime", "b", "c"]


async def test_minted_key_opens_what_it_was_minted_for() -> None:
    """The grant itself, as often as wanted where it is not for a single use."""
    keys = _keys()
    grant = _grant(purpose="listener", max_duration_s=5.0)
    key = await keys.store.mint(grant, ttl_s=60)
    assert key.startswith("ek_")
    assert [await _use(keys, _headers(key)) for _ in range(3)] == [grant] * 3
    assert grant.is_minted


@pytest.mark.parametrize(
    ("purpose", "opens", "listens", "answers", "rules"),
    [
        ("api", True, True, True, True),
        ("page", True, True, False, False),
        ("client", True, True, False, False),
        ("listener", False, True, False, False),
        ("agent", False, False, True, False),
        ("telephone", False, False, False, False),
        ("publisher", False, False, False, False),
        ("player", False, False, False, False),
    ],
)
def test_what_each_purpose_is_good_for(
    purpose: KeyPurpose, opens: bool, listens: bool, answers: bool, rules: bool
) -> None:
    """Each key opens what it is for, and nothing else; an API key opens everything."""
    grant = _grant(purpose=purpose)

    def may(require: Callable[[], None]) -> bool:
        try:
            require()
        except Forbidden:
            return False
        return True

    found = map(may, (grant.require_owner, grant.require_listener, grant.require_agent, grant.require_admin))
    assert tuple(found) == (opens, listens, answers, rules)


@pytest.mark.parametrize("purpose", ["page", "client", "listener", "agent", "telephone"])
async def test_a_carrier_redeems_telephones_keys_only(purpose: KeyPurpose) -> None:
    """A single-use key for anything else is no token, and is not spent by the attempt."""
    keys = _keys()
    key = await keys.store.mint(_grant(purpose=purpose, is_single_use=True), ttl_s=60)
    if purpose == "telephone":
        assert (await redeem_telephone_key(keys.store, key)).purpose == "telephone"
    for _ in range(2):
        with pytest.raises(Unauthorized) as refused:
            (await redeem_telephone_key(keys.store, key))
        assert refused.value.code == "invalid_token"
    if purpose != "telephone":
        assert (await _use(keys, _headers(key))).purpose == purpose


@pytest.mark.parametrize(("at", "is_good"), [(0.0, True), (59.999, True), (60.0, False), (60.001, False), (1e9, False)])
async def test_expiry(at: float, is_good: bool) -> None:
    """Good until the second at which it expires, and not at it."""
    clock = FakeClock()
    keys = _keys(clock)
    key = await keys.store.mint(_grant(), ttl_s=60)
    clock.now = at
    if is_good:
        assert await keys.admit(_headers(key)) == _grant()
    else:
        with pytest.raises(Unauthorized):
            await keys.admit(_headers(key))


async def test_expired_key_is_an_api_key_nowhere() -> None:
    """Where no key is asked for, an old ``ek_`` key is refused all the same: it promised a session."""
    clock = FakeClock()
    keys = Keys((), (), LocalKeyStore(clock=clock))
    key = await keys.store.mint(_grant(), ttl_s=10)
    clock.now = 11
    local = {"host": "localhost:8080"}
    with pytest.raises(Unauthorized):
        await keys.admit(_headers(key, **local))
    assert await keys.admit(_headers(**local)) == Grant()
    await keys.store.mint(_grant(), ttl_s=10)
    with pytest.raises(Unauthorized):
        await keys.admit(_headers(key, **local))


async def test_single_use_is_spent_by_use_only() -> None:
    """Looking in does not count; the second use is refused."""
    keys = _keys()
    key = await keys.store.mint(_grant(is_single_use=True), ttl_s=60)
    for _ in range(3):
        await keys.admit(_headers(key))
    await _use(keys, _headers(key))
    with pytest.raises(Unauthorized):
        await _use(keys, _headers(key))
    assert await keys.admit(_headers(key)) == _grant(is_single_use=True)  # to hang up, or to attach to its own call


async def test_single_use_under_a_thousand_redeems() -> None:
    """However many try at a time, one gets in."""
    keys = _keys()
    key = await keys.store.mint(_grant(is_single_use=True), ttl_s=60)

    async def redeem() -> bool:
        try:
            await _use(keys, _headers(key))
        except Unauthorized:
            return False
        return True

    assert sum(await asyncio.gather(*(redeem() for _ in range(1000)))) == 1


async def test_as_many_as_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minting is bounded; expired keys make room."""
    monkeypatch.setattr(keys_module, "MAX_MINTED", 3)
    clock = FakeClock()
    keys = _keys(clock)
    for _ in range(3):
        await keys.store.mint(_grant(), ttl_s=10)
    with pytest.raises(OverLimit):
        await keys.store.mint(_grant(), ttl_s=10)
    clock.now = 10
    assert await keys.admit(_headers(await keys.store.mint(_grant(), ttl_s=10))) == _grant()


async def test_keys_are_unlike_each_other() -> None:
    """Each key is new, and long enough not to be guessed."""
    keys = _keys()
    minted = {await keys.store.mint(_grant(), ttl_s=10) for _ in range(1000)}
    assert len(minted) == 1000
    assert min(map(len, minted)) >= 25


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        (_PAGE, True),
        ("https://bridge.example", True),
        ("https://elsewhere.example", False),
        ("null", False),
        ("https://app.example.evil", False),
    ],
)
async def test_web_origins(origin: str | None, is_allowed: bool) -> None:
    """Listed pages and the bridge's own; who is no browser sends none."""
    keys = _keys(origins=(_PAGE,))
    headers = _headers(_KEY) if origin is None else _headers(_KEY, origin=origin)
    if is_allowed:
        await keys.admit(headers)
    else:
        with pytest.raises(Forbidden) as refused:
            await keys.admit(headers)
        assert refused.value.param == "Origin"


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("bridge.example:443", "https://bridge.example", True),
        ("bridge.example", "https://bridge.example:443", True),
        ("bridge.example:80", "http://bridge.example", True),
        ("bridge.example", "http://bridge.example:80", True),
        ("Bridge.Example", "https://bridge.example", True),
        ("bridge.example", "HTTPS://BRIDGE.example", True),
        ("bridge.example:8443", "https://bridge.example:8443", True),
        ("[2001:DB8::1]:443", "https://[2001:db8::1]", True),
        ("bridge.example:80", "https://bridge.example", False),
        ("bridge.example:443", "http://bridge.example", False),
        ("bridge.example:8443", "https://bridge.example", False),
        ("bridge.example", "https://bridge.example:8443", False),
        ("bridge.example", "ftp://bridge.example", False),
        ("bridge.example", "https://bridge.example/", False),
        ("bridge.example", "https://a@bridge.example", False),
        ("bridge.example", "https://bridge.example.", False),
        ("bridge.example", "https://bridge.example:port", False),
        ("", "https://", False),
        ("[", "https://[", False),
        ("null", "null", False),
    ],
)
async def test_own_pages(host: str, origin: str, is_own: bool) -> None:
    """A page is the bridge's own by scheme, host and port: letters of any size, the scheme's port said or not."""
    headers = Headers({"host": host, "origin": origin, "authorization": f"Bearer {_KEY}"})
    if is_own:
        await _keys().admit(headers)
    else:
        with pytest.raises(Forbidden):
            await _keys().admit(headers)


@pytest.mark.parametrize("listed", ["https://app.example", "https://app.example:443"])
@pytest.mark.parametrize("origin", ["https://app.example", "https://app.example:443", "https://APP.example"])
async def test_listed_pages_however_written(listed: str, origin: str) -> None:
    """In the setting and in a key alike; a page of another port is another one."""
    keys = _keys(origins=(listed,))
    await keys.admit(_headers(_KEY, origin=origin))
    assert keys.admit_page(_headers(origin=origin)) == "https://app.example"
    key = await keys.store.mint(_grant(allowed_origins=(listed,)), ttl_s=60)
    await keys.admit(_headers(key, origin=origin))
    assert await keys.store.is_named(origin)
    assert await keys.names_page(_headers(key, origin=origin))
    for other in ("https://app.example:80", "http://app.example", "https://app.example:4433"):
        for shown in (_KEY, key):
            with pytest.raises(Forbidden):
                await keys.admit(_headers(shown, origin=other))


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "file://", "https://app.example:8443"])
async def test_pages_of_every_origin(origin: str) -> None:
    """Let in if the setting says so, but with a key only; a key that names its own pages is for those all the same."""
    keys = _keys(origins=("*",))
    await keys.admit(_headers(_KEY, origin=origin))
    for headers in (_headers(origin=origin), _headers("wrong", origin=origin)):
        with pytest.raises(Unauthorized):
            await keys.admit(headers)
    own = await keys.store.mint(_grant(allowed_origins=(_PAGE,)), ttl_s=60)
    with pytest.raises(Forbidden):
        await keys.admit(_headers(own, origin=origin))
    with pytest.raises(Forbidden):
        keys.admit_page(_headers(origin=origin))


async def test_key_with_origins_of_its_own() -> None:
    """A key for one page is no good to another, even to a listed one, nor without any."""
    keys = _keys(origins=(_PAGE,))
    own = "https://own.example"
    key = await keys.store.mint(_grant(allowed_origins=(own,)), ttl_s=60)
    await keys.admit(_headers(key, origin=own))
    for headers in (_headers(key), _headers(key, origin=_PAGE), _headers(key, origin="https://bridge.example")):
        with pytest.raises(Forbidden):
            await keys.admit(headers)


async def test_open_daemon_answers_to_loopback_only() -> None:
    """Without keys, a name that somebody made to point here is no name of ours."""
    keys = Keys((), (), LocalKeyStore())
    assert keys.is_open
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
        assert await keys.admit(Headers({"host": host})) == Grant()
    for host in ("evil.example", "", "127.0.0.1.evil.example"):
        with pytest.raises(Forbidden):
            await keys.admit(Headers({"host": host}))


def test_token_server_is_for_listed_pages() -> None:
    """Nobody else gets keys without a key."""
    keys = _keys(origins=(_PAGE,))
    assert keys.admit_page(_headers(origin=_PAGE)) == _PAGE
    for headers in (_headers(), _headers(origin="https://bridge.example"), _headers(_KEY)):
        with pytest.raises(Forbidden):
            keys.admit_page(headers)


async def test_no_key_is_kept_or_told(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the object's own state nor any message holds a key in clear."""
    caplog.set_level(logging.DEBUG)
    keys = _keys()
    key = await keys.store.mint(_grant(), ttl_s=60)
    state = repr([vars(part) for part in (keys, keys.store, keys.api_keys)])
    for secret in (_KEY, "another", key):
        assert secret not in state
        assert secret not in caplog.text


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "[]:80"])
async def test_host_that_is_none(host: str) -> None:
    """A Host header or Origin that cannot be read is refused, never a fault of ours."""
    with pytest.raises(Forbidden):
        await Keys((), (), LocalKeyStore()).admit(Headers({"host": host}))
    with pytest.raises(Forbidden):
        await _keys().admit(_headers(_KEY, origin=f"https://{host}"))


async def test_pages_that_keys_name() -> None:
    """An origin is named by as long as one key that names it; a page by its own key only, a while after its expiry."""
    clock = FakeClock()
    keys = _keys(clock)
    page, other = "https://own.example", "https://other.example"
    first = await keys.store.mint(_grant(allowed_origins=(page, other)), ttl_s=10)
    second = await keys.store.mint(_grant(allowed_origins=(page,)), ttl_s=1000)
    plain = await keys.store.mint(_grant(), ttl_s=1000)
    assert await keys.store.is_named(page)
    assert await keys.store.is_named(other)
    assert await keys.names_page(_headers(first, origin=other))
    for key, origin in ((second, other), (plain, page), (_KEY, page), ("ek_none", page)):
        assert not await keys.names_page(_headers(key, origin=origin))
    assert not await keys.names_page(_headers(first))
    clock.now = 60.0
    with pytest.raises(Unauthorized):
        await keys.admit(_headers(first, origin=other))
    assert await keys.names_page(_headers(first, origin=other))  # and may read that 401
    clock.now = 10 + 600.0
    assert not await keys.store.is_named(other)
    assert not await keys.names_page(_headers(first, origin=other))
    assert await keys.store.is_named(page)


async def test_remembered_keys_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired keys are forgotten early where a new one needs their place."""
    monkeypatch.setattr(keys_module, "MAX_MINTED", 1)
    clock = FakeClock()
    keys = _keys(clock)
    await keys.store.mint(_grant(allowed_origins=(_PAGE,)), ttl_s=10)
    clock.now = 10
    assert await keys.store.is_named(_PAGE)
    await keys.store.mint(_grant(), ttl_s=10)
    assert not await keys.store.is_named(_PAGE)


async def test_no_single_use_behind_a_handover() -> None:
    """The next process has the key as well, so it is spent there only; a key for many uses goes on here."""
    clock = FakeClock()
    store = LocalKeyStore(clock=clock)
    once = await store.mint(_grant(is_single_use=True), ttl_s=60)
    often = await store.mint(_grant(), ttl_s=60)
    tokens = [found.grant.token for found in (await store.find(once), await store.find(often)) if found is not None]
    heir = LocalKeyStore(clock=clock)
    heir.adopt(store.hand_over())
    store.tell_minted = heir.adopt
    with pytest.raises(Draining):
        await store.spend(tokens[0])
    await store.spend(tokens[1])
    await heir.spend(tokens[0])
    with pytest.raises(Unauthorized):
        await heir.spend(tokens[0])
