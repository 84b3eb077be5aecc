"""The oracle against figures worked out by hand: each test says its calculation. The engine is not in it."""

from typing import Any

import pytest
import yaml

from tests.oracle.aggregates import NOUGHT
from tests.oracle.expressions import NoValue, value_of
from tests.oracle.oracle import Tick, rate
from tests.oracle.reading import number, read_event
from tests.oracle.settle import apportion, spread

NOV, DEC, JAN = "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"


def _book(charges: str, meter: str = "{event: use, aggregate: sum, value: $.n}", book: str = "", more: str = "") -> Any:
    """A catalogue with the meter `m`, one book, and acme's subscription to it from November on."""
    return yaml.safe_load(
        f"""
meters: {{m: {meter}}}
price_books: {{b: {{currency: USD, charges: {{{charges}}}, {book}}}}}
customers: {{acme: {{{more}}}}}
subscriptions: {{s: {{customer: acme, price_book: b, start: "{NOV}", period: month, anchor: 1}}}}
"""
    )


def _event(id: str, time: str, kind: str = "use", **data: Any) -> dict[str, Any]:
    time = time if "T" in time else f"2026-{time}T00:00:00Z"
    return {"specversion": "1.0", "id": id, "source": "g", "type": kind, "subject": "acme", "time": time, "data": data}


def _void(id: str, of: str) -> dict[str, Any]:
    return {**_event(id, "11-01", "taximeter.void"), "data": {"source": "g", "id": of}}


def _items(outputs: Any) -> list[tuple[Any, ...]]:
    return [(i["charge"], i["period"]["start"][5:10], i["quantity"], i["amount"]) for i in outputs["line_items"]]


def _totals(outputs: Any) -> list[tuple[str, str]]:
    return [(i["kind"], i["total"]) for i in outputs["invoices"]]


UNIT = "c: {meter: m, price: {model: unit, unit_amount: '1'}}"
GAUGE = "{event: use, aggregate: time_weighted, value: $.n, unit: day}"


# Gauges


def test_a_gauge_holds_its_level_and_is_carried() -> None:
    # 2 from 11-11 to 11-21 is 20 days; 5 from then is 50 to the month's end, and 5 · 9 in December to the last event.
    events = [_event("1", "11-11", n=2), _event("2", "11-21", n=5), _event("3", "12-10", kind="other")]
    found = rate(_book(UNIT, GAUGE), events)
    assert _items(found) == [("c", "11-01", "70", "70"), ("c", "12-01", "45", "45")]
    assert [i["events"] for i in found["line_items"]] == [2, 0]


def test_changes_of_a_gauge_add_up() -> None:
    # 2500 from the 5th of a month of 30 days: 2500 · 26/30; in December, -2000 from the 4th and -200 from the 6th:
    # 2500 · 3/31 + 500 · 2/31 + 300 · 26/31 = (7500 + 1000 + 7800)/31.
    meter = "{event: use, aggregate: time_weighted, value: $.n, unit: period, reads: change}"
    events = [_event("1", "11-05", n=2500), _event("2", "12-04", n=-2000), _event("3", "12-06", n=-200)]
    found = rate(_book(UNIT, meter), events, JAN)
    assert [i["quantity"] for i in found["line_items"]] == ["2166.666666666667", "525.806451612903"]


def test_each_key_has_a_gauge_of_its_own_and_an_order_of_arrival() -> None:
    meter = "{event: use, aggregate: time_weighted, value: $.n, unit: day, key: $.v}"
    events = [_event("1", "11-29", n=3, v="x"), _event("2", "11-29", n=4, v="y"), _event("3", "11-29", n=1, v="x")]
    assert _items(rate(_book(UNIT, meter), events, DEC)) == [("c", "11-01", "10", "10")]


def test_an_aligned_gauge_counts_from_the_beginning_of_the_day() -> None:
    meter = "{event: use, aggregate: time_weighted, value: $.n, unit: day, align: day}"
    events = [_event("1", "2026-11-29T09:00:00Z", n=3), _event("2", "2026-11-30T18:00:00Z", n=1)]
    assert _items(rate(_book(UNIT, meter), events, DEC)) == [("c", "11-01", "4", "4")]


def test_without_ticks_gauges_go_to_the_greatest_time_of_the_file() -> None:
    events = [_event("1", "11-11", n=2), {**_event("2", "11-16", n=2), "subject": "other"}]
    assert _items(rate(_book(UNIT, GAUGE), events)) == [("c", "11-01", "10", "10")]


