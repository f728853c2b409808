"""Who may come in: API keys, the short-lived ``ek_`` keys minted for clients, and web origins.

Keys are kept as keyed digests and compared in constant time; a minted key is found by its digest. Without any API key
configured the daemon serves loopback only, and then asks for no key; what it does ask for is that page and host are
loopback too, so that no web page elsewhere can reach it through the user's browser, by DNS rebinding or otherwise.
"""

import hashlib
import heapq
import hmac
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from bridge.config import ANY_ORIGIN, MINTED_PREFIX, is_loopback
from bridge.errors import Forbidden, OverLimit, Unauthorized
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionRequest
from bridge.wire.stats import ListenerRole

__all__ = ["Grant", "Keys", "Purpose", "normal_origin", "says_beta", "subprotocols"]

_BEARER = "bearer "
_KEY_SUBPROTOCOL = "openai-insecure-api-key."
_KEY_HEADERS = ("api-key", "x-api-key")
_BETA_HEADER, _BETA_SUBPROTOCOL = "realtime=v1", "openai-beta.realtime-v1"
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
_PORTS = {"http": 80, "https": 443}
_MAX_MINTED = 100_000

Purpose = Literal["api", "page", "client", "listener", "agent", "telephone"]
"""What a key is for: an API key of the server's for everything, a minted one for exactly one of the others."""

_FOR_CALLS: tuple[Purpose, ...] = ("page", "client")
_FOR_LISTENING: tuple[Purpose, ...] = ("page", "client", "listener")
_SAID: dict[Purpose, str] = {
    "page": "a web page that makes calls",
    "client": "a client that makes calls",
    "listener": "listening to a call",
    "agent": "answering calls",
    "telephone": "one telephone call",
}
_REMEMBERED_S = 600.0  # an expired key: the page that shows it may read that it has expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key opens. The bridge's own API keys open everything; a minted key opens what it was minted for."""

    key_id: str = "api"
    purpose: Purpose = "api"
    """Each endpoint takes the keys that are meant for it, and no others."""
    config: SessionRequest | None = None
    """The session that a minted key stands for."""
    is_beta: bool = False
    temperature: float | None = None
    """Of a beta session; GA has no place for it."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Likewise."""
    call_id: str | None = None
    """A call of somebody else that the key may attach to; for an agent, the only call that it may answer."""
    max_duration_s: float | None = None
    idle_timeout_s: float | None = None
    allowed_origins: tuple[str, ...] = ()
    is_single_use: bool = False

    @property
    def is_minted(self) -> bool:
        """An ``ek_`` key: it may not mint others, and sees its own calls only."""
        return self.purpose != "api"

    @property
    def role(self) -> ListenerRole:
        """The most that the key may be on a call that it attaches to."""
        return ListenerRole.OBSERVER if self.purpose == "listener" else ListenerRole.CONTROLLER

    def is_for_page(self, origin: str) -> bool:
        """The key names the page's web origin."""
        page = normal_origin(origin)
        return page != "" and page in map(normal_origin, self.allowed_origins)

    def key_for(self, call_id: str) -> str:
        """The key by which the call is looked up: the server's own for the call that this key was minted for."""
        return "api" if call_id == self.call_id else self.key_id

    def require_owner_of(self, call_id: str) -> None:
        """Raises ``Forbidden`` for a key that may attach to the call and has not opened it."""
        if call_id == self.call_id:
            raise Forbidden("This key is for attaching to the call; only a key that opened it, or an API key, ends it.")

    def require_admin(self) -> None:
        """Raises ``Forbidden`` for a minted key: what is asked for concerns all calls."""
        if self.is_minted:
            raise Forbidden("This takes an API key of the server; a key minted for a client is none.")

    def require_owner(self) -> None:
        """Raises ``Forbidden`` for a key that is not for opening calls and ending them."""
        self._require(_FOR_CALLS, "it can neither open a call nor end one")

    def require_listener(self) -> None:
        """Raises ``Forbidden`` for a key that sees no calls."""
        self._require(_FOR_LISTENING, "it cannot listen to calls")

    def require_agent(self) -> None:
        """Raises ``Forbidden`` for a key that is not for answering calls."""
        if self.purpose not in ("api", "agent"):
            raise Forbidden("An agent needs an API key, or a client's key with role agent.", param="role")

    def _require(self, purposes: tuple[Purpose, ...], refusal: str) -> None:
        if self.purpose not in ("api", *purposes):
            raise Forbidden(f"This key is for {_SAID[self.purpose]}; {refusal}.")


