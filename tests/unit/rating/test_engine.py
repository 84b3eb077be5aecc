"""The engine's promises: time, closing, changes of the catalogue, snapshots; whatever the cut."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.engine import RatingSettings
from schemas import topics
from schemas.times import HOUR
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws
from tests.unit.rating.engines import Log, decoded, event, latest_lines, open_engine, plain_dump, run

THROWS = throws(12)
BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}}
price_books:
  book:
    currency: USD
    charges: {units: {meter: units, price: {model: unit, unit_amount: "2"}}}
default_subscription: {price_book: book, period: month}
"""


def log_of(case: Thrown, batch: int = 4) -> Log:
    log = Log().catalogue(case.catalogue).events(case.events, batch)
    return log.tick(case.as_of) if case.as_of else log


# Snapshots -----------------------------------------------------------------------------------------------------------


@THROWS
@given(cases(), st.randoms(use_true_random=False))
def test_a_snapshot_at_any_cut_goes_on_with_the_same_bytes(case: Thrown, dice: random.Random) -> None:
    log = log_of(case)
    whole = open_engine()
    steps = [whole.process([entry]) for entry in log.entries]
    engine = open_engine()
    for entry, expected in zip(log.entries, steps, strict=True):
        if dice.random() < 0.5:
            engine = open_engine(engine.snapshot())
        assert engine.process([entry]) == expected
    assert plain_dump(engine.snapshot()) == plain_dump(whole.snapshot())


@THROWS
@given(cases())
def test_a_snapshot_of_a_snapshot_is_the_same(case: Thrown) -> None:
    engine = open_engine()
    run(log_of(case), engine)
    once = open_engine(engine.snapshot()).snapshot()
    assert plain_dump(once) == plain_dump(engine.snapshot())
    assert open_engine(once).snapshot() == open_engine(open_engine(once).snapshot()).snapshot()


@THROWS
@given(cases())
def test_the_same_steps_give_the_same_bytes_and_summaries(case: Thrown) -> None:
    log = log_of(case)
    one, other = open_engine(), open_engine()
    for entry in log.entries:
        assert one.process([entry]) == other.process([entry])
    assert one.snapshot() == other.snapshot()


def test_a_snapshot_of_another_partition_or_a_newer_version_is_refused() -> None:
    raw = open_engine().snapshot()
    with pytest.raises(ValueError, match="partition"):
        open_engine(raw, RatingSettings(partitions=2))
    dump = msgspec.msgpack.decode(raw) | {"version": 99}
    with pytest.raises(ValueError, match="version 99"):
        open_engine(msgspec.msgpack.encode(dump))


# Time ----------------------------------------------------------------------------------------------------------------


def test_a_tick_never_goes_back() -> None:
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")])
    log.tick("2026-12-01T00:00:00Z").tick("2026-11-02T00:00:00Z").events([event("b", "2026-11-06T00:00:00Z")])
    outputs = run(log.tick("2026-12-01T00:00:00Z"))
    assert decoded(outputs, topics.REJECTIONS) == []
    assert [invoice["total"] for invoice in decoded(outputs, topics.INVOICES)] == ["2"]


