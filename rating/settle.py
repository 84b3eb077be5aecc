"""Settle: what comes off an invoice's rounded lines and what is added to them. Pure; amounts are scaled.

    lines -> cap -> coupons -> credits -> taxes -> total

Every step works on what the one before has left of each line (its *net*), and what a step comes to is spread over the
lines in proportion to their nets: whole minor units, by largest remainder, ties to the earlier line. Lines below nought
take part with their sign, so a share never takes a line past nought and the lines' parts sum to the invoice's:

    total = sum of the lines - discounts - credits + taxes

An *inclusive* tax lies inside the prices: it is listed with its amount, but is no part of `taxes`, which is what is
added on top. What an exclusive tax is raised on is the net without the inclusive taxes in it.

An invoice below nought (usage was taken back) is the mirror of one above it: percentages and taxes are below nought;
coupons of an amount stay used; credits that this bill has drawn before go back to their grants, the last drawn first,
before anything is due to the customer in money.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Literal, NamedTuple

from schemas.currency import Rounding, minor_unit, round_quotient, round_to_minor
from schemas.numbers import ONE

TaxRounding = Literal["per_invoice", "per_line"]


class TaxRate(NamedTuple):
    """One tax; `rate` is a scaled share (0.081 is 8.1 %)."""

    name: str
    rate: int
    inclusive: bool


class Line(NamedTuple):
    """A line before anything comes off: its charge (`minimum` for the true-up), its rounded amount, its taxes."""

    charge: str
    amount: int
    taxes: tuple[TaxRate, ...] = ()
    charged: bool = True
    """Whether the cap of the price book holds for it: for all lines but the true-up."""


class CouponLeft(NamedTuple):
    """A coupon that holds for this invoice: its percentage (scaled, 10 % is 10), or what is left of its amount.

    `held`: it has held for an earlier invoice of the bill, so that it gives back its share of one below nought.
    """

    id: str
    percent: int | None = None
    amount: int | None = None
    held: bool = True


class GrantLeft(NamedTuple):
    """A credit grant and its balance; without `charges` it pays for everything."""

    id: str
    balance: int
    charges: frozenset[str] = frozenset()
    in_force: bool = True


class Drawn(NamedTuple):
    """What earlier invoices of this bill have drawn on a grant and not given back."""

    grant: str
    amount: int
    charges: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InvoiceTerms:
    """What an invoice is settled by."""

    currency: str
    rounding: Rounding = "half_up"
    tax_rounding: TaxRounding = "per_invoice"
    cap: int = 0
    """What the price book's maximum takes off (below nought: gives back)."""
    coupons: tuple[CouponLeft, ...] = ()
    """In the order in which they come off."""
    grants: tuple[GrantLeft, ...] = ()
    """In the order in which they are drawn."""
    drawn: tuple[Drawn, ...] = ()
    """In the order in which they were drawn."""


class SettledLine(NamedTuple):
    """A line's parts of what the invoice comes to. `included` is the inclusive tax inside its price."""

    discount: int
    credit: int
    tax: int
    included: int


class Applied(NamedTuple):
    """What one coupon has taken off, or one grant has paid (below nought: has got back)."""

    id: str
    amount: int


class TaxAmount(NamedTuple):
    """What one tax comes to. `base` is what it is raised on: without the tax itself, inclusive or not."""

    name: str
    rate: int
    inclusive: bool
    base: int
    amount: int


@dataclass(frozen=True, slots=True)
class Settled:
    """An invoice's parts: for each line, in sum, and one by one."""

    lines: tuple[SettledLine, ...]
    before_coupons: int
    """What the lines come to after the cap."""
    discounts: int
    credits: int
    taxes: int
    total: int
    applied_coupons: tuple[Applied, ...]
    applied_credits: tuple[Applied, ...]
    tax_lines: tuple[TaxAmount, ...]


def settle(lines: Sequence[Line], terms: InvoiceTerms) -> Settled:
    """Takes cap, coupons and credits off the lines and adds the taxes. A cap other than nought needs a line."""
    nets = [line.amount for line in lines]
    capped = _cap(lines, nets, terms)
    before_coupons = sum(nets)
    coupons = [(coupon.id, _coupon(nets, coupon, terms)) for coupon in terms.coupons]
    discounts = [line.amount - net for line, net in zip(lines, nets, strict=True)]
    after_coupons = list(nets)
    credits = _credits(lines, nets, terms)
    paid = [before - net for before, net in zip(after_coupons, nets, strict=True)]
    tax_lines, taxes, included = _taxes(lines, nets, terms)
    return Settled(
        lines=tuple(SettledLine(*parts) for parts in zip(discounts, paid, taxes, included, strict=True)),
        before_coupons=before_coupons,
        discounts=capped + sum(amount for _, amount in coupons),
        credits=sum(credit.amount for credit in credits),
        taxes=sum(taxes),
        total=sum(nets) + sum(taxes),
        applied_coupons=tuple(Applied(id, amount) for id, amount in coupons if amount),
        applied_credits=tuple(credits),
        tax_lines=tuple(tax_lines),
    )