# Quantities


def test_percentile_is_the_nearest_rank() -> None:
    meter = "{event: use, aggregate: percentile, percentile: '95', value: $.n}"
    events = [_event(str(n), "11-02", n=n) for n in range(1, 31)]  # 0.95 · 30 = 28.5, so the 29th
    assert _items(rate(_book(UNIT, meter), events)) == [("c", "11-01", "29", "29")]


@pytest.mark.parametrize(
    ("convert", "quantity"),
    [
        ("{divide: '1000', round: up}", "3"),  # 2700/1000 = 2.7
        ("{divide: '1000', round: up, per: event}", "4"),  # 2 + 2
        ("{divide: '1000', round: half_up, digits: 1, per: event}", "2.7"),  # 1.4 + 1.3
        ("{multiply: '3'}", "8100"),
        ("{divide: '1', round: down, digits: -3}", "2000"),
    ],
)
def test_convert(convert: str, quantity: str) -> None:
    meter = "{event: use, aggregate: sum, value: $.n, convert: " + convert + "}"
    found = rate(_book(UNIT, meter), [_event("1", "11-02", n=1400), _event("2", "11-03", n=1300)])
    assert _items(found) == [("c", "11-01", quantity, quantity)]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$.in + 3 * $.out", "11"),
        ("($.in + 3) * $.out / -1", "-15"),
        ("max($.in, $.out, 2.5) - min($.in, 0.5)", "2.5"),
        ("coalesce($.none, $.in, 7)", "2"),
        ("if($.in >= $.out, 1, 1 / 3)", "0.333333333333"),
        ("if($.in < $.out, $.in, $.none)", "2"),
        ("round($.in / 3, 2)", "0.67"),
        ("$.long + 0", "0.123456789012"),
    ],
)
def test_expressions(text: str, result: str) -> None:
    data = read_event('{"in": 2, "out": "3", "long": 0.123456789012}')
    assert value_of(text, data) == number(result)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("$.none + 1", "missing_value"),
        ("$.word + 1", "invalid_value"),
        ("1 / ($.in - 2)", "invalid_value"),
        ("$.in * 1e26", "out_of_range"),
    ],
)
def test_expressions_without_a_value(text: str, code: str) -> None:
    with pytest.raises(NoValue, match=code):
        value_of(text, read_event('{"in": 2, "word": "two"}'))


# Prices


@pytest.mark.parametrize(
    ("terms", "values", "amount"),
    [
        ("rate: '0.01', fixed_amount: '5', free_amount: '15'", [4, 4, 4, 4, 10], "10.11"),  # 1 · 1 % + 5 + 10 · 1 % + 5
        ("rate: '0.01', fixed_amount: '5', free_amount: '15', free_events: 3", [10, 10, 10], "10.15"),
        ("rate: '0.01', fixed_amount: '5', free_amount: '20'", [10, 10, 10], "5.1"),  # reached exactly: free
        ("rate: '0.01', free_events: 2, free_amount: '100'", [10, 10, 10], "0.1"),
        ("rate: '0.0299', fixed_amount: '2', min_amount: '1.75', max_amount: '12'", [10, 80, 10000], "18.691"),
        (
            "rate: '0.0299', min_amount: '1.75', max_amount: '12', free_events: 3, free_amount: '10000', "
            "free_rule: amount_governs",
            [10, 80, 10000],
            "2.691",
        ),
    ],
)
def test_percentage(terms: str, values: list[int], amount: str) -> None:
    events = [_event(str(at), f"11-{at + 2:02d}", n=value) for at, value in enumerate(values)]
    found = rate(_book("c: {meter: m, price: {model: percentage, " + terms + "}}"), events)
    assert found["line_items"][0]["amount"] == amount
    # In order of time, whatever the order of arrival.
    assert rate(_book("c: {meter: m, price: {model: percentage, " + terms + "}}"), events[::-1]) == found


