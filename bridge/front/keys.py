"""Who may come in: API keys, and the web origins whose pages may connect.

Keys are kept as digests and compared in constant time. Without any key configured the daemon serves loopback only, and
then asks for no key; what it does ask for is that page and host are loopback too, so that no web page elsewhere can
reach it through the user's browser, by DNS rebinding or otherwise.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from bridge.config import is_loopback
from bridge.errors import Forbidden, Unauthorized

__all__ = ["Keys", "subprotocols"]

_BEARER = "bearer "
_KEY_SUBPROTOCOL = "openai-insecure-api-key."


class Keys:
    """The API keys of one daemon."""

    def __init__(self, api_keys: tuple[str, ...], allow_origins: tuple[str, ...]) -> None:
        self._salt = secrets.token_bytes(16)
        self._digests = [self._digest(key) for key in api_keys]
        self._allow_origins = frozenset(allow_origins)

    @property
    def is_open(self) -> bool:
        """No key is asked for."""
        return not self._digests

    def admit(self, headers: Headers) -> None:
        """Lets the request through, or raises ``Unauthorized`` or ``Forbidden``."""
        self._check_origin(headers)
        if self.is_open:
            return
        key = _presented(headers)
        if key is None:
            raise Unauthorized("No API key was given; send it as 'Authorization: Bearer KEY'.")
        digest = self._digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized("The API key is not valid here.")

    def _check_origin(self, headers: Headers) -> None:
        host = urlsplit(f"//{headers.get('host', '')}")
        if self.is_open and not is_loopback(host.hostname or ""):
            raise Forbidden("Without an API key configured, the bridge answers to loopback host names only.")
        origin = headers.get("origin")
        if origin is None or origin in self._allow_origins:
            return
        parts = urlsplit(origin)
        is_own_page = parts.scheme in ("http", "https") and parts.netloc == host.netloc
        if not is_own_page and not (self.is_open and is_loopback(parts.hostname or "")):
            raise Forbidden("This web origin is not allowed here; see the setting allow_origin.", param="Origin")

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._salt).digest()


def subprotocols(headers: Headers) -> list[str]:
    """The WebSocket subprotocols that a client offers."""
    offered = ",".join(headers.getlist("sec-websocket-protocol"))
    return [token.strip() for token in offered.split(",") if token.strip()]


def _presented(headers: Headers) -> str | None:
    """The key as any of the known clients sends it: Bearer, ``api-key``, or a browser's subprotocol."""
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    if "api-key" in headers:
        return headers["api-key"]
    return next(
        (token.removeprefix(_KEY_SUBPROTOCOL) for token in subprotocols(headers) if token.startswith(_KEY_SUBPROTOCOL)),
        None,
    )
