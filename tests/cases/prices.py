"""A case's `price` as the documents of the catalogue."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tests.cases.agreement import Agreement, Row
from tests.cases.reading import Case, Money
from tests.oracle.reading import show

CHARGE = "case"
"""The charge that stands for the case."""


def lay(case: Case) -> Agreement:
    """The agreement of a price of usage, and what is laid over it: minimum, maximum, discount, allowance, credit."""
    price, money = case["price"], Money(case)
    base = price.get("base", price)
    model = base.get("model", case["model"])
    agreement = Agreement(money.currency)
    agreement.meters["usage"] = {"event": "use", "aggregate": "sum", "value": "$.value"}
    charge = agreement.charges[CHARGE] = _MODELS[model](base)
    if model != "flat":
        charge["meter"] = "usage"
    free = base.get("free_units", price.get("free_units", "0"))
    if Fraction(free):
        charge["free_units"] = free
    if "percent_discount" in price:
        charge["discount"] = {"percent": price["percent_discount"]}
    if "usage_discount" in price:
        charge["discount"] = {"units": price["usage_discount"]}
    if "conversion" in price:
        agreement.meters["usage"]["convert"] = _conversion(price["conversion"])
    if "maximum_amount" in price:
        # Where the case says what the maximum took off, it is the book's: that is a discount on the invoice.
        (agreement.book if "discount" in case["expected"] else charge)["maximum"] = price["maximum_amount"]
    if "minimum_amount" in price:
        agreement.book["minimum"] = price["minimum_amount"]
    if "tax_percent" in price:
        agreement.customer["taxes"] = [tax(rate) for rate in price["tax_percent"]]
    if "credits" in price:
        grants = [{"id": f"grant-{i}", "amount": amount} for i, amount in enumerate(price["credits"])]
        agreement.customer["credit_grants"] = grants
    return agreement


def tax(percent: str) -> Row:
    """A tax by its percentage."""
    return {"name": f"{percent} %", "rate": share(percent)}


def share(percent: str) -> str:
    """A percentage as a share."""
    return show(Fraction(percent) / 100)


def flat(amount: str, **more: Any) -> Row:
    """A charge of one amount a period."""
    return {"price": {"model": "flat", "amount": amount}, **more}


def unit(amount: str, **more: Any) -> Row:
    """A charge of so much for each unit of the meter `usage`."""
    return {"meter": "usage", "price": {"model": "unit", "unit_amount": amount}, **more}


def rounding(mode: str, digits: str, value: str) -> Row:
    """How a meter rounds: `up` is away from nought there, and a ceiling lies below nought the other way."""
    below = Fraction(value) < 0
    modes = {"ceil": "down" if below else "up", "floor": "up" if below else "down", "half_away_from_zero": "half_up"}
    return {"round": modes.get(mode, mode), "digits": int(digits)}


def _conversion(conversion: Row) -> Row:
    how = rounding(conversion["rounding"], conversion["precision"], "1")
    return {conversion["operation"]: conversion["factor"], **how}


def _per_unit(price: Row) -> Row:
    return {"price": {"model": "unit", "unit_amount": price["unit_price"]}}


def _converted_only(price: Row) -> Row:
    """No price in the source: each converted unit costs one."""
    return {"price": {"model": "unit", "unit_amount": "1"}}


def _tiered(model: str) -> Callable[[Row], Row]:
    def build(price: Row) -> Row:
        tiers = [_tier(tier) for tier in price["tiers"]]
        if "up_to" in tiers[-1]:
            tiers.append({"rate": "0"} if "rate" in tiers[-1] else {"unit_amount": "0"})
        found: Row = {"price": {"model": model, "tiers": tiers}}
        if price["boundary"] == "from_inclusive":
            found["price"]["bounds"] = "from"
        if price["zero_usage_flat_fee"]:
            found["bill_zero_usage"] = True
        return found

    return build


def _tier(tier: Row) -> Row:
    found = {"flat_amount": tier["flat_fee"]}
    if tier["up_to"] is not None:
        found["up_to"] = tier["up_to"]
    if "unit_price" in tier:
        found["unit_amount"] = tier["unit_price"]
    if "rate_percent" in tier:
        found["rate"] = share(tier["rate_percent"])
    if tier.get("flat_cap") is not None:
        found["maximum_amount"] = tier["flat_cap"]
    return found


def steps(price: Row) -> Row:
    """The charge `stairstep` of the tiers that have a flat fee alone; the last of them is open."""
    flats = [tier for tier in price["tiers"] if not Fraction(tier["unit_price"]) and Fraction(tier["flat_fee"])]
    tiers = [{"up_to": tier["up_to"], "flat_amount": tier["flat_fee"]} for tier in flats]
    del tiers[-1]["up_to"]
    found: Row = {"price": {"model": "stairstep", "tiers": tiers, "method": price["method"]}}
    return found | ({"bill_zero_usage": True} if price["zero_usage_flat_fee"] else {})


def _stairstep(price: Row) -> Row:
    return _tiered(price["method"])(price)


def _package(price: Row) -> Row:
    found: Row = {"model": "package", "package_size": price["package_size"], "package_amount": price["package_price"]}
    if "package_rounding" in price:
        found["round"] = price["package_rounding"]
    if not Fraction(price["zero_usage_packages"]):
        return {"price": found}
    return {"price": found | {"zero_usage_packages": int(price["zero_usage_packages"])}, "bill_zero_usage": True}


_FREE_RULES = {"first_limit_reached": "first_limit", "amount_governs": "amount_governs"}


def _percentage(price: Row) -> Row:
    found: Row = {
        "model": "percentage",
        "rate": share(price["rate_percent"]),
        "free_rule": _FREE_RULES[price["free_rule"]],
    }
    names = {
        "fixed_amount": "fixed_fee",
        "free_amount": "free_amount",
        "min_amount": "per_transaction_min",
        "max_amount": "per_transaction_max",
    }
    found |= {key: price[name] for key, name in names.items() if price.get(name) is not None}
    return {"price": found | ({"free_events": int(price["free_events"])} if price.get("free_events") else {})}


def _dynamic(price: Row) -> Row:
    if price["kind"] == "multiplier":
        return {"price": {"model": "dynamic", "amount": "$.value", "multiplier": price["multiplier"]}}
    return {"price": {"model": "dynamic", "amount": "$.amount"}}


def _matrix(price: Row) -> Row:
    default = {"model": "unit", "unit_amount": price["default_unit_price"]}
    if not price["cells"]:
        return {"price": default}
    cells = [
        {"match": cell["match"], "price": {"model": "unit", "unit_amount": cell["unit_price"]}}
        for cell in price["cells"]
    ]
    by = sorted({name for cell in price["cells"] for name in cell["match"]})
    return {"price": {"model": "matrix", "by": by, "cells": cells, "otherwise": default}}


def _flat(price: Row) -> Row:
    return flat(price["flat_fee"], when=price["payment_term"])


_MODELS: dict[str, Callable[[Row], Row]] = {
    "per_unit": _per_unit,
    "graduated": _tiered("graduated"),
    "volume": _tiered("volume"),
    "graduated_percentage": _tiered("graduated_percentage"),
    "stairstep": _stairstep,
    "package": _package,
    "percentage": _percentage,
    "dynamic": _dynamic,
    "matrix": _matrix,
    "flat": _flat,
    "commitment_overage": _per_unit,
    "prorated_graduated": _tiered("graduated"),
    "unit_conversion": _converted_only,
}