def test_graduated_percentage_and_dynamic() -> None:
    tiers = "[{up_to: '10', rate: '0.01', flat_amount: '200'}, {rate: '0.02', flat_amount: '300'}]"
    found = rate(
        _book("c: {meter: m, price: {model: graduated_percentage, tiers: " + tiers + "}}"), [_event("1", "11-02", n=12)]
    )
    assert _items(found) == [("c", "11-01", "12", "500.14")]  # 0.1 + 200 + 0.04 + 300
    charge = "c: {meter: m, price: {model: dynamic, amount: $.price, multiplier: '1.5'}}"
    events = [_event("1", "11-02", n=1, price=2), _event("2", "11-02", n=3, price="0.2"), _event("3", "11-02", n=4)]
    found = rate(_book(charge), events)
    assert _items(found) == [("c", "11-01", "4", "3.3")]
    assert [r["code"] for r in found["rejections"]] == ["missing_value"]


def test_a_schedule_looks_at_the_local_time() -> None:
    charge = """c: {meter: m, price: {model: schedule, timezone: Europe/Zurich, windows: [
      {days: [mon, tue, wed, thu, fri], hours: "08:00-20:00", price: {model: unit, unit_amount: '2'}}],
      otherwise: {model: unit, unit_amount: '1'}}}"""
    times = ["2026-11-02T07:00:00Z", "2026-11-02T06:59:59Z", "2026-11-02T19:00:00Z", "2026-11-01T12:00:00Z"]
    found = rate(_book(charge), [_event(time, time, n=1) for time in times])
    assert _items(found) == [("c", "11-01", "4", "5")]


@pytest.mark.parametrize(
    ("price", "used", "amount"),
    [
        ("{model: volume, bounds: from, tiers: [{up_to: '10', unit_amount: '2'}, {unit_amount: '1'}]}", 10, "10"),
        ("{model: volume, tiers: [{up_to: '10', unit_amount: '2'}, {unit_amount: '1'}]}", 10, "20"),
        (
            "{model: stairstep, method: graduated, tiers: [{up_to: '5', flat_amount: '100'}, {flat_amount: '50'}]}",
            7,
            "150",
        ),
        (
            "{model: graduated, tiers: [{up_to: '5', unit_amount: '1', maximum_amount: '3'}, {unit_amount: '2'}]}",
            6,
            "5",
        ),
        ("{model: package, package_size: '10', package_amount: '3', zero_usage_packages: '2'}", 0, "6"),
    ],
)
def test_parameters_of_tiers(price: str, used: int, amount: str) -> None:
    charge = "c: {meter: m, bill_zero_usage: true, price: " + price + "}"
    found = rate(_book(charge), [_event("1", "11-02", n=used)] if used else [], DEC)
    assert found["line_items"][0]["amount"] == amount


@pytest.mark.parametrize(
    ("terms", "amount"),
    [
        ("discount: {percent: '10'}, maximum: '85'", "85"),  # 100 - 10 = 90
        ("discount: {amount: '30'}, minimum: '75'", "75"),
        ("discount: {amount: '300'}", "0"),
        ("discount: {units: '30'}, free_units: '20'", "50"),
    ],
)
def test_discounts_come_before_maximum_and_minimum(terms: str, amount: str) -> None:
    charge = "c: {meter: m, price: {model: unit, unit_amount: '1'}, " + terms + "}"
    assert _items(rate(_book(charge), [_event("1", "11-02", n=100)])) == [("c", "11-01", "100", amount)]


# Timelines


def _versions(first: str, second: str, more: str = "") -> Any:
    return yaml.safe_load(
        f"""
meters: {{m: {{event: use, aggregate: sum, value: $.n}}}}
price_books: {{b: {{versions: [{{currency: USD, charges: {{{first}}}}},
  {{currency: USD, effective_from: "2026-11-16T00:00:00Z", charges: {{{second}}}{more}}}]}}}}
subscriptions: {{s: {{customer: acme, price_book: b, start: "{NOV}", anchor: 1}}}}
"""
    )


TIERS = "c: {meter: m, price: {model: graduated, tiers: [{up_to: '10', unit_amount: '%s'}, {unit_amount: '1'}]}}"


def test_units_of_the_earlier_segment_stay_used() -> None:
    events = [_event("1", "11-02", n=8), _event("2", "11-20", n=8)]
    # At once 8 · 2; then the new price of 16 (10 · 3 + 6) less that of 8 (24).
    assert _items(rate(_versions(TIERS % 2, TIERS % 3), events)) == [
        ("c", "11-01", "8", "16"),
        ("c", "11-16", "8", "12"),
    ]
    fresh = rate(_versions(TIERS % 2, TIERS % 3, ", carry_usage: false"), events)
    assert _items(fresh) == [("c", "11-01", "8", "16"), ("c", "11-16", "8", "24")]
    assert [(i["price_version"], i["events"]) for i in fresh["line_items"]] == [(1, 1), (2, 1)]


