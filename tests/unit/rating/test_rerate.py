"""Re-rating: the past under other prices, exact to the cent, and by corrections alone."""

import json
import re
from typing import Any

import pytest
from hypothesis import given

from rating.engine import RatingEngine
from rating.rerate import preview
from schemas import topics
from schemas.entry import Rerate, encode_rerate
from schemas.numbers import parse_scaled
from schemas.times import parse_time
from streams.processor import Output
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws
from tests.unit.rating.engines import Log, decoded, event, latest_lines, open_engine, plain_dump, run

THROWS = throws(12)
BOOK = """
meters:
  units: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}
  peak: {event: use, aggregate: percentile, percentile: "50", value: $.n}
  who: {event: use, aggregate: unique_count, value: $.who}
  level: {event: set, aggregate: time_weighted, value: $.n, unit: day}
price_books:
  now:
    currency: USD
    charges:
      base: {price: {model: flat, amount: "10"}, when: in_advance}
      late: {price: {model: flat, amount: "4"}}
      units: {meter: units, group_by: [model], price: {model: unit, unit_amount: "2"}}
      none: {meter: units, price: {model: unit, unit_amount: "0"}, minimum: "1"}
  other:
    currency: USD
    charges:
      seat: {price: {model: flat, amount: "7"}}
      units: {meter: units, group_by: [model], price: {model: unit, unit_amount: "3"}}
      none: {meter: units, price: {model: unit, unit_amount: "0"}, minimum: "2.50"}
default_subscription: {price_book: now, period: month}
"""
MONTHS = [
    event("a", "2026-11-05T00:00:00Z", '{"n": 5, "model": "x"}'),
    event("b", "2026-11-20T00:00:00Z", '{"n": 1.5, "model": "y"}'),
    event("c", "2026-12-03T00:00:00Z", '{"n": 4, "model": "x"}'),
]
"""November: 10 + 4 + 10 + 3 + 1 = 28. December, open: 10 + 8 + 1."""


class Diary(Log):
    """A log with re-ratings in it."""

    def rerate(self, since: str = "2026-11-01T00:00:00Z", customer: str = "acme", **changes: Any) -> "Diary":
        """A customer is rated again."""
        self._value(encode_rerate(Rerate(customer=customer, since=since, **changes)), 1)
        return self


def diary(book: str = BOOK, events: list[str] = MONTHS, now: str = "2026-12-10T00:00:00Z") -> Diary:
    log = Diary()
    log.catalogue(book).events(events).tick(now)
    return log


def invoices(outputs: list[Output]) -> list[tuple[str, str, str]]:
    """Kind, month and total of each invoice."""
    return [(o["kind"], o["period"]["start"][:7], o["total"]) for o in decoded(outputs, topics.INVOICES)]


def billed(outputs: list[Output], month: str) -> int:
    found = decoded(outputs, topics.INVOICES)
    return sum(parse_scaled(invoice["total"]) for invoice in found if invoice["period"]["start"].startswith(month))


def amounts(outputs: list[Output]) -> dict[tuple[str, str, str], str]:
    """What every line comes to: (segment's start, charge, group) -> amount."""
    return {
        (item["period"]["start"][:10], item["charge"], ",".join(filter(None, item["dimensions"].values()))): item[
            "amount"
        ]
        for item in latest_lines(outputs).values()
        if (item["amount"], item["quantity"]) != ("0", "0")
    }


def last(log: Log) -> list[Output]:
    """What the log's last entry makes."""
    engine = open_engine()
    for entry in log.entries[:-1]:
        engine.process([entry])
    return engine.process(log.entries[-1:]).outputs


# Today's prices ------------------------------------------------------------------------------------------------------


