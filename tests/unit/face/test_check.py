"""`taximeter check` says in words what a catalogue asks, and its tables are the engine's own prices."""

# ruff: noqa: E501 - tables read better with a row on a line

import pytest

from rating.catalogue import load_catalogue
from rating.prices import MODELS
from taximeter.check import explain

METERS = """
meters:
  calls: {event: call, aggregate: count, where: {$.status: {not: failed}}, dimensions: {model: $.model, kind: $.kind}}
  money: {event: paid, aggregate: sum, value: $.amount}
  disk:  {event: disk, aggregate: time_weighted, value: $.gib, key: $.volume}
"""
BOOK = """
price_books: {book: {currency: USD, charges: {it: %s}%s}}
"""


def said(charge: str, more: str = "") -> str:
    return explain(load_catalogue(METERS + BOOK % (charge, more)))


def words_of(charge: str, more: str = "") -> str:
    """The explanation in one line."""
    return " ".join(said(charge, more).split())


def costs_of(text: str) -> dict[str, str]:
    """Units -> cost, of the last table of an explanation."""
    lines = text.splitlines()
    start = max(i for i, line in enumerate(lines) if line.split()[:1] == ["units"])
    rows = [line.split() for line in lines[start + 1 :]]
    return {row[0]: row[1] for row in rows[: next((i for i, row in enumerate(rows) if not row), None)]}


CHARGES = {
    "flat": ("{price: {model: flat, amount: 20}, when: in_advance, prorate: true}",
             "20 USD a period, in advance, whatever is used; a part of a period pays its share of the time."),
    "one_time": ("{price: {model: one_time, amount: 250}}", "250 USD, once, when the price book first takes force."),
    "unit": ('{meter: calls, price: {model: unit, unit_amount: "0.05"}}', "0.05 USD for each unit."),
    "graduated": ("{meter: calls, price: {model: graduated, tiers: [{up_to: 10, unit_amount: 1}, "
                  "{up_to: 20, unit_amount: 2, flat_amount: 5}, {flat_amount: 7}]}}",
                  "the first 10 1 USD each then up to 20 2 USD each, and 5 USD once it is entered above 20 7 USD once"),
    "volume": ("{meter: calls, price: {model: volume, bounds: from, tiers: [{up_to: 10, unit_amount: 1}, {unit_amount: 2}]}}",
               "below 10 1 USD each from 10 2 USD each"),
    "stairstep": ("{meter: calls, price: {model: stairstep, tiers: [{up_to: 10, flat_amount: 1}, {flat_amount: 2}]}}",
                  "up to 10 1 USD above 10 2 USD"),
    "package": ("{meter: calls, price: {model: package, package_size: 100, package_amount: 2, round: down}}",
                "2 USD for each package of 100; only full packages count."),
    "percentage": ('{meter: money, price: {model: percentage, rate: "0.029", fixed_amount: "0.3", max_amount: 50, '
                   "free_events: 3, free_amount: 100}}",
                   "2.9 % of each event's value and 0.3 USD, at most 50 USD. The first 3 events or 100 USD, whichever "
                   "is used up first, of a period are free."),
    "graduated_percentage": ('{meter: money, price: {model: graduated_percentage, tiers: [{rate: "0.02"}]}}', "every unit 2 %"),
    "dynamic": ("{meter: money, price: {model: dynamic, amount: $.cost, multiplier: 2}}",
                "What each event itself says that it costs ($.cost), times 2, in USD."),
    "matrix": ("{meter: calls, price: {model: matrix, by: [model, kind], cells: [{match: {model: [large, huge], kind: out}, "
               "price: {model: unit, unit_amount: 3}}]}}",
               "model large or huge, kind out: 3 USD for each unit. all else: Free."),
    "schedule": ("{meter: calls, price: {model: schedule, timezone: Europe/Zurich, windows: [{days: [mon, tue, wed], "
                 'hours: "08:00-20:00", price: {model: unit, unit_amount: 3}}], otherwise: {model: unit, unit_amount: 1}}}',
                 "in Europe/Zurich; the first that fits: Monday to Wednesday, 08:00 to 20:00: 3 USD for each unit. all "
                 "else: 1 USD for each unit."),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARGES)
def test_a_model_is_explained_in_words(name: str) -> None:
    charge, words = CHARGES[name]
    assert words in words_of(charge)


def test_every_model_has_words() -> None:
    assert CHARGES.keys() == MODELS.keys()


def test_costs_stand_at_every_edge_and_just_above_it() -> None:
    costs = costs_of(said(CHARGES["graduated"][0]))
    assert costs == {"0": "0", "1": "1", "10": "10", "11": "17", "20": "35", "21": "42", "1,000,000": "42"}
    assert costs_of(said(CHARGES["volume"][0]))["9"] == "9" and costs_of(said(CHARGES["volume"][0]))["10"] == "20"
    fine = "{meter: money, price: {model: volume, tiers: [{up_to: 0.5, unit_amount: 2}, {unit_amount: 1}]}}"
    assert costs_of(said(fine))["0.5"] == "1" and costs_of(said(fine))["0.6"] == "0.6"


