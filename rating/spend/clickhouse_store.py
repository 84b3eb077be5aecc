"""The spend store in ClickHouse, through a `clickhouse_connect` client (a server's, or chDB's in this process)."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import pyarrow as pa

from rating.spend.decode import Staged
from rating.spend.sql import SqlStore

_TABLE = re.compile(r"\{(\w+)\}")
_VALUE = re.compile(r"\{:(\w+)\}")
_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


class ClickhouseStore(SqlStore):
    """Data first, positions after: what a crash leaves without a position is written again, and the highest revision
    per row is read (`FINAL`), so a replay changes nothing. A query may see a part of a batch, never less than before.
    """

    _SUM = "toString(sum(toDecimal256(amount, 12)))"
    """Of `Decimal(38, 12)` it would wrap in silence."""

    def __init__(self, client: Any, database: str = "taximeter") -> None:
        """`client`: of `clickhouse_connect.get_client`, without a session (`autogenerate_session_id=False`), so that
        queries may run at once. `database` is made where it does not exist. Raises: ValueError.
        """
        if not _NAME.match(database):
            raise ValueError(f"found the database name {database!r}, expected letters, digits and _")
        self._client = client
        self._database = database
        definitions = (files("rating.spend") / "clickhouse.sql").read_text()
        for statement in re.sub(r"--.*", "", definitions).split(";"):
            if statement.strip():
                client.command(statement.replace("{database}", database))
        super().__init__()

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()

    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        text = _TABLE.sub(lambda found: f"{self._database}.{found[1]} FINAL", sql)
        text = _VALUE.sub(lambda found: _bound(found[1], values), text)
        return self._client.query_arrow(text, parameters=dict(values), use_strings=True)

    def _write(self, staged: Staged) -> None:
        for name in sorted(staged, key=lambda name: _LAST.get(name, 0)):
            self._client.insert_arrow(name, staged[name], database=self._database)


_LAST: Final = {"progress": 1, "positions": 2}
"""What must not be ahead of the rows it speaks of."""


def _bound(name: str, values: Mapping[str, str | int]) -> str:
    return f"{{{name}:{'Int64' if isinstance(values[name], int) else 'String'}}}"