def test_a_closed_period_under_changed_prices_leaves_a_correction_of_exactly_the_difference() -> None:
    log = diary()
    log.catalogue(BOOK.replace('"2"}', '"2.25"}').replace('"10"', '"8"')).rerate()
    assert invoices(last(log)) == [("correction", "2026-11", "-0.37")]  # -2 + 6.5 * 0.25, line by line: 1.25, 0.375
    (correction,) = decoded(last(log), topics.INVOICES)
    assert [(line["charge"], line["amount"]) for line in correction["lines"]] == [
        ("base", "-2"), ("units", "1.25"), ("units", "0.38"),
    ]  # fmt: skip
    assert amounts(run(log))["2026-11-01", "units", "y"] == "3.375"


def test_a_changed_catalogue_alone_leaves_closed_periods_as_they_were_billed() -> None:
    log = diary()
    log.catalogue(BOOK.replace('"2"}', '"2.25"}'))
    assert not decoded(last(log), topics.INVOICES)
    assert {item["period"]["start"][:7] for item in decoded(last(log), topics.LINE_ITEMS)} == {"2026-12"}


def test_re_rating_twice_is_re_rating_once() -> None:
    log = diary()
    log.catalogue(BOOK.replace('"2"}', '"2.25"}')).rerate().rerate()
    assert last(log) == []
    other = diary().rerate(price_book="other").rerate(price_book="other").rerate()
    assert last(other) == []


def test_the_same_prices_change_nothing() -> None:
    assert last(diary().rerate()) == []


@THROWS
@given(cases())
def test_the_same_prices_change_nothing_whatever_they_are(case: Thrown) -> None:
    engine = open_engine()
    log = Diary()
    log.catalogue(case.catalogue).events(case.events)
    if case.as_of:
        log.tick(case.as_of)
    run(log, engine)
    before = engine.snapshot()
    for number, customer in enumerate(engine.state.customers):
        log.rerate("2000-01-01T00:00:00Z", customer)
        outputs = engine.process(log.entries[-1:]).outputs
        # What came after a close waits for the next tick, or for this.
        assert not [o for o in outputs if o.topic != topics.INVOICES], number
        assert {kind for kind, _, _ in invoices(outputs)} <= {"correction"}
    same = plain_dump(before), plain_dump(engine.snapshot())
    assert same[0]["fired"] == same[1]["fired"]
    assert same[0]["tables"]["lines"][1]["amount"] == same[1]["tables"]["lines"][1]["amount"]


@THROWS
@given(cases())
def test_other_prices_come_to_what_they_would_have_come_to_from_the_beginning(case: Thrown) -> None:
    dearer = re.sub(r"(unit_amount|flat_amount|package_amount|amount): '", r"\g<1>: '1", case.catalogue)
    changed, known = Diary(), Diary()
    for log, text in ((changed, case.catalogue), (known, dearer)):
        log.catalogue(text).events(case.events)
        log.tick(case.as_of or "2026-12-20T00:00:00Z")
    changed.catalogue(dearer)
    engine = open_engine()
    outputs = run(changed, engine)
    for customer in engine.state.customers:
        changed.rerate("2000-01-01T00:00:00Z", customer)
        outputs += engine.process(changed.entries[-1:]).outputs
    assert final_lines(outputs) == final_lines(run(known))
    assert of_closed(outputs, engine) == of_closed(run(known), engine)


def final_lines(outputs: list[Output]) -> dict[str, tuple[str, str]]:
    lines = {id: (item["quantity"], item["amount"]) for id, item in latest_lines(outputs).items()}
    return {id: line for id, line in lines.items() if line != ("0", "0")}


def of_closed(outputs: list[Output], engine: RatingEngine) -> dict[tuple[str, str, str], int]:
    """What all invoices of each closed period come to."""
    found: dict[tuple[str, str, str], int] = {}
    for one in decoded(outputs, topics.INVOICES):
        if parse_time(one["period"]["end"]) <= engine.state.closed_before:
            key = (one["customer"], one["subscription"], one["period"]["start"])
            found[key] = found.get(key, 0) + parse_scaled(one["total"])
    return {key: total for key, total in found.items() if total}


