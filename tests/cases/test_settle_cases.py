"""Taxes, coupons, credits and spreading give the figures of other billing engines, except where they are named."""

from collections.abc import Callable
from typing import Any

import pytest

from rating.settle import CouponLeft, GrantLeft, InvoiceTerms, Line, TaxRate, TaxRounding, settle, spread
from rating.terms import NEVER, GrantTerms
from schemas.currency import MINOR_DIGITS, round_to_minor
from schemas.numbers import ONE, divide_half_up, parse_scaled
from tests.cases.settle_cases import UNREACHABLE, find_cases, is_ours, read_cases

CASES = [case for case in read_cases() if is_ours(case)]
KNOWN = [case for case in CASES if case["id"] not in UNREACHABLE]


def test_the_cases_are_there() -> None:
    assert find_cases().is_file() and len(KNOWN) > 60
    assert {case["id"] for case in CASES} >= set(UNREACHABLE)


@pytest.mark.parametrize("case", KNOWN, ids=[case["id"] for case in KNOWN])
def test_figures(case: dict[str, Any]) -> None:
    found = CHECKS[case["model"]](case)
    expected = {key: _number(value) for key, value in case["expected"].items() if key in found}
    assert "amount" in expected
    assert found == {**found, **expected}


@pytest.mark.parametrize("id", UNREACHABLE)
def test_what_no_parameter_reaches_still_differs(id: str) -> None:
    cases = [case for case in CASES if case["id"] == id]
    assert cases, "the shared test vectors are missing"
    found = CHECKS[cases[0]["model"]](cases[0])
    assert found["drawn"] != _number(cases[0]["expected"]["drawn"])


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _number(one) for key, one in value.items() if _number(one)}
    return [_number(one) for one in value] if isinstance(value, list) else parse_scaled(value)


def _currency(case: dict[str, Any]) -> str:
    """In minor units every amount is whole: a currency without digits stands for them."""
    digits = case.get("rounding", {}).get("digits")
    if case.get("money_unit") == "minor" or digits == "0":
        return "JPY"
    return str(case["currency"] or {"2": "USD", "3": "KWD"}[digits])


def _tax(case: dict[str, Any]) -> dict[str, Any]:
    how: TaxRounding = "per_invoice" if case["price"]["tax_rounding"] == "once_on_invoice" else "per_line"
    lines = []
    for line in case["usage"]["lines"]:
        rates = tuple(TaxRate("tax", parse_scaled(rate) // 100, False) for rate in line["rates_percent"])
        lines += [Line("usage", parse_scaled(line["net"]), rates)] * int(line.get("repeat", 1))
    settled = settle(lines, InvoiceTerms(_currency(case), tax_rounding=how))
    return {
        "amount": settled.taxes,
        "total": settled.total,
        "line_taxes": [line.tax for line in settled.lines],
        "rate_taxes": [tax.amount for tax in settled.tax_lines],
    }


def _coupon(case: dict[str, Any]) -> dict[str, Any]:
    coupons = [
        CouponLeft(str(i), _maybe(coupon.get("percent")), _maybe(coupon.get("amount")))
        for i, coupon in enumerate(case["price"]["coupons"])
        if parse_scaled(coupon.get("percent", "1"))
    ]
    if case["price"]["order"] == "percent_first":
        coupons.sort(key=lambda coupon: coupon.percent is None)
    lines = [Line("usage", parse_scaled(amount)) for amount in case["usage"]["lines"]]
    settled = settle(lines, InvoiceTerms(_currency(case), coupons=tuple(coupons)))
    return {
        "amount": settled.discounts,
        "net": settled.total,
        "allocated": [line.discount for line in settled.lines],
    }


def _credits(case: dict[str, Any]) -> dict[str, Any]:
    if "credits" in case["price"]:
        return _line_credits(case)
    wallets = case["price"]["wallets"]
    fees = case["usage"]["fees"]
    currency = next((fee["currency"] for fee in fees if "currency" in fee), None)
    grants = [
        GrantTerms(
            wallet["id"],
            parse_scaled(wallet["balance"]),
            wallet.get("currency"),
            int(wallet["priority"]),
            place,
            NEVER,
            frozenset(wallet.get("only", [])),
            None,
            None,
        )
        for place, wallet in enumerate(wallets)
    ]
    usable = [grant for grant in sorted(grants, key=GrantTerms.turn) if currency in (None, grant.currency)]
    settled = settle(
        [Line(fee["kind"], parse_scaled(fee["amount"])) for fee in fees],
        InvoiceTerms(_currency(case), grants=tuple(GrantLeft(g.id, g.amount, g.charges) for g in usable)),
    )
    return {"amount": settled.credits, "due": settled.total, "drawn": dict(settled.applied_credits)}


def _line_credits(case: dict[str, Any]) -> dict[str, Any]:
    grants = tuple(GrantLeft(str(i), parse_scaled(amount)) for i, amount in enumerate(case["price"]["credits"]))
    rated = Line("usage", _graduated(case["price"]["base"]["tiers"], parse_scaled(case["usage"])))
    return {"amount": settle([rated], InvoiceTerms(_currency(case), grants=grants)).total}


def _graduated(tiers: list[dict[str, Any]], quantity: int) -> int:
    amount = below = 0
    for tier in tiers:
        up_to = quantity if tier["up_to"] is None else min(quantity, parse_scaled(tier["up_to"]))
        if up_to > below or not below:
            amount += (up_to - below) * parse_scaled(tier["unit_price"]) // ONE + parse_scaled(tier["flat_fee"])
        below = max(below, up_to)
    return amount


def _allocation(case: dict[str, Any]) -> dict[str, Any]:
    """By key where keys are given: that is the order of the lines then."""
    weights = [parse_scaled(weight) for weight in case["usage"]["weights"]]
    keys = case["usage"].get("keys", [""] * len(weights))
    order = sorted(range(len(weights)), key=lambda i: keys[i])
    total = min(parse_scaled(case["usage"]["total"]), sum(weights) if "net" in case["expected"] else 10**30)
    digits = int(case["price"]["digits"])
    shares = spread(total, [weights[i] for i in order], ONE // 10**digits)
    by_place = [share for _, share in sorted(zip(order, shares, strict=True))]
    return {
        "amount": sum(shares),
        "allocated": by_place,
        "net": [weight - share for weight, share in zip(weights, by_place, strict=True)],
    }


def _rounding(case: dict[str, Any]) -> dict[str, Any]:
    values = case["usage"].get("values") or [case["usage"]["value"]]
    digits = case["rounding"].get("digits")
    if case["currency"] is None and int(digits) not in (0, 2, 3):  # a quantity's digits, not a currency's
        unit = ONE // 10 ** int(digits)
        return {"amount": sum(divide_half_up(parse_scaled(value), unit) * unit for value in values)}
    currency = _currency(case)
    amount = sum(round_to_minor(parse_scaled(value), currency, "half_up") for value in values)
    return {"amount": amount, "amount_minor": amount * 10 ** MINOR_DIGITS[currency]}


def _maybe(text: str | None) -> int | None:
    return None if text is None else parse_scaled(text)


CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "tax": _tax,
    "coupon": _coupon,
    "percentage_discount": _coupon,
    "credits": _credits,
    "allocation": _allocation,
    "rounding": _rounding,
}