_NO_GRANT = Grant()


@dataclass(slots=True)
class _Minted:
    grant: Grant
    expires_at: float
    uses: int = field(default=0)


class Keys:
    """The keys of one daemon."""

    def __init__(
        self, api_keys: tuple[str, ...], allow_origins: tuple[str, ...], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._salt = secrets.token_bytes(16)
        self._digests = [self._digest(key) for key in api_keys]
        self._allow_origins = frozenset(map(normal_origin, allow_origins)) - {""}
        self._allows_all = bool(api_keys) and ANY_ORIGIN in allow_origins  # then keys alone protect the bridge
        self._clock = clock
        self._minted: dict[bytes, _Minted] = {}
        self._expiries: list[tuple[float, bytes]] = []  # a heap
        self._named: Counter[str] = Counter()  # origins, by how many keys name them

    @property
    def is_open(self) -> bool:
        """No key is asked for."""
        return not self._digests

    def mint(self, grant: Grant, *, ttl_s: float, key: str | None = None) -> str:
        """A new key for ``grant``, good for ``ttl_s``; raises ``OverLimit``.

        It begins with ``ek_``, unless it must be of another shape: then ``key`` is just as hard to guess.
        """
        now = self._clock()
        self._forget(now - _REMEMBERED_S)
        if len(self._minted) >= _MAX_MINTED:
            self._forget(now)
        if len(self._minted) >= _MAX_MINTED:
            raise OverLimit("Too many keys are waiting to be used.")
        key = key or new_id("ek")
        digest = self._digest(key)
        self._minted[digest] = _Minted(grant, now + ttl_s)
        self._named.update(map(normal_origin, grant.allowed_origins))
        heapq.heappush(self._expiries, (now + ttl_s, digest))
        return key

    def admit(self, headers: Headers, *, is_use: bool = False) -> Grant:
        """What the request's key opens; raises ``Unauthorized`` or ``Forbidden``. ``is_use`` spends a single use."""
        key = _presented(headers)
        minted = self._find(key)
        self._check_origin(headers, minted.grant if minted else _NO_GRANT)
        if minted is not None:
            return self._use(minted, is_use=is_use)
        if key is not None and key.startswith(MINTED_PREFIX):
            raise Unauthorized("The key has expired, or was never issued here.")
        if self.is_open:
            return Grant()
        if key is None:
            raise Unauthorized("No API key was given; send it as 'Authorization: Bearer KEY'.")
        digest = self._digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized("The API key is not valid here.")
        return Grant()

    def redeem(self, token: str) -> Grant:
        """What a telephone's key opens that came in a carrier's message, and spends it; else ``Unauthorized``.

        A key for anything else is none: it would pass by the web origins that it is for, and would be left in the
        carrier's logs, still good.
        """
        minted = self._minted.get(self._digest(token))
        if minted is None or minted.grant.purpose != "telephone":
            raise Unauthorized("The token has expired, or was never issued here.", code="invalid_token")
        try:
            return self._use(minted, is_use=True)
        except Unauthorized as error:
            raise Unauthorized(error.message, code="invalid_token") from None

    def admit_page(self, headers: Headers) -> str:
        """The origin of a web page that may have a key without showing one; raises ``Forbidden``."""
        origin = normal_origin(headers.get("origin", ""))
        if origin not in self._allow_origins:
            raise Forbidden("Only pages of the origins in allow_origin get keys here.", param="Origin")
        return origin

    def is_named(self, origin: str) -> bool:
        """Some minted key is for pages of ``origin``."""
        self._forget(self._clock() - _REMEMBERED_S)
        return normal_origin(origin) in self._named

    def names_page(self, headers: Headers) -> bool:
        """The request's key is for the page that sent it."""
        minted = self._find(_presented(headers))
        return minted is not None and minted.grant.is_for_page(headers.get("origin", ""))

    def _find(self, key: str | None) -> _Minted | None:
        return self._minted.get(self._digest(key)) if key else None

    def _forget(self, before: float) -> None:
        """Forgets the keys that had expired by then."""
        while self._expiries and self._expiries[0][0] <= before:
            origins = self._minted.pop(heapq.heappop(self._expiries)[1]).grant.allowed_origins
            for origin in map(normal_origin, origins):
                self._named[origin] -= 1
                if not self._named[origin]:
                    del self._named[origin]

    def _use(self, minted: _Minted, *, is_use: bool) -> Grant:
        if minted.expires_at <= self._clock():
            raise Unauthorized("The key has expired, or was never issued here.")
        if is_use:
            if minted.grant.is_single_use and minted.uses:
                raise Unauthorized("The key was good for one connection, and has had it.")
            minted.uses += 1
        return minted.grant

    def _check_origin(self, headers: Headers, grant: Grant) -> None:
        host = headers.get("host", "")
        if self.is_open and not is_loopback(_hostname(f"//{host}")):
            raise Forbidden("Without an API key configured, the bridge answers to loopback host names only.")
        said = headers.get("origin")
        if grant.allowed_origins:
            if said is None or not grant.is_for_page(said):
                raise Forbidden("This key is for pages of other web origins.", param="Origin")
            return
        if said is None or self._allows_all:
            return
        origin = normal_origin(said)
        own = (normal_origin(f"{scheme}://{host}") for scheme in _PORTS)
        if origin != "" and (origin in self._allow_origins or origin in own):
            return
        if not (self.is_open and is_loopback(_hostname(origin))):
            raise Forbidden("This web origin is not allowed here; see the setting allow_origin.", param="Origin")

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=self._salt).digest()