def test_only_periods_that_begin_within_are_rated_again() -> None:
    book = BOOK.replace('"2"}', '"3"}')
    months = [event(f"m{m}", f"2026-{m:02d}-05T00:00:00Z", '{"n": 1, "model": "x"}') for m in (8, 9, 10, 11)]
    log = diary(events=months)
    log.catalogue(book).rerate("2026-09-01T00:00:00Z", until="2026-11-01T00:00:00Z")
    assert invoices(last(log)) == [("correction", "2026-09", "1"), ("correction", "2026-10", "1")]
    assert invoices(last(diary(events=months).catalogue(book).rerate("2026-09-01T00:00:01Z"))) == [  # type: ignore[attr-defined]
        ("correction", "2026-10", "1"), ("correction", "2026-11", "1"),
    ]  # fmt: skip


def test_other_customers_stay_as_they_were() -> None:
    log = diary(events=[*MONTHS, event("z", "2026-11-05T00:00:00Z", '{"n": 9, "model": "x"}', subject="beta")])
    log.catalogue(BOOK.replace('"2"}', '"3"}')).rerate()
    assert {item["customer"] for item in decoded(last(log), topics.LINE_ITEMS)} == {"acme"}


def test_what_was_counted_late_leaves_with_the_same_correction() -> None:
    log = diary()
    log.events([event("late", "2026-11-06T00:00:00Z", '{"n": 1, "model": "x"}')])
    log.catalogue(BOOK.replace('"2"}', '"3"}')).rerate()
    assert invoices(last(log)) == [("correction", "2026-11", "9.5")]  # 3 for the late one, 6.5 for the others
    assert billed(run(log), "2026-11") == parse_scaled("37.5")


def test_corrections_may_wait_for_the_next_invoice() -> None:
    waits = BOOK.replace("currency: USD", "currency: USD\n    corrections: next")
    log = diary(waits)
    log.catalogue(waits.replace('"2"}', '"3"}')).rerate()
    assert invoices(last(log)) == []
    log.tick("2027-01-02T00:00:00Z")
    assert invoices(last(log)) == [("period", "2026-12", "33.5")]  # December 10 + 4 + 12 + 1, and 6.5 of November


def test_levels_that_were_crossed_stay_crossed() -> None:
    book = BOOK.replace("    currency: USD", '    currency: USD\n    thresholds: [{spend: "20"}]', 1)
    log = diary(book, [MONTHS[0], MONTHS[1]], "2026-11-21T00:00:00Z")
    assert invoices(run(log)) == [("threshold", "2026-11", "21")]  # 20 at the very event, and the charge of its minimum
    log.catalogue(book.replace('"2"}', '"1"}')).rerate()
    log.events([event("d", "2026-11-22T00:00:00Z", '{"n": 50, "model": "x"}')])
    assert not decoded(last(log), topics.ALERTS)


def test_a_minimum_is_trued_up_the_other_way() -> None:
    book = BOOK.replace("    currency: USD", '    currency: USD\n    minimum: "30"', 1)
    log = diary(book)
    assert invoices(run(log)) == [("period", "2026-11", "30")]  # 28 and 2 to the commitment
    log.catalogue(book.replace('"2"}', '"3"}')).rerate()
    found = last(log)
    assert invoices(found) == [("correction", "2026-11", "4.5")]  # 34.5 by now: 6.5 more, and 2 of the true-up back
    (correction,) = decoded(found, topics.INVOICES)
    assert (correction["subtotal"], correction["minimum"]) == ("6.5", "-2")


# Versions ------------------------------------------------------------------------------------------------------------