def test_flat_amounts_share_by_duration() -> None:
    flat = "c: {when: in_advance, price: {model: flat, amount: '%s'}}"
    found = rate(_versions(flat % 20, flat % 40), [], DEC)
    assert _items(found)[:2] == [("c", "11-01", "1", "10"), ("c", "11-16", "1", "20")]
    assert _items(found)[2:] == [("c", "12-01", "1", "40")] and _totals(found) == [("period", "30")]
    # The fee of the second segment is due when the period is opened.
    found = rate(_versions(flat % 20, flat % 40), [], "2026-11-01T00:00:00Z")
    assert _items(found) == [("c", "11-01", "1", "10"), ("c", "11-16", "1", "20")]


def test_thirds_telescope() -> None:
    flat = "c: {price: {model: flat, amount: '10'}}"
    book = _versions(flat, flat)
    book["price_books"]["b"]["versions"][1]["effective_from"] = "2026-11-11T00:00:00Z"
    assert [i[3] for i in _items(rate(book, [], DEC))] == ["3.333333333333", "6.666666666667"]


def test_a_pause_asks_and_counts_nothing() -> None:
    book = _book(UNIT + ", f: {price: {model: flat, amount: '30'}}")
    book["subscriptions"]["s"]["pauses"] = [{"start": "2026-11-11T00:00:00Z", "end": "2026-11-21T00:00:00Z"}]
    events = [_event("1", "11-10", n=1), _event("2", "11-11", n=1), _event("3", "11-21", n=1)]
    found = rate(book, events, DEC)
    assert _items(found) == [
        ("c", "11-01", "1", "1"),
        ("f", "11-01", "1", "15"),
        ("c", "11-21", "1", "1"),
        ("f", "11-21", "1", "15"),
    ]
    assert [(r["id"], r["code"]) for r in found["rejections"]] == [("2", "no_subscription")]


def test_a_trial_is_metered_for_nothing_and_does_not_carry() -> None:
    book = _versions(TIERS % 2, TIERS % 2)
    book["price_books"]["b"] = book["price_books"]["b"]["versions"][0]
    book["subscriptions"]["s"]["trial_end"] = "2026-11-16T00:00:00Z"
    events = [_event("1", "11-02", n=8), _event("2", "11-20", n=12)]
    assert _items(rate(book, events, DEC)) == [("c", "11-01", "8", "0"), ("c", "11-16", "12", "22")]


def test_a_phase_has_another_book_and_one_time_is_asked_once_for_each() -> None:
    book = _book("setup: {price: {model: one_time, amount: '100'}}, " + UNIT)
    book["price_books"]["pro"] = {
        "currency": "USD",
        "charges": yaml.safe_load(
            "{setup: {price: {model: one_time, amount: '7'}}, c: {meter: m, price: {model: unit, unit_amount: '5'}}}"
        ),
    }
    phases = [{"start": "2026-12-16T00:00:00Z", "price_book": "pro"}, {"start": JAN, "price_book": "b"}]
    book["subscriptions"]["s"]["phases"] = phases
    events = [_event("1", "12-02", n=2), _event("2", "12-20", n=3)]
    found = rate(book, events, "2027-02-01T00:00:00Z")
    assert _items(found) == [
        ("setup", "11-01", "1", "100"),
        ("c", "12-01", "2", "2"),
        ("setup", "12-16", "1", "7"),
        ("c", "12-16", "3", "15"),
    ]


def test_overrides_of_the_customer_come_before_the_subscriptions() -> None:
    book = _book(UNIT + ", d: {meter: m, price: {model: unit, unit_amount: '1'}}")
    change = {"price": {"model": "unit", "unit_amount": "3"}, "free_units": "1"}
    book["customers"]["acme"] = {"overrides": {"charges": {"c": change, "d": change, "unknown": change}}}
    book["subscriptions"]["s"]["overrides"] = {"charges": {"d": {"price": {"model": "unit", "unit_amount": "2"}}}}
    assert _items(rate(book, [_event("1", "11-02", n=5)])) == [("c", "11-01", "5", "12"), ("d", "11-01", "5", "8")]


