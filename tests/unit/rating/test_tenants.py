"""Tenants in one engine: equal names, equal identities, and nothing of each other."""

import msgspec
import pytest

from rating.engine import RatingEngine
from schemas import topics
from schemas.entry import RERATE, Rerate, encode_rerate
from tests.unit.rating.engines import SETTINGS, Log, decoded, event, latest_lines, open_engine, run

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: %s, charges: {units: {meter: units, price: {model: unit, unit_amount: "%s"}}}}}
customers: {acme: {subjects: [%s]}}
default_subscription: {price_book: book}
"""
OURS = BOOK % ("USD", "2", "acme")
THEIRS = BOOK.replace("aggregate: sum, value: $.n", "aggregate: count") % ("JPY", "30", "team, acme")
DAY = "2026-11-05T00:00:00Z"
VOID = '{"source": "gate", "id": "1", "reason": "wrong"}'


def amounts(engine: RatingEngine, log: Log) -> dict[str, tuple[str, str, str]]:
    """Tenant -> (currency, quantity, amount) of its one line."""
    lines = latest_lines(run(log, engine)).values()
    return {line["tenant"]: (line["currency"], line["quantity"], line["amount"]) for line in lines}


def test_equal_identities_subjects_and_meters_of_two_tenants_are_two() -> None:
    log = Log().catalogue(OURS).of("b").catalogue(THEIRS)
    log.of("default").events([event("1", DAY, '{"n": 5}')])
    log.of("b").events([event("1", DAY, '{"n": 7}'), event("1", DAY, '{"n": 7}'), event("2", DAY, '{"n": 1}')])
    engine = open_engine()
    found = amounts(engine, log)
    assert found == {"default": ("USD", "5", "10"), "b": ("JPY", "2", "60")}
    counts = engine.tenants.totals.as_counts()
    assert (counts.accepted, counts.duplicates, counts.conflicts) == (3, 1, 0)
    assert [state.tenant for state in engine.tenants] == ["default", "b"]


def test_a_void_takes_back_its_own_tenants_event_alone() -> None:
    log = Log().catalogue(OURS).events([event("1", DAY, '{"n": 5}')])
    log.of("b").catalogue(OURS).events([event("1", DAY, '{"n": 5}')])
    log.events([event("v", DAY, VOID, type="taximeter.void")])
    found = amounts(open_engine(), log)
    assert found["default"] == ("USD", "5", "10")
    assert found["b"] == ("USD", "0", "0")


def test_a_change_of_one_catalogue_leaves_the_others_as_they_were() -> None:
    log = Log().catalogue(OURS).of("b").catalogue(OURS)
    for tenant in ("default", "b"):
        log.of(tenant).events([event("1", DAY, '{"n": 5}')])
    engine = open_engine()
    run(log, engine)
    held = engine.state.catalogue
    changed = amounts(engine, Log().of("b").catalogue(OURS.replace('"2"', '"3"')))
    assert changed == {"b": ("USD", "5", "15")}
    assert engine.state.catalogue is held, "and is not compiled again"


def test_a_tenant_that_comes_late_stands_where_it_would_had_it_been_there() -> None:
    """What is older than corrections reach is refused, whoever comes with it first."""
    engine = open_engine(settings=SETTINGS)
    run(Log().tick("2026-11-01T00:00:00Z").tick("2027-03-01T00:00:00Z"), engine)
    outputs = run(Log().of("late").catalogue(OURS).events([event("1", DAY, '{"n": 5}')]), engine)
    [rejection] = decoded(outputs, topics.REJECTIONS)
    assert (rejection["code"], rejection["tenant"]) == ("period_closed", "late")
    default = open_engine(settings=SETTINGS)
    run(Log().tick("2026-11-01T00:00:00Z").tick("2027-03-01T00:00:00Z"), default)
    [known] = decoded(run(Log().catalogue(OURS).events([event("1", DAY, '{"n": 5}')]), default), topics.REJECTIONS)
    assert {**rejection, "tenant": ""} == {**known, "tenant": ""}


def test_a_tick_closes_the_periods_of_everybody() -> None:
    log = Log().catalogue(OURS).of("b").catalogue(THEIRS)
    for tenant in ("default", "b"):
        log.of(tenant).events([event("1", DAY, '{"n": 5}')])
    outputs = run(log.tick("2026-12-01T00:00:00Z"))
    invoices = decoded(outputs, topics.INVOICES)
    assert [(one["tenant"], one["currency"], one["total"]) for one in invoices] == [
        ("default", "USD", "10"), ("b", "JPY", "30"),
    ]  # fmt: skip
    assert len({one["id"] for one in invoices}) == 2


def test_a_rerating_is_of_one_tenants_customer() -> None:
    log = Log().catalogue(OURS).of("b").catalogue(OURS)
    for tenant in ("default", "b"):
        log.of(tenant).events([event("1", DAY, '{"n": 5}')])
    engine = open_engine()
    run(log.tick("2026-12-01T00:00:00Z"), engine)
    for tenant in ("default", "b"):
        run(Log().of(tenant).catalogue(OURS.replace('"2"', '"3"')), engine)
    asked = Log()
    asked._value(encode_rerate(Rerate(customer="acme", since="2026-11-01T00:00:00Z", tenant="b")), 1)
    assert asked.entries[0].kind == RERATE
    corrections = decoded(run(asked, engine), topics.INVOICES)
    assert [(one["tenant"], one["kind"], one["total"]) for one in corrections] == [("b", "correction", "5")]


def test_a_snapshot_holds_all_tenants() -> None:
    log = Log().catalogue(OURS).of("b").catalogue(THEIRS)
    log.of("default").events([event("1", DAY, '{"n": 5}')]).of("b").events([event("1", DAY, '{"n": 7}')])
    engine = open_engine()
    run(log.tick("2026-11-06T00:00:00Z"), engine)
    again = open_engine(engine.snapshot())
    assert again.snapshot() == engine.snapshot()
    more = Log().of("b").catalogue(THEIRS).events([event("1", DAY, '{"n": 7}'), event("2", DAY, '{"n": 7}')])
    more.entries.pop(0)
    assert run(more, again) == run(more, engine) != []


def test_a_snapshot_from_before_there_were_tenants_is_refused_by_name() -> None:
    old = msgspec.msgpack.encode({"version": 3, "partition": [0, 1]})
    with pytest.raises(ValueError, match="found a state of version 3, expected 6: remove the snapshots"):
        open_engine(old)


def test_what_is_tampered_with_in_one_tenants_tables_names_it() -> None:
    log = Log().of("b").catalogue(OURS).events([event("1", DAY, '{"n": 5}')]).tick("2026-11-06T00:00:00Z")
    engine = open_engine()
    run(log, engine)
    engine.tenants.of("b").lines["events"][0] -= 1
    [alert] = decoded(run(Log().tick("2026-11-07T00:00:00Z"), engine), topics.ALERTS)
    assert (alert["kind"], alert["what"]) == ("reconciliation", "counted.lines units of b")


def test_an_empty_tenant_takes_little_memory() -> None:
    engine = open_engine()
    before = engine.tenants.nbytes
    for number in range(100):
        engine.tenants.of(f"t{number}")
    assert (engine.tenants.nbytes - before) / 100 < 50_000
