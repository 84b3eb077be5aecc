"""Small customers, worked out on paper: what is left, what a period will come to, how it compares."""

import json
from typing import Any

import msgspec
import pytest

from rating.retell.bill import draft_bill
from rating.retell.compare import CURRENT, PREVIOUS, compare
from rating.retell.forecast import HistoryTooShort, forecast
from rating.retell.moment import NOW, Moment
from rating.retell.remaining import remaining, share_of
from rating.retell.retold import Retold
from schemas.numbers import parse_scaled
from schemas.times import parse_time
from tests.retell.logs import Log, by_service

BOOK = """
meters:
  tokens: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}
  peak: {event: use, aggregate: max, value: $.n}
  disk: {event: disk, aggregate: time_weighted, value: $.gib, unit: day}
price_books:
  book:
    currency: USD
    charges:
      base: {price: {model: flat, amount: "10"}, when: in_arrears}
      tokens: {meter: tokens, group_by: [model], free_units: "10",
               price: {model: graduated, tiers: [{up_to: "100", unit_amount: "1"}, {unit_amount: "0.5"}]}}
      peak: {meter: peak, price: {model: unit, unit_amount: "2"}}
      disk: {meter: disk, price: {model: unit, unit_amount: "0.1"}}
    minimum: "80"
    budget: {amount: "100", alerts: ["50", "90"]}
    thresholds: [{spend: "70"}, {spend: "200", repeat: true}]
customers:
  acme: {credit_grants: [{id: gift, amount: "30", priority: 1, expires_at: 2027-01-01T00:00:00Z}]}
subscriptions:
  s: {customer: acme, price_book: book, start: 2026-11-01T00:00:00Z}
"""


def event(name: str, time: str, n: Any, model: str = "m", **data: Any) -> str:
    kind = "disk" if data else "use"
    said = data or {"n": n, "model": model}
    head = {"specversion": "1.0", "id": name, "source": "gate", "type": kind, "subject": "acme", "time": time}
    return json.dumps({**head, "data": said})


def told(log: Log, moment: Moment = NOW) -> Retold:
    return by_service(log, log.store(), "acme", moment)


def plain(answer: Any) -> Any:
    return msgspec.to_builtins(answer)


@pytest.fixture
def november() -> Log:
    """60 tokens of one model, 25 of another, by the 11th of November."""
    log = Log(BOOK)
    log.tick("2026-11-01T00:00:00Z")
    log.send([event("a", "2026-11-02T12:00:00Z", 60), event("b", "2026-11-04T12:00:00Z", 25, "x")], log.clock)
    log.tick("2026-11-11T00:00:00Z")
    return log


def test_remaining(november: Log) -> None:
    found = plain(remaining(told(november)))
    period = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    # 50 + 15 for tokens, 2 * 60 for the peak: 185. The first event crosses 70 with 170, billed at once: the gift goes.
    assert found["credits"] == [
        {
            "grant": "gift",
            "currency": "USD",
            "amount": "30",
            "drawn": "30",
            "lapsed": "0",
            "balance": "0",
            "remaining": "0",
            "priority": 1,
            "charges": [],
            "effective_from": None,
            "expires_at": "2027-01-01T00:00:00Z",
            "in_force": True,
        }
    ]
    (budget,) = found["budgets"]
    assert (budget["spent"], budget["limit"], budget["remaining"], budget["share"]) == ("185", "100", "-85", "1.85")
    assert budget["alerts"] == [
        {"share": "0.5", "spend": "50", "crossed": True},
        {"share": "0.9", "spend": "90", "crossed": True},
    ]
    assert [(one["dimensions"], one["free"], one["used"], one["remaining"]) for one in found["allowances"]] == [
        ({"model": "m"}, "10", "10", "0"),
        ({"model": "x"}, "10", "10", "0"),
    ]
    (commitment,) = found["commitments"]
    assert (commitment["commitment"], commitment["charges"], commitment["reached"]) == ("80", "185", True)
    (level,) = found["thresholds"]
    shown = level["spend"], level["crossed"], level["next"], level["remaining"]
    assert shown == ("185", 1, "200", "15")
    assert level["period"] == period


def test_what_nothing_has_touched_is_whole() -> None:
    log = Log(BOOK)
    log.tick("2026-11-11T00:00:00Z")
    found = plain(remaining(told(log)))
    assert found["credits"][0]["balance"] == "30"
    assert found["allowances"][0] | {"period": None} == {
        "subscription": "s",
        "period": None,
        "charge": "tokens",
        "meter": "tokens",
        "dimensions": {"model": None},
        "free": "10",
        "used": "0",
        "remaining": "10",
    }
    assert (found["commitments"][0]["remaining"], found["thresholds"][0]["next"]) == ("80", "70")


