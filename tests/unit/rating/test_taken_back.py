"""What a period holds when everything is taken back, when nothing is used, and after it is closed."""

import pytest

from schemas import topics
from tests.unit.rating.engines import Log, decoded, event, latest_lines, run

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books:
  book:
    currency: USD
    charges:
      units: {meter: units, price: {model: unit, unit_amount: "2"}}
      %s
    thresholds: [{spend: "10"}]
subscriptions: {s: {customer: acme, price_book: book, start: 2026-11-01T00:00:00Z}}
"""
FREE = 'platform: {price: {model: flat, amount: "0"}}'


def void(id: str) -> str:
    data = f'{{"source": "gate", "id": "{id}"}}'
    return event(f"void-{id}", "2026-11-01T00:00:00Z", data, type="taximeter.void")


def test_a_flat_charge_of_nought_has_a_line() -> None:
    [line] = latest_lines(run(Log().catalogue(BOOK % FREE).tick("2026-12-01T00:00:00Z"))).values()
    assert (line["charge"], line["quantity"], line["amount"]) == ("platform", "1", "0")


def test_an_event_that_was_taken_back_leaves_no_time_behind() -> None:
    log = Log().catalogue(BOOK % "").events([event("a", "2026-11-20T00:00:00Z"), void("a")], 1)
    [line] = latest_lines(run(log.events([event("b", "2026-11-10T00:00:00Z")]))).values()
    assert (line["events"], line["first_event"], line["last_event"]) == (
        1,
        "2026-11-10T00:00:00Z",
        "2026-11-10T00:00:00Z",
    )


def test_a_closed_period_crosses_no_level() -> None:
    log = Log().catalogue(BOOK % "").events([event("a", "2026-11-10T00:00:00Z")]).tick("2026-12-01T00:00:00Z")
    outputs = run(log.events([event("b", "2026-11-11T00:00:00Z", '{"n": 9}')]).tick("2026-12-02T00:00:00Z"))
    assert [(i["kind"], i["total"]) for i in decoded(outputs, topics.INVOICES)] == [
        ("period", "2"),
        ("correction", "18"),
    ]
    assert not decoded(outputs, topics.ALERTS)


@pytest.mark.parametrize(
    "trial", ["trial_end: 2026-11-05T00:00:00Z", "phases: [{start: 2026-11-15T00:00:00Z, trial: true}]"]
)
def test_a_period_that_is_a_trial_in_part_watches_the_levels_of_the_rest(trial: str) -> None:
    text = (BOOK % "").replace("start: 2026-11-01T00:00:00Z", f"start: 2026-11-01T00:00:00Z, {trial}")
    outputs = run(Log().catalogue(text).events([event("a", "2026-11-10T00:00:00Z", '{"n": 9}')]))
    assert [(i["kind"], i["total"]) for i in decoded(outputs, topics.INVOICES)] == [("threshold", "18")]


def test_a_void_for_a_period_that_is_closed_for_too_long_is_refused() -> None:
    log = Log().catalogue(BOOK % "").events([event("a", "2026-11-05T00:00:00Z")])
    log.tick("2026-12-01T00:00:00Z").tick("2027-01-10T00:00:00Z")
    outputs = run(log.events([void("a")]).tick("2027-01-11T00:00:00Z"))
    [rejection] = decoded(outputs, topics.REJECTIONS)
    assert (rejection["code"], rejection["path"], rejection["event"]["id"]) == ("period_closed", "data", "void-a")
    assert [invoice["kind"] for invoice in decoded(outputs, topics.INVOICES)] == ["period"]
