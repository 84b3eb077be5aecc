"""Looking at an embedded log without holding it: one moment of it, read only, whether or not a process writes to it.

SQLite's WAL mode lets readers see what was committed when their transaction began, while the writer goes on.
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from streams.embedded.folder import FORMAT_VERSION, FolderRefused
from streams.embedded.rows import unpack
from streams.embedded.writer import table_name
from streams.log import TopicRecord


class LogLook:
    """A log as it stands when this is entered; a context manager. Raises: FolderRefused where there is none."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self.partitions = 0

    def __enter__(self) -> "LogLook":
        path = self.folder / "log.sqlite"
        if not path.is_file():
            raise FolderRefused(f"found no log in {self.folder}, expected the data folder of `taximeter serve`")
        try:
            self._connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if version > FORMAT_VERSION:
                raise FolderRefused(
                    f"the log in {self.folder} has the format version {version}, "
                    f"this program knows up to {FORMAT_VERSION}"
                )
            self._connection.execute("BEGIN")
            self.partitions = int(self._connection.execute("SELECT partitions FROM log").fetchone()[0])
            self._topics = dict(self._connection.execute("SELECT name, id FROM topics").fetchall())
            tables = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            self._tables = {name for (name,) in tables}
        except sqlite3.Error as error:
            raise FolderRefused(f"cannot read the log in {self.folder}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def records(self, topic: str, partition: int) -> Iterator[TopicRecord]:
        """The records of a topic other than `taximeter.events`, from the oldest that the log still holds."""
        table = table_name(self._topics.get(topic, 0), partition)
        if table not in self._tables:
            return
        for position, value in self._connection.execute(f"SELECT position, value FROM {table} ORDER BY position"):
            for offset, (key, body) in enumerate(unpack(value), position):
                yield TopicRecord(topic, partition, offset, offset + 1, key, body)
