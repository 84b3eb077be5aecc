"""The store against the journal: whatever is tampered with on either side is said, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rating.engine import RatingProcessor, RatingSettings
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.proof import Verdict, news, reconcile
from schemas import topics
from schemas.entry import Entry
from streams.journal import Batch, Done, Open, Record, decode_record, encode_record
from streams.log import TopicRecord
from tests.unit.rating.engines import Log, event

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: USD, charges: {units: {meter: units, price: {model: unit, unit_amount: "0.5"}}}}}
default_subscription: {price_book: book}
"""


class Run:
    """What an engine and its host leave on the topics of one partition."""

    def __init__(self, partition: int = 0, first: int = 0) -> None:
        self.partition = partition
        self.records: list[TopicRecord] = []
        self._ends: dict[str, int] = {}
        engine = RatingProcessor(RatingSettings(window_days=None)).open(0, None)
        texts = [event(f"{n}", "2026-11-05T00:00:00Z", f'{{"n": {n}}}', subject=f"c{n % 3}") for n in range(12)]
        log = Log().catalogue(BOOK).events([*texts, texts[0]], 3).tick("2026-11-06T00:00:00Z")
        self._journal(Open(1, "a"))
        for entry in log.entries:
            self.records.append(TopicRecord(topics.EVENTS, partition, entry.offset, entry.end, b"", entry.value))
            self._step(engine, entry)

    def _step(self, engine: Any, entry: Entry) -> None:
        step = engine.process([entry])
        self._journal(Batch(1, entry.offset, entry.end, step.summary))
        for output in step.outputs:
            self._add(output.topic, output.key, output.value)
        emitted = {topic: end for topic, end in self._ends.items() if topic != topics.JOURNAL}
        self._journal(Done(1, entry.end, emitted))

    def _journal(self, record: Record) -> None:
        self._add(topics.JOURNAL, b"", encode_record(record))

    def _add(self, topic: str, key: bytes, value: bytes) -> None:
        offset = self._ends.get(topic, 0)
        self._ends[topic] = offset + 1
        self.records.append(TopicRecord(topic, self.partition, offset, offset + 1, key, value))


@pytest.fixture
def duckdb_store(tmp_path: Path) -> Iterator[DuckdbStore]:
    store = DuckdbStore(tmp_path / "spend.duckdb")
    yield store
    store.close()


def test_what_is_whole_reconciles_whoever_keeps_it(store: Any) -> None:
    run = Run()
    store.apply(run.records)
    assert reconcile(store) == Verdict((), {0: store.progress()[0].sums.position}, True)
    assert store.count_events(0, 0, 10**9) == 13
    assert store.sum_amounts() == int(store.progress()[0].sums.counts.amount) > 0


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_it_reconciles_at_every_cut(duckdb_store: DuckdbStore, cut: int) -> None:
    records = Run().records
    for part in (records[:cut], records[cut:]):
        duckdb_store.apply(part)
        assert reconcile(duckdb_store).reconciled
    assert reconcile(duckdb_store).amounts


def test_a_restart_goes_on_adding_up(tmp_path: Path) -> None:
    records = Run().records
    first = DuckdbStore(tmp_path / "spend.duckdb")
    first.apply(records[:20])
    first.close()
    second = DuckdbStore(tmp_path / "spend.duckdb")
    second.apply(records)
    verdict = reconcile(second)
    assert verdict.reconciled and verdict.amounts and verdict.positions
    second.close()


def tampered_row(store: DuckdbStore) -> None:
    store._connection.execute("UPDATE line_items SET amount = amount + 0.01 WHERE customer = 'c1'")


def lost_row(store: DuckdbStore) -> None:
    store._connection.execute("DELETE FROM line_items WHERE customer = 'c2'")


def lost_event(store: DuckdbStore) -> None:
    store._connection.execute("DELETE FROM events WHERE log_offset = 4 AND log_index = 1")


def doubled_event(store: DuckdbStore) -> None:
    store._connection.execute("INSERT INTO events SELECT * FROM events WHERE log_offset = 4 AND log_index = 1")


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (tampered_row, "the sum of all line items"),
        (lost_row, "the sum of all line items"),
        (lost_event, "events in the store"),
        (doubled_event, "events in the store"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_row_that_is_tampered_with_is_said(duckdb_store: DuckdbStore, tamper: Any, what: str) -> None:
    duckdb_store.apply(Run().records)
    before = reconcile(duckdb_store)
    tamper(duckdb_store)
    verdict = reconcile(duckdb_store)
    [difference] = verdict.differences
    assert difference.what == what and difference.expected != difference.found
    assert list(news(before, verdict)) == [difference] and not list(news(verdict, verdict))


def test_a_summary_that_is_tampered_with_is_said(duckdb_store: DuckdbStore) -> None:
    records = Run().records
    journal = [n for n, record in enumerate(records) if record.topic == topics.JOURNAL]
    at = [n for n in journal if isinstance(decode_record(records[n].value), Batch)][3]
    batch = decode_record(records[at].value)
    assert isinstance(batch, Batch)
    changed = msgspec.structs.replace(batch.summary, events=batch.summary.events + 1)
    records[at] = records[at]._replace(value=encode_record(msgspec.structs.replace(batch, summary=changed)))
    duckdb_store.apply(records)
    found = {difference.what for difference in reconcile(duckdb_store).differences}
    assert "journal: events" in found and "events in the store" in found


def test_what_cannot_be_compared_is_not(duckdb_store: DuckdbStore) -> None:
    """A store that was begun when the log had lost its beginning knows nothing of the events before it."""
    records = [r for r in Run().records if not (r.topic == topics.EVENTS and r.offset < 5)]
    duckdb_store.apply(records)
    verdict = reconcile(duckdb_store)
    assert verdict.reconciled and not verdict.positions and verdict.amounts
