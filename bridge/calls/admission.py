"""Whether one more call may begin in this process, by its limits and its load.

A place is reserved before anything else is asked or spent, so that no two calls get the last one, however long the
answer takes. It is given back when the call is over, or if it was not opened after all.
"""

from collections import Counter

from bridge.calls.keys import API_KEY_ID
from bridge.calls.overload import LoopLag
from bridge.calls.quotas import Reservation
from bridge.errors import Draining, OverLimit

__all__ = ["Admission"]


class Admission:
    """The calls that this process takes: ``max_calls``, of which ``reserved_calls`` are for API keys.

    It takes none while its event loop is late by more than ``max_loop_lag_ms``; with 0 the loop is never too late.
    """

    def __init__(self, *, max_calls: int, reserved_calls: int = 0, max_loop_lag_ms: float = 0.0) -> None:
        self.lag = LoopLag(max_loop_lag_ms)
        self.is_draining = False
        """Whether no new calls are taken, because the process drains."""
        self.limit(max_calls, reserved_calls)
        self._calls: Counter[bool] = Counter()  # by whether a call is a client's

    def limit(self, max_calls: int, reserved_calls: int) -> None:
        """Sets how many calls are taken from now on; those that run stay."""
        self._max_calls = max_calls
        self.max_calls_of_clients = max(0, max_calls - reserved_calls)
        """The number of calls that clients may have, who are let in by minted keys."""

    @property
    def calls(self) -> int:
        """The number of calls that have a place now."""
        return self._calls.total()

    @property
    def max_calls(self) -> int:
        """The number of calls that may have a place."""
        return self._max_calls

    @property
    def is_full(self) -> bool:
        """Whether there is no place for one more call."""
        return self.calls >= self._max_calls

    def require_accepting(self) -> None:
        """Raises ``Draining`` if no new call is begun here."""
        if self.is_draining:
            raise Draining("The server is about to stop and accepts no new calls.")

    def require_room(self, key_id: str = API_KEY_ID) -> None:
        """Raises ``Draining``, ``Overloaded`` or ``OverLimit`` if this process would refuse a call of the key."""
        self.require_accepting()
        self.lag.require_time()
        if self.is_full:
            raise _too_many(f"The server has {self._max_calls} calls")
        if key_id != API_KEY_ID and self._calls[True] >= self.max_calls_of_clients:
            raise _too_many(f"The server has {self.max_calls_of_clients} calls opened by clients")

    def reserve(self, key_id: str = API_KEY_ID) -> Reservation:
        """Reserves a place for a call of the key; raises what ``require_room`` does."""
        self.require_room(key_id)
        is_client = key_id != API_KEY_ID
        self._calls[is_client] += 1
        reservation = Reservation()
        reservation.holds(lambda: self._give_back(is_client))
        return reservation

    def _give_back(self, is_client: bool) -> None:
        self._calls[is_client] -= 1


def _too_many(what: str) -> OverLimit:
    return OverLimit(f"{what} already, which is the limit.", code="too_many_calls")