VERSIONED = """
meters:
  units: {event: use, aggregate: sum, value: $.n}
  who: {event: use, aggregate: unique_count, value: $.who}
  level: {event: set, aggregate: time_weighted, value: $.n, unit: day}
  peak: {event: use, aggregate: percentile, percentile: "50", value: $.n}
  pay: {event: use, aggregate: sum, value: $.n}
price_books:
  now:
    versions:
      - currency: USD
        charges: &first
          base: {price: {model: flat, amount: "30"}, prorate: true}
          units: {meter: units, price: {model: graduated, tiers: [{up_to: "4", unit_amount: "1"}, {unit_amount: "2"}]}}
          who: {meter: who, price: {model: unit, unit_amount: "1"}}
          level: {meter: level, price: {model: unit, unit_amount: "1"}}
          peak: {meter: peak, price: {model: unit, unit_amount: "1"}}
          pay: {meter: pay, price: {model: percentage, rate: "0.1", free_amount: "3"}}
"""
SECOND = """      - currency: USD
        effective_from: 2026-11-11T00:00:00Z
        charges:
          base: {price: {model: flat, amount: "60"}, prorate: true}
          units: {meter: units, price: {model: graduated, tiers: [{up_to: "4", unit_amount: "2"}, {unit_amount: "5"}]}}
          who: {meter: who, price: {model: unit, unit_amount: "3"}}
          level: {meter: level, price: {model: unit, unit_amount: "2"}}
          peak: {meter: peak, price: {model: unit, unit_amount: "4"}}
          pay: {meter: pay, price: {model: percentage, rate: "0.2", free_amount: "3"}}
"""
DEFAULT = "default_subscription: {price_book: now, period: month}\n"
USED = [
    event("a", "2026-11-05T00:00:00Z", '{"n": 3, "who": "ann"}'),
    event("b", "2026-11-20T00:00:00Z", '{"n": 4, "who": "bob"}'),
    event("s", "2026-11-01T00:00:00Z", '{"n": 1}', type="set"),
    event("c", "2026-11-21T00:00:00Z", '{"n": 2, "who": "ann"}'),
    event("d", "2026-11-06T00:00:00Z", '{"n": 1, "who": "cyd"}'),
]


@pytest.mark.parametrize("now", ["2026-11-25T00:00:00Z", "2026-12-02T00:00:00Z"], ids=["open", "closed"])
def test_a_version_of_the_past_reaches_what_was_counted_when_it_is_rated_again(now: str) -> None:
    changed = diary(VERSIONED + DEFAULT, USED, now)
    changed.catalogue(VERSIONED + SECOND + DEFAULT)
    before = amounts(run(changed))
    assert ("2026-11-11", "units", "") not in before and before["2026-11-01", "units", ""] == "16"
    changed.rerate()
    known = diary(VERSIONED + SECOND + DEFAULT, USED, now)
    assert amounts(run(changed)) == amounts(run(known))
    assert billed(run(changed), "2026-11") == billed(run(known), "2026-11")
    late = [
        event("e", "2026-11-12T00:00:00Z", '{"n": 7, "who": "dan"}'),
        event("f", "2026-11-02T00:00:00Z", '{"n": 1}'),
    ]
    for log in (changed, known):
        log.events(late).tick("2026-12-03T00:00:00Z")
    assert amounts(run(changed)) == amounts(run(known))
    assert billed(run(changed), "2026-11") == billed(run(known), "2026-11")


def test_late_usage_of_a_closed_period_finds_the_segment_that_was_cut_since() -> None:
    log = diary(VERSIONED + DEFAULT, USED, "2026-12-02T00:00:00Z")
    log.catalogue(VERSIONED + SECOND + DEFAULT)
    log.events([event("e", "2026-11-12T00:00:00Z", '{"n": 1, "who": "dan"}')])
    outputs = run(log)
    revisions: dict[tuple[str, int], Any] = {}
    for item in decoded(outputs, topics.LINE_ITEMS):
        assert revisions.setdefault((item["id"], item["revision"]), item) == item
    assert amounts(outputs)["2026-11-01", "units", ""] == "16"
    assert amounts(outputs)["2026-11-11", "units", ""] == "5"  # the eleventh unit under the second version


# Another price book --------------------------------------------------------------------------------------------------


