"""A void without whose event a number would not fit 38 digits is refused, and changes nothing."""

import pytest

import rating.stages
from schemas import topics
from streams.processor import Counts, Output
from tests.unit.rating.engines import Log, decoded, event, latest_lines, open_engine, plain_dump, run

BOOK = """
meters: {units: {event: use, aggregate: %s, value: $.n}}
price_books:
  book:
    currency: USD
    charges:
      one: {meter: units, price: {model: unit, unit_amount: "1"}}
      two: {meter: units, price: {model: unit, unit_amount: "1"}}
      three: {meter: units, price: {model: unit, unit_amount: "1"}}
    %s
default_subscription: {price_book: book}
"""
WATCHED = 'thresholds: [{spend: "1e24"}]'
TIME = "2026-11-05T00:00:00Z"


@pytest.fixture(autouse=True, params=["compiled", "by columns"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by columns":
        monkeypatch.setattr(rating.stages, "is_there", lambda: False)


def use(id: str, number: str, **changes: str) -> str:
    return event(id, TIME, f'{{"n": {number}}}', **changes)


def void(id: str, of: str) -> str:
    return event(id, TIME, f'{{"source": "gate", "id": "{of}"}}', type="taximeter.void")


def told(outputs: list[Output]) -> dict[str, tuple[str, str]]:
    """Each charge's quantity and amount."""
    return {line["charge"]: (line["quantity"], line["amount"]) for line in latest_lines(outputs).values()}


def refused(outputs: list[Output]) -> list[tuple[str, str, str | None]]:
    found = decoded(outputs, topics.REJECTIONS)
    return [(one["event"]["id"], one["code"], one.get("path")) for one in found]


@pytest.mark.parametrize("levels", ["", WATCHED])
@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_what_would_not_fit_is_refused_and_the_engine_goes_on(batch: int, levels: str) -> None:
    texts = [use("a", "33e24"), use("b", "-33e24"), use("c", "33e24"), void("v", "b"), use("d", "-1e24")]
    outputs = run(Log().catalogue(BOOK % ("sum", levels)).events(texts, batch))
    assert refused(outputs) == [("v", "out_of_range", "data")]
    amount = "32" + "0" * 24
    assert told(outputs) == dict.fromkeys(("one", "two", "three"), (amount, amount))
    [rejection] = decoded(outputs, topics.REJECTIONS)
    assert rejection["message"].startswith(f"taking it back would leave what does not fit: 198{'0' * 24} has more than")


@pytest.mark.parametrize("levels", ["", WATCHED])
@pytest.mark.parametrize("beside", ["sum", "unique_count", "max", "latest", "percentile, percentile: 50"])
def test_nothing_of_the_state_changes(beside: str, levels: str) -> None:
    texts = [use("a", "33e24"), use("b", "-33e24"), use("c", "33e24")]
    book = (BOOK % ("sum", levels)).replace(
        "meters: {", f"meters: {{other: {{event: use, aggregate: {beside}, value: $.n}}, "
    )
    book = book.replace(
        "    charges:\n", '    charges:\n      beside: {meter: other, price: {model: unit, unit_amount: "0.01"}}\n'
    )
    one, other = open_engine(), open_engine()
    assert refused(run(Log().catalogue(book).events([*texts, void("v", "b")], 1), one)) == [
        ("v", "out_of_range", "data")
    ]
    assert refused(run(Log().catalogue(book).events([*texts, void("v", "never")], 1), other)) == []
    left, right = (plain_dump(engine.snapshot()) for engine in (one, other))
    for name in ("bills", "lines", "cells", "ledger"):
        assert left["tables"][name] == right["tables"][name], name
    assert left["indexes"]["values_seen"] == right["indexes"]["values_seen"]
    assert left["totals"]["charges"] == right["totals"]["charges"]
    assert one.state.kept == other.state.kept


def test_it_counts_as_a_void_and_its_retry_as_a_duplicate() -> None:
    engine = open_engine()
    texts = [use("a", "33e24"), use("b", "-33e24"), use("c", "33e24"), void("v", "b"), void("v", "b")]
    outputs = run(Log().catalogue(BOOK % ("sum", "")).events(texts), engine)
    assert len(refused(outputs)) == 1
    counts: Counts = engine.state.totals.as_counts()
    assert (counts.accepted, counts.rated, counts.voids, counts.duplicates) == (4, 3, 1, 1)
    assert (counts.rejected, counts.taken_back, counts.refused) == (1, 0, 0)


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_its_event_can_be_taken_back_later(batch: int) -> None:
    texts = [use("a", "33e24"), use("b", "-33e24"), use("c", "33e24"), void("v", "b"), void("w", "a"), void("x", "b")]
    engine = open_engine()
    outputs = run(Log().catalogue(BOOK % ("sum", "")).events([*texts, void("y", "b")], batch), engine)
    assert refused(outputs) == [("v", "out_of_range", "data")]
    amount = "33" + "0" * 24
    assert told(outputs) == dict.fromkeys(("one", "two", "three"), (amount, amount))
    assert engine.state.totals.as_counts().taken_back == 2


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_voids_stand_in_the_order_of_the_log_where_numbers_are_huge(batch: int) -> None:
    texts = [use("a", "33e24"), use("b", "-33e24"), void("v", "b"), use("c", "33e24"), use("d", "1")]
    outputs = run(Log().catalogue(BOOK % ("sum", "")).events(texts, batch))
    assert [(id, code) for id, code, _ in refused(outputs)] == [("c", "out_of_range")]
    assert told(outputs)["one"] == ("33" + "0" * 23 + "1",) * 2


@pytest.mark.parametrize("batch", [1, 1000])
def test_the_order_holds_among_many_events(batch: int) -> None:
    book = (BOOK % ("sum", "")).replace("      two:", "      # two:").replace("      three:", "      # three:")
    held = [use("a", "60e24"), use("b", "-60e24"), use("z", "1", subject="bob")]
    many = [use(f"bob-{i}", "1", subject="bob") for i in range(100)]
    log = Log().catalogue(book).events(held)
    outputs = run(log.events([void("v", "b"), use("c", "41e24"), *many, void("w", "z").replace("acme", "bob")], batch))
    assert [(id, code) for id, code, _ in refused(outputs)] == [("c", "out_of_range")]
    acme, bob = sorted(latest_lines(outputs).values(), key=lambda line: line["customer"])
    assert (acme["quantity"], bob["quantity"]) == ("60" + "0" * 24, "100")


def test_a_total_that_costs_nothing_must_fit_too() -> None:
    texts = [use(f"e{i}", "-9e25" if i % 2 else "9e25") for i in range(6)]
    book = (BOOK % ("sum", "")).replace('unit_amount: "1"', 'unit_amount: "0"')
    outputs = run(Log().catalogue(book).events([*texts, void("u", "e5"), void("v", "e3"), void("w", "e1")]))
    assert refused(outputs) == [("v", "out_of_range", "data"), ("w", "out_of_range", "data")]
    assert told(outputs)["one"] == ("9" + "0" * 25, "0")


def test_segments_that_build_on_others_are_put_back() -> None:
    text = (
        BOOK % ("sum", "")
        + """
subscriptions:
  s:
    customer: acme
    price_book: book
    start: 2026-11-01T00:00:00Z
    phases: [{start: 2026-11-15T00:00:00Z, overrides: {minimum: "5"}}]
"""
    )
    late = event("c", "2026-11-20T00:00:00Z", '{"n": 20e24}')
    texts = [use("a", "20e24"), use("b", "-20e24"), late, void("v", "b")]
    one, other = (run(Log().catalogue(text).events(own, 1)) for own in (texts, texts[:3]))
    assert refused(one) == [("v", "out_of_range", "data")]
    assert latest_lines(one) == latest_lines(other)
    assert len(latest_lines(one)) == 6