def test_hours_are_billing_periods() -> None:
    book = _book(UNIT)
    book["subscriptions"]["s"] |= {"period": "hour", "timezone": "Asia/Kathmandu", "end": "2026-11-01T03:00:00Z"}
    del book["subscriptions"]["s"]["anchor"]
    found = rate(book, [_event("1", "2026-11-01T00:14:59Z", n=1), _event("2", "2026-11-01T00:15:00Z", n=1)], DEC)
    assert [i["period"] for i in found["invoices"]] == [
        {"start": "2026-11-01T00:00:00Z", "end": "2026-11-01T00:15:00Z"},
        {"start": "2026-11-01T00:15:00Z", "end": "2026-11-01T01:15:00Z"},
    ]


# Voids and corrections


def test_a_void_before_or_after_its_event() -> None:
    events = [_event("1", "11-02", n=5), _event("2", "11-03", n=7)]
    for order in ([*events, _void("v", "1")], [_void("v", "1"), *events]):
        found = rate(_book(UNIT), order, DEC)
        assert _items(found) == [("c", "11-01", "7", "7")] and found["line_items"][0]["events"] == 1


def test_a_threshold_invoice_stands_and_the_difference_is_billed() -> None:
    book = _book(UNIT, book="thresholds: [{spend: '5'}]")
    found = rate(book, [_event("1", "11-02", n=6), _void("v", "1"), _event("2", "11-03", n=6)], DEC)
    assert _totals(found) == [("threshold", "6")]
    found = rate(book, [_event("1", "11-02", n=6), _void("v", "1")], DEC)
    assert _totals(found) == [("threshold", "6"), ("period", "-6")] and not found["line_items"]


def test_a_void_of_a_closed_period_and_its_replacement() -> None:
    events = [_event("1", "11-02", n=6), Tick(DEC), _void("v", "1"), _event("2", "11-02", n=10)]
    found = rate(_book(UNIT), events, "2026-12-02T00:00:00Z")
    assert _totals(found) == [("period", "6"), ("correction", "4")]
    assert found["invoices"][1]["period"]["start"] == NOV
    # `next`: December's invoice has it.
    found = rate(_book(UNIT, book="corrections: next"), [*events, _event("3", "12-05", n=1)], JAN)
    assert _totals(found) == [("period", "6"), ("period", "5")]
    assert [line["amount"] for line in found["invoices"][1]["lines"]] == ["1", "4"]


def test_a_correction_takes_the_true_up_back() -> None:
    book = _book(UNIT, book="minimum: '50'")
    found = rate(book, [_event("1", "11-02", n=20), Tick(DEC), _event("2", "11-02", n=40)], "2026-12-02T00:00:00Z")
    assert _totals(found) == [("period", "50"), ("correction", "10")]
    assert found["invoices"][1]["minimum"] == "-30"


# The invoice


def _figures(invoice: dict[str, Any]) -> tuple[str, ...]:
    return tuple(invoice[word] for word in ("subtotal", "minimum", "discounts", "credits", "taxes", "total"))


def test_maximum_over_several_invoices() -> None:
    book = _book(UNIT, book="maximum: '10', thresholds: [{spend: '5', repeat: true}]")
    events = [_event(str(n), f"11-{n:02d}", n=4) for n in range(1, 5)]
    # 8 at the first crossing, 12 at the second: 4, of which 2 are over. At the end 16: 4, all of it over.
    found = [_figures(invoice) for invoice in rate(book, events, DEC)["invoices"]]
    assert found == [
        ("8", "0", "0", "0", "0", "8"),
        ("4", "0", "2", "0", "0", "2"),
        ("4", "0", "4", "0", "0", "0"),
    ]


def test_overage_is_a_line_of_its_own() -> None:
    book = _book(UNIT, book="minimum: '10', overage_factor: '1.5'")
    invoice = rate(book, [_event("1", "11-02", n=15)], DEC)["invoices"][0]
    assert [(line["charge"], line["amount"]) for line in invoice["lines"]] == [("c", "15"), ("overage", "2.5")]
    assert _figures(invoice) == ("17.5", "0", "0", "0", "0", "17.5")


