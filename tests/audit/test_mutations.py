"""Corruptions that the audit must find, each with the right line or invoice and the events behind it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taximeter.audit.found import Found
from taximeter.audit.report import Difference, Report
from taximeter.audit.run import Audit
from tests.audit.running import SETTINGS, archived, audited, record, told, written

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
  calls: {event: llm.request, aggregate: count}
price_books:
  launch:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}}
      tokens:
        meter: tokens
        group_by: [model]
        price: {model: graduated, tiers: [{up_to: "100", unit_amount: "0.01"}, {unit_amount: "0.005"}]}
      calls: {meter: calls, free_units: "2", price: {model: unit, unit_amount: "0.5"}}
    thresholds: [{spend: "2"}, {spend: "5"}]
    minimum: "40"
customers:
  acme:
    subjects: [team-a]
    coupons: [{id: tenth, percent: "10"}]
    credit_grants: [{id: prepaid, amount: "3"}]
    taxes: [{name: VAT, rate: "0.081"}]
default_subscription: {price_book: launch}
"""
AS_OF = "2026-12-01T00:00:00Z"


def event(id: str, tokens: str, model: str = "large", subject: str = "team-a") -> str:
    head = {"specversion": "1.0", "id": id, "source": "gate", "type": "llm.request", "subject": subject}
    head["time"] = f"2026-11-{int(id.lstrip('e')) + 1:02d}T00:00:00Z"
    return json.dumps(head)[:-1] + f', "data": {{"tokens": {tokens}, "model": "{model}"}}}}'


EVENTS = [event(f"e{n}", f"{20 + n}.5", "large" if n % 2 else "small") for n in range(10)]
EVENTS += [event("e3", "23.5"), event("e4", "7", subject="beta")]


def found_by(change: Callable[[Found], object], tmp_path: Path) -> Report:
    return audited(record(BOOK, EVENTS, AS_OF), tmp_path, change)


def only(report: Report, what: str = "line item") -> Difference:
    (one,) = [one for one in report.differences if one.what == what]
    return one


def item(found: Found, charge: str, **dimensions: str) -> Any:
    (one,) = [
        one
        for one in found.line_items.values()
        if (one["customer"], one["charge"], one["dimensions"]) == ("acme", charge, dimensions)
    ]
    return one


def invoice(found: Found, kind: str, level: str = "") -> Any:
    (one,) = [
        one
        for one in found.invoices.values()
        if (one["customer"], one["kind"]) == ("acme", kind) and (one.get("because") or {}).get("level", "") == level
    ]
    return one


def seen_by_the_engine(tmp_path: Path, events: list[str], book: str = BOOK) -> Report:
    """The archive holds everything; the engine saw something else."""
    archive = archived(record(BOOK, EVENTS, AS_OF), tmp_path)
    found = written(record(book, events, AS_OF))
    found.through = {0: 10**6}
    return Audit(archive, found, SETTINGS).run()


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    report = found_by(lambda found: None, tmp_path)
    assert told(report) == []
    assert (report.line_items, report.invoices, report.not_audited) == (7, 4, {})
    assert (report.loaded.events, report.loaded.duplicates) == (12, 1)
    assert report.shared_ids == [("gate", "e4", ["acme", "beta"])]


