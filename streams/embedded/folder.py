"""The data folder of an embedded log: who holds it, and what the file in it promises.

`log.sqlite` is the log, `lock` names the process that holds the folder. The lock is the operating system's (`flock`):
it is gone when the process is, however that ended.

**What makes an answered append durable.** The file is in WAL mode with `synchronous=FULL`: SQLite then syncs the
write-ahead log at every commit, before the commit returns (https://www.sqlite.org/pragma.html#pragma_synchronous:
in WAL mode FULL is what adds durability across a power loss; NORMAL does not). The names of new files are made durable
by syncing the folder. On macOS `fullfsync` is set, because a plain fsync stops at the drive's cache there.
"""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from streams.durable import make_folder, sync_folder

FORMAT_VERSION: Final = 2
"""1 had no checksums of rows: such a folder is taken over when it is opened, and its old rows stay without."""
PARTITIONS_MAX: Final = 1024

_APPLICATION_ID: Final = int.from_bytes(b"TAXI", "big")
_PAGE_BYTES: Final = 8192
_WAL_PAGES: Final = 1024  # after how many pages of WAL the writer moves them into the file: 8 MiB
_WAL_BYTES_KEPT: Final = 64 * 1024 * 1024  # a WAL grown larger by a burst is cut back to this


class LogError(RuntimeError):
    """The log contradicts what is asked of it. The message says what was found and what was expected."""


class RowDamaged(LogError):
    """A row does not hold what was written. `position`: the offset of its first record."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class FolderRefused(LogError):
    """The data folder cannot be opened: in use, of a newer format, of another partition count, or damaged."""


class FolderLock:
    """Holds a data folder for this process until `release`, or until the process ends."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is missing. Raises: FolderRefused if a process holds it (this one included)."""
        try:
            make_folder(folder)
            self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FolderRefused(f"cannot use the data folder {folder}: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise FolderRefused(
                f"the data folder {folder} is in use by the process {holder}: stop it first, or use another folder"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the folder go."""
        os.close(self._file)


def open_writer(folder: Path, partitions: int) -> sqlite3.Connection:
    """The one connection that writes; makes the log in an empty folder. Raises: FolderRefused."""
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"found {partitions} partitions, expected 1 to {PARTITIONS_MAX}")
    connection = None
    try:
        connection = _connect(folder)
        _make_or_check(connection, folder, partitions)
        sync_folder(folder)
        return connection
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        raise FolderRefused(f"cannot open the log in {folder}: {error}") from error
    except FolderRefused:
        if connection is not None:
            connection.close()
        raise


def identity_of(folder: Path) -> tuple[int, int]:
    """Which file stands under the log's name. Raises: OSError where none does."""
    found = (folder / "log.sqlite").stat()
    return found.st_dev, found.st_ino


def repair_command(folder: Path) -> str:
    """What a person runs when something in the folder is damaged."""
    return f"taximeter repair --data {folder}"


def unreadable(folder: Path, error: sqlite3.Error) -> LogError:
    """The error of a file whose structure SQLite cannot follow: no row of it can be told to be right."""
    return LogError(
        f"cannot read the log in {folder}: {error} ({error.sqlite_errorname}). If the disk is well, the file is "
        f"damaged: `{repair_command(folder)}` says what of it can be read"
    )


def open_reader(folder: Path) -> sqlite3.Connection:
    """A connection that only reads; threads may hand it on, but not use it at once."""
    connection = _connect(folder)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(folder: Path) -> sqlite3.Connection:
    # No isolation level: transactions are begun and committed by name.
    return sqlite3.connect(
        folder / "log.sqlite", isolation_level=None, check_same_thread=False, timeout=30, cached_statements=512
    )


def _make_or_check(connection: sqlite3.Connection, folder: Path, partitions: int) -> None:
    """Sets up an empty file, or checks that a full one is ours. Raises: FolderRefused, sqlite3.Error."""
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # takes effect in an empty file only
    version, empty = int(_pragma(connection, "user_version")), _pragma(connection, "schema_version") == 0
    if not empty and _pragma(connection, "application_id") != _APPLICATION_ID:
        raise FolderRefused(f"the file log.sqlite in {folder} is no Taximeter log")
    if version > FORMAT_VERSION:
        raise FolderRefused(
            f"the log in {folder} has the format version {version}, this program knows up to {FORMAT_VERSION}: "
            "run the version of Taximeter that wrote it, or a later one"
        )
    for setting in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",
        "checkpoint_fullfsync = ON",
        "secure_delete = OFF",  # some builds overwrite what is trimmed; it is not secret from its own folder
        f"wal_autocheckpoint = {_WAL_PAGES}",
        f"journal_size_limit = {_WAL_BYTES_KEPT}",
    ):
        connection.execute(f"PRAGMA {setting}")
    if _pragma(connection, "journal_mode") != "wal" or _pragma(connection, "synchronous") != 2:
        raise FolderRefused(f"the file system of {folder} does not allow SQLite's WAL mode: use a local disk")
    if empty:
        _make(connection, partitions)
    elif version < FORMAT_VERSION:
        _take_over(connection)
    found = connection.execute("SELECT partitions FROM log").fetchone()[0]
    if found != partitions:
        raise FolderRefused(
            f"the log in {folder} was made with {found} partitions, the setting says {partitions}: "
            "the number is fixed when the folder is made, because it says where a customer's usage is"
        )


def _make(connection: sqlite3.Connection, partitions: int) -> None:
    """One transaction, so a crash leaves an empty file or a whole one."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE log (partitions INTEGER NOT NULL)")
    connection.execute("CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    connection.execute("INSERT INTO log VALUES (?)", (partitions,))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def _take_over(connection: sqlite3.Connection) -> None:
    """Version 1 to 2, in one transaction and without touching a row: a column's checksums are NULL where none were."""
    connection.execute("BEGIN IMMEDIATE")
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'topic\\_%' ESCAPE '\\'"
    )
    for (name,) in tables.fetchall():
        connection.execute(f"ALTER TABLE {name} ADD COLUMN checksum INTEGER")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