def test_coupons_credits_and_taxes() -> None:
    more = """coupons: [{id: ten, percent: '10', duration: 1}, {id: five, amount: '5', duration: forever}],
      credit_grants: [{id: late, amount: '3', priority: 2}, {id: soon, amount: '10', priority: 1, charges: [d]}],
      taxes: [{name: VAT, rate: '0.081'}]"""
    book = _book(UNIT + ", d: {meter: m, price: {model: unit, unit_amount: '0.5'}, taxes: []}", more=more)
    found = rate(book, [_event("1", "11-02", n=20), _event("2", "12-02", n=20)], JAN)
    # 30, less 3 (2 and 1), less 5 (18 to 9: 3.33 and 1.67): 14.67 and 7.33. `soon` pays the 7.33 of d, `late` 3 of c.
    first, second = found["invoices"]
    assert _figures(first) == ("30", "0", "8", "10.33", "0.95", "12.62")  # 11.67 · 8.1 % = 0.945
    assert [(line["discount"], line["credit"], line["tax"]) for line in first["lines"]] == [
        ("5.33", "3", "0.95"),
        ("2.67", "7.33", "0"),
    ]
    assert first["applied_credits"] == [{"grant": "soon", "amount": "7.33"}, {"grant": "late", "amount": "3"}]
    # 30, less 5 (3.33, 1.67), less what is left of `soon` (2.67): 16.67 · 8.1 % = 1.35.
    assert _figures(second) == ("30", "0", "5", "2.67", "1.35", "23.68")


def test_taxes_once_or_by_line() -> None:
    charges = ", ".join(f"c{n}: {{meter: m, price: {{model: unit, unit_amount: '0.05'}}}}" for n in range(3))
    events = [_event("1", "11-02", n=1)]
    more = "taxes: [{name: VAT, rate: '0.1'}]"
    invoice = rate(_book(charges, more=more), events, DEC)["invoices"][0]
    assert [line["tax"] for line in invoice["lines"]] == ["0.01", "0.01", "0"]  # 0.15 · 10 % = 0.015
    invoice = rate(_book(charges, more=more, book="tax_rounding: per_line"), events, DEC)["invoices"][0]
    assert invoice["taxes"] == "0.03"


def test_a_coupon_reduces_the_true_up_and_never_goes_below_nought() -> None:
    book = _book(UNIT, book="minimum: '50'", more="coupons: [{id: a, amount: '80', duration: 2}]")
    found = rate(book, [], "2027-02-01T00:00:00Z")
    assert _totals(found) == [("period", "0"), ("period", "0"), ("period", "50")]


def test_grants_by_time_of_closing() -> None:
    grants = """credit_grants: [{id: a, amount: '4', expires_at: '2026-12-01T00:00:00Z'},
      {id: b, amount: '4', effective_from: '2026-12-01T00:00:00Z', low_balance: '1'}]"""
    found = rate(_book(UNIT, more=grants), [_event("1", "11-02", n=3)], DEC)
    assert found["invoices"][0]["applied_credits"] == [{"grant": "b", "amount": "3"}]
    assert [(alert["grant"], alert["because"]) for alert in found["alerts"]] == [
        ("b", {"threshold": "1", "level": "1"})
    ]


def test_budget_alerts_come_once_each() -> None:
    book = _book(UNIT, book="budget: {amount: '10'}")
    found = rate(book, [_event("1", "11-02", n=7), _event("2", "11-03", n=1), _event("3", "11-03", n=9)])
    named = [(a["spend"], a["because"]["level"], a["because"]["event"]["id"]) for a in found["alerts"]]
    assert named == [("8", "8", "2"), ("17", "10", "3")] and not found["invoices"]


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        ("6", ["10", "5"], ["4", "2"]),
        ("0.05", ["1", "1", "1"], ["0.02", "0.02", "0.01"]),
        ("0.01", ["100", "1"], ["0.01", "0"]),
        ("5", ["10", "5"], ["3.33", "1.67"]),
        ("-0.05", ["1", "1", "1"], ["-0.02", "-0.02", "-0.01"]),
    ],
)
def test_spreading_by_largest_remainder(total: str, weights: list[str], shares: list[str]) -> None:
    def numbers(texts: list[str]) -> list[Any]:
        return [number(text) for text in texts]

    found = spread(number(total) or NOUGHT, numbers(weights), number("0.01") or NOUGHT)
    assert found == numbers(shares) and sum(found) == number(total)
    assert apportion(NOUGHT, numbers(["0.004", "-0.004"]), number("0.01") or NOUGHT) in (
        [0, 0],
        numbers(["0.01", "-0.01"]),
    )
