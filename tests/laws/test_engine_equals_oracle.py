"""The engine against the oracle, and the laws that hold whatever was thrown.

`TAXIMETER_EXAMPLES=5000` throws more, each time anew; by default the same few are thrown every time.
"""

import json
import random
from collections import defaultdict
from fractions import Fraction
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.calendars import moment
from tests.oracle.engine import Outputs, canonical, differences, rate_raw, run_engine
from tests.oracle.generate import Thrown, cases
from tests.oracle.oracle import MINOR_DIGITS, rate
from tests.oracle.reading import half_even, half_up, number
from tests.oracle.throws import throws

THROWS = throws(20)
BATCHES = (1, 2, 3, 7, 1000)


@THROWS
@given(cases())
def test_engine_says_what_the_oracle_says(case: Thrown) -> None:
    found = differences(run_engine(*case), rate(*case))
    assert not found, "\n".join([*found, "", case.catalogue, *case.events, f"as of {case.as_of}"])


@THROWS
@given(cases())
def test_any_cut_into_batches_gives_the_same_bytes(case: Thrown) -> None:
    written = {batch: _bytes(rate_raw(*case, batch)) for batch in BATCHES}
    for batch in BATCHES[1:]:
        assert written[batch] == written[1], f"batches of {batch} against batches of 1"


@THROWS
@given(cases(), st.randoms(use_true_random=False))
def test_duplicates_change_nothing(case: Thrown, dice: random.Random) -> None:
    repeated = []
    for position, event in enumerate(case.events):
        repeated.append(event)
        if dice.random() < 0.5:
            # What is repeated has been accepted, or was a conflict: then it is reported once more.
            first = _first_of_its_identity(case, position)
            repeated.append(case.events[first])
    again = run_engine(case.catalogue, repeated, case.as_of)
    assert canonical(again) == canonical(run_engine(*case))


@THROWS
@given(cases(tidy=True), st.randoms(use_true_random=False))
def test_order_of_arrival_changes_no_line_and_no_total(case: Thrown, dice: random.Random) -> None:
    shuffled = list(case.events)
    dice.shuffle(shuffled)
    one, other = run_engine(*case), run_engine(case.catalogue, shuffled, case.as_of)
    assert canonical(one)["line_items"] == canonical(other)["line_items"]
    assert canonical(one)["rejections"] == canonical(other)["rejections"]
    assert _totals(one, case.as_of) == _totals(other, case.as_of)


@THROWS
@given(cases())
def test_invoices_of_a_period_sum_to_its_rounded_lines(case: Thrown) -> None:
    outputs = run_engine(*case)
    books = yaml.safe_load(case.catalogue)["price_books"]
    lines: dict[Any, Fraction] = defaultdict(Fraction)
    for item in outputs["line_items"]:
        to_cents = half_even if books[item["price_book"]].get("rounding") == "half_even" else half_up
        cent = Fraction(1, 10 ** MINOR_DIGITS.get(item["currency"], 2))
        if _closed(item, case.as_of):
            lines[_period(item)] += to_cents(number(item["amount"]), cent)
    billed: dict[Any, Fraction] = defaultdict(Fraction)
    for invoice in outputs["invoices"]:
        assert number(invoice["total"]) == number(invoice["subtotal"]) + number(invoice["minimum"])
        charged = sum((number(line["amount"]) for line in invoice["lines"] if line["charge"] != "minimum"), Fraction(0))
        assert number(invoice["subtotal"]) == charged
        assert invoice["lines"] and all(number(line["amount"]) for line in invoice["lines"])
        if _closed(invoice, case.as_of):
            billed[_period(invoice)] += charged
    assert {k: v for k, v in billed.items() if v} == {k: v for k, v in lines.items() if v}


@THROWS
@given(cases())
def test_what_an_output_names_exists(case: Thrown) -> None:
    outputs = run_engine(*case)
    items, invoices = ({o["id"]: o for o in outputs[part]} for part in ("line_items", "invoices"))
    for part in ("line_items", "invoices", "alerts"):
        assert len({o["id"] for o in outputs[part]}) == len(outputs[part]), f"an id stands twice in {part}"
    for invoice in outputs["invoices"]:
        for line in invoice["lines"]:
            if line["charge"] != "minimum" and line["line_item"] in items:
                item = items[line["line_item"]]
                assert (item["charge"], item["dimensions"]) == (line["charge"], line["dimensions"])
                assert _period(item) == _period(invoice)
    for alert in outputs["alerts"]:
        if alert["invoice"] is not None:
            assert _period(invoices[alert["invoice"]]) == _period(alert)


@THROWS
@given(cases())
def test_tiers_of_a_line_show_how_its_amount_came_about(case: Thrown) -> None:
    """For lines with one tiered price over all: the tiers that were entered are those of the oracle."""
    found = {_line(item): item["tiers"] for item in run_engine(*case)["line_items"]}
    for item in rate(*case)["line_items"]:
        charge = _charge(case, item)
        if charge["price"]["model"] in ("graduated", "volume", "stairstep") and item["events"]:
            assert _filled(found[_line(item)]) == _filled(item["tiers"])


def _filled(tiers: list[dict[str, str]]) -> list[dict[str, str]]:
    """Tiers with anything in them: whether one that was entered at nought is shown, nothing says. Without the steps
    that come after the model."""
    filled = [tier for tier in tiers if tier["quantity"] != "0" or tier["amount"] != "0"]
    return [tier for tier in filled if tier.get("channel") not in ("discount", "maximum", "minimum", "earlier")]


def _bytes(rated: Any) -> bytes:
    parts = (rated.line_items, rated.invoices, rated.alerts, rated.rejections)
    return b"\n".join(msgspec.json.encode(one) for part in parts for one in part)


def _first_of_its_identity(case: Thrown, position: int) -> int:
    owners = {"team-a": "acme", "team-b": "acme"}
    keys = [(owners.get(e["subject"], e["subject"]), e["source"], e["id"]) for e in map(json.loads, case.events)]
    return keys.index(keys[position])


def _period(output: dict[str, Any]) -> tuple[str, str, str]:
    return output["customer"], output["subscription"], output["period"]["start"]


def _line(item: dict[str, Any]) -> tuple[Any, ...]:
    return *_period(item), item["charge"], *sorted(item["dimensions"].items())


def _closed(output: dict[str, Any], as_of: str | None) -> bool:
    return as_of is not None and moment(output["period"]["end"]) <= moment(as_of)


def _totals(outputs: Outputs, as_of: str | None) -> dict[Any, Fraction]:
    totals: dict[Any, Fraction] = defaultdict(Fraction)
    for invoice in outputs["invoices"]:
        if _closed(invoice, as_of):
            totals[_period(invoice)] += number(invoice["total"])
    return {key: total for key, total in totals.items() if total}


def _charge(case: Thrown, item: dict[str, Any]) -> dict[str, Any]:
    book = yaml.safe_load(case.catalogue)
    terms = (book.get("subscriptions") or {}).get(item["subscription"]) or book["default_subscription"]
    changed = (terms.get("overrides") or {}).get("charges") or {}
    charge = book["price_books"][terms["price_book"]]["charges"][item["charge"]]
    return {**charge, **changed.get(item["charge"], {})}
