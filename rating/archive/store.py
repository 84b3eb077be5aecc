"""Where an archive stands: a folder or an object store. Files are written whole or not at all, and never changed.

events/day=2026-11-01/<partition>-<first offset>-<end offset>.parquet    usage events, by day of arrival
entries/<partition>-<first offset>-<end offset>.parquet                  ticks, catalogue documents, re-ratings
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from rating.archive.columns import make_tables
from rating.archive.ranges import ENTRIES, EVENTS, Coverage, Cut, coverage, cut_of
from schemas.entry import Entry
from streams.durable import local_folder, make_folder, write_durably

ROWS: Final = b"events"
"""In the metadata of a file under `entries/`: how many events the cut's other files hold, by day, as JSON."""
UNFINISHED_SECONDS: Final = 3600.0
"""A file of events without its cut is left alone for so long: another process may be about to finish it."""

_ZSTD_LEVEL: Final = 3
_ROWS_PER_GROUP: Final = 100_000


class ArchiveError(RuntimeError):
    """The archive cannot be reached, read or written. The message says what was tried."""


class Archive:
    """The files of one archive. Its calls block; threads may share it.

    `url`: a folder's path, or `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix`,
    `memory:///` (for tests). Credentials come from the environment, as the cloud's own tools read them.
    """

    def __init__(self, url: str | os.PathLike[str], *, make: bool = True) -> None:
        """`make`: makes the folder where it is missing. Raises: ArchiveError."""
        self.url = os.fspath(url)
        self.folder = local_folder(self.url)
        """Where the files are, if they are on this machine."""
        try:
            if self.folder is None:
                self._store: ObjectStore = from_url(self.url)
            else:
                if make:
                    make_folder(self.folder)
                elif not self.folder.is_dir():
                    raise OSError("there is no such folder")
                self._store = LocalStore(self.folder)
        except (BaseError, OSError, ValueError) as error:
            raise ArchiveError(f"cannot use {self.url} as an archive: {error}") from error

    # Writing ------------------------------------------------------------------------------------

    def write(self, cut: Cut, log: Sequence[Entry]) -> int:
        """Archives the entries of a cut; durable when this returns. Returns the bytes that were written.

        Events first, by day; the file of the other entries last: with it the cut counts. Writing a cut again writes the
        same. Raises: ArchiveError.
        """
        tables = make_tables(cut.partition, log)
        size = 0
        for day, events in tables.events.items():
            size += self._put(f"{EVENTS}/day={day}/{cut.name}", events)
        rows = {day: events.num_rows for day, events in tables.events.items()}
        entries = tables.entries.replace_schema_metadata({**tables.entries.schema.metadata, ROWS: json.dumps(rows)})
        return size + self._put(f"{ENTRIES}/{cut.name}", entries)

    def _put(self, path: str, table: pa.Table) -> int:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", compression_level=_ZSTD_LEVEL, row_group_size=_ROWS_PER_GROUP)
        body = sink.getvalue().to_pybytes()
        try:
            if self.folder is None:
                obstore.put(self._store, path, body)
            else:
                write_durably(self.folder / path, (body,))
        except (BaseError, OSError) as error:
            raise ArchiveError(f"cannot write {path} to {self.url}: {error}") from error
        return len(body)

    # Reading ------------------------------------------------------------------------------------

    def coverage(self) -> dict[int, Coverage]:
        """Partition -> what the archive holds of it. Raises: ArchiveError."""
        return coverage(filter(None, map(cut_of, self._paths(f"{ENTRIES}/"))))

    def files(self, kind: str, age: float = -1e9) -> dict[Cut, list[str]]:
        """Cut -> the paths of its files of one kind (`entries` or `events`), of those that were written so many seconds
        ago. Raises: ArchiveError."""
        found: dict[Cut, list[str]] = {}
        for path in sorted(self._paths(f"{kind}/", age)):
            cut = cut_of(path)
            if cut is not None:
                found.setdefault(cut, []).append(path)
        return found

    def read(self, path: str) -> bytes:
        """One file. Raises: ArchiveError."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except (BaseError, OSError) as error:
            raise ArchiveError(f"cannot read {path} from {self.url}: {error}") from error

    def _paths(self, prefix: str, age: float = -1e9) -> list[str]:
        try:
            return [
                meta["path"]
                for chunk in obstore.list(self._store, prefix)
                for meta in chunk
                if time.time() - meta["last_modified"].timestamp() >= age
            ]
        except (BaseError, OSError) as error:
            raise ArchiveError(f"cannot list {prefix} in {self.url}: {error}") from error

    # Tidying ------------------------------------------------------------------------------------

    def drop_unfinished(self, partitions: Iterable[int]) -> int:
        """Removes files of events whose cut was never finished, of these partitions: nobody reads them.

        Returns how many. Raises: ArchiveError."""
        whole, mine = self.files(ENTRIES), set(partitions)
        paths = [
            path
            for cut, found in self.files(EVENTS, UNFINISHED_SECONDS).items()
            if cut not in whole and cut.partition in mine
            for path in found
        ]
        try:
            for path in paths:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, path)
        except BaseError as error:
            raise ArchiveError(f"cannot remove an unfinished file from {self.url}: {error}") from error
        return len(paths)