def test_a_bill_has_what_falls_due_and_leaves_off_what_was_billed(november: Log) -> None:
    bill = draft_bill(told(november), "end")
    (draft,) = bill.invoices
    lines = {(line.charge, line.dimensions.get("model")): line.amount for line in draft.lines}
    # The threshold invoice billed 170 for the first event; the second brings 15, the end 10.
    assert lines == {("tokens", "x"): "15", ("base", None): "10"}
    assert (draft.total, draft.status, draft.kind) == ("25", "draft", "period")
    assert [(one.kind, one.total) for one in bill.issued] == [("threshold", "140")]
    assert plain(bill.currencies) == [{"currency": "USD", "subtotal": "25", "total": "25", "issued": "140"}]
    before = len(november.all.invoices)
    november.tick("2026-12-01T00:00:00Z")
    (made,) = november.all.invoices[before:]
    assert msgspec.structs.replace(made, status="draft") == draft


def test_a_gauge_holds_to_the_end_or_stands_where_it_is() -> None:
    log = Log(BOOK)
    log.tick("2026-11-01T00:00:00Z")
    log.send([event("d", "2026-11-01T00:00:00Z", 0, gib=20)], log.clock)
    log.tick("2026-11-11T00:00:00Z")
    end, now = (draft_bill(told(log), closing) for closing in ("end", "now"))  # type: ignore[arg-type]
    amounts = [{line.charge: line.amount for line in one.invoices[0].lines} for one in (end, now)]
    assert amounts[0] == {"base": "10", "disk": "60", "minimum": "10"}  # 20 * 30 days * 0.1
    assert amounts[1] == {"base": "10", "disk": "20", "minimum": "50"}
    assert [one.invoices[0].credits for one in (end, now)] == ["30", "30"]


def test_a_grant_that_expires_before_the_end_pays_now_and_not_then() -> None:
    log = Log(BOOK.replace("expires_at: 2027-01-01", "expires_at: 2026-11-20"))
    log.tick("2026-11-11T00:00:00Z")
    end, now = (draft_bill(told(log), closing).invoices[-1] for closing in ("end", "now"))  # type: ignore[arg-type]
    assert (end.credits, end.total) == ("0", "80")
    assert (now.credits, now.total) == ("30", "50")


def test_a_linear_forecast_goes_through_the_tiers() -> None:
    """10 tokens a day for ten days: 100 so far, 300 at the end. 10 are free: 90 * 1, then 100 * 1 + 190 * 0.5."""
    log = Log(BOOK)
    log.tick("2026-11-01T00:00:00Z")
    log.send([event(f"e{day}", f"2026-11-{day:02d}T00:00:00Z", 10) for day in range(1, 11)], log.clock)
    log.tick("2026-11-11T00:00:00Z")
    (period,) = plain(forecast(told(log), "linear"))["periods"]
    charges = {one["charge"]: one for one in period["charges"]}
    assert charges["tokens"]["method"] == "linear"
    assert charges["tokens"]["quantity"] == {"so_far": "100", "expected": "300", "low": "300", "high": "300"}
    assert charges["tokens"]["amount"] == {"so_far": "90", "expected": "195", "low": "195", "high": "195"}
    assert charges["peak"]["method"] == "held"
    assert charges["peak"]["amount"]["expected"] == "20"
    assert (charges["base"]["method"], charges["base"]["amount"]["expected"]) == ("flat", "10")
    assert period["elapsed"] == "0.333333"
    assert period["amount"] == {"so_far": "110", "expected": "225", "low": "225", "high": "225"}
    # The credit of 30 was drawn by the threshold invoice; all invoices of the period come to 225 - 30.
    assert period["bill"]["expected"] == "195"