def test_the_same_tick_twice_changes_nothing() -> None:
    engine = open_engine()
    run(Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")]), engine)
    log = Log().tick("2026-12-01T00:00:00Z")
    assert len(run(log, engine)) == 1
    assert run(log, engine) == []


def test_after_the_close_usage_of_the_period_is_a_correction_at_the_next_tick() -> None:
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")]).tick("2026-12-01T00:00:00Z")
    log.events([event("b", "2026-11-30T23:59:59.999999Z"), event("c", "2026-12-01T00:00:00Z")])
    outputs = run(log.tick("2026-12-01T00:00:01Z").tick("2026-12-01T00:00:02Z"))
    assert decoded(outputs, topics.REJECTIONS) == []
    assert sorted(i["amount"] for i in latest_lines(outputs).values()) == ["2", "4"]
    invoices = [(i["kind"], i["total"]) for i in decoded(outputs, topics.INVOICES)]
    assert invoices == [("period", "2"), ("correction", "2")]


def test_a_period_that_is_closed_for_too_long_is_not_corrected() -> None:
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")]).tick("2027-01-05T00:00:00Z")
    outputs = run(log.events([event("b", "2026-11-30T00:00:00Z")]))
    [rejection] = decoded(outputs, topics.REJECTIONS)
    assert (rejection["code"], rejection["event"]["id"], rejection["path"], rejection["meter"]) == (
        "period_closed", "b", "time", "units",
    )  # fmt: skip


def test_lateness_keeps_a_period_open() -> None:
    engine = open_engine(settings=RatingSettings(lateness=HOUR))
    log = Log().catalogue(BOOK).tick("2026-12-01T00:59:59.999999Z").events([event("a", "2026-11-30T23:00:00Z")])
    assert len(latest_lines(run(log, engine))) == 1
    late = Log().catalogue(BOOK).tick("2026-12-01T01:00:00Z").events([event("b", "2026-11-30T23:00:00Z")])
    late.entries = late.entries[1:]
    outputs = run(late, engine)
    assert [invoice["kind"] for invoice in decoded(outputs, topics.INVOICES)] == ["period"]
    after = Log().catalogue(BOOK).tick("2026-12-01T01:00:01Z")
    after.entries = after.entries[1:]
    assert [invoice["kind"] for invoice in decoded(run(after, engine), topics.INVOICES)] == ["correction"]


# Changes of the catalogue --------------------------------------------------------------------------------------------


def test_a_changed_price_re_rates_open_lines_and_no_closed_ones() -> None:
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z"), event("b", "2026-12-05T00:00:00Z")])
    log.tick("2026-12-01T00:00:00Z").catalogue(BOOK.replace('"2"', '"3"'))
    lines = {i["period"]["start"]: i for i in latest_lines(run(log)).values()}
    assert lines["2026-11-01T00:00:00Z"]["amount"] == "2"
    assert lines["2026-12-01T00:00:00Z"]["amount"] == "3"
    assert lines["2026-12-01T00:00:00Z"]["tiers"][0]["unit_amount"] == "3"


def test_the_same_documents_again_change_nothing() -> None:
    engine = open_engine()
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")])
    run(log, engine)
    before = plain_dump(engine.snapshot())
    assert run(Log().catalogue(BOOK), engine) == []
    assert plain_dump(engine.snapshot()) | {"whole": None} == before | {"whole": None}


def test_usage_after_a_change_counts_on() -> None:
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")]).catalogue(BOOK.replace('"2"', '"3"'))
    log.events([event("b", "2026-11-06T00:00:00Z"), event("a", "2026-11-05T00:00:00Z")])
    [line] = latest_lines(run(log)).values()
    assert (line["quantity"], line["amount"], line["events"]) == ("2", "6", 2)


SUBSCRIBED = """
price_books:
  another:
    currency: EUR
    charges: {units: {meter: units, price: {model: unit, unit_amount: "100"}}}
meters: {units: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}}
subscriptions: {acme-1: {customer: acme, price_book: another, start: 2026-12-01T00:00:00Z}}
"""


def test_a_subscription_of_its_own_leaves_the_default_ones_bill_as_it_was() -> None:
    """The book `another` stands before `book`: what is known by its place must not be mixed up."""
    log = Log().catalogue(BOOK).events([event("a", "2026-11-05T00:00:00Z")])
    log.catalogue(SUBSCRIBED).events([event("b", "2026-12-05T00:00:00Z")])
    outputs = run(log.tick("2027-01-01T00:00:00Z"))
    lines = {item["subscription"]: item for item in latest_lines(outputs).values()}
    assert (lines["default"]["price_book"], lines["default"]["currency"], lines["default"]["amount"]) == (
        "book", "USD", "2",
    )  # fmt: skip
    assert (lines["acme-1"]["price_book"], lines["acme-1"]["amount"]) == ("another", "100")
    assert {i["subscription"]: i["total"] for i in decoded(outputs, topics.INVOICES)} == {
        "default": "2",
        "acme-1": "100",
    }


def test_documents_that_are_not_named_again_stay_in_force() -> None:
    more = "meters: {calls: {event: call, aggregate: count}}"
    log = Log().catalogue(BOOK).catalogue(more).events([event("a", "2026-11-05T00:00:00Z")])
    assert [line["amount"] for line in latest_lines(run(log)).values()] == ["2"]


# The cut -------------------------------------------------------------------------------------------------------------


def outcome(catalogue: str, texts: list[str], batch: int) -> Any:
    log = Log().catalogue(catalogue).events(texts, batch)
    outputs = run(log)
    rest = [output for output in outputs if output.topic != topics.LINE_ITEMS]
    return latest_lines(outputs), rest


@pytest.mark.parametrize("aggregate", ["sum", "avg", "max", "min", "latest"])
def test_a_price_below_nought_crosses_levels_whatever_the_cut(aggregate: str) -> None:
    """Spend falls as usage rises: the level is reached in between, by the event that takes usage back."""
    book = BOOK.replace('"2"', '"-1"').replace("currency: USD", "currency: USD\n    thresholds: [{spend: 3}]")
    book = book.replace("aggregate: sum", f"aggregate: {aggregate}")
    values = ["-5", "5", "1", "7"] if aggregate != "max" else ["-5", "7"]
    texts = [event(f"e{i}", f"2026-11-05T00:00:0{i}Z", f'{{"n": {value}}}') for i, value in enumerate(values)]
    assert outcome(book, texts, 1000) == outcome(book, texts, 1)
    [invoice] = decoded(outcome(book, texts, 1000)[1], topics.INVOICES)
    assert (invoice["because"]["event"]["id"], invoice["total"]) == ("e0", "5")


def test_after_a_long_silence_the_cut_does_not_show() -> None:
    day = 86_400_000_000
    first, others = (
        event("a", "2026-11-05T00:00:00Z"),
        [event("b", "2026-11-06T00:00:00Z"), event("a", "2026-11-05T00:00:00Z")],
    )
    log = Log().catalogue(BOOK).events([first], arrived=0).events(others, 1, arrived=100 * day)
    one, other = (open_engine(settings=RatingSettings()) for _ in range(2))
    one.process(log.entries)
    for entry in log.entries:
        other.process([entry])
    assert plain_dump(one.snapshot()) == plain_dump(other.snapshot())


def test_a_customer_that_gets_a_subscription_of_its_own_leaves_the_default_for_good() -> None:
    default = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: USD, charges: {fee: {price: {model: flat, amount: 7}, when: in_advance},
  units: {meter: units, price: {model: unit, unit_amount: 1}}}}}
default_subscription: {price_book: book}
"""
    own = default + "subscriptions: {mine: {customer: acme, price_book: book, start: 2026-12-01T00:00:00Z}}\n"
    log = Log().catalogue(default).events([event("a", "2026-11-05T00:00:00Z")]).catalogue(own)
    outputs = run(log.tick("2026-12-01T00:00:00Z").tick("2027-01-01T00:00:00Z").tick("2027-02-01T00:00:00Z"))
    found = [(i["subscription"], i["period"]["start"][:7]) for i in decoded(outputs, topics.INVOICES)]
    assert found == [("default", "2026-11"), ("mine", "2026-12"), ("mine", "2027-01")]
