"""The spend store in ClickHouse, through a `clickhouse_connect` client (a server's, or chDB's in this process)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from rating.spend.clickhouse_schema import migrate
from rating.spend.decode import Staged
from rating.spend.index import BYTES_MAX
from rating.spend.line_table import Rows
from rating.spend.sql import SqlStore
from rating.spend.store import StoreUnavailable

_TABLE = re.compile(r"\{(\w+)\}")
_VALUE = re.compile(r"\{:(\w+)\}")
_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


class ClickhouseStore(SqlStore):
    """Data first, positions after: what a crash leaves without a position is written again, and the highest revision
    per row is read (`FINAL`), so a replay changes nothing. A query may see a part of a batch, never less than before.
    """

    _SUM = "toString(sum(toDecimal256(amount, 12)))"
    """Of `Decimal(38, 12)` it would wrap in silence."""

    def __init__(self, client: Any, database: str = "taximeter", index_bytes_max: int = BYTES_MAX) -> None:
        """`client`: of `clickhouse_connect.get_client`, without a session (`autogenerate_session_id=False`), so that
        queries may run at once. The database and its tables are made where they do not exist, and brought up to date
        where they are older. Raises: ValueError; StoreError where they are of a newer program.
        """
        if not _NAME.match(database):
            raise ValueError(f"found the database name {database!r}, expected letters, digits and _")
        self._client = client
        self._database = database
        migrate(client, database)
        super().__init__(index_bytes_max)

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()

    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        text = _TABLE.sub(lambda found: f"{self._database}.{found[1]} FINAL", sql)
        text = _VALUE.sub(lambda found: _bound(found[1], values), text)
        return self._client.query_arrow(text, parameters=dict(values), settings=_READING, use_strings=True)

    def _stream(self, table: str, columns: Sequence[str]) -> Iterator[Rows]:
        sql = f"SELECT {', '.join(columns)} FROM {self._database}.{table} FINAL"
        with self._client.query_arrow_stream(sql, settings=_READING, use_strings=True) as parts:
            yield from parts

    def _write(self, staged: Staged) -> None:
        try:
            self._insert(staged)
        except (OperationalError, OSError) as error:
            raise StoreUnavailable(_first_line(error)) from error

    def _insert(self, staged: Staged) -> None:
        for name in sorted(staged, key=lambda name: _LAST.get(name, 0)):
            self._client.insert_arrow(name, _without_views(staged[name]), database=self._database, settings=_WRITING)


def _without_views(rows: pa.Table) -> pa.Table:
    """The server does not know texts that stand elsewhere."""
    fields = [field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field for field in rows.schema]
    return rows.cast(pa.schema(fields))


_READING: Final = {"do_not_merge_across_partitions_select_final": 1, "use_skip_indexes_if_final": 1}
"""All revisions of a row are in one partition, so `FINAL` need not look across; indexes are of what never changes."""

_WRITING: Final = {"async_insert": 0, "max_partitions_per_insert_block": 0}
"""An insert that has returned is in the table; a replay may bring years of periods in one."""

_LAST: Final = {"progress": 1, "positions": 2}
"""What must not be ahead of the rows it speaks of."""


def _bound(name: str, values: Mapping[str, str | int]) -> str:
    return f"{{{name}:{'Int64' if isinstance(values[name], int) else 'String'}}}"


def open_clickhouse(url: str) -> ClickhouseStore:
    """The store at `clickhouse://user:password@host:8123/database` (`clickhouses://` with TLS), or ClickHouse's engine
    within this process on a folder of its own: `chdb:///folder`, where the package `chdb` is installed.

    Raises: ValueError for another address; StoreUnavailable where nobody answers or lets us in.
    """
    import clickhouse_connect

    parts = urlsplit(url)
    if parts.scheme == "chdb" and parts.path.strip("/") and not parts.netloc:
        database = parse_qs(parts.query).get("database", ["taximeter"])[0]
        try:
            return ClickhouseStore(clickhouse_connect.get_client(interface="chdb", path=unquote(parts.path)), database)
        except ImportError as error:
            raise ValueError(f"{url}: needs the package chdb ({error})") from None
    if parts.scheme not in ("clickhouse", "clickhouses") or not parts.hostname:
        raise ValueError(
            f"found the address {_without_password(url)!r}, expected clickhouse://user:password@host:8123/database "
            "or chdb:///folder"
        )
    secure = parts.scheme == "clickhouses"
    port = parts.port or (8443 if secure else 8123)
    try:
        client = clickhouse_connect.get_client(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=secure,
            autogenerate_session_id=False,
        )
        return ClickhouseStore(client, parts.path.strip("/") or "taximeter")
    except DatabaseError as error:
        raise StoreUnavailable(f"ClickHouse at {parts.hostname}:{port}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)
