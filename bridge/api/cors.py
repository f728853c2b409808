"""CORS: which web pages may read the answers.

Pages of ``allow_origin`` may read all of them; with ``*`` those of every origin may, and without API keys those of
loopback as well. A minted key may name pages of its own. The key that a page's request shows decides what the page may
read. A preflight shows no key, so it is answered for every origin that any key in use names. That is safe, because a
preflight opens nothing: it lets a browser send the request, which is then judged by its own key. No page gets anything
here for its cookies or for where it is.
"""

from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.calls import RESUME_KEY, WARNING
from bridge.api.keys import Keys
from bridge.api.patching import ACCEPT_PATCH, ETAG, SDP
from bridge.api.whip import ACCEPT_POST, is_endpoint

__all__ = ["Cors"]


class Cors:
    """The middleware: Starlette's, which is told for each request whether a key speaks for its page."""

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        self._keys = keys
        self._by_setting = _cors(app, keys.lets_page_in)
        self._by_key = _cors(app, lambda origin: True)
        self._for_all = _cors(app, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_by_key = scope["type"] == "http" and await self._is_by_key(Headers(scope=scope), scope["method"])
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and is_endpoint(scope["path"]):
            send = _says_what_is_posted(send)
        by_setting = self._for_all if self._keys.lets_every_page_in else self._by_setting
        await (self._by_key if is_by_key else by_setting)(scope, receive, send)

    async def _is_by_key(self, headers: Headers, method: str) -> bool:
        if "origin" not in headers:
            return False
        if method == "OPTIONS" and "access-control-request-method" in headers:
            return await self._keys.store.is_named(headers["origin"])
        return await self._keys.names_page(headers)


def _says_what_is_posted(send: Send) -> Send:
    """Tells a preflight too which bodies an endpoint of WHIP or WHEP takes (RFC 9725 section 4.2)."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault(ACCEPT_POST, SDP)
        await send(message)

    return tell


class _Asking(CORSMiddleware):
    """Starlette's middleware, which asks for each request whether pages of its origin may read the answer."""

    def __init__(self, app: ASGIApp, allows: Callable[[str], bool], **options: Any) -> None:
        super().__init__(app, **options)
        self._allows = allows

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether pages of ``origin`` may read the answers."""
        return self._allows(origin)


def _cors(app: ASGIApp, allows: Callable[[str], bool] | None) -> CORSMiddleware:
    """Makes the middleware; without ``allows``, pages of every origin may read the answers."""
    options: dict[str, Any] = {
        "allow_methods": ["GET", "POST", "PATCH", "DELETE"],
        "allow_headers": ["*"],  # what is asked for comes back: SDKs send a dozen of their own, and keys are no cookies
        "allow_private_network": True,  # the origin is allowed already, wherever the bridge is
        "expose_headers": ["Location", "Link", "Retry-After", ETAG, ACCEPT_PATCH, RESUME_KEY, WARNING],
    }
    return CORSMiddleware(app, allow_origins=["*"], **options) if allows is None else _Asking(app, allows, **options)
