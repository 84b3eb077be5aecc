"""Drops the line items' overtaken revisions from a DuckDB file, beside the feed.

Revisions are only ever appended (an update in place rewrites whole columns, and costs a hundred times as much), and
reading takes the newest of each id. When the table has grown to `GROWTH` times what the last time left, a thread writes
the newest revisions into a new table while appends go on; only the last step, which takes the appends of the meantime
over and swaps the tables, holds the writer up, for some milliseconds. A crash in between leaves a table that the next
opening drops.
"""

import logging
from threading import Lock, Thread
from typing import Final

import duckdb

ROWS_MIN: Final = 200_000
"""Below this many rows nothing is dropped."""

GROWTH: Final = 3
"""A row that is kept is written again at each time: at 3, once for every two that were appended."""

_logger = logging.getLogger(__name__)

_MADE: Final = "SELECT sql FROM duckdb_tables() WHERE table_name = 'line_items'"
_NEWEST: Final = """
INSERT INTO line_items_kept SELECT * FROM line_items WHERE rowid IN
(SELECT arg_max(rowid, revision) FROM line_items WHERE rowid < {end} GROUP BY id)
"""


_NO_ROOM: Final = ("No space left", "Could not write", "File too large", "Disk quota")


def finds_no_room(error: BaseException) -> bool:
    """Whether it is a full disk, or a quota, that DuckDB complains of."""
    return isinstance(error, duckdb.Error) and any(sign in str(error) for sign in _NO_ROOM)


class Compaction:
    """One store's: `note` after every append, `finish` before the file is closed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, writing: Lock, rows_min: int = ROWS_MIN) -> None:
        """`writing` is held by whoever appends."""
        connection.execute("DROP TABLE IF EXISTS line_items_kept")
        rows, kept = _counts(connection)
        (self._name,) = connection.execute("SELECT current_catalog()").fetchone() or ("",)
        self._connection = connection
        self._writing = writing
        self._rows = rows
        self._rows_min = rows_min
        self._next = max(rows_min, GROWTH * kept)
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    def note(self, rows: int) -> None:
        """So many rows were appended. Raises: what the last compaction failed with."""
        if self._failure is not None:
            raise self._failure
        self._rows += rows
        if self._rows >= self._next and (self._thread is None or not self._thread.is_alive()):
            self._thread = Thread(target=self._run, name="line-items-compaction", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Waits for a compaction that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        cursor = self._connection.cursor()
        try:
            cursor.execute(f"USE {self._name}")
            with self._writing:
                (end,) = cursor.execute("SELECT coalesce(max(rowid), -1) + 1 FROM line_items").fetchone() or (0,)
            (made,) = cursor.execute(_MADE).fetchone() or ("",)
            cursor.execute(f"CREATE OR REPLACE TABLE line_items_kept {made[made.index('(') :]}")
            cursor.execute(_NEWEST.format(end=int(end)))
            with self._writing:
                cursor.begin()
                cursor.execute(f"INSERT INTO line_items_kept SELECT * FROM line_items WHERE rowid >= {int(end)}")
                cursor.execute("DROP TABLE line_items")
                cursor.execute("ALTER TABLE line_items_kept RENAME TO line_items")
                cursor.commit()
                self._rows, kept = _counts(cursor)
                self._next = max(self._rows_min, GROWTH * kept)
        except BaseException as error:
            if finds_no_room(error):
                # Nothing is lost: the rows stand as they stood, and it is tried again when as many more have come.
                _logger.error("line items were not compacted: %s", error)
                self._next = 2 * self._rows
            else:
                self._failure = error
        finally:
            cursor.close()


def _counts(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """All rows, and about how many of them are the newest of their id."""
    found = connection.execute("SELECT count(*), approx_count_distinct(id) FROM line_items").fetchone()
    return (int(found[0]), int(found[1])) if found else (0, 0)
