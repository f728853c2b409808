"""How many may be connected without having shown anything yet: so many at one address, and so many in all."""

import time
from collections import Counter
from collections.abc import Callable

from bridge.api.proxies import TrustedProxies
from bridge.context import holder_of
from bridge.turns import Share, Shares

__all__ = ["Gate", "GateEntry"]

_SHARE, _BURST_S = 0.25, 0.5  # parts of the event loop's time, for one address
_NODE_S = 300.0  # a node that still sends requests is known again by the next one


class GateEntry:
    """One connection that was let through to the gate."""

    def __init__(self, leave: Callable[[], None], share: Share | None) -> None:
        self.share = share
        """How much time all connections of the address together may take before they wait for their turn."""
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Notes that the connection is let in, or gone; may be called twice."""
        if self._leave is not None:
            leave, self._leave = self._leave, None
            leave()


class Gate:
    """Counts connections from their first byte until they are let in, or gone."""

    def __init__(self, limit: int, limit_per_address: int, proxies: TrustedProxies | None = None) -> None:
        """``proxies`` are exempt from the limit for one address, because everybody may be behind one."""
        self.refused = 0
        """The number of connections that were refused."""
        self.limit = limit
        self.limit_per_address = limit_per_address
        self.proxies = proxies or TrustedProxies()
        """Who is exempt from the limit for one address."""
        self._waiting: Counter[str | int] = Counter()  # by who has the address
        self.pending = 0
        """The number of connections that are not let in yet."""
        self._shares = Shares(_SHARE, _BURST_S)
        self._nodes: dict[str, float] = {}

    def trust_node(self, address: str) -> None:
        """Exempts an address from the limit for one address for some minutes, because a node of the cluster has it.

        That node has counted the clients whose requests it passes on.
        """
        now = time.monotonic()
        if address not in self._nodes:
            self._nodes = {known: until for known, until in self._nodes.items() if until > now}
        self._nodes[address] = now + _NODE_S

    def enter(self, address: str) -> GateEntry | None:
        """Counts one more connection; None if it is one too many."""
        is_proxy = self.proxies.is_trusted(address) or self._nodes.get(address, 0.0) > time.monotonic()
        holder = holder_of(address)
        is_over = self._waiting.get(holder, 0) >= self.limit_per_address and not is_proxy
        if self.pending >= self.limit or is_over:
            self.refused += 1
            return None
        self.pending += 1
        self._waiting[holder] += 1
        return GateEntry(lambda: self._leave(holder), None if is_proxy else self._shares.of(str(holder)))

    def _leave(self, holder: str | int) -> None:
        self.pending -= 1
        self._waiting[holder] -= 1
        if not self._waiting[holder]:
            del self._waiting[holder]
