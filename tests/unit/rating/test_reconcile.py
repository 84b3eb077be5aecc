"""What is tampered with is found at the next look, as an alert, once; what is not never is."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from rating.engine import RatingEngine
from rating.exact import int_of, sum_wide, wide_of
from schemas import topics
from schemas.numbers import SCALED_MAX
from schemas.output import ReconciliationAlert, decode_alert
from streams.processor import Output
from tests.unit.rating.engines import Log, event, open_engine, run

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}, calls: {event: use, aggregate: count}}
price_books: {book: {currency: USD, charges: {
  units: {meter: units, price: {model: unit, unit_amount: "0.5"}},
  calls: {meter: calls, price: {model: package, package_size: 10, package_amount: 1}}}}}
default_subscription: {price_book: book}
"""
VOID = '{"source": "gate", "id": "b", "reason": "wrong"}'


def some_log() -> Log:
    texts = [event(name, "2026-11-05T00:00:00Z", f'{{"n": {n}}}') for n, name in enumerate("abcde", 1)]
    texts += [event("a", "2026-11-05T00:00:00Z", '{"n": 1}'), event("a", "2026-11-05T00:00:00Z", '{"n": 7}')]
    texts += [event("f", "2026-11-05T00:00:00Z", "{}"), event("g", "2026-11-05T00:00:00Z", type="other")]
    texts += [event("v", "2026-11-06T00:00:00Z", VOID, type="taximeter.void")]
    texts += [event("w", "2026-11-06T00:00:00Z", VOID.replace('"b"', '"z"'), type="taximeter.void")]
    texts += [event("z", "2026-11-06T00:00:00Z")]
    return Log().catalogue(BOOK).events(texts, 4).tick("2026-11-07T00:00:00Z")


def found(outputs: list[Output]) -> list[ReconciliationAlert]:
    alerts = [decode_alert(output.value) for output in outputs if output.topic == topics.ALERTS]
    return [alert for alert in alerts if isinstance(alert, ReconciliationAlert)]


@pytest.fixture
def engine() -> RatingEngine:
    engine = open_engine()
    assert not found(run(some_log(), engine))
    return engine


def test_every_event_is_in_one_class(engine: RatingEngine) -> None:
    counts = engine.state.totals.as_counts()
    assert (counts.events, counts.accepted, counts.duplicates, counts.conflicts) == (12, 10, 1, 1)
    # `f` lacks the value of one meter and is counted by the other; nobody reads `g`; `z` came after its void.
    assert (counts.rated, counts.refused, counts.unused, counts.voids, counts.voided) == (6, 0, 1, 2, 1)
    assert (counts.taken_back, counts.rejected) == (1, 1)
    assert counts.amount == str(sum_wide(engine.state.lines["amount"][: engine.state.lines.size]))


def test_an_event_that_nothing_counts_and_some_meter_rejects_is_refused() -> None:
    engine = open_engine()
    book = BOOK.replace("  calls: {meter: calls, price: {model: package, package_size: 10, package_amount: 1}}", "")
    run(Log().catalogue(book).events([event("a", "2026-11-05T00:00:00Z", "{}")]), engine)
    counts = engine.state.totals.as_counts()
    assert (counts.accepted, counts.rated, counts.refused, counts.unused, counts.rejected) == (1, 0, 1, 0, 1)


def amount(engine: RatingEngine) -> None:
    engine.state.lines["amount"][0] = wide_of(int_of(engine.state.lines["amount"][0]) + 1)


def spend(engine: RatingEngine) -> None:
    engine.state.bills["spend"][0] = wide_of(int_of(engine.state.bills["spend"][0]) - 1)


def total(engine: RatingEngine) -> None:
    engine.state.cells["value"][0] = wide_of(int_of(engine.state.cells["value"][0]) + 1)


def line_events(engine: RatingEngine) -> None:
    engine.state.lines["events"][0] -= 1


def cell_events(engine: RatingEngine) -> None:
    engine.state.cells["events"][1] += 1


def ledger(engine: RatingEngine) -> None:
    engine.state.ledger.dropped -= 1


