"""How often an upstream of the settings was dialled, and what came of it, over all calls."""

from bridge.wire.stats import TargetStats

__all__ = ["TargetTally"]


class TargetTally:
    """The counts of one upstream; those who dial it add to them."""

    def __init__(self, name: str) -> None:
        self.dials = 0
        """Tries to open a connection."""
        self.failures = 0
        """Of these, how many brought no session."""
        self.lost = 0
        """Connections that broke, or fell silent, in a call."""
        self.renewals = 0
        """Connections that were replaced before their service ended them."""
        self.given_up = 0
        """How often a call turned to the next upstream, or ended, without it."""
        self._name = name

    def stats(self) -> TargetStats:
        """The counts until now."""
        return TargetStats(
            name=self._name,
            dials=self.dials,
            failures=self.failures,
            lost=self.lost,
            renewals=self.renewals,
            given_up=self.given_up,
        )
