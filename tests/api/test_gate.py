"""The gate: so many strangers at one address, and so many in all."""

from bridge.api.gate import Gate
from bridge.api.proxies import TrustedProxies


def test_each_address_has_its_limit() -> None:
    """One more is refused and counted, until one of them leaves; leaving twice is leaving once."""
    gate = Gate(10, 2)
    first, second = gate.enter("192.0.2.1"), gate.enter("192.0.2.1")
    assert first is not None
    assert second is not None
    assert gate.enter("192.0.2.1") is None
    assert gate.enter("192.0.2.2") is not None
    assert gate.refused == 1
    first.leave()
    first.leave()
    assert gate.enter("192.0.2.1") is not None
    assert gate.enter("192.0.2.1") is None


def test_whoever_has_an_ipv6_address_has_its_network() -> None:
    """The addresses of 64 bits count as one; IPv4 addresses do not become one by being written as IPv6."""
    gate = Gate(10, 1)
    assert gate.enter("2001:db8::1") is not None
    assert gate.enter("2001:db8::2:3:4:5") is None
    assert gate.enter("2001:db8:0:1::1") is not None
    assert gate.enter("::ffff:192.0.2.1") is not None
    assert gate.enter("192.0.2.1") is None
    assert gate.enter("::ffff:192.0.2.2") is not None


def test_all_together_have_a_limit() -> None:
    """Whatever their addresses are."""
    gate = Gate(2, 2)
    assert gate.enter("192.0.2.1") is not None
    assert gate.enter("192.0.2.2") is not None
    assert gate.enter("192.0.2.3") is None


def test_a_proxy_has_the_limit_of_all() -> None:
    """Behind one address of a trusted proxy is everybody."""
    gate = Gate(3, 1, TrustedProxies(["10.0.0.0/8"]))
    assert [gate.enter("10.1.2.3") is not None for _ in range(4)] == [True, True, True, False]


def test_an_address_has_one_share() -> None:
    """Connections of one address share what they may take of our time; those of a proxy do not."""
    gate = Gate(9, 9, TrustedProxies(["10.0.0.0/8"]))
    first, second, other, proxied = (gate.enter(name) for name in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "10.0.0.1"))
    assert first is not None
    assert second is not None
    assert other is not None
    assert proxied is not None
    assert first.share is second.share is not None
    assert other.share is not first.share
    assert proxied.share is None


def test_a_node_is_exempt_from_the_limit_of_its_address() -> None:
    """It has counted its clients itself; the limit of all together holds for it as well."""
    gate = Gate(3, 1)
    gate.trust_node("192.0.2.1")
    assert gate.enter("192.0.2.2") is not None
    assert gate.enter("192.0.2.2") is None
    entered = gate.enter("192.0.2.1"), gate.enter("192.0.2.1")
    assert all(entry is not None and entry.share is None for entry in entered)
    assert gate.enter("192.0.2.1") is None