def normal_origin(origin: str) -> str:
    """A web origin as browsers write it (RFC 6454 section 6.2): in lower case, without the port of its scheme.

    Empty if it is none: ``null``, or anything more or less than a scheme, a host and perhaps a port.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return ""
    scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
    return f"{scheme}://{host}" if port is None or _PORTS.get(scheme) == int(port) else f"{scheme}://{host}:{int(port)}"


def _hostname(url: str) -> str:
    """Of a Host or Origin header; what cannot be read is nobody's."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def subprotocols(headers: Headers) -> list[str]:
    """The WebSocket subprotocols that a client offers."""
    offered = ",".join(headers.getlist("sec-websocket-protocol"))
    return [token.strip() for token in offered.split(",") if token.strip()]


def says_beta(headers: Headers) -> bool:
    """Beta clients say so in a header, browsers in a subprotocol."""
    said = headers.getlist("openai-beta")
    return any(_BETA_HEADER in value for value in said) or _BETA_SUBPROTOCOL in subprotocols(headers)


def _presented(headers: Headers) -> str | None:
    """The first key that is sent in one of the known ways: Bearer, ``api-key``, ``x-api-key``, a subprotocol."""
    return next(filter(None, _all_presented(headers)), None)


def _all_presented(headers: Headers) -> Iterator[str]:
    """Some may be empty: a gateway forwards what its client left out."""
    for authorization in headers.getlist("authorization"):
        if authorization[: len(_BEARER)].lower() == _BEARER:
            yield authorization[len(_BEARER) :].strip()
    for name in _KEY_HEADERS:
        for value in headers.getlist(name):
            yield value.strip()
    for token in subprotocols(headers):
        if token.startswith(_KEY_SUBPROTOCOL):
            yield token.removeprefix(_KEY_SUBPROTOCOL)
