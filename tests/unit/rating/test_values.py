"""Expressions and conversions of single events on their way through the engine: line items and rejections."""

import pytest

from schemas import topics
from tests.unit.rating.engines import Log, decoded, event, latest_lines, run

BOOK = """
meters:
  cost: {event: use, aggregate: sum, value: "$.in + 3 * coalesce($.out, 0)", dimensions: {kind: $.kind}}
  share: {event: use, aggregate: max, value: "$.in / $.whole", convert: {multiply: "100", per: event, round: up}}
  large: {event: use, aggregate: sum, value: $.in, convert: {multiply: "1e20", per: event}}
price_books:
  b:
    currency: USD
    charges:
      cost: {meter: cost, group_by: [kind], price: {model: unit, unit_amount: "0.01"}}
      share: {meter: share, price: {model: unit, unit_amount: "1"}}
      large: {meter: large, price: {model: unit, unit_amount: "0"}}
subscriptions:
  one: {customer: acme, price_book: b, start: 2026-11-01T00:00:00Z}
  two: {customer: acme, price_book: b, start: 2026-11-01T00:00:00Z, period: hour}
"""
TIME = "2026-11-02T10:15:00Z"
EVENTS = [
    event("a", TIME, '{"in": 10, "out": 2, "whole": 3, "kind": "x"}'),
    event("b", TIME, '{"in": "0.5", "whole": 4}'),
    event("c", TIME, '{"out": 2, "whole": 0}'),
    event("d", TIME, '{"in": 1e7, "out": "many", "whole": 0}'),
    event("e", TIME, '{"in": 1, "out": 1e25, "whole": 1}'),
]


def values(size: int) -> tuple[set[tuple[str, ...]], list[tuple[str, ...]]]:
    """(subscription, charge, kind, quantity) of the line items, and (event, meter, code, path) of the rejections."""
    outputs = run(Log().catalogue(BOOK).events(EVENTS, size))
    lines = {
        (item["subscription"], item["charge"], item["dimensions"].get("kind") or "-", item["quantity"])
        for item in latest_lines(outputs).values()
    }
    rejected = [
        (r["event"]["id"], r["meter"], r["code"], r.get("path") or "-") for r in decoded(outputs, topics.REJECTIONS)
    ]
    return lines, sorted(rejected)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_values_of_expressions_and_conversions_are_counted_or_refused_by_name(size: int) -> None:
    lines, rejected = values(size)
    expected = {("cost", "x", "16"), ("cost", "-", "30000000000000000000000001.5"), ("share", "-", "334")}
    expected.add(("large", "-", "1150000000000000000000"))
    assert lines == {(subscription, *line) for subscription in ("one", "two") for line in expected}
    assert rejected == [
        ("c", "cost", "missing_value", "data.in"),
        ("c", "large", "missing_value", "data.in"),
        ("c", "share", "missing_value", "data.in"),
        ("d", "cost", "invalid_value", "data.out"),
        ("d", "large", "out_of_range", "data.in"),
        ("d", "share", "invalid_value", "data.whole"),
    ]


def test_the_message_says_what_divided_by_nought() -> None:
    outputs = run(Log().catalogue(BOOK).events([EVENTS[3]]))
    (found,) = [r for r in decoded(outputs, topics.REJECTIONS) if r["meter"] == "share"]
    message = "found a division by nought at character 6 of '$.in / $.whole', expected another number"
    assert found["message"] == message


def test_an_hour_is_a_billing_period() -> None:
    outputs = run(Log().catalogue(BOOK).events([EVENTS[0]]))
    periods = {item["subscription"]: item["period"] for item in latest_lines(outputs).values()}
    assert periods["two"] == {"start": "2026-11-02T10:00:00Z", "end": "2026-11-02T11:00:00Z"}
