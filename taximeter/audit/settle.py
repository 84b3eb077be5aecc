"""From the lines of an invoice to its total: the price book's maximum, coupons, credit grants and taxes.

Worked out from the contract, in fractions of whole minor units, and apart from the engine. A `Purse` is what a customer
has used of its coupons and grants; what was given stands in the documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from schemas.currency import minor_unit, round_quotient, round_to_minor
from schemas.numbers import ONE, format_scaled
from schemas.times import parse_time
from taximeter.audit.agreements import FOREVER, Document, Plan
from taximeter.audit.conditions import scaled

BillKey = tuple[str, int]
MINIMUM, OVERAGE = "minimum", "overage"


@dataclass
class Row:
    """One line of an invoice; amounts are scaled. `taxes` None: the customer's."""

    charge: str
    amount: int
    bill: BillKey
    taxes: list[Document] | None
    shown: Document
    discount: int = 0
    credit: int = 0
    tax: int = 0


@dataclass
class Purse:
    """What a customer has used."""

    held: dict[str, dict[BillKey, int]] = field(default_factory=dict)
    """Coupon -> bill that it held for -> what it took off it."""
    used: dict[str, int] = field(default_factory=dict)
    """Grant -> what was drawn on it, and what has lapsed."""
    currency: dict[str, str] = field(default_factory=dict)
    drawn: dict[BillKey, list[tuple[str, int]]] = field(default_factory=dict)

    def roll_over(self, grants: list[Document], end: int) -> None:
        """A billing period has ended, and its invoice is made."""
        for grant in grants:
            if grant.get("rollover") is not None and _begins(grant) < end:
                over = self.balance(grant) - scaled(grant["rollover"])
                if over > 0:
                    self.used[grant["id"]] = self.used.get(grant["id"], 0) + over

    def balance(self, grant: Document) -> int:
        """What is left of a grant."""
        return max(0, scaled(grant["amount"]) - self.used.get(grant["id"], 0))


def coupons_of(documents: Document, customer: str) -> list[Document]:
    """A customer's coupons, those that name a document filled in."""
    named = documents.get("coupons") or {}
    who = (documents.get("customers") or {}).get(customer) or {}
    return [{**named.get(coupon.get("id"), {}), **coupon} for coupon in who.get("coupons") or []]


def grants_of(documents: Document, customer: str) -> list[Document]:
    """A customer's grants, in the order in which they are drawn."""
    who = (documents.get("customers") or {}).get(customer) or {}
    own = list(who.get("credit_grants") or [])
    own += [
        {**grant, "id": id}
        for id, grant in (documents.get("credit_grants") or {}).items()
        if grant.get("customer") == customer
    ]
    return sorted(own, key=lambda grant: (int(str(grant.get("priority", 100))), _ends(grant), _begins(grant)))


def taxes_of(documents: Document, taxes: list[Document] | None) -> list[Document] | None:
    """Taxes, those that name a document filled in."""
    rates = documents.get("tax_rates") or {}
    return None if taxes is None else [{**rates.get(tax.get("id"), {}), **tax} for tax in taxes]


def _begins(grant: Document) -> int:
    return parse_time(grant["effective_from"]) if grant.get("effective_from") else -FOREVER


def _ends(grant: Document) -> int:
    return parse_time(grant["expires_at"]) if grant.get("expires_at") else FOREVER


def spread(amount: int, by: Sequence[Fraction | int], unit: int) -> list[int]:
    """`amount` in whole units in proportion to the weights, by largest remainder, ties to the earlier one."""
    weights = [Fraction(weight) for weight in by]
    whole = sum(weights)
    if not amount:
        return [0] * len(weights)
    if not whole:
        weights = [abs(weight) for weight in weights]
        if not any(weights):
            weights = [Fraction(1)] * len(weights)
        whole = sum(weights)
    sign = -1 if amount < 0 else 1
    units = abs(amount) // unit
    exact = [Fraction(units) * weight / whole for weight in weights]
    shares = [share.__floor__() for share in exact]
    order = sorted(range(len(exact)), key=lambda at: (shares[at] - exact[at], at))
    for at in order[: units - sum(shares)]:
        shares[at] += 1
    return [sign * share * unit for share in shares]


def settle(
    rows: list[Row],
    plan: Plan,
    purse: Purse,
    documents: Document,
    customer: str,
    capped: dict[BillKey, int],
    bill: BillKey,
    closing: int,
) -> Document:
    """Fills in each row's `discount`, `credit` and `tax`; returns the invoice's sums and lists, as it shows them."""
    unit = minor_unit(plan.currency)
    net = [row.amount for row in rows]

    def take(word: str, amount: int, among: list[int]) -> None:
        for at, share in zip(among, spread(amount, [net[at] for at in among], unit), strict=True):
            net[at] -= share
            setattr(rows[at], word, getattr(rows[at], word) + share)

    everything = list(range(len(rows)))
    total_cap = sum(capped.values())
    if total_cap:
        charged = [at for at in everything if rows[at].charge != MINIMUM]
        take("discount", total_cap, charged or everything)
    coupons = _take_coupons(coupons_of(documents, customer), purse, bill, net, plan, take)
    credits = _take_credits(grants_of(documents, customer), purse, bill, rows, net, plan, closing, take)
    who = (documents.get("customers") or {}).get(customer) or {}
    tax_lines = _add_taxes(rows, net, plan, taxes_of(documents, who.get("taxes") or []) or [])
    sums = {word: sum(getattr(row, word) for row in rows) for word in ("discount", "credit", "tax")}
    subtotal = sum(row.amount for row in rows if row.charge != MINIMUM)
    minimum = sum(row.amount for row in rows if row.charge == MINIMUM)
    return {
        "subtotal": format_scaled(subtotal),
        "minimum": format_scaled(minimum),
        "discounts": format_scaled(sums["discount"]),
        "credits": format_scaled(sums["credit"]),
        "taxes": format_scaled(sums["tax"]),
        "total": format_scaled(subtotal + minimum - sums["discount"] - sums["credit"] + sums["tax"]),
        "applied_coupons": [{"coupon": name, "amount": format_scaled(off)} for name, off in coupons if off],
        "applied_credits": [{"grant": name, "amount": format_scaled(paid)} for name, paid in credits.items()],
        "tax_lines": tax_lines,
    }


