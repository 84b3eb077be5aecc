"""Calls: durations that are billed in whole increments, at rates that change while they last."""

from fractions import Fraction
from typing import Any

from tests.cases.agreement import Agreement
from tests.cases.reading import Case
from tests.oracle.reading import show

Found = dict[str, Any]


def call(case: Case) -> Found:
    """One call: a charge for each group of rates, which leaves the seconds of the groups before free, and ends at the
    next group's begin. Increments are packages of the rate's unit."""
    price, duration = case["price"], case["usage"]["duration"]
    agreement = Agreement()
    groups = price.get("groups") or [{"from": "0", "price": "1", "rate_unit": "1", "increment": price["increment"]}]
    ends = [Fraction(group["from"]) for group in groups[1:]]
    for i, group in enumerate(groups):
        begin, unit = Fraction(group["from"]), Fraction(group["rate_unit"])
        agreement.meters[f"group-{i}"] = {
            "event": "use", "aggregate": "sum", "value": "$.value", "convert": {"divide": group["rate_unit"]}
        }  # fmt: skip
        charge = agreement.charges[f"group-{i}"] = {"meter": f"group-{i}", "price": _price(group, Fraction(duration))}
        if begin:
            charge["free_units"] = show(begin / unit)
        if i < len(ends):
            charge["maximum"] = show((ends[i] - begin) / unit * Fraction(group["price"]))
    if Fraction(price.get("connect_fee", "0")):
        agreement.meters["calls"] = {"event": "use", "aggregate": "count"}
        agreement.charges["connection"] = {
            "meter": "calls", "price": {"model": "unit", "unit_amount": price["connect_fee"]}
        }  # fmt: skip
    agreement.use(duration)
    found = agreement.rate()
    parts = [found.amount(f"group-{i}") for i in range(len(groups))]
    seconds = sum(
        Fraction(tier["packages"]) * Fraction(tier["package_size"])
        for item in found.of("group-0")
        for tier in item["tiers"]
        if "packages" in tier
    )
    return {"amount": found.amount(), "parts": parts, "units": seconds}


def _price(group: dict[str, str], duration: Fraction) -> dict[str, Any]:
    """Packages of an increment; where it is a part of the rate's unit, a duration of whole increments needs none."""
    increment, unit = Fraction(group["increment"]), Fraction(group["rate_unit"])
    if increment % unit:
        assert duration % increment == 0
        return {"model": "unit", "unit_amount": group["price"]}
    size = increment / unit
    amount = show(size * Fraction(group["price"]))
    return {"model": "package", "package_size": show(size), "package_amount": amount}
