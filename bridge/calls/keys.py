"""Keys: what each opens, the short-lived ``ek_`` keys minted for clients, and the server's own API keys.

Keys are kept as keyed digests and compared in constant time; a minted key is found by its digest. A ``KeyStore`` may be
shared by many processes, so questions to it are awaited. A single use is spent in one step, by whoever is first.
"""

import hashlib
import heapq
import hmac
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from bridge.calls.origins import normal_origin
from bridge.errors import BadEvent, Draining, Forbidden, OverLimit, Unauthorized
from bridge.wire.ids import new_id
from bridge.wire.sessions import SessionRequest
from bridge.wire.stats import Dialect, ListenerRole

__all__ = [
    "API_KEY_ID",
    "MAX_MINTED",
    "REMEMBERED_S",
    "ApiKeys",
    "Grant",
    "KeyPurpose",
    "KeyStore",
    "LocalKeyStore",
    "MintedKey",
    "expired_key",
    "key_digest",
    "redeem_telephone_key",
    "spent_key",
]

API_KEY_ID = "api"
"""The one ``key_id`` that all API keys of the server share: what they do is the operator's own business."""

MAX_MINTED = 100_000
"""The most keys that may wait to be used in one process."""
REMEMBERED_S = 600.0
"""The time for which an expired key is still known: the page that shows it is told that it has expired."""


class KeyPurpose(StrEnum):
    """The purpose of a key.

    An API key of the server's is for everything, a minted one for exactly one of the others.
    """

    API = "api"
    PAGE = "page"
    CLIENT = "client"
    LISTENER = "listener"
    AGENT = "agent"
    TELEPHONE = "telephone"
    PUBLISHER = "publisher"
    PLAYER = "player"