def test_the_range_is_the_spread_of_days() -> None:
    """4, 8, 4, 8 tokens a day: mean 6, s^2 = 16/3; 26 days are left, so half = 1.2816 * sqrt(16/3 * 26)."""
    log = Log(BOOK)
    log.tick("2026-11-01T00:00:00Z")
    sizes = [4, 8, 4, 8]
    log.send([event(f"e{day}", f"2026-11-0{day}T00:00:00Z", n) for day, n in enumerate(sizes, 1)], log.clock)
    log.tick("2026-11-05T00:00:00Z")
    (period,) = plain(forecast(told(log), "linear"))["periods"]
    quantity = next(one["quantity"] for one in period["charges"] if one["charge"] == "tokens")
    assert quantity["expected"] == "180"  # 24 * 30 / 4
    half = parse_scaled(quantity["high"]) - parse_scaled("180")
    assert parse_scaled("180") - parse_scaled(quantity["low"]) == half
    squared = 12816**2 * 16 * 26 * 10**24 // (10**8 * 3)
    assert half * half <= squared < (half + 1) ** 2


def test_without_three_whole_days_there_is_no_range() -> None:
    log = Log(BOOK)
    log.tick("2026-11-01T00:00:00Z")
    log.send([event("a", "2026-11-01T06:00:00Z", 5)], log.clock)
    log.tick("2026-11-02T12:00:00Z")
    (period,) = plain(forecast(told(log), "auto"))["periods"]
    assert period["method"] == "linear"
    assert (period["amount"]["low"], period["bill"]["high"]) == (None, None)


def test_a_seasonal_forecast_knows_the_hours_of_the_week() -> None:
    """7 tokens each Monday at noon: after the 7th of December there are three more Mondays."""
    log = Log(BOOK)
    mondays = ["2026-11-02", "2026-11-09", "2026-11-16", "2026-11-23", "2026-11-30", "2026-12-07"]
    log.tick("2026-11-01T00:00:00Z")
    log.send([event(f"e{day}", f"{day}T12:30:00Z", 7) for day in mondays], log.clock)
    log.tick("2026-12-08T00:00:00Z")
    found = forecast(told(log), "auto")
    (period,) = plain(found)["periods"]
    assert period["method"] == "seasonal"
    quantity = next(one["quantity"] for one in period["charges"] if one["charge"] == "tokens")
    assert (quantity["so_far"], quantity["expected"]) == ("7", "28")
    with pytest.raises(HistoryTooShort, match="expected at least 14"):
        forecast(told(log, Moment(parse_time("2026-11-10T00:00:00Z"))), "seasonal")


def test_a_comparison_is_with_the_whole_and_with_the_same_share() -> None:
    """October: 20 on the 5th, 30 on the 25th; November by the 16th (half): 40."""
    log = Log(BOOK.replace("start: 2026-11-01", "start: 2026-10-01"))
    log.tick("2026-10-01T00:00:00Z")
    log.send([event("a", "2026-10-05T00:00:00Z", 20), event("b", "2026-10-25T00:00:00Z", 30)], log.clock)
    log.tick("2026-11-01T00:00:00Z")
    log.send([event("c", "2026-11-03T00:00:00Z", 40)], log.clock)
    log.tick("2026-11-16T00:00:00Z")
    (found,) = plain(compare(told(log), CURRENT, PREVIOUS, lambda at: told(log, Moment(at))))
    assert (found["share"], found["other_until"]) == ("0.5", "2026-10-16T12:00:00Z")
    tokens = next(one for one in found["by_charge"] if one["charge"] == "tokens")
    assert tokens["whole"] == {"before": "40", "after": "30", "difference": "-10", "growth": "-0.25"}
    assert tokens["same_share"] == {"before": "10", "after": "30", "difference": "20", "growth": "2"}
    base = next(one for one in found["by_charge"] if one["charge"] == "base")
    assert base["whole"]["growth"] == "-1"
    assert base["same_share"] == {"before": "0", "after": "0", "difference": "0", "growth": None}
    (model,) = found["by_dimension"]
    assert (model["dimension"], model["value"], model["whole"]["after"]) == ("model", "m", "30")
    assert compare(told(log), CURRENT, parse_time("2025-01-01T00:00:00Z"), lambda at: told(log, Moment(at))) == []


def test_a_share_is_rounded_half_up_at_the_sixth_digit() -> None:
    assert share_of(1, 3) == "0.333333"
    assert share_of(-2, 3) == "-0.666667"
    assert share_of(1, -2_000_000) == "-0.000001"
    assert share_of(1, 0) is None


def test_a_customer_that_nobody_knows_has_nothing() -> None:
    log = Log(BOOK)
    log.tick("2026-11-11T00:00:00Z")
    nobody = by_service(log, log.store(), "nobody", NOW)
    assert draft_bill(nobody, "end").invoices == []
    assert forecast(nobody, "auto").periods == []
    assert remaining(nobody).credits == []
    assert compare(nobody, CURRENT, PREVIOUS, lambda at: nobody) == []
