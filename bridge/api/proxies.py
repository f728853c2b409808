"""Reverse proxies in front of the bridge: whose word on the client's address, scheme and host is taken.

A proxy says in ``X-Forwarded-For``, ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` what it was asked. Anybody can write
these headers, so they are read only on connections of a trusted proxy. What they say is put into the request itself, in
front of all endpoints, so that no endpoint has to know of proxies.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Forwarded", "TrustedProxies"]

_SECURE = {"http": False, "ws": False, "https": True, "wss": True}
_SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
_MAPPED_BITS = 96  # the bits in front of an IPv4 address (RFC 4291 section 2.5.5.2)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_ADDRESS = re.compile(r"\[?(?P<address>[0-9A-Fa-f:.]+?)\]?(?P<port>(?<=[\].0-9]):[0-9]{1,5})?")


class TrustedProxies:
    """Addresses and networks whose connections carry other clients' requests."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trust(trusted)

    def trust(self, trusted: Iterable[str]) -> None:
        """Trusts these from now on, and no others."""
        self._networks = [_network(network) for network in trusted]

    def is_trusted(self, address: str) -> bool:
        """Whether the connection's other end, an IP address, is one of them."""
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """Returns the client's address, of a request that came from ``peer`` with these ``X-Forwarded-For`` headers.

        Each proxy adds at the end whom it was asked by. So the list is read from its end, as long as the one who wrote
        an entry is trusted. The client itself may have made up what stands in front of that.
        """
        client = peer
        for hop in reversed([hop.strip() for line in forwarded_for for hop in line.split(",")]):
            if not self.is_trusted(client):
                break
            address = _parsed(hop)
            if address is None:
                break
            client = str(address)
        return client


class Forwarded:
    """ASGI middleware that sets the client, scheme and host of a request as the client knows them."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, corrected if a trusted proxy brought it."""
        if scope["type"] in _SCHEMES and scope.get("client") and self._proxies.is_trusted(scope["client"][0]):
            scope = self._corrected(scope)
        await self._app(scope, receive, send)

    def _corrected(self, scope: Scope) -> Scope:
        headers = Headers(scope=scope)
        peer, port = scope["client"]
        client = self._proxies.client_of(peer, headers.getlist("x-forwarded-for"))
        corrected = {**scope, "client": (client, port if client == peer else 0)}
        proto = _last(headers, "x-forwarded-proto").lower()
        if proto in _SECURE:
            corrected["scheme"] = _SCHEMES[scope["type"]][_SECURE[proto]]
        host = _last(headers, "x-forwarded-host")
        if _HOST.fullmatch(host):
            corrected["headers"] = list(scope["headers"])
            MutableHeaders(scope=corrected)["host"] = host
        return corrected


def _last(headers: Headers, name: str) -> str:
    """Returns what the nearest proxy says; whatever a client wrote stands in front of it."""
    lines = headers.getlist(name)
    return lines[-1].rpartition(",")[2].strip() if lines else ""


def _network(text: str) -> IPv4Network | IPv6Network:
    """Returns a network; if one of IPv4 is written as IPv6, it becomes one of IPv4, as addresses do."""
    network = ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Returns an address, perhaps with a port; if one of IPv4 is written as IPv6, it becomes one of IPv4.

    None for anything else.
    """
    for candidate in (text, *(match["address"] for match in (_ADDRESS.fullmatch(text),) if match is not None)):
        try:
            address = ip_address(candidate)
        except ValueError:
            continue
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return mapped or address
    return None
