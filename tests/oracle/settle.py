"""From the lines of one invoice to its total: book maximum, coupons, credits, taxes, each spread over the lines.

Readings:
- Each coupon, grant and tax is spread by itself, in proportion to what is left of each line, its sign included: a line
  below nought bears a part below nought, so that a percentage is the same percentage of every line.
- What the maximum takes off (or gives back) of a period is spread over that period's charge lines and overage.
- A coupon holds for a bill (one billing period of one subscription) from the bill's first invoice above nought on, even
  if coupons before it leave nothing. `once`: for one bill of the customer in all. N: for N bills of each subscription.
- An `amount` coupon gives at most its amount for a bill, over all the bill's invoices, and takes nothing back. A
  `percent` coupon is taken of each invoice; of one below nought it gives back, if it held for the bill before.
- A grant is in force in `[effective_from, expires_at)` at the closing time; one without `effective_from` is the oldest,
  one without `expires_at` expires last. With `charges` it pays only these lines (`minimum`, `overage`: too).
- An invoice below nought gives credit back, the last drawn first, whether or not the grant is still in force: at most
  what was drawn for that bill, and only for lines that the grant may pay.
- After the closing of a period at most its `rollover` is left of a grant that has begun, whether it has expired or not.
- A balance is low where it has fallen to `low_balance` or less. It is told once, after an invoice or a closing for
  which the grant is in force.
- The same tax (name and rate, inclusive or not) on several lines is one tax. Inclusive taxes together lie in what is
  left: each is `net · rate / (1 + all inclusive rates of the line)`. The others are raised on what is left of the
  rounded lines without their inclusive taxes. An inclusive tax is in no line's `tax` and not in `taxes`.
- A tax below nought mirrors one above.
"""

from fractions import Fraction
from typing import Any

from tests.oracle.agreements import Plan
from tests.oracle.calendars import moment
from tests.oracle.reading import amount, show

NOUGHT = Fraction(0)
BillKey = tuple[str, int]
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
        self.taken: dict[str, dict[BillKey, Fraction]] = {coupon["id"]: {} for coupon in self.coupons}
        self.drawn: dict[BillKey, list[tuple[str, Fraction]]] = {}
        self.warned: set[str] = set()

    def hold(self, bill: BillKey) -> None:
        """An invoice above nought is made for a bill: each coupon that may holds for it from now on."""
        for coupon in self.coupons:
            if self._may_hold(coupon, bill):
                self.taken[coupon["id"]].setdefault(bill, NOUGHT)

    def off(self, coupon: dict[str, Any], bill: BillKey, left: Fraction, plan: Plan) -> Fraction:
        """What a coupon takes off an invoice of a bill that still comes to `left`."""
        taken = self.taken[coupon["id"]]
        if bill not in taken:
            return NOUGHT
        if coupon.get("percent") is not None:
            due = plan.rounded(left * amount(coupon["percent"]) / 100)
        else:
            due = min(max(left, NOUGHT), plan.rounded(amount(coupon["amount"])) - taken[bill])
        taken[bill] += due
        return due

    def _may_hold(self, coupon: dict[str, Any], bill: BillKey) -> bool:
        """Whether a coupon that has not held for a bill may do so now."""
        lasts, held = coupon.get("duration", "once"), self.taken[coupon["id"]]
        if lasts == "forever":
            return True
        if lasts == "once":
            return not held
        return len([one for one in held if one[0] == bill[0]]) < int(lasts)

    def pay(self, grant: dict[str, Any], bill: BillKey, most: Fraction, cent: Fraction) -> Fraction:
        """Draws on a grant for a bill: at most `most`, in whole cents."""
        due = min(self.balance[grant["id"]], most) // cent * cent
        if due <= 0:
            return NOUGHT
        self.balance[grant["id"]] -= due
        self.drawn.setdefault(bill, []).append((grant["id"], due))
        return due

    def give_back(self, at: int, bill: BillKey, most: Fraction) -> Fraction:
        """Takes back of a bill's draw at a place, at most `most`."""
        name, drawn = self.drawn[bill][at]
        due = min(drawn, most)
        self.drawn[bill][at] = (name, drawn - due)
        self.balance[name] += due
        return due

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

    def falls_low(self, closing: int, currency: str) -> list[tuple[str, dict[str, str]]]:
        """Grants in force at a time whose balance has fallen to their `low_balance`: once each."""
        found = []
        for grant in self.in_force(closing, currency):
            id, low, left = grant["id"], grant.get("low_balance"), self.balance[grant["id"]]
            if low is not None and id not in self.warned and left <= amount(low) and left < amount(grant["amount"]):
                self.warned.add(id)
                found.append((id, {"threshold": show(amount(low)), "level": show(left)}))
        return found


def settle(
    lines: list[dict[str, Any]],
    plan: Plan,
    purse: Purse,
    taxes: list[dict[str, Any]],
    capped: dict[BillKey, Fraction],
    bill: BillKey,
    closing: int,
) -> dict[str, Any]:
    """Works out what the lines of one invoice come to, and fills in each line's `discount`, `credit` and `tax`.

    `lines` hold `charge`, `value` (a Fraction in whole cents), `taxes` (None: the customer's) and `bill`, whose they
    are. `capped` is what the book's maximum takes off the lines of each bill. Returns the invoice's sums and lists."""
    left = [line["value"] for line in lines]
    sums: dict[str, list[Fraction]] = {word: [NOUGHT] * len(lines) for word in ("discount", "credit", "tax")}

    def take(word: str, due: Fraction, bearing: list[bool]) -> None:
        weights = [value if bears else NOUGHT for value, bears in zip(left, bearing, strict=True)]
        for at, share in enumerate(spread(due, weights, plan.cent)):
            sums[word][at] += share
            left[at] -= share

    for whose, due in capped.items():
        take("discount", due, [line["bill"] == whose and line["charge"] not in WHOLE_INVOICE for line in lines])
    applied_coupons = []
    if sum(left, NOUGHT) > 0:
        purse.hold(bill)
    for coupon in purse.coupons:
        due = purse.off(coupon, bill, sum(left, NOUGHT), plan)
        if due:
            take("discount", due, [True] * len(lines))
            applied_coupons.append({"coupon": coupon["id"], "amount": show(due)})

    paid: dict[str, Fraction] = {}

    def pays(grant: dict[str, Any]) -> list[bool]:
        return [not grant.get("charges") or line["charge"] in grant["charges"] for line in lines]

    for grant in purse.in_force(closing, plan.currency) if sum(left, NOUGHT) > 0 else []:
        payable = sum((value for value, may in zip(left, pays(grant), strict=True) if may), NOUGHT)
        due = purse.pay(grant, bill, min(payable, sum(left, NOUGHT)), plan.cent)
        if due:
            paid[grant["id"]] = due
            take("credit", due, pays(grant))
    for at in reversed(range(len(purse.drawn.get(bill, [])))) if sum(left, NOUGHT) < 0 else []:
        grant = next(one for one in purse.grants if one["id"] == purse.drawn[bill][at][0])
        owed = -sum((value for value, may in zip(left, pays(grant), strict=True) if may), NOUGHT)
        due = purse.give_back(at, bill, min(owed, -sum(left, NOUGHT)))
        if due:
            paid[grant["id"]] = paid.get(grant["id"], NOUGHT) - due
            take("credit", -due, pays(grant))

    tax_lines, sums["tax"] = _taxes(lines, left, plan, taxes)
    for at, line in enumerate(lines):
        line |= {word: show(sums[word][at]) for word in sums}
    subtotal = sum((line["value"] for line in lines if line["charge"] not in WHOLE_INVOICE), NOUGHT)
    minimum = sum((line["value"] for line in lines if line["charge"] in WHOLE_INVOICE), NOUGHT)
    discounts, credits, tax = (sum(sums[word], NOUGHT) for word in ("discount", "credit", "tax"))
    lists = {
        "applied_coupons": applied_coupons,
        "applied_credits": [{"grant": name, "amount": show(due)} for name, due in paid.items()],
        "tax_lines": tax_lines,
    }
    return {
        "subtotal": show(subtotal),
        "minimum": show(minimum),
        "discounts": show(discounts),
        "credits": show(credits),
        "taxes": show(tax),
        "total": show(subtotal + minimum - discounts - credits + tax),
        **{name: entries for name, entries in lists.items() if entries},
    }


def _taxes(
    lines: list[dict[str, Any]], left: list[Fraction], plan: Plan, taxes: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Fraction]]:
    """Each tax that a line bears, and what is added to each line."""
    borne = [
        [(tax.get("name", ""), amount(tax["rate"]), bool(tax.get("inclusive"))) for tax in some]
        for some in (taxes if line["taxes"] is None else line["taxes"] for line in lines)
    ]
    kinds = list(dict.fromkeys(tax for some in borne for tax in some))
    inside = [1 + sum((rate for _, rate, inclusive in some if inclusive), NOUGHT) for some in borne]
    net, added, amounts = list(left), [NOUGHT] * len(lines), {}
    for kind in sorted(kinds, key=lambda kind: not kind[2]):
        rate, inclusive = kind[1:]
        worth = [value / whole for value, whole in zip(left, inside, strict=True)] if inclusive else net
        exact = [value * rate * some.count(kind) for value, some in zip(worth, borne, strict=True)]
        if plan.tax_rounding == "per_line":
            shares = [plan.rounded(share) for share in exact]
        else:
            shares = spread(plan.rounded(sum(exact, NOUGHT)), exact, plan.cent)
        amounts[kind] = sum(shares, NOUGHT)
        for at, share in enumerate(shares):
            if inclusive:
                net[at] -= share
            else:
                added[at] += share
    found = [
        {
            "name": kind[0],
            "rate": show(kind[1]),
            "inclusive": kind[2],
            "base": show(sum((value for value, some in zip(net, borne, strict=True) if kind in some), NOUGHT)),
            "amount": show(amounts[kind]),
        }
        for kind in kinds
    ]
    return found, added
