"""So many in a minute to each address."""

import pytest

from bridge.calls.quotas import LocalKeyAllowance
from bridge.errors import OverLimit
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.fakes import FakeClock

_PAGE = "https://app.example"


async def test_each_address_has_its_own() -> None:
    """One that has had enough is refused until the minute is over; the others are not."""
    clock = FakeClock(100.0)
    allowance = LocalKeyAllowance(2, clock=clock)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1", ""):
        await allowance.count_key(address)
    clock.now += 59
    with pytest.raises(OverLimit) as caught:
        await allowance.count_key("192.0.2.1")
    assert caught.value.headers["Retry-After"]
    await allowance.count_key("192.0.2.2")
    clock.now += 1
    await allowance.count_key("192.0.2.1")


async def test_a_network_of_ipv6_is_one_address() -> None:
    """Whoever has one address of a /64 has all of them."""
    allowance = LocalKeyAllowance(1, clock=FakeClock(0.0))
    await allowance.count_key("2001:db8:0:1::1")
    with pytest.raises(OverLimit):
        await allowance.count_key("2001:db8:0:1:ffff::2")
    await allowance.count_key("2001:db8:0:2::1")


async def test_pages_get_so_many_keys(serve_with: ServeWith) -> None:
    """One more than that is answered with 429, legibly; a page that gets none uses none up."""
    settings = {"api_key": ("sk-of-the-server",), "allow_origin": (_PAGE,), "page_keys": True}
    async with serve_with(**settings, page_keys_per_minute=2) as daemon:
        asked = [
            await request("GET", f"{daemon.url}session", headers={"Origin": origin})
            for origin in ("https://elsewhere.example", _PAGE, _PAGE, _PAGE)
        ]
        assert [reply.status for reply in asked] == [403, 200, 200, 429]
        assert asked[-1].json["error"]["code"] == "rate_limit_exceeded"
        assert int(asked[-1].headers["retry-after"]) > 0
        assert asked[-1].headers["access-control-allow-origin"] == _PAGE
