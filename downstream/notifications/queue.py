"""What is to be delivered, and what became of it: one SQLite file. A message and the position behind it are one commit.

A message is there once for each endpoint and id, however often its record is read. Threads may share it.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from streams.durable import make_folder

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    endpoint TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, error TEXT NOT NULL DEFAULT '',
    number INTEGER PRIMARY KEY AUTOINCREMENT, UNIQUE (endpoint, id)
);
CREATE INDEX IF NOT EXISTS due ON messages (endpoint, due) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS positions (
    endpoint TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (endpoint, topic, partition)
);
"""
_VERSION = 1


class QueueRefused(RuntimeError):
    """The file is of a newer version."""


class Message(NamedTuple):
    """One delivery. `body` never changes, so that a receiver that was told before sees the same."""

    endpoint: str
    id: str
    kind: str
    body: bytes
    attempts: int
    error: str


class Counts(NamedTuple):
    """Of one endpoint."""

    waiting: int
    delivered: int
    dead: int


class Queue:
    """See above."""

    def __init__(self, path: Path) -> None:
        """Raises: QueueRefused, OSError, sqlite3.Error."""
        make_folder(path.parent.absolute())
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise QueueRefused(f"{path}: found version {version}, expected {_VERSION} at most: run a later Taximeter")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._connection.close()

    def positions(self, endpoint: str) -> dict[tuple[str, int], int]:
        """(topic, partition) -> the next offset to read; empty for an endpoint that was never seen."""
        rows = self._query("SELECT topic, partition, next FROM positions WHERE endpoint = ?", endpoint)
        return {(topic, partition): offset for topic, partition, offset in rows}

    def add(
        self,
        endpoint: str,
        messages: Iterable[tuple[str, str, bytes]],
        positions: Mapping[tuple[str, int], int],
        now: float,
    ) -> None:
        """Takes messages (id, kind, body) in, and remembers up to where was read."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR IGNORE INTO messages (endpoint, id, kind, body, due) VALUES (?, ?, ?, ?, ?)",
                [(endpoint, *message, now) for message in messages],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                [(endpoint, *where, offset) for where, offset in positions.items()],
            )

    def due(self, endpoint: str, now: float, limit: int) -> list[Message]:
        """What is to be sent now, the oldest first."""
        rows = self._query(
            "SELECT endpoint, id, kind, body, attempts, error FROM messages WHERE endpoint = ? AND state = 'waiting' "
            "AND due <= ? ORDER BY number LIMIT ?",
            endpoint,
            now,
            limit,
        )
        return [Message(*row) for row in rows]

    def next_due(self, endpoint: str) -> float | None:
        """When the next one is, None where nothing waits."""
        query = "SELECT min(due) FROM messages WHERE endpoint = ? AND state = 'waiting'"
        found: float | None = self._query(query, endpoint)[0][0]
        return found

    def delivered(self, message: Message) -> None:
        """The receiver has it. Its body is let go of."""
        self._execute(
            "UPDATE messages SET state = 'delivered', attempts = attempts + 1, error = '', body = x'' "
            "WHERE endpoint = ? AND id = ?",
            message.endpoint,
            message.id,
        )

    def failed(self, message: Message, error: str, due: float | None) -> None:
        """The receiver has not taken it. It is sent again at `due`; None: it is a dead letter."""
        self._execute(
            "UPDATE messages SET state = ?, attempts = attempts + 1, error = ?, due = coalesce(?, due) "
            "WHERE endpoint = ? AND id = ?",
            "dead" if due is None else "waiting",
            error,
            due,
            message.endpoint,
            message.id,
        )

    def dead(self, endpoint: str | None = None) -> list[Message]:
        """The dead letters, the oldest first."""
        rows = self._query(
            "SELECT endpoint, id, kind, body, attempts, error FROM messages WHERE state = 'dead' "
            "AND endpoint = coalesce(?, endpoint) ORDER BY number",
            endpoint,
        )
        return [Message(*row) for row in rows]

    def replay(self, now: float, endpoint: str | None = None, id: str | None = None) -> int:
        """Dead letters wait again, from the first try. Returns how many."""
        return self._execute(
            "UPDATE messages SET state = 'waiting', attempts = 0, due = ? WHERE state = 'dead' "
            "AND endpoint = coalesce(?, endpoint) AND id = coalesce(?, id)",
            now,
            endpoint,
            id,
        )

    def counts(self) -> dict[str, Counts]:
        """By endpoint."""
        rows = self._query(
            "SELECT endpoint, count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'delivered'), "
            "count(*) FILTER (WHERE state = 'dead') FROM messages GROUP BY endpoint ORDER BY endpoint"
        )
        return {endpoint: Counts(*found) for endpoint, *found in rows}

    def _query(self, text: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        with self._lock:
            return self._connection.execute(text, values).fetchall()

    def _execute(self, text: str, *values: object) -> int:
        with self._lock:
            return self._connection.execute(text, values).rowcount
