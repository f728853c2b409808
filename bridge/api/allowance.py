"""How much a client gets who shows no key: so many in a minute to each address."""

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from bridge.errors import OverLimit

__all__ = ["Allowance"]

_WINDOW_S = 60.0
_OWN_BITS = 64  # of an IPv6 address; whoever has one has all of them


class Allowance:
    """``limit`` a minute to each address, counted from the first in a minute that anybody took; 0: it is closed."""

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._since = clock()
        self._taken: Counter[str | int] = Counter()

    def take(self, address: str) -> None:
        """One more for ``address``; raises ``OverLimit``."""
        now = self._clock()
        if now - self._since >= _WINDOW_S:
            self._since = now
            self._taken.clear()
        holder = _holder(address)
        if self._taken[holder] >= self.limit:
            raise OverLimit(f"This address has had {self.limit} in the last minute, which is the limit.")
        self._taken[holder] += 1


def _holder(address: str) -> str | int:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # of no network
    return int(parsed) >> _OWN_BITS if isinstance(parsed, IPv6Address) else address
