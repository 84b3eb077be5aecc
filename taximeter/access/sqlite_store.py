"""API keys of one machine: the file `keys.sqlite` in the data folder, which several processes may change at once."""

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from streams.durable import make_folder, sync_folder
from taximeter.access.keys import Record, encode_record, record_name
from taximeter.access.ring import KeyRing, KeysUnavailable

FILE_NAME: Final = "keys.sqlite"
_VERSION: Final = 1
_POLL_S: Final = 0.3
_BUSY_S: Final = 10.0

_logger = logging.getLogger(__name__)


class SqliteKeys:
    """`KeyStore` on a file. With `follow`, a thread looks for what other processes have changed."""

    def __init__(self, folder: Path, *, follow: bool = False) -> None:
        """Makes folder and file where they are missing. Raises: KeysUnavailable."""
        self.ring = KeyRing()
        self._path = folder / FILE_NAME
        self._read_to = 0
        self._lock = threading.Lock()
        try:
            make_folder(folder)
            self._make()
            self._take_new()
        except (OSError, sqlite3.Error) as error:
            raise KeysUnavailable(f"cannot use the API keys in {self._path}: {error}") from None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="keys", daemon=True)
        if follow:
            self._thread.start()

    async def append(self, records: Iterable[Record]) -> None:
        """See `KeyStore`."""
        await asyncio.to_thread(self._append, list(records))

    def close(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _append(self, records: list[Record]) -> None:
        try:
            with closing(self._connect()) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT OR REPLACE INTO records (name, value) VALUES (?, ?)",
                    [(record_name(record), encode_record(record)) for record in records],
                )
            self._take_new()
        except sqlite3.Error as error:
            raise KeysUnavailable(f"the API keys in {self._path} took no change: {error}") from None

    def _make(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise KeysUnavailable(f"{self._path} has the format {version}, expected at most {_VERSION}")
            # A replaced record gets a new number, so that followers see it again.
            connection.execute(
                "CREATE TABLE IF NOT EXISTS records"
                " (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, value BLOB NOT NULL) STRICT"
            )
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        sync_folder(self._path.parent)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = EXTRA")
        return connection

    def _take_new(self) -> None:
        with self._lock, closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT number, value FROM records WHERE number > ? ORDER BY number", (self._read_to,)
            ).fetchall()
            if rows:
                self.ring.add(value for _, value in rows)
                self._read_to = rows[-1][0]

    def _follow(self) -> None:
        """Keys stay in force as they were last read while the file cannot be."""
        complained = False
        while not self._stopping.wait(_POLL_S):
            try:
                self._take_new()
                complained = False
            except (sqlite3.Error, OSError) as error:
                if not complained:
                    _logger.error("cannot read the API keys in %s: %s; those known stay in force", self._path, error)
                complained = True