_FOR_CALLS = (KeyPurpose.PAGE, KeyPurpose.CLIENT)
_FOR_OWN_CALLS = (*_FOR_CALLS, KeyPurpose.PUBLISHER)
_FOR_LISTENING = (*_FOR_CALLS, KeyPurpose.LISTENER)
_SAID = {
    KeyPurpose.PAGE: "a web page that makes calls",
    KeyPurpose.CLIENT: "a client that makes calls",
    KeyPurpose.LISTENER: "listening to a call",
    KeyPurpose.AGENT: "answering calls",
    KeyPurpose.TELEPHONE: "one telephone call",
    KeyPurpose.PUBLISHER: "publishing sound by WHIP",
    KeyPurpose.PLAYER: "playing a call by WHEP",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key opens. The bridge's own API keys open everything; a minted key opens what it was minted for."""

    key_id: str = API_KEY_ID
    purpose: KeyPurpose = KeyPurpose.API
    """The purpose of the key: each endpoint takes the keys that are meant for it, and no others."""
    config: SessionRequest | None = None
    """The session that a minted key stands for."""
    dialect: Dialect = Dialect.GA
    """The dialect of the session that the key stands for; whoever shows the key speaks this one."""
    temperature: float | None = None
    """The temperature of a beta session; GA has no place for it."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata of a beta session; GA has no place for it."""
    call_id: str | None = None
    """The id of somebody else's call that the key may attach to; for an agent, the only call that it may answer."""
    carrier_call_id: str | None = None
    """The carrier's id of the call that a telephone's key was made for, and proves."""
    only_returns: bool = False
    """Whether a telephone's key brings back a call that runs, and opens no new one."""
    max_duration_s: float | None = None
    idle_timeout_s: float | None = None
    allowed_origins: tuple[str, ...] = ()
    is_single_use: bool = False
    token: str = field(default="", compare=False, repr=False)
    """The word by which the ``KeyStore`` knows the key, to spend it; empty for an API key. It opens nothing."""

    @property
    def is_minted(self) -> bool:
        """Whether it is an ``ek_`` key, which may not mint others, and sees its own calls only."""
        return self.purpose != KeyPurpose.API

    @property
    def role(self) -> ListenerRole:
        """The most that the key may be on a call that it attaches to."""
        return ListenerRole.OBSERVER if self.purpose == KeyPurpose.LISTENER else ListenerRole.CONTROLLER

    def is_for_page(self, origin: str) -> bool:
        """Whether the key names the page's web origin."""
        page = normal_origin(origin)
        return page != "" and page in map(normal_origin, self.allowed_origins)

    def key_for(self, call_id: str) -> str:
        """Returns the key by which the call is looked up.

        It is the server's own for the call that this key was minted for.
        """
        return API_KEY_ID if call_id == self.call_id else self.key_id

    def require_owner_of(self, call_id: str) -> None:
        """Raises ``Forbidden`` if the key may attach to the call but has not opened it."""
        if call_id == self.call_id:
            raise Forbidden(
                "This key is for attaching to the call; only the key that opened the call, or an API key, can end it."
            )

    def require_admin(self) -> None:
        """Raises ``Forbidden`` for a minted key, because what is asked for concerns all calls."""
        if self.is_minted:
            raise Forbidden("This needs an API key of the server; a key minted for a client is not enough.")

    def require_owner(self) -> None:
        """Raises ``Forbidden`` for a key that is not for opening calls and ending them."""
        self._require(_FOR_CALLS, "it can neither open a call nor end one")

    def require_opener(self) -> None:
        """Raises ``Forbidden`` for a key that opens no calls, and so has none to change or to end."""
        self._require(_FOR_OWN_CALLS, "it can neither change a call nor end one")

    def require_publisher(self) -> None:
        """Raises ``Forbidden`` for a key that is not for publishing."""
        self._require((KeyPurpose.PUBLISHER,), "it cannot publish by WHIP")

    def require_player(self) -> None:
        """Raises ``Forbidden`` for a key that is not for playing."""
        self._require((KeyPurpose.PLAYER,), "it cannot play by WHEP")

    def require_listener(self) -> None:
        """Raises ``Forbidden`` for a key that sees no calls."""
        self._require(_FOR_LISTENING, "it cannot listen to calls")

    def require_agent(self) -> None:
        """Raises ``Forbidden`` for a key that is not for answering calls."""
        if self.purpose not in (KeyPurpose.API, KeyPurpose.AGENT):
            raise Forbidden("An agent needs an API key, or a client's key with the role agent.", param="role")

    def _require(self, purposes: tuple[KeyPurpose, ...], refusal: str) -> None:
        if self.purpose not in (KeyPurpose.API, *purposes):
            raise Forbidden(f"This key is for {_SAID[self.purpose]}; {refusal}.")


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key that was found."""

    grant: Grant
    is_expired: bool

    def require_valid(self) -> None:
        """Raises ``Unauthorized`` if the key has expired."""
        if self.is_expired:
            raise expired_key()


class KeyStore(Protocol):
    """Where minted keys are kept until they expire."""

    async def mint(self, grant: Grant, *, ttl_s: float, key: str | None = None) -> str:
        """Makes a new key for ``grant``, good for ``ttl_s``; raises ``OverLimit`` if too many wait to be used.

        ``key`` is for protocols that can carry no other; it must be as hard to guess.
        """
        ...

    async def find(self, key: str) -> MintedKey | None:
        """Returns the key, also for a while after it has expired; None if it was never minted."""
        ...

    async def spend(self, token: str) -> None:
        """Uses the key with this ``Grant.token``, in one step; an API key, whose token is empty, is not used up.

        Raises ``Unauthorized`` if the key has expired, or was for a single use and has had it.
        """
        ...

    async def is_named(self, origin: str) -> bool:
        """Whether some key that is kept is for pages of the web origin ``origin``."""
        ...


@dataclass(slots=True)
class _Kept:
    grant: Grant
    expires_at: float
    uses: int = 0


class _Handed(Struct, frozen=True):
    """Keys on their way from one process to the next, and the salt of their digests."""

    salt: bytes
    kept: list[_Kept]


class LocalKeyStore:
    """The ``KeyStore`` of one process: it is in memory, and is gone with the process unless another one takes over."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` has to be the system's if another process takes over, because both go by it."""
        self.tell_minted: Callable[[bytes], None] | None = None
        """The function that hears of each key that is minted, in the form that ``adopt`` takes."""
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._kept: dict[str, _Kept] = {}
        self._named: Counter[str] = Counter()  # counts of the kept keys for each page's origin
        self._expiries: list[tuple[float, str]] = []

    async def mint(self, grant: Grant, *, ttl_s: float, key: str | None = None) -> str:
        """See ``KeyStore``."""
        now = self._clock()
        self._forget(now - REMEMBERED_S)
        if len(self._kept) >= MAX_MINTED:
            self._forget(now)
        if len(self._kept) >= MAX_MINTED:
            raise OverLimit("Too many unused keys exist already; try again later.")
        key = key or new_id("ek")
        token = key_digest(key, self._salt).hex()
        kept = _Kept(replace(grant, token=token), now + ttl_s)
        self._keep(kept)
        if self.tell_minted is not None:
            self.tell_minted(self._handed([kept]))
        return key

    async def find(self, key: str) -> MintedKey | None:
        """See ``KeyStore``."""
        now = self._clock()
        self._forget(now - REMEMBERED_S)
        kept = self._kept.get(key_digest(key, self._salt).hex())
        return None if kept is None else MintedKey(kept.grant, kept.expires_at <= now)

    async def spend(self, token: str) -> None:
        """See ``KeyStore``. Nothing is awaited between the look and the use."""
        if not token:
            return
        kept = self._kept.get(token)
        if kept is None or kept.expires_at <= self._clock():
            raise expired_key()
        if kept.grant.is_single_use:
            if kept.uses:
                raise spent_key()
            if self.tell_minted is not None:  # the next process has the key as well, and it may be spent there
                raise Draining("Another process of this server now takes new calls; connect again.")
        kept.uses += 1

    async def is_named(self, origin: str) -> bool:
        """See ``KeyStore``."""
        self._forget(self._clock() - REMEMBERED_S)
        return normal_origin(origin) in self._named

    def hand_over(self) -> bytes:
        """Returns all keys that are kept, for ``adopt`` of another process on the same machine."""
        self._forget(self._clock())
        return self._handed(list(self._kept.values()))

    def adopt(self, data: bytes) -> None:
        """Keeps the keys of another process, in addition to those that it has told of before."""
        handed = msgspec.json.decode(data, type=_Handed, dec_hook=_from_plain)
        if not self._kept:
            self._salt = handed.salt
        for kept in handed.kept:
            self._keep(kept)

    def _handed(self, kept: list[_Kept]) -> bytes:
        return msgspec.json.encode(_Handed(self._salt, kept), enc_hook=_as_plain)

    def _keep(self, kept: _Kept) -> None:
        self._kept[kept.grant.token] = kept
        self._named.update(map(normal_origin, kept.grant.allowed_origins))
        heapq.heappush(self._expiries, (kept.expires_at, kept.grant.token))

    def _forget(self, before: float) -> None:
        """Forgets the keys that had expired by then."""
        while self._expiries and self._expiries[0][0] <= before:
            origins = self._kept.pop(heapq.heappop(self._expiries)[1]).grant.allowed_origins
            for origin in map(normal_origin, origins):
                self._named[origin] -= 1
                if not self._named[origin]:
                    del self._named[origin]


def _as_plain(value: Any) -> Any:
    if isinstance(value, BadEvent):
        return [value.message, value.code, value.param]
    raise NotImplementedError(type(value).__name__)


def _from_plain(kind: type, value: Any) -> Any:
    if kind is BadEvent:
        message, code, param = value
        return BadEvent(message, code=code, param=param)
    raise NotImplementedError(kind.__name__)


async def redeem_telephone_key(store: KeyStore, token: str) -> Grant:
    """Returns what a telephone's key opens that came in a carrier's message, and spends it; else ``Unauthorized``.

    A key for anything else is refused: it would bypass the web origins that it is for, and would be left in the
    carrier's logs, still good.
    """
    minted = await store.find(token)
    if minted is None or minted.grant.purpose != KeyPurpose.TELEPHONE:
        raise Unauthorized("The token has expired, or was never issued here.", code="invalid_token")
    try:
        await store.spend(minted.grant.token)
    except Unauthorized as error:
        raise Unauthorized(error.message, code="invalid_token") from None
    return minted.grant


class ApiKeys:
    """The server's own keys, as the settings name them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._salt = secrets.token_bytes(32)
        self._digests = [key_digest(key, self._salt) for key in keys]

    def __bool__(self) -> bool:
        """Whether there is at least one."""
        return bool(self._digests)

    def include(self, key: str) -> bool:
        """Whether ``key`` is one of them, in a time that tells nothing of how close it is."""
        digest = key_digest(key, self._salt)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def key_digest(key: str, salt: bytes) -> bytes:
    """Returns the digest by which a key is known without being kept."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=salt, digest_size=32).digest()


def spent_key() -> Unauthorized:
    """Returns the refusal for a key for a single use that has had it."""
    return Unauthorized("The key was good for one connection and has already been used.")


def expired_key() -> Unauthorized:
    """Returns the refusal for a minted key that is good no more, or never was."""
    return Unauthorized("The key has expired, or was never issued here.")
