"""How much each key may have at a time, and each address without a key, in all processes together.

Whoever keeps the count looks whether there is any left and counts what was taken in one step.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.calls.keys import API_KEY_ID
from bridge.context import holder_of
from bridge.errors import OverLimit

__all__ = [
    "KeyAllowance",
    "KeyQuota",
    "LocalKeyAllowance",
    "LocalKeyQuota",
    "LocalQuotas",
    "Quotas",
    "Reservation",
    "over_allowance",
    "over_quota",
]

_WINDOW_S = 60.0


class Reservation:
    """What was taken for one call or one socket; ``release`` gives all of it back."""

    def __init__(self) -> None:
        self._on_release: list[Callable[[], None]] = []

    def holds(self, give_back: Callable[[], None]) -> None:
        """Adds one more thing that was taken, which ``give_back`` returns."""
        self._on_release.append(give_back)

    @property
    def is_held(self) -> bool:
        """Whether it holds anything."""
        return bool(self._on_release)

    def moved(self) -> "Reservation":
        """Returns a reservation that holds all of it from now on; this one holds nothing any more."""
        other = Reservation()
        other._on_release, self._on_release = self._on_release, []
        return other

    def release(self) -> None:
        """Gives everything back, because the call or the socket is gone, or did not come; may be called twice."""
        while self._on_release:
            self._on_release.pop()()


class KeyQuota(Protocol):
    """How many of one thing each key may have at a time, wherever these are."""

    limit: int
    """The number for each key; if it is lowered, those that are there stay."""

    async def require_room(self, key_id: str) -> None:
        """Raises ``OverLimit`` if one more would be refused."""
        ...

    async def reserve_place(self, key_id: str, reservation: Reservation) -> None:
        """Counts one more for as long as the reservation is held, or raises ``OverLimit``; both in one step.

        Giving it back returns at once; what others have to be told is told later.
        """
        ...


class LocalKeyQuota:
    """The ``KeyQuota`` of one process: ``limit`` for each key; API keys have none, unless ``counts_api_keys``."""

    def __init__(self, limit: int, *, what: str, code: str | None = None, counts_api_keys: bool = False) -> None:
        """``what`` is named in the refusal; ``code`` is its code if it is not ``rate_limit_exceeded``."""
        self.limit = limit
        self._what = what
        self._code = code
        self._counts_api_keys = counts_api_keys
        self._taken: Counter[str] = Counter()

    async def require_room(self, key_id: str) -> None:
        """See ``KeyQuota``."""
        if self._counts(key_id) and self._taken[key_id] >= self.limit:
            raise over_quota(self.limit, self._what, self._code)

    async def reserve_place(self, key_id: str, reservation: Reservation) -> None:
        """See ``KeyQuota``. Nothing is awaited between the look and the count."""
        await self.require_room(key_id)
        if self._counts(key_id):
            self._taken[key_id] += 1
            reservation.holds(lambda: self._give_back(key_id))

    def _counts(self, key_id: str) -> bool:
        return self._counts_api_keys or key_id != API_KEY_ID

    def _give_back(self, key_id: str) -> None:
        self._taken[key_id] -= 1
        if not self._taken[key_id]:
            del self._taken[key_id]


@dataclass(frozen=True, slots=True)
class Quotas:
    """Everything that is counted by key."""

    calls: KeyQuota
    listeners: KeyQuota
    """The sockets that are attached to calls, or watch them."""
    agents: KeyQuota
    """The agents, those with a call too."""

    def limit_to(self, *, calls: int, listeners: int) -> None:
        """Sets how many there may be from now on; those that are there stay."""
        self.calls.limit = self.agents.limit = calls
        self.listeners.limit = listeners


@dataclass(frozen=True, slots=True)
class LocalQuotas(Quotas):
    """The quotas of one process.

    API keys are limited in listeners alone; another key has as many agents as calls.
    """

    @classmethod
    def of(cls, *, calls: int, listeners: int = 2000) -> "LocalQuotas":
        """Makes quotas with so many for each key."""
        return cls(
            LocalKeyQuota(calls, what="calls", code="too_many_calls"),
            LocalKeyQuota(listeners, what="listeners", counts_api_keys=True),
            LocalKeyQuota(calls, what="agents"),
        )


class KeyAllowance(Protocol):
    """How many keys a client gets who shows none: so many in a minute to each address."""

    limit: int

    @property
    def is_open(self) -> bool:
        """Whether there are any at all."""
        ...

    async def count_key(self, address: str) -> None:
        """Counts one more for ``address`` in one step with the look; raises ``OverLimit``."""
        ...


def over_quota(limit: int, what: str, code: str | None) -> OverLimit:
    """Returns the refusal for a key that has as many as it may."""
    return OverLimit(f"This key already has {limit} {what}, which is the limit.", code=code)


def over_allowance(limit: int) -> OverLimit:
    """Returns the refusal for an address that has had as many keys as it may."""
    return OverLimit(f"This address has already been given {limit} keys in the last minute, which is the limit.")


class LocalKeyAllowance:
    """The ``KeyAllowance`` of one process: ``limit`` for each address in a minute.

    A minute begins with the first key that anybody takes after the last one.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._since = clock()
        self._taken: Counter[str | int] = Counter()

    @property
    def is_open(self) -> bool:
        """See ``KeyAllowance``."""
        return self.limit > 0

    async def count_key(self, address: str) -> None:
        """See ``KeyAllowance``."""
        now = self._clock()
        if now - self._since >= _WINDOW_S:
            self._since = now
            self._taken.clear()
        holder = holder_of(address)
        if self._taken[holder] >= self.limit:
            raise over_allowance(self.limit)
        self._taken[holder] += 1