def _take_coupons(
    coupons: list[Document], purse: Purse, bill: BillKey, net: list[int], plan: Plan, take: Any
) -> list[tuple[str, int]]:
    above = sum(net) > 0
    found: list[tuple[str, int]] = []
    for coupon in coupons:
        bills = purse.held.setdefault(coupon["id"], {})
        held, lasts = bill in bills, coupon.get("duration", "once")
        if not held:
            many = len(bills) if lasts == "once" else sum(one[0] == bill[0] for one in bills)
            most = {"once": 1, "forever": None}.get(lasts, lasts)
            if (most is not None and many >= int(str(most))) or not above:
                continue
        left = sum(net)
        if left < 0 and not held:
            off = 0
        elif coupon.get("percent") is not None:
            off = round_quotient(left * scaled(coupon["percent"]), 100 * ONE, plan.currency, plan.rounding)
        else:
            given = max(0, scaled(coupon["amount"]) - bills.get(bill, 0))
            off = max(0, min(left, round_to_minor(given, plan.currency, plan.rounding)))
        take("discount", off, list(range(len(net))))
        found.append((coupon["id"], off))
        if above:
            bills[bill] = bills.get(bill, 0) + off
    return found


def _take_credits(
    grants: list[Document],
    purse: Purse,
    bill: BillKey,
    rows: list[Row],
    net: list[int],
    plan: Plan,
    closing: int,
    take: Any,
) -> dict[str, int]:
    unit, paid = minor_unit(plan.currency), dict[str, int]()

    def payable(grant: Document) -> list[int]:
        return [at for at, row in enumerate(rows) if not grant.get("charges") or row.charge in grant["charges"]]

    if sum(net) > 0:
        for grant in grants:
            name, among = grant["id"], payable(grant)
            currency = grant.get("currency") or purse.currency.get(name)
            if currency not in (None, plan.currency) or not _begins(grant) <= closing < _ends(grant):
                continue
            due = min(purse.balance(grant) // unit * unit, sum(net[at] for at in among), sum(net))
            if due > 0:
                take("credit", due, among)
                paid[name] = due
                purse.used[name] = purse.used.get(name, 0) + due
                purse.currency[name] = plan.currency
                purse.drawn.setdefault(bill, []).append((name, due))
        return paid
    by_name = {grant["id"]: grant for grant in grants}
    draws = purse.drawn.get(bill, [])
    for place in reversed(range(len(draws))):
        name, drawn = draws[place]
        among = payable(by_name.get(name, {}))
        back = min(drawn, -sum(net[at] for at in among), -sum(net))
        if back > 0:
            take("credit", -back, among)
            paid[name] = paid.get(name, 0) - back
            purse.used[name] -= back
            draws[place] = (name, drawn - back)
    return paid


def _add_taxes(rows: list[Row], net: list[int], plan: Plan, taxes: list[Document]) -> list[Document]:
    borne = [
        list(
            dict.fromkeys(
                (tax.get("name", ""), scaled(tax["rate"]), bool(tax.get("inclusive")))
                for tax in (taxes if row.taxes is None else row.taxes)
            )
        )
        for row in rows
    ]
    kinds = list(dict.fromkeys(kind for some in borne for kind in some))
    inside = [ONE + sum(rate for _, rate, inclusive in some if inclusive) for some in borne]
    base, unit = list(net), minor_unit(plan.currency)
    amounts: dict[Any, int] = {}
    for kind in sorted(kinds, key=lambda kind: not kind[2]):
        among = [at for at, some in enumerate(borne) if kind in some]
        worth = [Fraction(net[at] * ONE, inside[at]) if kind[2] else Fraction(base[at]) for at in among]
        exact = [value * kind[1] / ONE for value in worth]
        if plan.tax_rounding == "per_line":
            shares = [_to_minor(share, plan) for share in exact]
        else:
            shares = spread(_to_minor(sum(exact, Fraction(0)), plan), worth, unit)
        amounts[kind] = sum(shares)
        for at, share in zip(among, shares, strict=True):
            if kind[2]:
                base[at] -= share
            else:
                rows[at].tax += share
    return [
        {
            "name": kind[0],
            "rate": format_scaled(kind[1]),
            "inclusive": kind[2],
            "base": format_scaled(sum(base[at] for at, some in enumerate(borne) if kind in some)),
            "amount": format_scaled(amounts[kind]),
        }
        for kind in kinds
    ]


def _to_minor(value: Fraction, plan: Plan) -> int:
    return round_quotient(value.numerator, value.denominator, plan.currency, plan.rounding)
