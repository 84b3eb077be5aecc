"""The two stores, each made anew for a test and opened again within it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rating.spend.clickhouse_store import ClickhouseStore
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.store import SpendStore

Opener = Callable[[], SpendStore]
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def chdb_client() -> Iterator[Any]:
    """ClickHouse's own engine, in this process."""
    clickhouse_connect = pytest.importorskip("clickhouse_connect")
    pytest.importorskip("chdb")
    client = clickhouse_connect.get_client(interface="chdb")
    yield client
    client.close()


@pytest.fixture(params=["duckdb", "clickhouse"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store, again and again: whoever opens it a second time has closed it before (DuckDB)."""
    if request.param == "duckdb":
        yield lambda: DuckdbStore(tmp_path / "spend.duckdb")
        return
    client, database = request.getfixturevalue("chdb_client"), f"spend_{next(_NUMBERS)}"
    yield lambda: ClickhouseStore(client, database)
    client.command(f"DROP DATABASE IF EXISTS {database}")


@pytest.fixture
def store(opener: Opener) -> SpendStore:
    """One store."""
    return opener()