def spread(amount: int, weights: Sequence[int], unit: int) -> list[int]:
    """`amount`, a whole number of `unit`s, in parts as large as the weights' shares of their sum.

    Each part is the share rounded down to whole units; what is left goes, a unit each, to the largest remainders, the
    earlier one first. A weight of nought gets nothing; an amount below nought is spread as the one above it. Where the
    weights cancel each other out, their sizes count. Raises: ValueError where there is an amount and no weight.
    """
    units, rest = divmod(abs(amount), unit)
    if rest or (units and not weights):
        raise ValueError(f"{amount} cannot be spread in units of {unit} over {len(weights)} line(s)")
    total = sum(weights)
    if not total:
        weights = [abs(weight) for weight in weights] if any(weights) else [1] * len(weights)
        total = sum(weights)
    elif total < 0:
        weights, total = [-weight for weight in weights], -total
    parts = [divmod(units * weight, total) for weight in weights]
    shares = [share for share, _ in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: -parts[i][1])  # stable: ties to the earlier line
    for i in by_remainder[: units - sum(shares)]:
        shares[i] += 1
    return [-share * unit if amount < 0 else share * unit for share in shares]


# The steps: each takes its part off `nets` ----------------------------------------------------------------------------


def _take(nets: list[int], amount: int, among: Sequence[int], currency: str) -> None:
    """Takes an amount off some of the lines, by their nets."""
    shares = spread(amount, [nets[i] for i in among], minor_unit(currency))
    for i, share in zip(among, shares, strict=True):
        nets[i] -= share


def _cap(lines: Sequence[Line], nets: list[int], terms: InvoiceTerms) -> int:
    if terms.cap:
        charged = [i for i, line in enumerate(lines) if line.charged]
        _take(nets, terms.cap, charged or range(len(lines)), terms.currency)
    return terms.cap


def _coupon(nets: list[int], coupon: CouponLeft, terms: InvoiceTerms) -> int:
    """A percentage mirrors below nought; an amount takes off what there is, and nothing below nought."""
    left = sum(nets)
    if left < 0 and not coupon.held:
        off = 0
    elif coupon.percent is not None:
        off = round_quotient(left * coupon.percent, 100 * ONE, terms.currency, terms.rounding)
    else:
        off = max(0, min(left, round_to_minor(coupon.amount or 0, terms.currency, terms.rounding)))
    _take(nets, off, range(len(nets)), terms.currency)
    return off


def _credits(lines: Sequence[Line], nets: list[int], terms: InvoiceTerms) -> list[Applied]:
    unit = minor_unit(terms.currency)
    paid: dict[str, int] = {}
    if sum(nets) > 0:
        for grant in terms.grants:
            among = _paid_by(lines, grant.charges)
            open_amount = min(sum(nets[i] for i in among), sum(nets))
            draw = min(grant.balance // unit * unit, open_amount) if grant.in_force else 0
            if draw > 0:
                _take(nets, draw, among, terms.currency)
                paid[grant.id] = draw
    else:
        for grant_id, amount, charges in reversed(terms.drawn):
            among = _paid_by(lines, charges)
            back = min(amount, -sum(nets[i] for i in among), -sum(nets))
            if back > 0:
                _take(nets, -back, among, terms.currency)
                paid[grant_id] = paid.get(grant_id, 0) - back
    return [Applied(id, amount) for id, amount in paid.items()]


def _paid_by(lines: Sequence[Line], charges: frozenset[str]) -> list[int]:
    return [i for i, line in enumerate(lines) if not charges or line.charge in charges]


def _taxes(
    lines: Sequence[Line], nets: Sequence[int], terms: InvoiceTerms
) -> tuple[list[TaxAmount], list[int], list[int]]:
    """(each tax, what is added to each line, what each line's price includes)."""
    added, included = [0] * len(lines), [0] * len(lines)
    inside = [ONE + sum(tax.rate for tax in line.taxes if tax.inclusive) for line in lines]
    found = dict.fromkeys(tax for line in lines for tax in line.taxes)
    amounts: dict[TaxRate, int] = {}
    for tax in (tax for tax in found if tax.inclusive):
        among = _taxed_by(lines, tax)
        whole = lcm(*(inside[i] for i in among))
        weights = [nets[i] * (whole // inside[i]) for i in among]
        amounts[tax] = _raise(tax.rate, weights, whole, among, included, terms)
    bases = [net - tax for net, tax in zip(nets, included, strict=True)]
    for tax in (tax for tax in found if not tax.inclusive):
        among = _taxed_by(lines, tax)
        amounts[tax] = _raise(tax.rate, [bases[i] for i in among], ONE, among, added, terms)
    each = [TaxAmount(*tax, sum(bases[i] for i in _taxed_by(lines, tax)), amounts[tax]) for tax in found]
    return each, added, included


def _taxed_by(lines: Sequence[Line], tax: TaxRate) -> list[int]:
    return [i for i, line in enumerate(lines) if tax in line.taxes]


def _raise(
    rate: int, weights: Sequence[int], whole: int, among: Iterable[int], to: list[int], terms: InvoiceTerms
) -> int:
    """`rate` x the weights / `whole`, rounded once or for each line, added to the lines `among`. Returns the sum."""
    if terms.tax_rounding == "per_line":
        shares = [round_quotient(weight * rate, whole, terms.currency, terms.rounding) for weight in weights]
    else:
        amount = round_quotient(sum(weights) * rate, whole, terms.currency, terms.rounding)
        shares = spread(amount, weights, minor_unit(terms.currency))
    for i, share in zip(among, shares, strict=True):
        to[i] += share
    return sum(shares)
