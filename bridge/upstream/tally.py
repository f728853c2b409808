"""How often an upstream of the settings was dialled, and what came of it, over all calls."""

from collections.abc import Callable

from bridge.errors import UpstreamError
from bridge.wire.own_events import UpstreamDialled, UpstreamDown, UpstreamUp
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import TargetStats

__all__ = ["TargetTally"]


class TargetTally:
    """The counts of one upstream; those who dial it add to them."""

    def __init__(self, name: str, tell: Callable[[ServerEvent], object] = lambda event: None) -> None:
        """``tell`` hears when the upstream goes down, and when it is up again."""
        self.dials = 0
        """How often a connection was tried."""
        self.failures = 0
        """How many of these tries brought no session."""
        self.lost = 0
        """How many connections broke or fell silent in a call."""
        self.renewals = 0
        """How many connections were replaced before their service ended them."""
        self.given_up = 0
        """How often a call went on to the next upstream, or ended, because this one did not answer."""
        self._name = name
        self._tell = tell
        self._down: str | None = None

    def dialled(self, call_id: str, seconds: float, failure: UpstreamError | None = None) -> None:
        """A try to open a connection for a call is over, with ``failure`` or a session."""
        code = None if failure is None else failure.code
        self.failures += 0 if failure is None else 1
        self._tell(UpstreamDialled(call_id=call_id, upstream=self._name, seconds=round(seconds, 4), code=code))

    def give_up(self, error: UpstreamError) -> None:
        """Counts a call that goes on without it. If it refused only what that call asked for, it is not down."""
        self.given_up += 1
        if error.is_transient and self._down is None:
            self._down = error.code
            self._tell(UpstreamDown(upstream=self._name, code=error.code))

    def answer(self) -> None:
        """Notes that it has given a call its session."""
        if self._down is not None:
            self._down = None
            self._tell(UpstreamUp(upstream=self._name))

    def stats(self) -> TargetStats:
        """The counts until now."""
        return TargetStats(
            name=self._name,
            dials=self.dials,
            failures=self.failures,
            lost=self.lost,
            renewals=self.renewals,
            given_up=self.given_up,
            down=self._down,
        )