def test_another_price_book_takes_the_place_of_the_one_that_was_billed() -> None:
    log = diary().rerate(until="2026-12-01T00:00:00Z", price_book="other", id="r-1", reason="agreed by mail")
    outputs = last(log)
    assert invoices(outputs) == [("correction", "2026-11", "1")]  # 7 + 19.5 + 2.5 = 29, billed were 28
    (correction,) = decoded(outputs, topics.INVOICES)
    assert sorted((line["charge"], line["amount"]) for line in correction["lines"]) == [
        ("base", "-10"), ("late", "-4"), ("none", "1.5"), ("seat", "7"), ("units", "1.5"), ("units", "5"),
    ]  # fmt: skip
    lines = {(item["charge"], item["quantity"]): item for item in decoded(outputs, topics.LINE_ITEMS)}
    assert {item["price_book"] for item in lines.values()} == {"other"}
    assert (lines["base", "0"]["amount"], lines["seat", "1"]["amount"]) == ("0", "7")


def test_it_stays_for_late_usage_for_changed_prices_and_in_a_snapshot() -> None:
    log = diary().rerate(price_book="other")
    log.events(
        [
            event("l", "2026-11-07T00:00:00Z", '{"n": 2, "model": "x"}'),
            event("o", "2026-12-07T00:00:00Z", '{"n": 1, "model": "z"}'),
        ]
    )
    assert amounts(run(log))["2026-11-01", "units", "x"] == "21"
    assert amounts(run(log))["2026-12-01", "units", "z"] == "3"
    log.catalogue(BOOK.replace('"3"}', '"5"}')).rerate()
    log.tick("2027-01-02T00:00:00Z")
    outputs = run(log)
    assert amounts(outputs)["2026-11-01", "units", "x"] == "35"
    assert amounts(outputs)["2026-12-01", "units", "z"] == "5"
    assert amounts(outputs)["2027-01-01", "base", ""] == "10"  # what comes after is under the subscription's own
    whole = open_engine()
    steps = [whole.process([entry]) for entry in log.entries]
    engine = open_engine()
    for entry, expected in zip(log.entries, steps, strict=True):
        engine = open_engine(engine.snapshot())
        assert engine.process([entry]) == expected
    assert plain_dump(engine.snapshot()) == plain_dump(whole.snapshot())
    other = open_engine()
    assert [other.process([entry]) for entry in log.entries] == steps


def test_naming_the_own_book_brings_a_period_back() -> None:
    log = diary().rerate(price_book="other").rerate(price_book="now")
    assert billed(run(log), "2026-11") == parse_scaled("28")
    items = decoded(last(log), topics.LINE_ITEMS)
    assert {item["price_book"] for item in items} == {"now"}


def test_overrides_of_the_customer_and_the_subscription_hold_under_the_other_book() -> None:
    own = """
customers: {acme: {overrides: {charges: {units: {price: {model: unit, unit_amount: "4"}}}}}}
subscriptions:
  s:
    {customer: acme, price_book: now, start: 2026-11-01T00:00:00Z,
     overrides: {charges: {base: {prorate: false}, none: {minimum: "6"}}}}
"""
    log = diary(BOOK + own).rerate(price_book="other")
    found = amounts(run(log))
    assert found["2026-11-01", "units", "x"] == "20"
    assert found["2026-11-01", "none", ""] == "6"


def test_a_period_without_usage_is_asked_what_the_other_book_asks_of_none() -> None:
    log = diary(events=[MONTHS[2]], now="2027-02-02T00:00:00Z")
    log.rerate("2027-01-01T00:00:00Z", until="2027-02-01T00:00:00Z", price_book="other")
    assert invoices(last(log)) == [("correction", "2027-01", "-5.5")]  # 7 + 2.5 in place of 10 + 4 + 1


# What is not kept any more --------------------------------------------------------------------------------------------


