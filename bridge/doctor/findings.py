"""What an examination finds, and the table's row that it is: a new one is a function and a line in the table."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.client.operators.api import BridgeApi
from bridge.config import Config
from bridge.config.load import SettingsReading

__all__ = ["Examination", "Finding", "Findings", "FindingLevel", "Examined", "fault", "fine", "warning"]


class FindingLevel(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Calls can be made, and somebody will be bitten."""
    FAULT = "fault"
    """Calls fail, or some of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: FindingLevel
    says: str
    advice: str = ""
    """What to do; empty if nothing has to be done."""


def fine(says: str) -> Finding:
    """All is well."""
    return Finding(FindingLevel.OK, says)


def warning(says: str, advice: str) -> Finding:
    """See ``FindingLevel.WARNING``."""
    return Finding(FindingLevel.WARNING, says, advice)


def fault(says: str, advice: str) -> Finding:
    """See ``FindingLevel.FAULT``."""
    return Finding(FindingLevel.FAULT, says, advice)


@dataclass(slots=True, kw_only=True)
class Examined:
    """What is examined, and what earlier rows have learnt of it."""

    reading: SettingsReading
    """The settings, or what is wrong with them."""
    ignored: list[str]
    """Variables that look like settings and are none."""
    api: BridgeApi | None
    """A running bridge; None: there is none, or none yet."""
    api_key: str | None = field(default=None, repr=False)
    is_here: bool = True
    """The settings are those of this machine's bridge; False: a bridge elsewhere is examined by its URL alone."""
    has_answered: bool = False
    """The running bridge has answered a request."""

    @property
    def config(self) -> Config | None:
        """The settings, if they are good and this machine's."""
        return self.reading.config if self.is_here else None


Findings = AsyncIterator[Finding]


@dataclass(frozen=True, slots=True)
class Examination:
    """One row: what is examined, and how. It says nothing where it does not apply."""

    name: str
    meaning: str
    """For the documents: what is looked at."""
    run: Callable[[Examined], Findings]
