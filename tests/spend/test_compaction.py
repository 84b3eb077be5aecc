"""Dropping overtaken revisions from a DuckDB file while it is written and read."""

from pathlib import Path
from threading import Event, Thread

import duckdb
import msgspec
import pytest

from rating.spend.duckdb_store import DuckdbStore
from rating.spend.spending import spend
from schemas import topics
from tests.spend.records import DECEMBER, Log, line

LINES = 50


def total(store: DuckdbStore) -> str:
    return spend(store, "default", "acme", "all").currencies[0].total


def rows(path: Path) -> int:
    with duckdb.connect(str(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM line_items").fetchone() or (0,)
        return int(count)


def batch(log: Log, revision: int) -> list[object]:
    """A new revision of every line; each time they add up to nought."""
    before = len(log.records)
    for number in range(LINES):
        amount = revision * (1 if number % 2 else -1)
        log.append(topics.LINE_ITEMS, line(f"li_{number:02d}", revision, amount=str(amount)))
    return list(log.records[before:])


def test_overtaken_revisions_go_and_nothing_else(tmp_path: Path) -> None:
    path, log = tmp_path / "spend.duckdb", Log()
    store = DuckdbStore(path, compact_rows_min=200)
    for revision in range(1, 60):
        store.apply(batch(log, revision))  # type: ignore[arg-type]
        assert total(store) == "0"
    store.close()
    assert rows(path) < 59 * LINES / 3
    store = DuckdbStore(path, compact_rows_min=200)
    found = [msgspec.json.decode(row.body) for row in store.page("line_items", {"tenant": "default"}, None, 100)]
    assert [(item["id"], item["revision"]) for item in found] == [(f"li_{n:02d}", 59) for n in reversed(range(LINES))]
    assert store.positions() == {(topics.LINE_ITEMS, 0): 59 * LINES}
    store.close()


def test_readers_and_the_writer_go_on_beside_it(tmp_path: Path) -> None:
    store, log = DuckdbStore(tmp_path / "spend.duckdb", compact_rows_min=100), Log()
    store.apply(batch(log, 1))  # type: ignore[arg-type]
    stop, failures, answers = Event(), [], []

    def ask() -> None:
        try:
            while not stop.is_set():
                answers.append(total(store))
                assert len(store.page("line_items", {"tenant": "default"}, None, 100)) == LINES
        except BaseException as error:
            failures.append(error)

    readers = [Thread(target=ask) for _ in range(3)]
    for reader in readers:
        reader.start()
    for revision in range(2, 120):
        store.apply(batch(log, revision))  # type: ignore[arg-type]
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert set(answers) == {"0"}
    assert total(store) == "0"
    store.close()


def test_what_a_crash_left_is_dropped(tmp_path: Path) -> None:
    path, log = tmp_path / "spend.duckdb", Log()
    store = DuckdbStore(path)
    store.apply(batch(log, 1))  # type: ignore[arg-type]
    store.close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE line_items_kept AS SELECT * FROM line_items LIMIT 3")
    store = DuckdbStore(path, compact_rows_min=60)
    store.apply(batch(log, 2))  # type: ignore[arg-type]
    store.close()
    assert rows(path) in (LINES, 2 * LINES)


def test_a_compaction_that_fails_stops_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rating.spend.duckdb_compaction._NEWEST", "CREATE nonsense")
    store, log = DuckdbStore(tmp_path / "spend.duckdb", compact_rows_min=10), Log()
    with pytest.raises(duckdb.Error):
        for revision in range(1, 100):
            store.apply(batch(log, revision))  # type: ignore[arg-type]
    store.close()


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_over_all_customers_show_the_newest_revision_of_each(tmp_path: Path, limit: int) -> None:
    """Many revisions of one line, nought lines and several periods, in pages smaller than the revisions are many."""
    store, log = DuckdbStore(tmp_path / "spend.duckdb"), Log()
    for number in range(12):
        period = DECEMBER if number % 3 == 0 else line().period
        for revision in range(1, 3 + 7 * (number % 2)):
            nought = number % 4 == 1
            changes = {"quantity": "0", "amount": "0"} if nought else {"amount": str(revision)}
            log.append(
                topics.LINE_ITEMS,
                line(f"li_{number:02d}", revision, customer=f"c{number % 5}", period=period, **changes),
            )
    store.apply(log.records)
    seen, place = [], None
    while found := store.page("line_items", {"tenant": "default"}, place, limit):
        assert len(found) <= limit
        seen += [msgspec.json.decode(row.body) for row in found]
        place = found[-1].place
    expected = [n for n in reversed(range(12)) if n % 4 != 1]
    expected.sort(key=lambda n: n % 3 != 0)
    assert [item["id"] for item in seen] == [f"li_{n:02d}" for n in expected]
    assert [item["revision"] for item in seen] == [2 + 7 * (n % 2) for n in expected]
    store.close()
