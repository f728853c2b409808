"""Keeps the queue of webhooks on the disk, so that it survives a restart.

All is done in one thread, which waits for the disk. The queue is an SQLite file, written through at each change. An
event that could not be delivered stays in it for a while as a dead letter.
"""

import fcntl
import os
import secrets
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
    body BLOB NOT NULL, created_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, died_at REAL,
    owner INTEGER NOT NULL DEFAULT 0
) STRICT
"""
_OWNER = "ALTER TABLE deliveries ADD COLUMN owner INTEGER NOT NULL DEFAULT 0"
_TRACEPARENT = "ALTER TABLE deliveries ADD COLUMN traceparent TEXT NOT NULL DEFAULT ''"
_BUSY_S = 5.0


@dataclass(slots=True)
class Delivery:
    """One event for one receiver. Those of the same ``subject`` are delivered in their order."""

    number: int
    """Its place in the order in which they came. The store gives it."""
    url: str
    subject: str
    event_id: str
    type: str
    body: bytes
    created_at: float
    """When the event happened, as Unix time."""
    attempts: int = 0
    """The number of attempts that have failed."""
    traceparent: str = ""
    """The trace that the event is a part of, as the header ``traceparent`` has it."""


class WebhookStore:
    """The file at ``path``. Each process has its own part of it: what it has added, and what it has adopted.

    Two processes use the file while one takes over from the other. A process holds a lock on a file that is named by
    its part's number, so that others see when it has ended. Raises ``ConfigError`` if the file cannot be used.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._owner = secrets.randbits(53) | 1
        self._lock = -1
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # it holds numbers of callers
            self._file = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute(_LAYOUT)
            columns = [row[1] for row in self._file.execute("PRAGMA table_info(deliveries)")]
            if "owner" not in columns:
                self._file.execute(_OWNER)
            if "traceparent" not in columns:
                self._file.execute(_TRACEPARENT)
            self._file.execute("COMMIT")
            self._lock = os.open(self._lock_of(self._owner), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"webhook_queue: cannot use {path}: {reason}", param="webhook_queue") from None

    def adopt(self, urls: Sequence[str], now: float) -> tuple[list[Delivery], int]:
        """Takes over what ended processes have left.

        Returns it, oldest first, and how many deliveries were given up: those for receivers that are not among
        ``urls``.
        """
        self._file.execute("BEGIN IMMEDIATE")
        try:
            rows = self._file.execute("SELECT DISTINCT owner FROM deliveries WHERE died_at IS NULL").fetchall()
            gone = [owner for (owner,) in rows if owner != self._owner and not self._is_alive(owner)]
            adopted: list[Delivery] = []
            for owner in gone:
                mine = (self._owner, owner)
                adopted += self._waiting(owner)
                self._file.execute("UPDATE deliveries SET owner = ? WHERE owner = ? AND died_at IS NULL", mine)
            named = ", ".join("?" * len(urls))
            cursor = self._file.execute(
                f"UPDATE deliveries SET died_at = ? WHERE died_at IS NULL AND owner = ? AND url NOT IN ({named})",
                (now, self._owner, *urls),
            )
            self._bury()
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")
        left = sorted((one for one in adopted if one.url in urls), key=lambda one: one.number)
        return left, cursor.rowcount

    def _waiting(self, owner: int) -> list[Delivery]:
        rows = self._file.execute(
            "SELECT number, url, subject, event_id, type, body, created_at, attempts, traceparent FROM deliveries "
            "WHERE died_at IS NULL AND owner = ? ORDER BY number",
            (owner,),
        )
        return [Delivery(*row) for row in rows]

    def _lock_of(self, owner: int) -> str:
        return f"{self._path}.{owner}.lock"

    def _is_alive(self, owner: int) -> bool:
        """Returns whether the process with this part still runs. If it does not, its lock file is removed."""
        try:
            descriptor = os.open(self._lock_of(owner), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        os.unlink(self._lock_of(owner))
        return False

    def add_deliveries(self, deliveries: list[Delivery]) -> None:
        """Adds new deliveries, all or none. Each gets its number."""
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for one in deliveries:
                cursor = self._file.execute(
                    "INSERT INTO deliveries (url, subject, event_id, type, body, created_at, owner, traceparent) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        one.url,
                        one.subject,
                        one.event_id,
                        one.type,
                        one.body,
                        one.created_at,
                        self._owner,
                        one.traceparent,
                    ),
                )
                one.number = cursor.lastrowid or 0
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def delivered(self, number: int) -> None:
        """Removes a delivery that the receiver has taken."""
        self._file.execute("DELETE FROM deliveries WHERE number = ?", (number,))

    def failed(self, number: int) -> None:
        """Counts one more failed attempt."""
        self._file.execute("UPDATE deliveries SET attempts = attempts + 1 WHERE number = ?", (number,))

    def died(self, number: int, now: float) -> None:
        """Makes a delivery a dead letter, which is not tried any more."""
        self._file.execute("UPDATE deliveries SET died_at = ? WHERE number = ?", (now, number))
        self._bury()

    def _bury(self) -> None:
        """Removes the oldest dead letters if there are too many."""
        self._file.execute(
            "DELETE FROM deliveries WHERE number IN (SELECT number FROM deliveries WHERE died_at IS NOT NULL "
            "ORDER BY died_at DESC, number DESC LIMIT -1 OFFSET ?)",
            (_MAX_DEAD,),
        )

    def close(self) -> None:
        """Closes the file. What still waits is for the next process."""
        self._file.close()
        os.unlink(self._lock_of(self._owner))
        os.close(self._lock)
