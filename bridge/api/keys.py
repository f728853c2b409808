"""Who may come in by HTTP: which key a request shows, and whether the web page that sends it may use it.

What a key opens is said in ``calls.keys``. Without any API key configured the daemon serves loopback only, and then
asks for no key. It then asks that page and host are loopback too, so that no web page elsewhere can reach it through
the user's browser, by DNS rebinding or otherwise.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from bridge.calls.keys import ApiKeys, Grant, KeyStore, MintedKey
from bridge.calls.origins import PORTS, normal_origin
from bridge.config import ANY_ORIGIN, MINTED_PREFIX, is_loopback
from bridge.errors import Forbidden, Unauthorized
from bridge.wire.stats import Dialect

__all__ = ["Keys", "dialect_of", "subprotocols"]

_BEARER = "bearer "
_KEY_SUBPROTOCOL = "openai-insecure-api-key."
_KEY_HEADERS = ("api-key", "x-api-key")
_BETA_HEADER, _BETA_SUBPROTOCOL = "realtime=v1", "openai-beta.realtime-v1"


class Keys:
    """Lets requests in: by an API key of the settings or a minted key, from the web origins that it may come from."""

    def __init__(self, api_keys: tuple[str, ...], allow_origins: tuple[str, ...], store: KeyStore) -> None:
        self.store = store
        """The store of minted keys."""
        self.apply(api_keys, allow_origins)

    def apply(self, api_keys: tuple[str, ...], allow_origins: tuple[str, ...]) -> None:
        """Sets what lets requests in from now on, beside minted keys; connections that are open stay."""
        self.api_keys = ApiKeys(api_keys)
        """The API keys that let requests in."""
        self._allow_origins = frozenset(map(normal_origin, allow_origins)) - {""}
        self._allows_all = bool(api_keys) and ANY_ORIGIN in allow_origins  # if so, keys alone protect the bridge

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self.api_keys

    @property
    def lets_every_page_in(self) -> bool:
        """Whether web origins do not count, because keys protect the bridge."""
        return self._allows_all

    def lets_page_in(self, origin: str) -> bool:
        """Whether the settings let pages of ``origin`` in, whatever key they show.

        Without API keys also those of loopback.
        """
        normal = normal_origin(origin)
        is_own = self.is_open and normal.startswith(("http://", "https://")) and is_loopback(_hostname(normal))
        return normal in self._allow_origins or is_own

    async def admit(self, headers: Headers) -> Grant:
        """Returns what the request's key opens; raises ``Unauthorized`` or ``Forbidden``.

        This does not spend a single use. The key is judged first: if it is wrong, no other origin helps.
        """
        key = _presented(headers)
        grant = self._grant_of(key, await self._minted(key))
        self._check_origin(headers, grant)
        return grant

    async def _minted(self, key: str | None) -> MintedKey | None:
        """Returns what was minted as ``key``.

        The store is not asked for an API key, which is good without it.
        """
        return None if not key or self.api_keys.include(key) else await self.store.find(key)

    def _grant_of(self, key: str | None, minted: MintedKey | None) -> Grant:
        if minted is not None:
            minted.require_valid()
            return minted.grant
        if key is not None and key.startswith(MINTED_PREFIX):
            raise Unauthorized("The key has expired, or was never issued here.")
        if self.is_open:
            return Grant()
        if key is None:
            raise Unauthorized("No API key was given; send it as 'Authorization: Bearer KEY'.")
        if not self.api_keys.include(key):
            raise Unauthorized("The API key is not valid here.")
        return Grant()

    async def admit_admin(self, headers: Headers) -> Grant:
        """Does what ``admit`` does, but refuses a minted key as ``Forbidden``: what is asked for concerns all calls."""
        grant = await self.admit(headers)
        grant.require_admin()
        return grant

    def admit_page(self, headers: Headers) -> str:
        """Returns the origin of a web page that may have a key without showing one; raises ``Forbidden``."""
        origin = normal_origin(headers.get("origin", ""))
        if origin not in self._allow_origins:
            raise Forbidden("Only pages from the origins in allow_origin can get keys here.", param="Origin")
        return origin

    async def names_page(self, headers: Headers) -> bool:
        """Whether the request's key is for the page that sent it."""
        minted = await self._minted(_presented(headers))
        return minted is not None and minted.grant.is_for_page(headers.get("origin", ""))

    def _check_origin(self, headers: Headers, grant: Grant) -> None:
        host = headers.get("host", "")
        if self.is_open and not is_loopback(_hostname(f"//{host}")):
            raise Forbidden("No API key is configured, so the bridge accepts loopback host names only.")
        said = headers.get("origin")
        if grant.allowed_origins:
            if said is None or not grant.is_for_page(said):
                raise Forbidden("This key is for pages from other web origins.", param="Origin")
            return
        if said is None or self._allows_all:
            return
        origin = normal_origin(said)
        own = (normal_origin(f"{scheme}://{host}") for scheme in PORTS)
        if origin != "" and (origin in self._allow_origins or origin in own):
            return
        if not (self.is_open and is_loopback(_hostname(origin))):
            raise Forbidden("This web origin is not allowed here; see the setting allow_origin.", param="Origin")


def _hostname(url: str) -> str:
    """Returns the host of a Host or Origin header; an empty one if the header cannot be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def subprotocols(headers: Headers) -> list[str]:
    """Returns the WebSocket subprotocols that a client offers."""
    offered = ",".join(headers.getlist("sec-websocket-protocol"))
    return [token.strip() for token in offered.split(",") if token.strip()]


def dialect_of(headers: Headers, grant: Grant) -> Dialect:
    """Returns the dialect of a client: beta clients name it in a header, browsers in a subprotocol.

    A key for a beta session says so, too.
    """
    said = headers.getlist("openai-beta")
    if any(_BETA_HEADER in value for value in said) or _BETA_SUBPROTOCOL in subprotocols(headers):
        return Dialect.BETA
    return grant.dialect


def _presented(headers: Headers) -> str | None:
    """Returns the first key that is sent in a known way: Bearer, ``api-key``, ``x-api-key``, a subprotocol."""
    return next(filter(None, _all_presented(headers)), None)


def _all_presented(headers: Headers) -> Iterator[str]:
    """Yields all keys that were sent; some may be empty, because a gateway forwards what its client left out."""
    for authorization in headers.getlist("authorization"):
        if authorization[: len(_BEARER)].lower() == _BEARER:
            yield authorization[len(_BEARER) :].strip()
    for name in _KEY_HEADERS:
        for value in headers.getlist(name):
            yield value.strip()
    for token in subprotocols(headers):
        if token.startswith(_KEY_SUBPROTOCOL):
            yield token.removeprefix(_KEY_SUBPROTOCOL)
