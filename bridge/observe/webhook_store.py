"""The queue of webhooks on the disk: what is to be delivered survives a restart.

All is done in one thread, which waits for the disk. An SQLite file, written through at each change. What could not be
delivered stays in it for a while as a dead letter.
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import ConfigError

__all__ = ["Delivery", "WebhookStore"]

_MAX_DEAD = 1000
_LAYOUT = """
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    url TEXT NOT NULL, subject TEXT NOT NULL, event_id TEXT NOT NULL, type TEXT NOT NULL,
    body BLOB NOT NULL, created_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, died_at REAL
) STRICT
"""


@dataclass(slots=True)
class Delivery:
    """One event for one receiver; those of the same ``subject`` are delivered in their order."""

    number: int
    """In the order in which they came; given by the store."""
    url: str
    subject: str
    event_id: str
    type: str
    body: bytes
    created_at: float
    """Unix time."""
    attempts: int = 0
    """That have failed."""


class WebhookStore:
    """The file at ``path``. Raises ``ConfigError`` if it cannot be had, or another process has it."""

    def __init__(self, path: str) -> None:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # numbers of callers are in it
            self._file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute(_LAYOUT)
            self._file.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"webhook_queue: cannot use {path}: {reason}", param="webhook_queue") from None

    def waiting(self) -> list[Delivery]:
        """All that is still to be delivered, oldest first."""
        rows = self._file.execute(
            "SELECT number, url, subject, event_id, type, body, created_at, attempts FROM deliveries "
            "WHERE died_at IS NULL ORDER BY number"
        )
        return [Delivery(*row) for row in rows]

    def add(self, deliveries: list[Delivery]) -> None:
        """New ones, all or none; each gets its number."""
        self._file.execute("BEGIN")
        try:
            for one in deliveries:
                cursor = self._file.execute(
                    "INSERT INTO deliveries (url, subject, event_id, type, body, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                    (one.url, one.subject, one.event_id, one.type, one.body, one.created_at),
                )
                one.number = cursor.lastrowid or 0
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def delivered(self, number: int) -> None:
        """It is done with."""
        self._file.execute("DELETE FROM deliveries WHERE number = ?", (number,))

    def failed(self, number: int) -> None:
        """One attempt more was in vain."""
        self._file.execute("UPDATE deliveries SET attempts = attempts + 1 WHERE number = ?", (number,))

    def died(self, number: int, now: float) -> None:
        """It is not tried any more."""
        self._file.execute("UPDATE deliveries SET died_at = ? WHERE number = ?", (now, number))
        self._bury()

    def give_up_others(self, urls: Sequence[str], now: float) -> int:
        """What waits for receivers that are not among ``urls`` is not tried any more; how many that were."""
        named = ", ".join("?" * len(urls))
        cursor = self._file.execute(
            f"UPDATE deliveries SET died_at = ? WHERE died_at IS NULL AND url NOT IN ({named})", (now, *urls)
        )
        self._bury()
        return cursor.rowcount

    def _bury(self) -> None:
        """The oldest dead letters make room."""
        self._file.execute(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE died_at IS NOT NULL "
            "ORDER BY died_at DESC, number DESC LIMIT -1 OFFSET ?)",
            (_MAX_DEAD,),
        )

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()
