"""HTTP requests that the bridge itself makes: whom it trusts, a client that is ready at once, and what answers mean."""

import asyncio
import importlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar
from urllib.request import getproxies

import httpx2
import msgspec

from bridge.errors import UpstreamError
from bridge.names import until_answered

__all__ = [
    "TLS",
    "Client",
    "HTTPError",
    "HTTPStatusError",
    "Request",
    "Response",
    "new_client",
    "refusal",
    "retry_delay_s",
    "tried_again",
]

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_RETRY_AFTER_S = 86_400.0
_BACKOFF_S, _MAX_BACKOFF_S, _BACKOFF_SPREAD = 0.5, 4.0, 0.2
_FRESH_S = 60.0  # a name that was answered for is taken for known
_LONGEST_WAIT_S = 10.0  # a service that asks for more time is not tried again

_T = TypeVar("_T")

TLS = ssl.create_default_context()
"""A context that trusts the same certificates as the system."""

Client = httpx2.AsyncClient
"""The class of what ``new_client`` makes."""

HTTPError = httpx2.HTTPError
"""The base of the errors that a request raises if there is no answer."""

HTTPStatusError = httpx2.HTTPStatusError
"""The error that ``raise_for_status`` raises."""

Response = httpx2.Response
"""The answer to a request."""

Request = httpx2.Request
"""The request that a function which signs requests gets and returns."""

# httpx2 reads these from disk with its first request, which would stop all sound for 30 ms, so they are read here.
for _name in ("httpcore2", "anyio._backends._asyncio"):
    importlib.import_module(_name)


def new_client(
    timeout_s: float, headers: Mapping[str, str] | None = None, *, trust_env: bool = True
) -> httpx2.AsyncClient:
    """Returns an HTTP client for the present event loop, to be used with ``async with``. It follows no redirect.

    Each step of a request (connect, send, wait for the next bytes) may take ``timeout_s``. If ``trust_env`` is set, it
    obeys the environment's proxy variables.
    """

    fresh_until: dict[str, float] = {}

    async def answered(request: httpx2.Request) -> None:
        host, now = request.url.host, time.monotonic()
        if now < fresh_until.get(host, 0.0):
            return  # most requests go over a connection that is there, and need no name
        try:
            await until_answered(host, request.url.port or 443, timeout_s)
            fresh_until[host] = now + _FRESH_S
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error), request=request) from error

    is_direct = not (trust_env and getproxies())  # if there is a proxy, it looks names up itself
    return httpx2.AsyncClient(
        verify=TLS,
        timeout=timeout_s,
        headers=headers,
        trust_env=trust_env,
        follow_redirects=False,
        event_hooks={"request": [answered] if is_direct else []},
    )


def refusal(status: int, body: bytes, retry_after: str | None) -> UpstreamError:
    """Returns the error that a service's HTTP answer stands for, in the service's own words if it has any."""
    error: Any = None
    try:
        error = msgspec.json.decode(body).get("error")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        pass
    if not isinstance(error, dict):
        error = {}
    return UpstreamError(
        str(error.get("message") or f"The upstream answered with HTTP status {status}."),
        code=str(error.get("code") or f"upstream_http_{status}"),
        param=error["param"] if isinstance(error.get("param"), str) else None,
        type=str(error.get("type") or "server_error"),
        is_transient=status in _TRANSIENT_STATUS,
        retry_after_s=_seconds(retry_after),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Returns the number of seconds in the header. The header's other form, a date, is not read."""
    try:
        return min(max(float(retry_after or ""), 0.0), _MAX_RETRY_AFTER_S)
    except ValueError:
        return None


def retry_delay_s(error: UpstreamError, number: int) -> float | None:
    """Returns how many seconds to wait after try ``number``, counted from 0; None if another try is of no use."""
    if not error.is_transient:
        return None
    if error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= _LONGEST_WAIT_S else None
    delay_s = min(_BACKOFF_S * 2.0**number, _MAX_BACKOFF_S)
    return delay_s * random.uniform(1 - _BACKOFF_SPREAD, 1 + _BACKOFF_SPREAD)


async def tried_again(
    request: Callable[[], AsyncIterator[_T]], tries: int, told: Callable[[UpstreamError, float], None]
) -> AsyncIterator[_T]:
    """Yields what ``request`` yields, piece by piece. If it fails before the first piece, it is made again.

    There are at most ``tries`` in all. ``told`` gets each failure that is followed by another try, and the seconds
    until then. Raises the last ``UpstreamError``, or the first that no other try would cure.
    """
    for number in range(tries):
        has_begun = False
        try:
            async for piece in request():
                has_begun = True
                yield piece
            return
        except UpstreamError as error:
            delay_s = retry_delay_s(error, number)
            if has_begun or delay_s is None or number + 1 == tries:
                raise
            told(error, delay_s)
        await asyncio.sleep(delay_s)
