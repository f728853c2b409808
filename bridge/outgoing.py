"""HTTP requests that the bridge itself makes: whom it trusts, and a client that is whole before the first call."""

import importlib
import ssl
from collections.abc import Mapping

import httpx2

__all__ = ["TLS", "HTTPError", "new_client"]

TLS = ssl.create_default_context()
"""Trusts whom the system trusts."""

HTTPError = httpx2.HTTPError
"""What a request raises if there is no answer."""

# httpx2 reads these from the disk with its first request, which would stop all sound for 30 ms; so they come at once.
for _name in ("httpcore2", "anyio._backends._asyncio"):
    importlib.import_module(_name)


def new_client(
    timeout_s: float, headers: Mapping[str, str] | None = None, *, trust_env: bool = True
) -> httpx2.AsyncClient:
    """An HTTP client for the present event loop, to be used with ``async with``. It follows no redirect.

    Each step of a request (connect, send, wait for the next bytes) may take ``timeout_s``. ``trust_env`` obeys the
    environment's proxy variables.
    """
    return httpx2.AsyncClient(
        verify=TLS, timeout=timeout_s, headers=headers, trust_env=trust_env, follow_redirects=False
    )
