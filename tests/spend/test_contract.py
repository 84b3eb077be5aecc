"""The contract of a spend store, over random inputs: the same answers from both stores, however the input came, and
from memory what the tables say."""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rating.spend.clickhouse_store import ClickhouseStore
from rating.spend.columns import scaled
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.index import ACCOUNT_BYTES, Account
from rating.spend.line_table import LABEL_BYTES
from rating.spend.store import SpendStore, Whose
from tests.spend.records import Log
from tests.spend.stories import CUSTOMERS, answers, apply_somehow, reordered, stories

_NUMBERS = itertools.count()
_SMALL = 6 * LABEL_BYTES + ACCOUNT_BYTES  # room for about one customer at a time
Opener = Callable[[], SpendStore]


@contextmanager
def fresh(kind: str, client: Any, index_bytes_max: int) -> Iterator[tuple[Opener, Callable[[SpendStore], None]]]:
    """Opens the same new store again and again, and closes it."""
    if kind == "duckdb":
        with TemporaryDirectory() as folder:
            path = Path(folder) / "spend.duckdb"
            yield lambda: DuckdbStore(path, index_bytes_max=index_bytes_max, compact_rows_min=20), _close
        return
    database = f"contract_{next(_NUMBERS)}"
    yield lambda: ClickhouseStore(client, database, index_bytes_max), lambda store: None
    client.command(f"DROP DATABASE {database}")


def _close(store: SpendStore) -> None:
    store.close()


@pytest.fixture(params=["duckdb", "clickhouse"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(request: pytest.FixtureRequest, kind: str) -> Any:
    return request.getfixturevalue("chdb_client") if kind == "clickhouse" else None


_EXAMPLES = settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # what fails is small as it is, and shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_EXAMPLES
@given(log=stories(), seed=st.integers(0, 10**6), small=st.booleans())
def test_however_it_came_every_answer_is_that_of_one_batch(
    kind: str, client: Any, log: Log, seed: int, small: bool
) -> None:
    dice = random.Random(seed)
    whole = DuckdbStore(":memory:")
    whole.apply(log.records)
    with fresh(kind, client, _SMALL if small else 10**9) as (open, close):
        store = apply_somehow(open, close, reordered(log.records, dice), dice)
        assert store.positions() == whole.positions()
        assert {p: one.through for p, one in store.progress().items()} == {
            p: one.through for p, one in whole.progress().items()
        }
        assert answers(store, log) == answers(whole, log)
        same_as_tables(store)
        assert store.sum_amounts() == whole.sum_amounts()
        for partition in (0, 1):
            assert store.catalogue("default", partition) == whole.catalogue("default", partition)
            assert store.count_events(partition, 0, 10**9) == whole.count_events(partition, 0, 10**9)
            for customer in CUSTOMERS:
                whose = Whose("default", (customer,))
                assert store.newest(whose, partition) == whole.newest(whose, partition)
        close(store)
        again = open()
        assert answers(again, log) == answers(whole, log)
        same_as_tables(again)
        close(again)
    whole.close()


@_EXAMPLES
@given(log=stories(), seed=st.integers(0, 10**6), small=st.booleans())
def test_memory_says_what_the_tables_say_after_every_batch(
    kind: str, client: Any, log: Log, seed: int, small: bool
) -> None:
    dice = random.Random(seed)
    with fresh(kind, client, _SMALL if small else 10**9) as (open, close):
        store, at = open(), 0
        while at < len(log.records):
            end = dice.randint(at + 1, at + 8)
            store.take(log.records[at:end])
            before = [account(store, customer) for customer in CUSTOMERS]
            store.write()
            assert [account(store, customer) for customer in CUSTOMERS] == before
            same_as_tables(store)
            at = end
        close(store)


def account(store: SpendStore, customer: str) -> Any:
    """What memory says of a customer, in a fixed order."""
    found = store.account("default", customer)
    assert isinstance(found, Account)
    return [sorted(part, key=repr) for part in found.read()]


def same_as_tables(store: SpendStore) -> None:
    """Compares memory with the tables, customer by customer."""
    for customer in (*CUSTOMERS, "nobody"):
        lines, bills, crossings = account(store, customer)
        table = store.lines("default", customer)
        places = ("currency", "subscription", "period_start", "period_end", "charge")
        columns = [table[name].to_pylist() for name in places]
        columns += [scaled(table["amount"]), table["events"].to_pylist(), table["last_event"].to_pylist()]
        assert sorted(zip(*columns, strict=True), key=repr) == sorted(
            ((*one[:5], one.amount, one.events, one.last_event) for one in lines), key=repr
        )
        table = store.bills("default", customer)
        columns = [table[name].to_pylist() for name in (*places[:4], "kind", "status")]
        columns += [scaled(table["subtotal"]), scaled(table["total"])]
        assert sorted(zip(*columns, strict=True), key=repr) == [tuple(one) for one in bills]
        table = store.crossings("default", customer)
        assert len(crossings) == table.num_rows
