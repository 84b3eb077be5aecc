"""What stands in memory: readers beside a writer, the bound, and what a line item takes."""

import gc
import tracemalloc
from collections.abc import Sequence
from threading import Event, Thread

import pyarrow as pa
import pytest

from rating.spend.decode import stage
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.index import COLUMNS, SpendIndex
from rating.spend.line_table import LINE_BYTES
from rating.spend.spending import spend
from rating.spend.store import SpendStore
from schemas import topics
from streams.log import TopicRecord
from tests.spend.records import Log, invoice, line

CUSTOMERS = 40
LINES = 20


def batch(log: Log, revision: int) -> list[TopicRecord]:
    """A new revision of every customer's lines and invoice: the lines add up to nought."""
    before = len(log.records)
    for owner in range(CUSTOMERS):
        customer = f"c{owner}"
        for number in range(LINES):
            amount = revision * (1 if number % 2 else -1)
            log.append(topics.LINE_ITEMS, line(f"li_{owner}_{number}", revision, customer=customer, amount=str(amount)))
        log.append(topics.INVOICES, invoice(f"in_{owner}", revision, customer=customer, total=str(revision)))
    return log.records[before:]


@pytest.mark.parametrize("room", [10**9, 60_000, 5_000])
def test_readers_see_whole_batches_beside_the_writer(room: int) -> None:
    """Whether all accounts fit or most are let go and read again: no part of a batch, and nothing goes back."""
    store, log = DuckdbStore(":memory:", index_bytes_max=room), Log()
    store.apply(batch(log, 1))
    stop, failures = Event(), list[BaseException]()

    def ask(first: int) -> None:
        seen = [0] * CUSTOMERS
        owner = first
        try:
            while not stop.is_set():
                owner = (owner + 7) % CUSTOMERS
                (usd,) = spend(store, "default", f"c{owner}", "all").currencies
                total = int(usd.billed.total)
                assert usd.total == "0"
                assert seen[owner] <= total
                seen[owner] = total
        except BaseException as error:
            failures.append(error)

    readers = [Thread(target=ask, args=(first,)) for first in range(3)]
    for reader in readers:
        reader.start()
    for revision in range(2, 40):
        store.take(batch(log, revision))
        if revision % 3:
            store.write()
    store.write()
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert {spend(store, "default", f"c{n}", "all").currencies[0].billed.total for n in range(CUSTOMERS)} == {"39"}
    assert store.index.nbytes <= max(room, 10_000)
    assert store.index.whole == (room == 10**9)
    store.close()


def test_what_is_not_asked_for_is_let_go_first() -> None:
    store, log = DuckdbStore(":memory:"), Log()
    store.apply(batch(log, 1))
    index = store.index
    assert len(index) == CUSTOMERS and index.whole
    index.bytes_max = index.nbytes
    for owner in range(10):
        store.account("default", f"c{owner}")
    log.append(topics.LINE_ITEMS, line("li_new", customer="c3"))
    store.apply(log.records)
    assert CUSTOMERS // 2 < len(index) < CUSTOMERS
    assert all(store.account_at_hand("default", f"c{owner}") for owner in range(10))
    gone = [owner for owner in range(CUSTOMERS) if store.account_at_hand("default", f"c{owner}") is None]
    assert gone and len(store.account("default", f"c{gone[0]}")) == LINES + 1
    assert len(store.account("default", "nobody")) == 0
    store.close()


def test_a_question_whose_customer_is_in_memory_runs_no_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    store, log = DuckdbStore(":memory:"), Log()
    store.apply(batch(log, 1))
    monkeypatch.setattr(store, "_select", None)
    assert spend(store, "default", "c1", "all").currencies[0].billed.total == "1"
    assert spend(store, "default", "nobody", "all").currencies == []


def test_a_read_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    store, log = DuckdbStore(":memory:", index_bytes_max=5_000), Log()
    store.apply(batch(log, 1))
    with monkeypatch.context() as broken:
        broken.setattr(store, "_select", None)
        with pytest.raises(TypeError):
            asked(store)
    assert store.index._arriving == {}
    store.apply(batch(log, 2))
    assert asked(store) == "2"
    store.close()


def test_an_account_whose_texts_are_let_go_while_it_is_read_has_its_own() -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_a", customer="c1", charge="first"))
    kept, log = stage(log.records), Log()
    for number in range(20):
        log.append(topics.LINE_ITEMS, line(f"li_{number}", customer="c2", charge=f"other-{number}"))
    more, index = stage(log.records), SpendIndex(bytes_max=20_000)
    reads: list[str] = []

    def read(name: str, columns: Sequence[str]) -> list[pa.Table]:
        if not reads:  # as another thread may do it meanwhile
            index.take(more)
            index._forget()
            index.take(more)
        reads.append(name)
        return [kept[name]] if name in kept else []

    (found,) = index.load(("default", "c1"), read).read().lines
    assert (found.charge, found.subscription, found.amount) == ("first", "acme-launch", 15 * 10**11)
    assert reads == list(COLUMNS)


def asked(store: SpendStore) -> str:
    return spend(store, "default", "c1", "all").currencies[0].billed.total


def test_a_line_item_takes_the_bytes_that_are_stated() -> None:
    log, owners = Log(), 200
    for owner in range(owners):
        for number in range(50):
            id = f"li_{owner * 50 + number:032x}"
            log.append(topics.LINE_ITEMS, line(id, customer=f"c{owner}", charge=f"charge-{number}"))
    staged = stage(log.records)
    gc.collect()
    tracemalloc.start()
    index = SpendIndex()
    index.build(lambda name, _: [staged[name]] if name in staged else [])
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == owners and LINE_BYTES * 50 * owners < index.nbytes
    assert 0.75 < taken / index.nbytes < 1.1, f"{taken:,} bytes were taken, {index.nbytes:,} are stated"
    assert set(COLUMNS) == {"line_items", "invoices", "alerts"}
