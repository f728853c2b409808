"""Keeps minted keys in Redis: every process finds and spends them, and only one process each single use.

A key is kept under its digest, which is keyed with the cluster's secret, so that whoever reads Redis learns no key.
Redis itself forgets a key some time after it has expired.
"""

import hashlib
import time
from collections import deque
from dataclasses import replace

from bridge.calls.keys import (
    MAX_MINTED,
    REMEMBERED_S,
    Grant,
    MintedKey,
    expired_key,
    key_digest,
    spent_key,
)
from bridge.calls.origins import normal_origin
from bridge.cluster.grants import read_grant, write_grant
from bridge.cluster.store import Script, SharedStore
from bridge.errors import CannotCheck, OverLimit
from bridge.wire.ids import new_id

__all__ = ["RedisKeyStore"]

_REMEMBERED_MS = int(REMEMBERED_S * 1000)
_MAX_UNANSWERED = 1000

# A key lives as long as it is good, and then for a while in which it is known to have expired.
_MINT = Script("""
redis.call('HSET', KEYS[1], 'grant', ARGV[1], 'once', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
""")
_FIND = Script("""
local grant = redis.call('HGET', KEYS[1], 'grant')
if not grant then return false end
return {grant, redis.call('PTTL', KEYS[1]) - tonumber(ARGV[1])}
""")
# ARGV: for how long an expired key is known, the attempt. An attempt may come twice, if its answer was lost.
_SPEND = Script("""
if redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[1]) then return 0 end
if redis.call('HGET', KEYS[1], 'once') ~= '1' then return 1 end
if redis.call('HSETNX', KEYS[1], 'spent_by', ARGV[2]) == 1 then return 1 end
if redis.call('HGET', KEYS[1], 'spent_by') == ARGV[2] then return 1 end
return -1
""")
_NAME = Script("""
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], 1, 'PX', ARGV[1]) end
return 1
""")


class RedisKeyStore:
    """The ``KeyStore`` of a cluster. Its methods raise ``CannotCheck`` if Redis cannot be asked."""

    def __init__(self, store: SharedStore, secret: str) -> None:
        self._store = store
        self._pepper = key_digest("minted keys", hashlib.blake2b(secret.encode(), digest_size=32).digest())
        self._minted: deque[float] = deque()  # when the newest keys of this process expire at the earliest
        self._unanswered: dict[str, str] = {}
        """The attempts to spend keys that Redis may have carried out, although it has not said so, by token."""

    async def mint(self, grant: Grant, *, ttl_s: float, key: str | None = None) -> str:
        """Mints a key; see ``KeyStore``. Each process has its own limit of keys that wait to be used."""
        now = time.monotonic()
        while self._minted and self._minted[0] <= now:
            self._minted.popleft()
        if len(self._minted) >= MAX_MINTED:
            raise OverLimit("Too many unused keys exist already; try again later.")
        key = key or new_id("ek")
        lives_ms = int(ttl_s * 1000) + _REMEMBERED_MS
        kept = write_grant(replace(grant, token=""))
        await self._store.ask(_MINT, self._place(self._token(key)), kept, int(grant.is_single_use), lives_ms)
        for origin in {*map(normal_origin, grant.allowed_origins)} - {""}:
            await self._store.ask(_NAME, self._origin(origin), lives_ms)
        self._minted.append(now + ttl_s)
        return key

    async def find(self, key: str) -> MintedKey | None:
        """Returns what the key opens; see ``KeyStore``."""
        token = self._token(key)
        found = await self._store.ask(_FIND, self._place(token), _REMEMBERED_MS)
        if not found:
            return None
        grant, left_ms = found
        return MintedKey(replace(read_grant(grant), token=token), int(left_ms) <= 0)

    async def spend(self, token: str) -> None:
        """Uses a key once more; see ``KeyStore``.

        A key is not lost with Redis's answer: if the client tries it again here, that is the same attempt.
        """
        if not token:
            return
        attempt = self._unanswered.pop(token, None) or new_id("")
        try:
            spent = int(await self._store.ask(_SPEND, self._place(token), _REMEMBERED_MS, attempt))
        except CannotCheck:
            self._unanswered[token] = attempt
            if len(self._unanswered) > _MAX_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]
            raise
        if spent == 0:
            raise expired_key()
        if spent < 0:
            raise spent_key()

    async def is_named(self, origin: str) -> bool:
        """Returns whether a key names this origin; see ``KeyStore``. It returns False if Redis cannot be asked."""
        normal = normal_origin(origin)
        if not normal:
            return False
        try:
            return bool(await self._store.command("EXISTS", self._origin(normal)))
        except CannotCheck:
            return False

    def _token(self, key: str) -> str:
        return key_digest(key, self._pepper).hex()

    def _place(self, token: str) -> str:
        return self._store.name("key", token)

    def _origin(self, origin: str) -> str:
        return self._store.name("origin", key_digest(origin, self._pepper).hex()[:32])
