"""The spend store in one DuckDB file: embedded, and the default."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from threading import Lock

import duckdb
import pyarrow as pa

from rating.spend.decode import Staged
from rating.spend.sql import SqlStore

_TABLE = re.compile(r"\{(\w+)\}")
_VALUE = re.compile(r"\{:(\w+)\}")


class DuckdbStore(SqlStore):
    """Rows and positions change in one transaction, so a query sees whole batches and a crash leaves no half of one.

    Queries run on cursors of their own and see the store as it was when they began; they do not wait for `apply`.
    """

    def __init__(self, path: Path | str, memory: str = "1GB", threads: int | None = None) -> None:
        """`path`: the file, or `:memory:`. `memory` and `threads` bound what DuckDB takes."""
        settings: dict[str, str | bool | int | float | list[str]] = {"memory_limit": memory}
        if threads is not None:
            settings["threads"] = threads
        self._connection = duckdb.connect(str(path), config=settings)
        self._cursors = Lock()
        self._connection.execute((files("rating.spend") / "duckdb.sql").read_text())
        super().__init__()

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        text = _TABLE.sub(r"\1", _VALUE.sub(r"$\1", sql))
        with self._cursors:
            cursor = self._connection.cursor()
        try:
            return cursor.sql(text, params=dict(values)).to_arrow_table()
        finally:
            cursor.close()

    def _write(self, staged: Staged) -> None:
        with self._cursors:
            cursor = self._connection.cursor()
        try:
            cursor.begin()
            for name, rows in staged.items():
                cursor.register("staged", rows)
                cursor.execute(_insert(name, rows.schema.names))
                cursor.unregister("staged")
            cursor.commit()
        finally:
            cursor.close()  # without a commit this rolls back


def _insert(table: str, columns: list[str]) -> str:
    names = ", ".join(columns)
    if table == "events":
        return f"INSERT INTO events ({names}) SELECT {names} FROM staged"
    changes = ", ".join(f"{column} = staged.{column}" for column in columns if column != "id")
    values = ", ".join(f"staged.{column}" for column in columns)
    return (
        f"MERGE INTO {table} USING staged ON {table}.id = staged.id "
        f"WHEN MATCHED AND staged.revision > {table}.revision THEN UPDATE SET {changes} "
        f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )
