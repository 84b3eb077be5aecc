"""A line's revision counts what has happened to it since its first event, however the log is cut."""

import pytest

from tests.unit.rating.engines import Log, event, latest_lines, open_engine

BOOK = """
meters: {m: {event: use, aggregate: sum, value: $.n}}
price_books:
  book:
    versions:
    - {currency: USD, charges: &charges {c: {meter: m, price: {model: graduated, tiers: [
        {up_to: 5, unit_amount: "2"}, {unit_amount: "1"}]}}}}
    - {currency: USD, charges: *charges, effective_from: "2026-11-10T00:00:00Z"}
subscriptions: {s: {customer: acme, price_book: book, start: "2026-11-01T00:00:00Z"}}
"""
EVENTS = [
    event("e0", "2026-11-05T00:00:00Z", '{"n": 3}'),
    event("v", "2026-11-05T00:00:00Z", '{"source": "gate", "id": "e0"}', type="taximeter.void"),
    event("e1", "2026-11-16T00:00:00Z", '{"n": 7}'),
    event("e2", "2026-11-17T00:00:00Z", '{"n": 1}'),
]


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_void_before_the_first_event_of_a_later_segment_does_not_count_there(at_once: int) -> None:
    log = Log().catalogue(BOOK).events(EVENTS, batch=1)
    engine = open_engine()
    outputs = list(engine.process(log.entries[:1]).outputs)
    for start in range(1, len(log.entries), at_once):
        outputs += engine.process(log.entries[start : start + at_once]).outputs
    found = {line["period"]["start"]: line for line in latest_lines(outputs).values()}
    later = found["2026-11-10T00:00:00Z"]
    assert (later["quantity"], later["amount"], later["events"], later["revision"]) == ("8", "13", 2, 2)
