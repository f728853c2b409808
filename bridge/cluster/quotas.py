"""Counts quotas over all processes: each says how many it has, and Redis refuses one more if that is too many.

The count of a process is a lease of some seconds, which it renews. So what a dead process had becomes free by itself.
"""

import asyncio
import itertools
from collections.abc import Iterator

from bridge.calls.keys import API_KEY_ID, key_digest
from bridge.calls.quotas import Quotas, Reservation, over_allowance, over_quota
from bridge.cluster.store import Command, Script, SharedStore
from bridge.context import holder_of
from bridge.errors import CannotCheck

__all__ = ["LEASE_S", "RedisKeyAllowance", "RedisKeyQuota", "RedisQuotas"]

LEASE_S = 15.0
"""How long the count of a process is believed that says nothing more."""

_LEASE_MS = int(LEASE_S * 1000)
_WINDOW_MS = 60_000

# A process's field holds "COUNT:UNTIL:NUMBER". It counts until then, by Redis's clock. Of what a process says of
# itself the highest NUMBER is the newest, in whatever order it comes. ARGV: process, count, number, lease, limit.
_TAKE = Script("""
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= ARGV[1] then
    local count, til = string.match(all[i + 1], '(%d+):(%d+)')
    if tonumber(til) > now then others = others + tonumber(count) else redis.call('HDEL', KEYS[1], all[i]) end
  end
end
if others + tonumber(ARGV[2]) > tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. string.format('%.0f', now + tonumber(ARGV[4])) .. ':' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")
_TELL = Script("""
local said = redis.call('HGET', KEYS[1], ARGV[1])
if said and tonumber(string.match(said, ':(%d+)$')) > tonumber(ARGV[3]) then return 0 end
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. string.format('%.0f', now + tonumber(ARGV[4])) .. ':' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")
_ALLOW = Script("""
local taken = redis.call('INCR', KEYS[1])
if taken == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return taken
""")


class _Held:
    """What this process has of one key's quota."""

    def __init__(self) -> None:
        self.count = 0
        self.takers = 0
        self.lock = asyncio.Lock()
        """Lets one be taken after the other, because each says how many there are going to be."""


class RedisKeyQuota:
    """The ``KeyQuota`` of a cluster, in which this process is ``node_id``.

    API keys are the operator's own. If they are counted and Redis cannot be asked, this process counts for itself.
    """

    def __init__(
        self,
        store: SharedStore,
        node_id: str,
        limit: int,
        *,
        name: str,
        what: str,
        code: str | None = None,
        counts_api_keys: bool = False,
    ) -> None:
        """Takes the limit; ``name`` tells this quota from others in Redis, the rest is as in ``LocalKeyQuota``."""
        self.limit = limit
        self._store = store
        self._node_id = node_id
        self._name = name
        self._what = what
        self._code = code
        self._counts_api_keys = counts_api_keys
        self._held: dict[str, _Held] = {}
        self._numbers = itertools.count(1)
        store.on_back.append(self.renew)

    async def require_room(self, key_id: str) -> None:
        """Raises an error if this process alone has reached the limit; see ``KeyQuota``.

        ``take`` follows, and asks Redis.
        """
        held = self._held.get(key_id)
        if held is not None and held.count >= self.limit and self._counts(key_id):
            raise over_quota(self.limit, self._what, self._code)

    async def reserve_place(self, key_id: str, reservation: Reservation) -> None:
        """Takes one; see ``KeyQuota``. Raises ``CannotCheck`` for a minted key if Redis cannot be asked."""
        if not self._counts(key_id):
            return
        held = self._held.setdefault(key_id, _Held())
        held.takers += 1
        before = held.count
        try:
            async with held.lock:
                before = held.count
                await self._require(key_id, held)
                held.count += 1
        finally:
            held.takers -= 1
            if held.count != before + 1:  # it was refused, or others were given back meanwhile
                self._tell(key_id)
        reservation.holds(lambda: self._give_back(key_id, held))

    def hold(self, key_id: str, reservation: Reservation) -> None:
        """Counts one that was taken elsewhere already, and goes on here."""
        if self._counts(key_id):
            held = self._held.setdefault(key_id, _Held())
            held.count += 1
            self._tell(key_id)
            reservation.holds(lambda: self._give_back(key_id, held))

    async def _require(self, key_id: str, held: _Held) -> None:
        wanted = held.count + 1
        arguments = (self._node_id, wanted, next(self._numbers), _LEASE_MS, self.limit)
        try:
            is_free = wanted <= self.limit and await self._store.ask(_TAKE, self._place(key_id), *arguments)
        except CannotCheck:
            if key_id != API_KEY_ID:
                raise
            is_free = wanted <= self.limit
        if not is_free:
            raise over_quota(self.limit, self._what, self._code)

    def renew(self) -> None:
        """Says again how many there are. It has to be called several times in ``LEASE_S``."""
        for key_id in self._held:
            self._tell(key_id)

    def _counts(self, key_id: str) -> bool:
        return self._counts_api_keys or key_id != API_KEY_ID

    def _give_back(self, key_id: str, held: _Held) -> None:
        held.count -= 1
        self._tell(key_id)

    def _tell(self, key_id: str) -> None:
        self._store.soon((self._name, key_id), lambda: self._commands(key_id))

    def _commands(self, key_id: str) -> Iterator[Command]:
        """Yields the command that tells the count.

        It yields none while somebody takes one: that tells the number, and tells it again if it has changed.
        """
        held = self._held.get(key_id)
        if held is not None and not held.takers:
            if not held.count:
                del self._held[key_id]
            yield _TELL.on(self._place(key_id), self._node_id, held.count, next(self._numbers), _LEASE_MS)

    def _place(self, key_id: str) -> str:
        return self._store.name("quota", self._name, key_id)


class RedisQuotas(Quotas):
    """The quotas of a cluster, with the limits of ``LocalQuotas``."""

    @classmethod
    def of(cls, store: SharedStore, node_id: str, *, calls: int, listeners: int) -> "RedisQuotas":
        """Makes quotas of ``calls`` and ``listeners`` for each key."""
        return cls(
            RedisKeyQuota(store, node_id, calls, name="calls", what="calls", code="too_many_calls"),
            RedisKeyQuota(store, node_id, listeners, name="listeners", what="listeners", counts_api_keys=True),
            RedisKeyQuota(store, node_id, calls, name="agents", what="agents"),
        )


class RedisKeyAllowance:
    """The ``KeyAllowance`` of a cluster.

    An address may take ``limit`` in a minute, which begins when it takes the first.
    """

    def __init__(self, store: SharedStore, limit: int, secret: str) -> None:
        self.limit = limit
        self._store = store
        self._salt = key_digest("addresses", secret.encode()[:64])

    @property
    def is_open(self) -> bool:
        """Whether anything may be taken at all; see ``KeyAllowance``."""
        return self.limit > 0

    async def count_key(self, address: str) -> None:
        """Takes one for the address; see ``KeyAllowance``. Raises ``CannotCheck`` if Redis cannot be asked."""
        holder = key_digest(str(holder_of(address)), self._salt).hex()[:32]
        if int(await self._store.ask(_ALLOW, self._store.name("allowance", holder), _WINDOW_MS)) > self.limit:
            raise over_allowance(self.limit)