def test_long_after_the_close_totals_are_rated_again_and_what_needs_single_events_stays() -> None:
    many = [event(f"m{i}", "2026-11-05T00:00:00Z", '{"n": 1, "model": "x"}') for i in range(1200)]
    text = BOOK.replace(
        "charges:\n      base",
        'charges:\n      middle: {meter: peak, price: {model: unit, unit_amount: "7"}}\n      base',
        1,
    )
    log = diary(text, many, "2026-12-02T00:00:00Z").tick("2027-01-20T00:00:00Z")
    assert isinstance(log, Diary)
    log.catalogue(text.replace('"2"}', '"3"}').replace('"7"}', '"8"}')).rerate()
    assert invoices(last(log))[0] == ("correction", "2026-11", "1200")
    engine = open_engine()
    for entry in log.entries[:-1]:
        engine = open_engine(engine.snapshot())
        engine.process([entry])
    assert engine.process(log.entries[-1:]).outputs == last(log)
    shown = preview(engine.state, Rerate(customer="acme", since="2026-11-01T00:00:00Z"))
    assert [(item.charge, why.partition(":")[0]) for item, why in shown.left] == [
        ("middle", "its price needs every single event, and those of this period are no longer kept")
    ]


def test_what_can_no_longer_be_told_apart_stays_under_the_earlier_version() -> None:
    many = [event(f"m{i}", f"2026-11-{1 + i % 28:02d}T00:00:00Z", '{"n": 1, "who": "ann"}') for i in range(1200)]
    log = diary(VERSIONED + DEFAULT, many, "2026-12-02T00:00:00Z").tick("2027-01-20T00:00:00Z")
    log.catalogue(VERSIONED + SECOND + DEFAULT)
    engine = open_engine()
    before = amounts(run(log, engine))["2026-11-01", "units", ""]
    shown = preview(engine.state, Rerate(customer="acme", since="2026-11-01T00:00:00Z"))
    assert {item.charge: why for item, why in shown.left}["units"].startswith("the events of this period are no longer")
    assert {item.charge: item.amount for item in shown.after.values()}["units"] == before


# What is refused -----------------------------------------------------------------------------------------------------

UNFIT = """
  unfit:
    currency: USD
    charges:
      units: {meter: units, price: {model: unit, unit_amount: "3"}}
      extra: {meter: units, price: {model: unit, unit_amount: "3"}}
  dear: {currency: EUR, charges: {units: {meter: units, group_by: [model], price: {model: unit, unit_amount: "3"}}}}
  young: {currency: USD, effective_from: 2026-12-15T00:00:00Z, charges: {}}
"""


@pytest.mark.parametrize(
    ("book", "words"),
    [
        ("unfit", ["units: unfit (version 1) reads usage otherwise than now (version 1)", "extra: unfit (version 1)",
                   "none: now (version 1) charges usage by it, unfit (version 1) has no such charge"]),
        ("dear", ["dear: found the currency EUR, expected USD"]),
        ("young", ["price_book: no version of young is in force at 2026-11-01T00:00:00Z"]),
        ("othr", ["price_book: no such price book: found 'othr' (did you mean 'other'?)"]),
    ],
)  # fmt: skip
def test_a_book_that_does_not_fit_changes_nothing_and_is_a_rejection(book: str, words: list[str]) -> None:
    text = BOOK.replace("default_subscription", UNFIT.lstrip("\n") + "default_subscription")
    log = diary(text).rerate(price_book=book)
    found = last(log)
    (rejection,) = decoded(found, topics.REJECTIONS)
    assert len(found) == 1 and rejection["code"] == "rerate_refused"
    assert rejection["event"]["price_book"] == book
    for word in words:
        assert word in rejection["message"]
    log.events([event("l", "2026-12-07T00:00:00Z", '{"n": 2, "model": "x"}')])
    assert amounts(run(log))["2026-12-01", "units", "x"] == "12"


def test_an_unknown_customer_changes_nothing_and_is_a_rejection() -> None:
    found = last(diary().rerate(customer="nobody"))
    (rejection,) = decoded(found, topics.REJECTIONS)
    assert len(found) == 1
    assert rejection["message"] == "customer: found 'nobody', expected a customer that has used something"
    assert json.loads(encode_rerate(Rerate(customer="c", since="2026-11-01T00:00:00Z"))[2:]) == {
        "customer": "c",
        "from": "2026-11-01T00:00:00Z",
    }