def accepted(engine: RatingEngine) -> None:
    engine.state.totals.counts["accepted"] += 1


def rated(engine: RatingEngine) -> None:
    engine.state.totals.counts["rated"] -= 1


def arrivals(engine: RatingEngine) -> None:
    engine.state.arrivals += 1


def customer(engine: RatingEngine) -> None:
    engine.state.customer_events[0] += 1


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (amount, {"amount.lines"}),
        (spend, {"amount.periods"}),
        (total, {"quantity units"}),
        (line_events, {"counted.lines units"}),
        (cell_events, {"counted.totals calls"}),
        (ledger, {"counted.ledger"}),
        (accepted, {"events", "accepted", "accepted.customers", "accepted.tenants"}),
        (rated, {"accepted"}),
        (arrivals, {"arrivals"}),
        (customer, {"accepted.customers"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_tampered_with_is_an_alert_at_the_next_tick(
    engine: RatingEngine, tamper: Callable[[RatingEngine], None], what: set[str]
) -> None:
    tamper(engine)
    position = engine.tenants.totals.position
    alerts = found(run(Log().tick("2026-11-07T00:01:00Z"), engine))
    assert {alert.what for alert in alerts} == what
    assert {(alert.partition, alert.position) for alert in alerts} == {(0, position + 1)}
    assert len({alert.id for alert in alerts}) == len(alerts)
    assert all(alert.expected != alert.found and alert.what in alert.message for alert in alerts)
    assert not found(run(Log().tick("2026-11-07T00:02:00Z"), engine)), "it is said once"
    assert set(engine.tenants.totals.broken) == what

    again = open_engine(engine.snapshot())
    assert set(again.tenants.totals.broken) == what, "and stays until the state is made anew"


def test_the_same_difference_at_the_same_position_has_the_same_id(engine: RatingEngine) -> None:
    twin = open_engine(engine.snapshot())
    for one in (engine, twin):
        amount(one)
    log = Log().tick("2026-11-07T00:01:00Z")
    assert found(run(log, engine)) == found(run(log, twin)) != []


def test_an_alert_of_the_engine_is_no_alert_of_a_customer(engine: RatingEngine) -> None:
    amount(engine)
    [entry] = Log().tick("2026-11-07T00:01:00Z").entries
    at = engine.tenants.totals.position
    step = engine.process([entry._replace(offset=at, end=at + 1)])
    assert found(step.outputs) and step.summary.alerts == 0


def test_an_entry_that_is_worked_in_twice_is_found_at_once(engine: RatingEngine) -> None:
    """The last pack again: all its events are duplicates, and no table shows it."""
    pack = some_log().entries[-2]
    [alert] = found(engine.process([pack]).outputs)
    assert alert.what == "offsets"


def test_the_tables_are_looked_at_once_a_minute_of_the_clock(engine: RatingEngine) -> None:
    amount(engine)
    assert not found(run(Log().tick("2026-11-07T00:00:30Z"), engine))
    assert found(run(Log().tick("2026-11-07T00:01:00Z"), engine))


def test_the_totals_do_not_depend_on_the_cut() -> None:
    one, other = open_engine(), open_engine()
    log = some_log()
    one.process(log.entries)
    run(log, other)
    assert one.state.totals.dump() == other.state.totals.dump()
    assert one.tenants.totals.dump() == other.tenants.totals.dump()


def test_each_step_says_what_all_steps_have_come_to() -> None:
    engine, sums = open_engine(), None
    for entry in some_log().entries:
        summary = engine.process([entry]).summary
        sums = summary.carried() if sums is None else sums.plus(summary.carried())
        assert summary.through == sums
        assert msgspec.json.decode(msgspec.json.encode(summary), type=type(summary)) == summary


@pytest.mark.parametrize("values", [[], [0], [-1], [SCALED_MAX, SCALED_MAX, -1], [-SCALED_MAX] * 9, [2**63, -(2**64)]])
def test_sums_of_wide_numbers_are_exact(values: list[int]) -> None:
    wide = np.array([wide_of(value) for value in values], dtype=np.int64).reshape(-1, 2)
    assert sum_wide(wide) == sum(values)