def test_an_amount_that_was_changed(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        item(found, "tokens", model="large")["amount"] = "1.114999999999"

    one = only(found_by(change, tmp_path))
    assert one.fields == [("amount", "1.1375", "1.114999999999")]
    assert "acme, default, tokens model=large" in one.about
    assert one.events == [("gate", f"e{n}") for n in (1, 3, 5, 7, 9)]
    assert one.more == 0


def test_a_line_item_that_is_missing(tmp_path: Path) -> None:
    one = only(found_by(lambda found: found.line_items.pop(item(found, "calls")["id"]), tmp_path))
    assert one.about == "acme, default, calls, from 2026-11-01T00:00:00Z"
    assert one.fields[0] == ("line item", "a line item", "none")
    assert len(one.events) == 10


def test_a_line_item_that_should_not_be_there(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        found.line_items["li_other"] = item(found, "calls") | {"id": "li_other", "charge": "invented"}

    assert only(found_by(change, tmp_path)).fields[0] == ("line item", "none", "a line item")


def test_an_event_that_the_engine_has_not_counted(tmp_path: Path) -> None:
    report = seen_by_the_engine(tmp_path, [one for one in EVENTS if '"e5"' not in one])
    lines = {one.about.split(", ")[2]: one for one in report.differences if one.what == "line item"}
    assert set(lines) == {"tokens model=large", "calls"}
    assert ("quantity", "10", "9") in lines["calls"].fields
    assert ("quantity", "127.5", "102") in lines["tokens model=large"].fields
    assert ("gate", "e5") in lines["tokens model=large"].events
    assert any(one.what == "invoice" for one in report.differences)


def test_an_event_that_the_engine_has_counted_twice(tmp_path: Path) -> None:
    report = seen_by_the_engine(tmp_path, [*EVENTS, event("e6", "26.5", "small").replace('"e6"', '"again"')])
    lines = {one.about.split(", ")[2]: one for one in report.differences if one.what == "line item"}
    assert set(lines) == {"tokens model=small", "calls"}
    assert ("events", "10", "11") in lines["calls"].fields
    assert ("gate", "e6") in lines["tokens model=small"].events


def test_a_void_that_the_engine_has_not_heard(tmp_path: Path) -> None:
    void = {"specversion": "1.0", "id": "v", "source": "gate", "type": "taximeter.void", "subject": "team-a"}
    taken = json.dumps({**void, "time": "2026-11-20T00:00:00Z", "data": {"source": "gate", "id": "e7", "reason": "x"}})
    archive = archived(record(BOOK, [*EVENTS, taken], AS_OF), tmp_path)
    found = written(record(BOOK, EVENTS, AS_OF))
    found.through = {0: 10**6}
    report = Audit(archive, found, SETTINGS).run()
    calls = next(one for one in report.differences if one.about.startswith("acme, default, calls"))
    assert ("quantity", "9", "10") in calls.fields
    assert ("gate", "e7") not in calls.events


def test_a_tier_that_was_changed(tmp_path: Path) -> None:
    report = seen_by_the_engine(tmp_path, EVENTS, BOOK.replace('unit_amount: "0.005"', 'unit_amount: "0.0050001"'))
    lines = [one for one in report.differences if one.what == "line item"]
    assert {one.about.split(", ")[2] for one in lines} == {"tokens model=large", "tokens model=small"}
    assert all([name for name, _, _ in one.fields] == ["amount"] for one in lines)


def test_an_invoice_of_a_period_that_is_missing(tmp_path: Path) -> None:
    one = only(found_by(lambda found: found.invoices.pop(invoice(found, "period")["id"]), tmp_path), "invoice")
    assert one.about == "acme, default, period, from 2026-11-01T00:00:00Z"
    assert [(name, found) for name, _, found in one.fields] == [("invoice", "none")]


@pytest.mark.parametrize(("level", "event"), [("2", "e4"), ("5", "e8")])
def test_an_invoice_of_a_level_that_is_missing(tmp_path: Path, level: str, event: str) -> None:
    changed: list[str] = []

    def change(found: Found) -> None:
        assert invoice(found, "threshold", level)["because"]["event"]["id"] == event
        changed.append(invoice(found, "threshold", level)["id"])
        found.invoices.pop(changed[0])

    wrong = {one.id: one for one in found_by(change, tmp_path).differences}
    (missing,) = [one for id, one in wrong.items() if id == changed[0]]
    assert missing.about == "acme, default, threshold, from 2026-11-01T00:00:00Z"
    assert missing.fields[0][1].startswith(f"one at the level {level} ")
    assert missing.events == [("gate", event)]


def test_an_invoice_that_should_not_be_there(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        found.invoices["inv_other"] = invoice(found, "period") | {"id": "inv_other", "kind": "correction"}

    one = only(found_by(change, tmp_path), "invoice")
    assert one.id == "inv_other"


def test_a_cent_on_an_invoice(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        one = invoice(found, "threshold", "2")
        one["lines"][0]["tax"], one["taxes"], one["total"] = "0.99", "1.77", "1.88"

    one = only(found_by(change, tmp_path), "invoice")
    assert "threshold" in one.about
    assert {name for name, _, _ in one.fields} == {"taxes", "total", "line 1"}


def test_a_level_at_another_event(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        invoice(found, "threshold", "2")["because"]["event"]["id"] = "e9"

    wrong = [one for one in found_by(change, tmp_path).differences if one.what == "invoice"]
    assert any(name == "level" or name == "event" for one in wrong for name, _, _ in one.fields)


def test_only_the_customers_that_are_asked_for(tmp_path: Path) -> None:
    def change(found: Found) -> None:
        item(found, "calls")["quantity"] = "11"

    assert not audited(record(BOOK, EVENTS, AS_OF), tmp_path / "a", change, customers=["beta"]).differences
    assert only(audited(record(BOOK, EVENTS, AS_OF), tmp_path / "b", change, customers=["acme"])).fields
