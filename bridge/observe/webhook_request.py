"""Sends one webhook as an HTTP request, signed as Standard Webhooks has it, to an address that it may go to.

https://www.standardwebhooks.com: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``, which is the
HMAC-SHA256 of ``id.timestamp.body``. A receiver's name is looked up here, and the request goes to the very address that
was judged. So a name that leads elsewhere a moment later (DNS rebinding) has no effect.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit, urlunsplit

from bridge import __version__
from bridge.names import addresses_of
from bridge.outgoing import HTTPError, new_client

__all__ = ["deliver", "is_public", "key_of", "signature"]

_PREFIX = "whsec_"
_PORTS = {"http": 80, "https": 443}
_TIMEOUT_S = 10.0
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052 section 2.1
_SPECIAL = tuple(
    map(
        ip_network,
        (
            "192.88.99.0/24",  # relays of 6to4
            "::/96",  # IPv4-compatible, which nobody uses any more
            "64:ff9b:1::/48",  # NAT64 within a network (RFC 8215)
            "3fff::/20",  # examples in documents (RFC 9637)
            "5f00::/16",  # segments of routes (RFC 9602)
            "fec0::/10",  # site-local
        ),
    )
)
"""Networks that are not for the public, although not every version of Python says so."""


def key_of(secret: str) -> bytes:
    """Returns the key that a secret stands for; raises ``ValueError``.

    After ``whsec_`` the secret is base64. Without it, the key is the secret's own bytes.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("it is not base64 behind whsec_") from None


def signature(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """Returns the header ``webhook-signature``.

    It has one signature for each key, so that keys can be replaced one after another.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return " ".join(f"v1,{each}" for each in made)


async def deliver(
    url: str,
    event_id: str,
    body: bytes,
    *,
    keys: Sequence[bytes],
    timestamp: int,
    allow_private: bool,
    traceparent: str = "",
) -> str | None:
    """Sends one event once; returns what went wrong in a few words.

    Returns None if the receiver has taken it (with any status 2xx).
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            address, host = await _judged(url, allow_private=allow_private)
            headers = {
                "Content-Type": "application/json",
                "Host": host,
                "User-Agent": f"bridge/{__version__}",
                "webhook-id": event_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature(keys, event_id, timestamp, body),
            }
            if traceparent:
                headers["traceparent"] = traceparent
            name = {"sni_hostname": urlsplit(url).hostname}
            async with (
                new_client(_TIMEOUT_S, headers, trust_env=False) as client,
                client.stream("POST", address, content=body, extensions=name) as response,
            ):
                return None if response.is_success else f"status {response.status_code}"
    except TimeoutError:
        return "timeout"
    except (HTTPError, OSError) as error:
        return str(error) or type(error).__name__


async def _judged(url: str, *, allow_private: bool) -> tuple[str, str]:
    """Returns the URL with an address in place of its host, and the header ``Host``; raises ``OSError``."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    addresses = await addresses_of(host, port)
    for address in addresses:
        if not allow_private and not is_public(address):
            raise OSError(f"{host} is a private address; see the setting webhook_private")
    address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    return urlunsplit(parts._replace(netloc=f"{address}:{port}")), parts.netloc.rpartition("@")[2]


def is_public(address: str) -> bool:
    """Returns whether anybody may have this address.

    If it holds another address that a router or the kernel unpacks, both are judged.
    """
    parsed = ip_address(address)
    if any(parsed.version == network.version and parsed in network for network in _SPECIAL):
        return False
    inner = _unpacked(parsed) if isinstance(parsed, IPv6Address) else None
    if inner is not None:
        return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


def _unpacked(address: IPv6Address) -> IPv4Address | None:
    """Returns the IPv4 address in one of ::ffff:0:0/96 (mapped), 64:ff9b::/96 (NAT64) or 2002::/16 (6to4)."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
