"""Whether an upstream answers at all, found out without opening a session: that may cost money."""

from urllib.parse import urlsplit, urlunsplit

from bridge.outgoing import HTTPError, new_client
from bridge.upstream.target import Target, Transport

__all__ = ["is_answering"]

_SCHEMES = {"ws": "http", "wss": "https"}
_SERVER_FAULT = 500


async def is_answering(target: Target, *, timeout_s: float) -> bool:
    """Whether the target answers a request without a key by anything but a fault of its own.

    The embedded engine and cascades always do. So does ``agent``: agents may come when a call does.
    """
    if target.transport in (Transport.LOCAL, Transport.AGENT, Transport.CASCADE):
        return True
    parts = urlsplit(target.shown_url)
    url = urlunsplit(parts._replace(scheme=_SCHEMES.get(parts.scheme, parts.scheme)))
    try:
        async with new_client(timeout_s) as client, client.stream("GET", url) as response:
            return response.status_code < _SERVER_FAULT
    except HTTPError:
        return False
