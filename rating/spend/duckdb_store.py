"""The spend store in one DuckDB file: embedded, and the default."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from threading import Lock

import duckdb
import pyarrow as pa

from rating.spend.decode import Staged
from rating.spend.duckdb_compaction import ROWS_MIN, Compaction, finds_no_room
from rating.spend.index import BYTES_MAX
from rating.spend.line_table import Rows
from rating.spend.sql import SqlStore, page_query
from rating.spend.store import Listing, Place, Row, StoreDamaged, StoreError, StoreFull

_NAME = "spend"
"""Of the file within DuckDB: a file has a size of row groups only where it is attached."""
_TABLE = re.compile(r"\{(\w+)\}")
_APPENDED = ("events", "line_items", "controls")
_VALUE = re.compile(r"\{:(\w+)\}")
_WAL = "128MB"
"""So much is appended before DuckDB moves it into its tables: each time, it writes the last row group of each again."""
_ROW_GROUP = 8192
"""Rows that are compressed together. What fills such a group is written once, into the table; only the rest of a write
stands in the write-ahead log first."""
_STREAM_ROWS = 50_000
_LOCKED = "Could not set lock"
FORMAT = 3
"""Of the tables. A file of another one is as good as damaged: everything in it can be made again from the topics."""

_REBUILD = "cannot open the spend store {path}: {said}. Move the file away, and it is built again from the topics"

_logger = logging.getLogger(__name__)


class DuckdbStore(SqlStore):
    """Rows and positions change in one transaction, so a query sees whole batches and a crash leaves no half of one.

    Queries run on cursors of their own and see the store as it was when they began; they do not wait for `apply`.
    """

    def __init__(
        self,
        path: Path | str,
        memory: str = "1GB",
        threads: int | None = None,
        compact_rows_min: int = ROWS_MIN,
        index_bytes_max: int = BYTES_MAX,
    ) -> None:
        """`path`: the file, or `:memory:`. `memory` and `threads` bound what DuckDB takes, `index_bytes_max` what the
        index takes beside it."""
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory,
            "checkpoint_threshold": _WAL,
        }
        if threads is not None:
            settings["threads"] = threads
        self._cursors = Lock()
        self._writing = Lock()
        try:
            self._connection = _connect(str(path), settings)
        except duckdb.Error as error:
            raise _refusal(path, error) from error
        try:
            self._check_format(path)
            self._connection.execute((files("rating.spend") / "duckdb.sql").read_text())
            self._compaction = Compaction(self._connection, self._writing, compact_rows_min)
            super().__init__(index_bytes_max)
        except duckdb.Error as error:
            self._connection.close()
            raise _refusal(path, error) from error

    def _check_format(self, path: Path | str) -> None:
        tables = self._tables()
        if not tables:
            self._connection.execute("CREATE TABLE format (version INTEGER NOT NULL)")
            self._connection.execute("INSERT INTO format VALUES ($version)", {"version": FORMAT})
            return
        found = self._connection.execute("SELECT version FROM format").fetchall() if "format" in tables else [(1,)]
        if found != [(FORMAT,)]:
            self._connection.close()
            raise StoreDamaged(
                _REBUILD.format(path=path, said=f"its format is {found[0][0]}, this version has {FORMAT}")
            )

    def _tables(self) -> set[str]:
        found = self._connection.execute(f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{_NAME}'")
        return {name for (name,) in found.fetchall()}

    def check(self) -> None:
        """Reads everything once. Raises: duckdb.Error where a block is not what was written."""
        for table in self._tables():
            self._connection.execute(f"SELECT bit_xor(hash({table})) FROM {table}").fetchone()

    def settle(self) -> None:
        """Waits for a compaction that is under way."""
        self._compaction.finish()

    def close(self) -> None:
        """Lets go of the file, when a compaction that is under way has ended."""
        self.settle()
        self._connection.close()

    def page(self, listing: Listing, where: Mapping[str, str | int], after: Place | None, limit: int) -> list[Row]:
        """As `SpendStore.page`. Line items of all customers are read as they stand, the newest revision of each id
        first, a few pages at a time: finding the newest of all ids to show a hundred would read the whole table.
        """
        if listing != "line_items" or "customer" in where:
            return super().page(listing, where, after, limit)
        rows: list[Row] = []
        while True:
            columns = "sort_key, id, body, (quantity <> 0 OR amount <> 0) AS billable"
            sql, values = page_query(
                columns, f"{_NAME}.line_items", where, after, order="revision DESC", limit=4 * limit
            )
            found = self._rows(sql, values)
            for row in found:
                place = Place(row["sort_key"], row["id"])
                if place != after and row["billable"]:
                    rows.append(Row(place, row["body"].encode()))
                after = place
            if len(rows) >= limit or len(found) < 4 * limit:
                return rows[:limit]

    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        text = _TABLE.sub(rf"{_NAME}.\1", _VALUE.sub(r"$\1", sql.replace("{line_items}", "{line_items_latest}")))
        with self._cursors:
            cursor = self._connection.cursor()
        try:
            return cursor.sql(text, params=dict(values)).to_arrow_table()
        finally:
            cursor.close()

    def _stream(self, table: str, columns: Sequence[str]) -> Iterator[Rows]:
        with self._cursors:
            cursor = self._connection.cursor()
        try:
            yield from cursor.sql(f"SELECT {', '.join(columns)} FROM {_NAME}.{table}").to_arrow_reader(_STREAM_ROWS)
        finally:
            cursor.close()

    def _write(self, staged: Staged) -> None:
        with self._writing:
            self._transact(staged)
        if "line_items" in staged:
            self._compaction.note(staged["line_items"].num_rows)

    def _transact(self, staged: Staged) -> None:
        with self._cursors:
            cursor = self._connection.cursor()
        try:
            cursor.begin()
            for name, rows in staged.items():
                cursor.register("staged", rows)
                cursor.execute(_insert(name, rows.schema.names))
                cursor.unregister("staged")
            cursor.commit()
        except duckdb.Error as error:
            if finds_no_room(error):
                raise StoreFull(str(error)) from error
            raise
        finally:
            cursor.close()  # without a commit this rolls back


def _connect(path: str, settings: dict[str, str | bool | int | float | list[str]]) -> duckdb.DuckDBPyConnection:
    spilled = {} if path == ":memory:" else {"temp_directory": f"{path}.tmp"}
    connection = duckdb.connect(":memory:", config={**settings, **spilled})
    try:
        quoted = path.replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS {_NAME} (ROW_GROUP_SIZE {_ROW_GROUP})")
        connection.execute(f"USE {_NAME}")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def open_or_rebuild(path: Path) -> DuckdbStore:
    """The store in a file; where the file is damaged, an empty one in its place, to be filled from the topics.

    For a log that keeps everything. The damaged file is put beside it. Raises: StoreError where another process has it.
    """
    try:
        return DuckdbStore(path)
    except StoreDamaged as damage:
        aside = put_aside(path)
        _logger.error("%s; it is now %s, and the store is built again from the log", damage, aside)
        return DuckdbStore(path)


def put_aside(path: Path) -> Path:
    """Gives a damaged store another name (the last one of that name goes), and returns it. Raises: OSError."""
    aside = path.with_name(path.name + ".damaged")
    for ending in ("", ".wal"):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{aside}{ending}")
    return aside


def _refusal(path: Path | str, error: duckdb.Error) -> Exception:
    said = str(error).splitlines()[0]
    if _LOCKED in said:
        return StoreError(f"cannot open the spend store {path}: another process holds it ({said})")
    if finds_no_room(error):
        return StoreFull(f"cannot open the spend store {path}: {said}")
    return StoreDamaged(_REBUILD.format(path=path, said=said))


def _insert(table: str, columns: list[str]) -> str:
    names = ", ".join(columns)
    if table in _APPENDED:
        return f"INSERT INTO {_NAME}.{table} ({names}) SELECT {names} FROM staged"
    changes = ", ".join(f"{column} = staged.{column}" for column in columns if column != "id")
    values = ", ".join(f"staged.{column}" for column in columns)
    return (
        f"MERGE INTO {_NAME}.{table} USING staged ON {table}.id = staged.id "
        f"WHEN MATCHED AND staged.revision > {table}.revision THEN UPDATE SET {changes} "
        f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )
