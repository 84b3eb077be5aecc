"""From the lines of one invoice to its total: book maximum, coupons, credits, taxes, each spread over the lines.

Readings:
- Each coupon, grant and tax is spread by itself, in proportion to what is left of each line (lines below nought
  carry no discount and no credit). An invoice at or below nought gets neither.
- An `amount` coupon gives at most its amount in a billing period of a subscription, over all the period's invoices;
  a `percent` coupon is taken of each invoice. `once` and N count the periods in which it took something off.
- A grant is in force in `[effective_from, expires_at)`; one without `effective_from` is the oldest, one without
  `expires_at` expires last. With `charges` it pays only these lines. After the closing of a period at most its
  `rollover` is left.
- An inclusive tax adds nothing: it is in no line's `tax` and not in `taxes`.
- A tax below nought mirrors one above; the same tax (name and rate) on several lines is one tax.
"""

from fractions import Fraction
from typing import Any

from tests.oracle.agreements import Plan
from tests.oracle.calendars import moment
from tests.oracle.reading import amount, show

NOUGHT = Fraction(0)
WHOLE_INVOICE = ("minimum",)
"""Lines that belong to no charge of the price book."""


def apportion(total: Fraction, exact: list[Fraction], cent: Fraction) -> list[Fraction]:
    """Shares in whole cents that sum to `total`, by largest remainder; `exact` are the shares before rounding."""
    if total < 0:
        return [-share for share in apportion(-total, [-share for share in exact], cent)]
    shares = [share // cent * cent for share in exact]
    left = int((total - sum(shares, NOUGHT)) / cent)
    for at in sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))[:left]:
        shares[at] += cent
    return shares


def spread(total: Fraction, weights: list[Fraction], cent: Fraction) -> list[Fraction]:
    """`total` in whole cents over lines in proportion to their weights, by largest remainder."""
    whole = sum(weights, NOUGHT)
    return apportion(total, [total * weight / whole for weight in weights], cent) if whole else [NOUGHT] * len(weights)


class Purse:
    """What a customer has to pay with: coupons and credit grants, and how much of them is used up."""

    def __init__(self, name: str, who: dict[str, Any], book: dict[str, Any]) -> None:
        named, granted = book.get("coupons") or {}, book.get("credit_grants") or {}
        self.coupons = [named[c["id"]] | c if c.get("id") in named else c for c in who.get("coupons") or []]
        for at, coupon in enumerate(self.coupons):
            coupon.setdefault("id", f"coupon {at}")
        own = [granted[g["id"]] | g if g.get("id") in granted else g for g in who.get("credit_grants") or []]
        listed = {grant.get("id") for grant in own}
        own += [{"id": id, **g} for id, g in granted.items() if g.get("customer") == name and id not in listed]
        self.grants = sorted(
            (dict(grant) for grant in own),
            key=lambda grant: (
                int(grant.get("priority", 100)),
                moment(grant["expires_at"]) if grant.get("expires_at") else float("inf"),
                moment(grant["effective_from"]) if grant.get("effective_from") else float("-inf"),
            ),
        )
        self.balance = {grant["id"]: amount(grant["amount"]) for grant in self.grants}
        self.taken: dict[str, dict[Any, Fraction]] = {coupon["id"]: {} for coupon in self.coupons}
        self.warned: set[str] = set()

    def off(self, coupon: dict[str, Any], period: Any, left: Fraction, plan: Plan) -> Fraction:
        """What a coupon takes off an invoice of a billing period that still comes to `left`."""
        taken, lasts = self.taken[coupon["id"]], coupon.get("duration", "once")
        periods = {"once": 1, "forever": None}[lasts] if lasts in ("once", "forever") else int(lasts)
        if left <= 0 or (periods is not None and period not in taken and len(taken) >= periods):
            return NOUGHT
        if coupon.get("percent") is not None:
            due = plan.rounded(left * amount(coupon["percent"]) / 100)
        else:
            due = plan.rounded(amount(coupon["amount"])) - taken.get(period, NOUGHT)
        due = min(due, left)
        if due > 0:
            taken[period] = taken.get(period, NOUGHT) + due
        return max(NOUGHT, due)

    def in_force(self, time: int, currency: str) -> list[dict[str, Any]]:
        """The grants that may be drawn at a time, in the order in which they are."""
        return [
            grant
            for grant in self.grants
            if (not grant.get("effective_from") or moment(grant["effective_from"]) <= time)
            and (not grant.get("expires_at") or time < moment(grant["expires_at"]))
            and grant.get("currency") in (None, currency)
        ]

    def roll_over(self, time: int) -> None:
        """A billing period has ended: of some grants at most so much stays."""
        for grant in self.grants:
            begun = not grant.get("effective_from") or moment(grant["effective_from"]) < time
            if grant.get("rollover") is not None and begun:
                self.balance[grant["id"]] = min(self.balance[grant["id"]], amount(grant["rollover"]))

    def falls_low(self, drawn: list[str]) -> list[dict[str, str]]:
        """Those of the grants just drawn whose balance has come down to their `low_balance`, once each."""
        found = []
        for grant in self.grants:
            id, low = grant["id"], grant.get("low_balance")
            if id in drawn and low is not None and id not in self.warned and self.balance[id] <= amount(low):
                self.warned.add(id)
                found.append({"grant": id, "threshold": show(amount(low)), "level": show(self.balance[id])})
        return found


def settle(
    lines: list[dict[str, Any]],
    plan: Plan,
    purse: Purse,
    taxes: list[dict[str, Any]],
    capped: Fraction,
    period: Any,
    closing: int,
) -> dict[str, Any]:
    """Works out what the lines of one invoice come to, and fills in each line's `discount`, `credit` and `tax`.

    `lines` hold `charge`, `value` (a Fraction in whole cents) and `taxes` (None: the customer's). `capped` is what
    the book's maximum takes off. Returns the invoice's sums."""
    left = [line["value"] for line in lines]
    sums: dict[str, list[Fraction]] = {word: [NOUGHT] * len(lines) for word in ("discount", "credit", "tax")}

    def take(word: str, shares: list[Fraction]) -> None:
        for at, share in enumerate(shares):
            sums[word][at] += share
            left[at] -= share

    if capped:
        of_charges = [NOUGHT if line["charge"] in WHOLE_INVOICE else line["value"] for line in lines]
        take("discount", spread(capped, [max(NOUGHT, v if capped > 0 else -v) for v in of_charges], plan.cent))
    for coupon in purse.coupons:
        off = purse.off(coupon, period, sum(left, NOUGHT), plan)
        take("discount", spread(off, [max(NOUGHT, value) for value in left], plan.cent))
    drawn = []
    for grant in purse.in_force(closing, plan.currency):
        allowed = grant.get("charges")
        weights = [
            max(NOUGHT, value) if not allowed or line["charge"] in allowed else NOUGHT
            for line, value in zip(lines, left, strict=True)
        ]
        due = min(purse.balance[grant["id"]], sum(weights, NOUGHT), sum(left, NOUGHT))
        due = due // plan.cent * plan.cent
        if due > 0:
            purse.balance[grant["id"]] -= due
            drawn.append({"grant": grant["id"], "amount": show(due)})
            take("credit", spread(due, weights, plan.cent))
    for shares in _taxes(lines, left, plan, taxes):
        for at, share in enumerate(shares):
            sums["tax"][at] += share
    for at, line in enumerate(lines):
        line |= {word: show(sums[word][at]) for word in sums}
    subtotal = sum((line["value"] for line in lines if line["charge"] not in WHOLE_INVOICE), NOUGHT)
    minimum = sum((line["value"] for line in lines if line["charge"] in WHOLE_INVOICE), NOUGHT)
    discounts, credits, tax = (sum(sums[word], NOUGHT) for word in ("discount", "credit", "tax"))
    return {
        "subtotal": show(subtotal),
        "minimum": show(minimum),
        "discounts": show(discounts),
        "credits": show(credits),
        "taxes": show(tax),
        "total": show(subtotal + minimum - discounts - credits + tax),
        "applied_credits": drawn,
    }


def _taxes(
    lines: list[dict[str, Any]], net: list[Fraction], plan: Plan, taxes: list[dict[str, Any]]
) -> list[list[Fraction]]:
    """For each tax that is not inclusive, what each line bears of it."""
    borne = [taxes if line["taxes"] is None else line["taxes"] for line in lines]
    kinds = list(dict.fromkeys((tax.get("name", ""), amount(tax["rate"])) for some in borne for tax in some))
    found = []
    for kind in kinds:
        exact = []
        for some, value in zip(borne, net, strict=True):
            asked = [t for t in some if (t.get("name", ""), amount(t["rate"])) == kind and not t.get("inclusive")]
            exact.append(value * kind[1] * len(asked))
        if plan.tax_rounding == "per_line":
            found.append([plan.rounded(share) for share in exact])
        else:
            found.append(apportion(plan.rounded(sum(exact, NOUGHT)), exact, plan.cent))
    return found
