"""What a void may still name is kept: rows of the ledger go with their whole period, not with a segment of it."""

import pytest

from tests.unit.rating.engines import Log, event, latest_lines, open_engine, run
from tests.unit.rating.test_rerate import Diary

BOOK = """
meters: {m: {event: use, aggregate: sum, value: $.n}}
price_books:
  book:
    versions:
    - {currency: USD, charges: &charges {c: {meter: m, price: {model: unit, unit_amount: "2"}}}}
    - {currency: USD, charges: *charges, effective_from: "2026-11-10T00:00:00Z"}
subscriptions: {s: {customer: acme, price_book: book, start: "2026-11-01T00:00:00Z"}}
"""
MANY = 1200
"""Fewer rows would not be worth dropping."""


@pytest.mark.parametrize(
    ("now", "left"),
    [
        ("2026-12-17T00:00:00Z", MANY - 1),  # 35 days after the segment's end, and not after the period's
        ("2027-01-06T00:00:00Z", MANY),  # 35 days after the period's end: refused
    ],
)
def test_a_void_of_an_early_segment_counts_as_long_as_the_period_is_corrected(now: str, left: int) -> None:
    early = [event(f"e{n}", "2026-11-05T00:00:00Z") for n in range(MANY)]
    late = [event("late", "2026-11-15T00:00:00Z")]
    void = [event("v", "2026-11-05T00:00:00Z", '{"source": "gate", "id": "e7"}', type="taximeter.void")]
    log = Log().catalogue(BOOK).events(early + late).tick("2026-12-01T00:00:00Z").tick(now).events(void)
    lines = {line["period"]["start"]: line for line in latest_lines(run(log)).values()}
    found = lines["2026-11-01T00:00:00Z"]
    assert (found["quantity"], found["amount"], found["events"]) == (str(left), str(2 * left), left)


PERCENTILE = """
meters: {m: {event: use, aggregate: percentile, percentile: "50", value: $.n}}
price_books:
  book: {currency: USD, charges: {c: {meter: m, price: {model: unit, unit_amount: "2"}}}}
  other: {currency: USD, charges: {c: {meter: m, price: {model: unit, unit_amount: "3"}}}}
default_subscription: {price_book: book, period: month}
"""


def test_a_line_whose_events_are_gone_says_the_same_after_a_restart() -> None:
    log = Diary()
    log.catalogue(PERCENTILE).events(event(f"e{n}", "2026-11-05T00:00:00Z") for n in range(MANY))
    log.tick("2026-12-01T00:00:00Z").tick("2027-01-06T00:00:00Z")
    log.rerate(price_book="other")
    engine = open_engine()
    for entry in log.entries[:-1]:
        engine.process([entry])
    again = open_engine(engine.snapshot())
    said = [list(one.process(log.entries[-1:]).outputs) for one in (engine, again)]
    assert said[0] == said[1]
    assert len(said[0]) == 1
