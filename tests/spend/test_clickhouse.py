"""What only the ClickHouse store has: its tables' versions, its addresses, a server that goes away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import OperationalError

from rating.spend import clickhouse_schema
from rating.spend.clickhouse_schema import migrate, migrations, script, statements
from rating.spend.clickhouse_store import ClickhouseStore, open_clickhouse
from rating.spend.spending import spend
from rating.spend.store import StoreError, StoreUnavailable
from rating.spend.view import PositionNotReached, SpendView
from schemas import topics
from tests.spend.records import Log, event, line, rejection

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def database(chdb_client: Any) -> Iterator[str]:
    yield "only_clickhouse"
    chdb_client.command("DROP DATABASE IF EXISTS only_clickhouse")


def test_the_tables_for_those_who_make_them_by_hand_are_those_that_the_program_makes(
    chdb_client: Any, database: str
) -> None:
    assert (ROOT / "infra" / "clickhouse" / "tables.sql").read_text() == script()
    for statement in statements(script(database), database):
        chdb_client.command(statement)
    by_hand = tables(chdb_client, database)
    assert migrate(chdb_client, database) == max(migrations())
    assert tables(chdb_client, database) == by_hand and "line_items" in by_hand
    chdb_client.command(f"DROP DATABASE {database}")
    migrate(chdb_client, database)
    assert tables(chdb_client, database) == by_hand


def test_an_older_database_is_brought_up_to_date_and_a_newer_one_refused(
    chdb_client: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_1", amount="7"))
    ClickhouseStore(chdb_client, database).apply(log.records)
    next_version = max(migrations()) + 1
    added = "ALTER TABLE {database}.line_items ADD COLUMN IF NOT EXISTS note String DEFAULT 'none'; -- a note\n"
    more = migrations() | {next_version: added}
    with monkeypatch.context() as newer:
        newer.setattr(clickhouse_schema, "migrations", lambda: more)
        for _ in range(2):
            store = ClickhouseStore(chdb_client, database)
            assert spend(store, "default", "acme", "all").currencies[0].total == "7"
        log.append(topics.LINE_ITEMS, line("li_1", 2, amount="8"))
        store.apply(log.records)
        assert store.lines("default", "acme").num_rows == 1
        found = chdb_client.query(f"SELECT version FROM {database}.schema_versions ORDER BY version").result_rows
        assert [row[0] for row in found] == sorted(more)
    with pytest.raises(StoreError, match=f"found tables of version {next_version}, this program knows versions up to"):
        ClickhouseStore(chdb_client, database)


def test_a_migration_that_was_broken_off_is_done_again(chdb_client: Any, database: str) -> None:
    chdb_client.command(f"CREATE DATABASE {database}")
    for statement in statements(migrations()[1], database)[:4]:
        chdb_client.command(statement)
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_1", amount="7"))
    store = ClickhouseStore(chdb_client, database)
    store.apply(log.records)
    assert spend(store, "default", "acme", "all").currencies[0].total == "7"


def test_every_revision_of_a_row_is_in_one_partition_and_one_is_read(chdb_client: Any, database: str) -> None:
    store, log = ClickhouseStore(chdb_client, database), Log()
    chdb_client.command(f"SYSTEM STOP MERGES {database}.line_items")
    for revision in range(1, 6):
        log.append(topics.LINE_ITEMS, line("li_1", revision, amount=str(revision)))
        store.apply(log.records)
        again = ClickhouseStore(chdb_client, database)
        again._taken = again._written = again._taken._replace(positions={})
        again.apply(log.records)  # everything once more
    count = f"SELECT count(), uniqExact(_partition_id) FROM {database}.line_items"
    assert chdb_client.query(count).result_rows == [(10, 1)]
    assert [row.body for row in store.page("line_items", {}, None, 10)] == [log.records[-1].value]
    assert store.sum_amounts() == 5 * 10**12


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://localhost:8123", "found the address 'http://localhost:8123'"),
        ("clickhouse://user:secret@/x", "found the address 'clickhouse://...@/x'"),
        ("chdb://", "expected clickhouse://user:password@host:8123/database or chdb:///folder"),
    ],
)
def test_another_address_is_refused_without_its_password(address: str, expected: str) -> None:
    with pytest.raises(ValueError, match="expected clickhouse://") as refused:
        open_clickhouse(address)
    assert expected in str(refused.value) and "secret" not in str(refused.value)


def test_a_server_that_does_not_answer_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreUnavailable, match=r"ClickHouse at 127\.0\.0\.1:1: ") as refused:
        open_clickhouse("clickhouse://user:secret@127.0.0.1:1/x")
    assert "secret" not in str(refused.value) + caplog.text


def tables(client: Any, database: str) -> dict[str, str]:
    """Name -> definition."""
    found = client.query(
        f"SELECT name, create_table_query FROM system.tables WHERE database = '{database}'"
    ).result_rows
    return {name: text for name, text in found}


async def test_a_server_that_goes_away_is_waited_for(
    chdb_client: Any, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Inserts fail in the middle of a batch, for a while; the spend query goes on, and everything comes in once."""
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_1", amount="2"))
    log.events(event("e1", "2026-11-02T00:00:00Z", {}))
    log.append(topics.REJECTIONS, rejection(0))
    log.done(end=5)
    away = _Away(chdb_client)
    store = ClickhouseStore(away, database)
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    try:
        await view.wait_for({0: 5}, 20, of="now")
        assert spend(store, "default", "acme", "all").currencies[0].total == "2"
        with pytest.raises(PositionNotReached):
            await view.wait_for({0: 5}, 1.2)
        assert "the spend store waits for its server: gone" in caplog.text and not feed.done()
        away.gone = False
        await view.wait_for({0: 5}, 20)
        again = ClickhouseStore(chdb_client, database)
        assert spend(again, "default", "acme", "all").currencies[0].total == "2"
        assert again.positions() == store.positions() and again.positions()[topics.EVENTS, 0] == 1
        for listing in ("line_items", "rejections"):
            assert len(again.page(listing, {}, None, 10)) == 1
        assert again.count_events(0, 0, 10) == 1
    finally:
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)


class _Away:
    """A client whose server is gone after two inserts, until it is back."""

    def __init__(self, client: Any) -> None:
        self._client, self._left, self.gone = client, 2, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def insert_arrow(self, *arguments: Any, **named: Any) -> None:
        self._left -= 1
        if self._left < 0 and self.gone:
            raise OperationalError("gone")
        self._client.insert_arrow(*arguments, **named)
