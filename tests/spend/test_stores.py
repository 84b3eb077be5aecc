"""The contract of a spend store: the same laws and the same numbers in DuckDB and in ClickHouse."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rating.spend.clickhouse_store import ClickhouseStore
from rating.spend.columns import scaled
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.mends import keys_of
from rating.spend.spending import spend
from rating.spend.store import Place, SpendStore, StoreError, Whose
from schemas import topics
from schemas.numbers import format_scaled
from schemas.times import parse_time
from streams.journal import Open, encode_record
from streams.log import TopicRecord
from tests.spend.records import DECEMBER, Log, alert, catalogue, event, invoice, line, pack, rejection, threshold, tick

Opener = Callable[[], SpendStore]
LARGEST = "99999999999999999999999999.999999999999"


def amounts(store: SpendStore, customer: str = "acme") -> list[str]:
    return sorted(format_scaled(amount) for amount in scaled(store.lines("default", customer)["amount"]))


def listed(store: SpendStore, listing: Any, **where: str | int) -> list[Any]:
    rows = store.page(listing, {"tenant": "default"} | where, None, 1000)
    return [msgspec.json.decode(row.body) for row in rows]


def ids(store: SpendStore, listing: Any, **where: str | int) -> list[str]:
    return [document["id"] for document in listed(store, listing, **where)]


def everything(store: SpendStore) -> Any:
    """All that a store answers, to compare."""
    return (
        store.positions(),
        store.progress(),
        [listed(store, name) for name in ("line_items", "invoices", "alerts", "rejections")],
        spend(store, "default", "acme", "all"),
        store.events(Whose("default", ("acme",)), "llm.request", None, None).to_pylist(),
        store.catalogue("default", 0),
    )


@pytest.fixture
def log() -> Log:
    """A log with a bit of everything."""
    log = Log()
    log.append(topics.EVENTS, catalogue({"requests": {"event": "llm.request", "aggregate": "count"}}))
    log.events(event("e1", "2026-11-02T00:00:00Z", {"tokens": 1}), event("e2", "2026-11-03T00:00:00Z", {"tokens": 2}))
    log.append(topics.EVENTS, tick("2026-11-04T00:00:00Z"))
    log.events(event("e1", "2026-11-05T00:00:00Z", {"tokens": 3}))
    log.append(topics.LINE_ITEMS, line("li_1", 1, amount="1"))
    log.append(topics.LINE_ITEMS, line("li_2", 1, amount="0.000000000001", dimensions={"model": "large"}))
    log.append(topics.INVOICES, threshold("in_1", "100"))
    log.append(topics.ALERTS, alert())
    log.append(topics.ALERTS, alert("al_2", kind="budget"))
    log.append(topics.REJECTIONS, rejection(2))
    log.open()
    log.done(end=4)
    log.append(topics.LINE_ITEMS, line("li_1", 2, amount="2"))
    log.done(end=5)
    return log


def test_what_was_applied_is_answered(store: SpendStore, log: Log) -> None:
    store.apply(log.records)
    answer = spend(store, "default", "acme", "current")
    assert answer.as_of == "2026-11-02T00:00:00Z"
    (usd,) = answer.currencies
    assert (usd.total, usd.billed.total, usd.billed.threshold, usd.thresholds) == ("2.000000000001", "1.5", 1, 1)
    assert [(d.dimension, d.value, d.amount) for d in usd.by_dimension] == [("model", "large", "0.000000000001")]
    assert store.progress()[0].through == 5
    assert store.positions()[topics.EVENTS, 0] == 5
    assert store.positions()[topics.LINE_ITEMS, 0] == 3


def test_applying_again_changes_nothing(store: SpendStore, log: Log) -> None:
    store.apply(log.records)
    before = everything(store)
    store.apply(log.records)
    store.apply([*log.records[3:7], *log.records[3:7]])
    store.apply([])
    assert everything(store) == before


def test_any_cut_into_batches_gives_the_same(opener: Opener, log: Log, tmp_path: Any) -> None:
    store = opener()
    at = 0
    while at < len(log.records):
        size = random.Random(at).randint(1, 4)
        store.apply(log.records[at : at + size])
        at += size
    whole = DuckdbStore(tmp_path / "whole.duckdb")
    whole.apply(log.records)
    assert everything(store) == everything(whole)


def test_a_restart_goes_on_where_it_stopped(opener: Opener, log: Log) -> None:
    store = opener()
    store.apply(log.records)
    before = everything(store)
    if isinstance(store, DuckdbStore):
        store.close()
    store = opener()
    assert everything(store) == before
    log.append(topics.LINE_ITEMS, line("li_1", 3, amount="7"))
    log.done(end=9)
    store.apply(log.records)
    assert amounts(store) == ["0.000000000001", "7"]
    assert store.progress()[0].through == 9


def test_the_highest_revision_counts_in_whatever_order(store: SpendStore) -> None:
    log = Log()
    for revision in (2, 5, 1, 4):
        log.append(topics.LINE_ITEMS, line("li_1", revision, amount=str(revision)))
        store.apply(log.records)
    assert amounts(store) == ["5"]
    for revision in (7, 6, 3):
        log.append(topics.LINE_ITEMS, line("li_1", revision, amount=str(revision)))
        log.append(topics.INVOICES, invoice("in_1", revision, total=str(revision)))
    store.apply(log.records)
    assert amounts(store) == ["7"]
    assert listed(store, "line_items")[0]["revision"] == 7
    assert [bill["total"] for bill in listed(store, "invoices")] == ["7"]


def test_a_nought_line_is_absent_until_it_is_not(store: SpendStore) -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_1", 1, amount="3"))
    log.append(topics.LINE_ITEMS, line("li_1", 2, quantity="0", amount="0"))
    log.append(topics.LINE_ITEMS, line("li_2", 1, quantity="4", amount="0"))
    log.append(topics.LINE_ITEMS, line("li_3", 1, quantity="0", amount="-1"))
    store.apply(log.records)
    assert ids(store, "line_items") == ["li_3", "li_2"]
    assert amounts(store) == ["-1", "0"]
    log.append(topics.LINE_ITEMS, line("li_1", 3, amount="5"))
    store.apply(log.records)
    assert amounts(store) == ["-1", "0", "5"]
    assert ids(store, "line_items") == ["li_3", "li_2", "li_1"]
    log.append(topics.LINE_ITEMS, line("li_1", 4, quantity="0", amount="0"))
    store.apply(log.records)
    assert amounts(store) == ["-1", "0"]
    assert ids(store, "line_items") == ids(store, "line_items", customer="acme") == ["li_3", "li_2"]


def test_sums_above_38_digits_neither_overflow_nor_round(store: SpendStore) -> None:
    log = Log()
    for number in range(30):
        log.append(topics.LINE_ITEMS, line(f"li_{number}", amount=LARGEST))
    log.append(topics.LINE_ITEMS, line("li_small", amount="-0.000000000001"))
    store.apply(log.records)
    (usd,) = spend(store, "default", "acme", "current").currencies
    assert usd.total == "2999999999999999999999999999.999999999969"
    assert usd.by_charge[0].amount == usd.total


def test_done_before_its_outputs_waits_for_them(store: SpendStore) -> None:
    log = Log()
    first = log.append(topics.LINE_ITEMS, line("li_1"))
    second = log.append(topics.INVOICES, invoice())
    opened, done, later = log.open(), log.done(end=7), log.done(end=8)
    store.apply([opened, done, later])
    assert store.progress()[0].through == 0
    store.apply([second])
    assert store.progress()[0].through == 0
    store.apply([first])
    assert store.progress()[0].through == 8


def test_a_waiting_done_survives_a_restart(opener: Opener) -> None:
    log = Log()
    output = log.append(topics.LINE_ITEMS, line("li_1"))
    store = opener()
    store.apply([log.open(), log.done(end=7)])
    if isinstance(store, DuckdbStore):
        store.close()
    store = opener()
    assert store.progress()[0].through == 0
    store.apply([output])
    assert store.progress()[0].through == 7


def test_partitions_move_on_their_own(store: SpendStore) -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_1"), partition=1)
    log.done(end=3, partition=1)
    store.apply(log.records)
    assert {p: state.through for p, state in store.progress().items()} == {1: 3}
    assert store.positions() == {(topics.LINE_ITEMS, 1): 1, (topics.JOURNAL, 1): 1}


def test_pages_follow_each_other_without_gap_or_repetition(store: SpendStore) -> None:
    log = Log()
    for number in range(25):
        log.append(topics.LINE_ITEMS, line(f"li_{number:02d}", period=DECEMBER if number % 2 else line().period))
    store.apply(log.records)
    seen: list[Place] = []
    while rows := store.page("line_items", {"customer": "acme"}, seen[-1] if seen else None, 7):
        seen += [row.place for row in rows]
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen, reverse=True)
    assert [place.id for place in seen[:3]] == ["li_23", "li_21", "li_19"]


def test_invoices_are_listed_by_period_kind_and_level(store: SpendStore) -> None:
    log = Log()
    for bill in (
        threshold("in_c", "1000"),
        invoice("in_p"),
        threshold("in_b", "500"),
        invoice("in_x", kind="correction"),
        threshold("in_d", "100", period=DECEMBER),
    ):
        log.append(topics.INVOICES, bill)
    store.apply(log.records)
    assert ids(store, "invoices") == ["in_d", "in_x", "in_p", "in_c", "in_b"]
    assert ids(store, "invoices", kind="threshold") == ["in_d", "in_c", "in_b"]
    assert msgspec.json.decode(store.invoice("default", "in_p") or b"")["kind"] == "period"
    assert store.invoice("default", "in_none") is None


def test_who_makes_a_rejection_good_is_known_by_tenant(store: SpendStore) -> None:
    log = Log()
    by_engine, of_door = "0123456789abcdef" * 2, "0:7"
    void = {"source": "cli", "id": "e5", "by": {"source": "cli", "id": "e5+mend.1"}}
    mended = [
        event("x", "2026-11-02T10:00:00Z", {}, extensions=f'{{"mends":"rej_{of_door}"}}'),
        event("e5+void.1", "2026-11-02T10:00:00Z", void, type="taximeter.void", extensions='{"mends":"rej_0:1"}'),
        event("y", "2026-11-02T10:00:00Z", {}, extensions='{"mends":"rej_nonsense","other":1}'),
        event("z", "2026-11-02T10:00:00Z", {}, extensions='{"mends":5}'),
        event("w", "2026-11-02T10:00:00Z", {}),
    ]
    for _ in range(2):  # a replay says it again
        log.append(topics.EVENTS, pack(mended))
        store.apply(log.records)
    body = msgspec.json.encode(rejection(5, event={"subject": "acme", "source": "cli", "id": "e5"}))
    keys = {
        name: keys_of(tenant, id, text)
        for name, tenant, id, text in [
            ("of the door", "default", of_door, b"{}"),
            ("of the event", "default", by_engine, body),
            ("of another tenant", "other", by_engine, body),
            ("of the door, another tenant", "other", of_door, b"{}"),
        ]
    }
    found = store.mends([key for of in keys.values() for key in of])
    known = {name: [msgspec.json.decode(found[key])["id"] for key in of if key in found] for name, of in keys.items()}
    assert known == {
        "of the door": ["x"], "of the event": ["e5+mend.1"], "of another tenant": [], "of the door, another tenant": []
    }  # fmt: skip
    assert store.mends([]) == {}


def test_a_rejection_that_a_replay_says_again_is_one(store: SpendStore) -> None:
    log = Log()
    for offset in (5, 6, 5, 5):
        log.append(topics.REJECTIONS, rejection(offset))
        store.apply(log.records)
    log.append(topics.REJECTIONS, rejection(5, code="conflict"))
    log.append(topics.REJECTIONS, rejection(5, meter="other"))
    store.apply(log.records)
    found = [(r["where"]["offset"], r["code"], r["meter"]) for r in listed(store, "rejections")]
    assert found == [
        (5, "missing_value", "other"),
        (5, "conflict", "tokens"),
        (6, "missing_value", "tokens"),
        (5, "missing_value", "tokens"),
    ]


def test_the_newest_time_is_that_of_the_customers_events_and_of_ticks(store: SpendStore) -> None:
    assert store.newest(Whose("default", ("acme",)), 0) is None
    log = Log()
    log.events(
        event("a", "2026-11-03T00:00:00Z", {}),
        event("b", "2026-11-02T00:00:00Z", {}, type="other"),
        event("v", "2026-11-09T00:00:00Z", {"source": "cli", "id": "a"}, type="taximeter.void"),
    )
    store.apply(log.records)
    assert store.newest(Whose("default", ("acme",)), 0) == parse_time("2026-11-03T00:00:00Z")
    log.events(event("a", "2026-11-08T00:00:00Z", {}))  # a duplicate
    log.append(topics.EVENTS, tick("2026-11-02T12:00:00Z"))
    store.apply(log.records)
    assert store.newest(Whose("default", ("acme",)), 0) == parse_time("2026-11-03T00:00:00Z")
    assert store.newest(Whose("default", ("nobody",)), 0) == parse_time("2026-11-02T12:00:00Z")
    log.append(topics.EVENTS, tick("2026-11-05T00:00:00Z"))
    log.append(topics.EVENTS, tick("2026-11-04T00:00:00Z"))
    store.apply(log.records)
    assert store.newest(Whose("default", ("acme",)), 0) == parse_time("2026-11-05T00:00:00Z")


def test_events_count_once_by_identity_and_not_when_voided(store: SpendStore) -> None:
    log = Log()
    log.events(
        event("a", "2026-11-09T00:00:00Z", {"n": 1}),
        event("v", "2026-11-01T00:00:00Z", {"source": "cli", "id": "c"}, type="taximeter.void"),
        event("b", "2026-11-01T00:00:00Z", {"n": 2}, type="other"),
    )
    log.events(
        event("a", "2026-11-02T00:00:00Z", {"n": 3}),
        event("b", "2026-11-02T00:00:00Z", {"n": 4}),
        event("c", "2026-11-02T00:00:00Z", {"n": 5}),
        event("d", "2026-11-02T00:00:00Z", {"n": 6}),
        event("d", "2026-11-02T00:00:00Z", {"n": 7}, source="web"),
        event("e", "2026-11-02T00:00:00Z", {"n": 8}, customer="other"),
    )
    log.events(event("f", "2026-11-02T00:00:00Z", {"n": 9}), event("f", "2026-11-02T00:00:00Z", {"n": 10}))
    store.apply(log.records)

    def data(first: str | None, last: str | None) -> list[Any]:
        bounds = [None if bound is None else parse_time(bound) for bound in (first, last)]
        found = store.events(Whose("default", ("acme",)), "llm.request", *bounds)
        return [msgspec.json.decode(text)["n"] for text in found["data"].to_pylist()]

    assert data(None, None) == [1, 6, 7, 9]
    # The first `a` stands outside these bounds, and still takes the second one's place.
    assert data(None, "2026-11-05T00:00:00Z") == [6, 7, 9]
    assert data("2026-11-02T00:00:00.000001Z", None) == [1]
    assert data("2026-11-02T00:00:00Z", "2026-11-09T00:00:00Z") == [6, 7, 9]


def test_the_catalogue_of_the_own_partition_comes_first(store: SpendStore) -> None:
    log = Log()
    for partition, meter in ((0, "a"), (1, "b"), (1, "c")):
        log.append(topics.EVENTS, catalogue({meter: {}}), partition)
        store.apply(log.records)
    assert store.catalogue("default", 0) == b'{"meters": {"a": {}}}'
    assert store.catalogue("default", 1) == b'{"meters": {"c": {}}}'
    assert store.catalogue("default", 7) == b'{"meters": {"c": {}}}'


def test_the_catalogue_of_another_tenant_is_never_shown(store: SpendStore) -> None:
    log = Log()
    log.append(topics.EVENTS, catalogue({"a": {}}), 0)
    log.append(topics.EVENTS, catalogue({"b": {}}, "acme/0"), 1)
    log.append(topics.EVENTS, catalogue({"c": {}}, "0"), 0)
    store.apply(log.records)
    for partition in (0, 1, 2):
        assert store.catalogue("default", partition) == b'{"meters": {"a": {}}}'
        assert store.catalogue("acme/0", partition) == b'{"meters": {"b": {}}}'
        assert store.catalogue("0", partition) == b'{"meters": {"c": {}}}'
    assert store.catalogue("acme", 0) is None


def test_an_invoice_of_another_tenant_is_not_found(store: SpendStore) -> None:
    log = Log()
    log.append(topics.INVOICES, invoice("in_1", tenant="acme"))
    store.apply(log.records)
    assert store.invoice("acme", "in_1") is not None
    assert store.invoice("default", "in_1") is None


def test_names_of_any_letters_are_kept_apart(store: SpendStore) -> None:
    log = Log()
    names = ["acme", "a'cme", 'a"cme', "a\\cme", "été", "{:customer}", "a%sb", "acme; --", "\t"]
    for number, name in enumerate(names):
        log.append(topics.LINE_ITEMS, line(f"li_{number}", customer=name, amount=str(number + 1)))
    store.apply(log.records)
    for number, name in enumerate(names):
        assert amounts(store, name) == [str(number + 1)]
        assert ids(store, "line_items", customer=name) == [f"li_{number}"]


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        (topics.LINE_ITEMS, b'{"id": "li_1"}'),
        (topics.INVOICES, b"no JSON"),
        (topics.JOURNAL, b'{"type": "closed"}'),
        (topics.EVENTS, b"\x09\x09"),
        (topics.EVENTS, b"\x01Eno Arrow"),
    ],
)
def test_a_record_that_no_engine_writes_stops_the_store(store: SpendStore, topic: str, value: bytes) -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line("li_9"))
    log.append(topic, _READABLE.get(topic, b""))
    log.append(topic, value)
    with pytest.raises(StoreError, match=f"{topic}, partition 0, offset {log.end(topic) - 1}: "):
        store.apply(log.records)
    assert store.positions() == {}
    assert ids(store, "line_items") == []


def test_clickhouse_converges_after_a_crash_between_two_inserts(chdb_client: Any, log: Log, tmp_path: Any) -> None:
    """Each insert in turn is the last one before the crash; the replay after it gives what no crash would have."""
    whole = DuckdbStore(tmp_path / "whole.duckdb")
    whole.apply(log.records)
    inserts = 0
    while True:
        database = f"crash_{inserts}"
        dying = _Dying(chdb_client, inserts)
        try:
            ClickhouseStore(dying, database).apply(log.records)
            break
        except _Crash:
            store = ClickhouseStore(chdb_client, database)
            assert store.positions() == {}
            store.apply(log.records)
            assert everything(store) == everything(whole)
        finally:
            chdb_client.command(f"DROP DATABASE {database}")
        inserts += 1
    assert inserts == 10


def test_duckdb_rolls_back_what_it_could_not_commit(tmp_path: Any, log: Log, monkeypatch: Any) -> None:
    store = DuckdbStore(tmp_path / "spend.duckdb")
    store.apply(log.records[:5])
    before = everything(store)
    with monkeypatch.context() as patched:
        patched.setattr("rating.spend.duckdb_store._insert", _broken_at)
        with pytest.raises(Exception, match="syntax"):
            store.apply(log.records)
    assert everything(store) == before
    store.apply(log.records)
    progress = store.progress()[0]
    assert (progress.epoch, progress.through, progress.pending) == (1, 5, ())
    assert amounts(store) == ["0.000000000001", "2"]


_READABLE = {topics.EVENTS: tick("2026-11-04T00:00:00Z"), topics.JOURNAL: encode_record(Open(1, "a"))}


class _Crash(Exception):
    pass


class _Dying:
    """A client that dies before its n-th insert."""

    def __init__(self, client: Any, inserts: int) -> None:
        self._client, self._left = client, inserts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def insert_arrow(self, *arguments: Any, **named: Any) -> None:
        if not self._left:
            raise _Crash
        self._left -= 1
        self._client.insert_arrow(*arguments, **named)


def _broken_at(table: str, columns: list[str]) -> str:
    names = ", ".join(columns)
    return (
        "INSERT syntax error"
        if table == "positions"
        else f"INSERT INTO spend.{table} ({names}) SELECT {names} FROM staged"
    )


def test_records_below_a_position_are_not_even_read(store: SpendStore) -> None:
    log = Log()
    log.append(topics.LINE_ITEMS, line())
    store.apply(log.records)
    store.apply([TopicRecord(topics.LINE_ITEMS, 0, 0, 1, b"", b"garbage")])
    assert amounts(store) == ["1.5"]


def test_a_void_without_what_it_names_leaves_no_events(store: SpendStore) -> None:
    log = Log()
    log.events(event("v", "2026-11-01T00:00:00Z", {"source": "cli", "id": "c"}, type="taximeter.void"))
    store.apply(log.records)
    assert store.events(Whose("default", ("acme",)), "llm.request", None, None).to_pylist() == []