def test_costs_hold_free_units_discount_and_bounds() -> None:
    text = said("{meter: calls, free_units: 100, discount: {percent: 10}, minimum: 2, maximum: 50, "
                "price: {model: unit, unit_amount: 1}}")  # fmt: skip
    assert costs_of(text) == {"0": "2", "1": "2", "100": "2", "101": "2", "1,000,000": "50"}
    words = " ".join(text.split())
    assert "The first 100 units of a period are free. 1 USD for each unit. Then 10 % off." in words
    assert "At most 50 USD and at least 2 USD a period." in words


def test_cells_with_the_same_edges_stand_beside_each_other() -> None:
    text = said(CHARGES["schedule"][0])
    assert "units   Mon-Wed 08:00-20:00    all else" in text
    assert costs_of(text)["1"] == "3"


def test_a_percentage_shows_what_one_event_costs() -> None:
    lines = said(CHARGES["percentage"][0]).splitlines()
    start = next(i for i, line in enumerate(lines) if "an event's value" in line and "USD at first" in line)
    rows = {line.split()[0]: line.split()[1:] for line in lines[start + 1 : start + 7]}
    assert rows["100"] == ["0", "3.2"] and rows["1,000"] == ["26.4", "29.3"] and rows["1,000,000"] == ["50", "50"]


def test_what_holds_for_the_whole_period() -> None:
    more = ", minimum: {amount: 50, prorate: true}, overage_factor: 1.5, maximum: 900, thresholds: [{spend: 100, "
    words = words_of(CHARGES["unit"][0], more + "repeat: true}], budget: {amount: 70}")
    for sentence in (
        "At least 50 USD a period: what is missing is billed by a line of its own; a part of a period commits",
        "What is above the commitment is multiplied by 1.5.",
        "At most 900 USD a period",
        "An invoice at once when spend reaches 100 USD, and at every further 100.",
        "An alert, and no invoice, at 80 % and 100 % of a budget of 70 USD.",
    ):
        assert sentence in words


def test_versions_show_when_they_hold_and_what_differs() -> None:
    one = "a: {price: {model: flat, amount: 1}}, b: {price: {model: flat, amount: 2}}"
    two = "a: {price: {model: flat, amount: 1}}, c: {price: {model: flat, amount: 3}}"
    text = explain(load_catalogue(f"price_books: {{book: {{versions: [{{currency: USD, charges: {{{one}}}}}, "
                                  f"{{currency: USD, effective_from: 2027-01-01T00:00:00Z, charges: {{{two}}}}}]}}}}"))  # fmt: skip
    first, second = text.split("Price book book, version 2 of 2")
    assert "In force until 1 January 2027." in first and "1 USD a period" in first
    assert "In force from 1 January 2027." in second and "1 USD a period" not in second
    assert "As before: a." in second and "No longer asked: b." in second and "3 USD a period" in second


def test_customers_and_the_phases_of_subscriptions() -> None:
    text = explain(load_catalogue(METERS + BOOK % (CHARGES["unit"][0], "") + """
tax_rates: {vat: {name: VAT, rate: "0.081"}}
coupons: {hello: {percent: 20, duration: 3}}
credit_grants: {prepaid: {customer: acme, amount: 500, currency: USD, charges: [it], low_balance: 50}}
customers:
  acme: {name: Acme Ltd, subjects: [team-a], timezone: Europe/Zurich, taxes: [{id: vat}], coupons: [{id: hello}]}
subscriptions:
  acme-1:
    {customer: acme, price_book: book, start: 2026-10-31T23:00:00Z, trial_end: 2026-11-30T23:00:00Z, anchor: 1,
     phases: [{start: 2027-03-31T22:00:00Z, overrides: {minimum: 9, charges: {it: {free_units: 5}}}}],
     pauses: [{start: 2027-05-31T22:00:00Z, end: 2027-06-30T22:00:00Z}], end: 2027-12-31T23:00:00Z}
"""))  # fmt: skip
    words = " ".join(text.split())
    for sentence in (
        "hello coupon 20 % off, for 3 periods vat tax VAT 8.1 % prepaid credit for acme: 500 USD, priority 100, only "
        "for it, an alert when 50 is left",
        "acme Acme Ltd; pays for team-a; days are those of Europe/Zurich; taxed by VAT 8.1 %; coupon: 20 % off",
        "acme-1: acme by book, billed by the month, anchored at 1, in Europe/Zurich from 1 November 2026 free trial from "
        "1 December 2026 book from 1 April 2027 book; its own it (free_units) and minimum from 1 June 2027 paused until "
        "1 July 2027 on 1 January 2028 it ends",
        "Customers without a subscription of their own are not billed",
    ):
        assert sentence in words


def test_meters_say_what_they_count() -> None:
    words = " ".join(said(CHARGES["unit"][0]).split())
    assert "calls the number of call events, where $.status is not failed; by model and kind" in words
    assert "the level $.gib that disk events report, times how long it holds in hours, for each $.volume apart" in words


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for charge, _ in CHARGES.values():
        text = explain(load_catalogue(METERS + BOOK % (charge, ", minimum: 50")), width)
        assert max(map(len, text.splitlines())) <= min(width, 100)


def test_an_empty_catalogue() -> None:
    assert explain(load_catalogue("")).startswith("No faults in nothing.")
