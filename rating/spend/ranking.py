"""Who has spent what: a tenant's line items added up by customer, subscription, charge or dimension, and compared.

Line items belong to periods, and periods of different customers begin at different times. So a question names a moment:
what counts is every line item whose period holds it. A second moment gives the comparison.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec

from rating.spend.store import SpendSum
from schemas.numbers import ONE, divide_half_up, format_scaled

BY: Final = ("customer", "subscription", "charge")
DIMENSION: Final = "dimension:"
ORDERS: Final = ("amount", "difference", "growth")

_DIMENSIONS = msgspec.json.Decoder(dict[str, str | None])


class Ranked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a ranking. `name` is None for line items without the dimension.

    With a comparison, `before` is what it was, `difference` what is more now, and `growth` the share of that in
    `before`, to 6 digits (half away from nought); None where nothing was before.
    """

    name: str | None
    currency: str
    amount: str
    events: int
    line_items: int
    before: str | None = None
    difference: str | None = None
    growth: str | None = None


class _Total(NamedTuple):
    amount: int = 0
    events: int = 0
    line_items: int = 0


_Key = tuple[str | None, str]


def rank(now: Iterable[SpendSum], before: Iterable[SpendSum] | None, by: str, order: str) -> list[Ranked]:
    """The rows, the greatest first (without growth: last), then by name and currency."""
    after = _totals(now, by)
    if before is None:
        rows = [(Fraction(total.amount), key, _row(key, total)) for key, total in after.items()]
    else:
        earlier = _totals(before, by)
        keys = after.keys() | earlier.keys()
        rows = [_compared(key, after.get(key, _Total()), earlier.get(key, _Total()), order) for key in keys]
    rows.sort(key=lambda row: (-row[0], row[1][0] is not None, row[1][0] or "", row[1][1]))
    return [row for _, _, row in rows]


def _compared(key: _Key, now: _Total, before: _Total, order: str) -> tuple[Fraction, _Key, Ranked]:
    difference = now.amount - before.amount
    growth = Fraction(difference, abs(before.amount)) if before.amount else None
    row = msgspec.structs.replace(
        _row(key, now),
        before=format_scaled(before.amount),
        difference=format_scaled(difference),
        growth=None if growth is None else format_scaled(_to_six(growth)),
    )
    places = {
        "amount": Fraction(now.amount),
        "difference": Fraction(difference),
        "growth": Fraction(-(10**40)) if growth is None else growth,
    }
    return places[order], key, row


def _to_six(share: Fraction) -> int:
    """A share as a scaled number of 6 digits, half away from nought."""
    millionths = divide_half_up(abs(share.numerator) * 10**6, share.denominator)
    return (millionths if share >= 0 else -millionths) * (ONE // 10**6)


def _row(key: _Key, total: _Total) -> Ranked:
    name, currency = key
    return Ranked(
        name=name,
        currency=currency,
        amount=format_scaled(total.amount),
        events=total.events,
        line_items=total.line_items,
    )


def _totals(sums: Iterable[SpendSum], by: str) -> dict[_Key, _Total]:
    found: dict[_Key, _Total] = {}
    dimension = by.removeprefix(DIMENSION) if by.startswith(DIMENSION) else None
    for one in sums:
        name = one.name if dimension is None else _DIMENSIONS.decode(one.name).get(dimension)
        last = found.get((name, one.currency), _Total())
        found[name, one.currency] = _Total(
            last.amount + one.amount, last.events + one.events, last.line_items + one.line_items
        )
    return found
