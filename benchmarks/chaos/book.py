"""The price book of the chaos run, as the program reads it and as plain numbers.

Simple on purpose: `expected.py` rates by it in a few lines of its own. It still has what faults could break: tiers with
a flat amount, packages, free units, a threshold that repeats.
"""

from fractions import Fraction
from typing import Final

BOOK: Final = """\
meters:
  tokens: {event: chaos.usage, aggregate: sum, value: $.n, dimensions: {model: $.model}}
  calls: {event: chaos.usage, aggregate: count}
price_books:
  chaos:
    currency: USD
    charges:
      tokens:
        meter: tokens
        group_by: [model]
        price: {model: graduated, tiers: [{up_to: "2000", unit_amount: "0.0005"},
                                          {up_to: "20000.5", unit_amount: "0.00031", flat_amount: "0.25"},
                                          {unit_amount: "0.00017"}]}
      calls: {meter: calls, free_units: "10", price: {model: package, package_size: "7", package_amount: "0.055"}}
    thresholds: [{spend: "0.77"}, {spend: "2", repeat: true}]
default_subscription: {price_book: chaos, period: month, anchor: 1}
"""

EVENT_TYPE: Final = "chaos.usage"
TIERS: Final = (
    (Fraction(2000), Fraction("0.0005"), Fraction(0)),
    (Fraction("20000.5"), Fraction("0.00031"), Fraction("0.25")),
    (None, Fraction("0.00017"), Fraction(0)),
)
"""Up to, for each unit, once."""

FREE_CALLS: Final = 10
PACKAGE_CALLS: Final = 7
PACKAGE_AMOUNT: Final = Fraction("0.055")
ONCE: Final = Fraction("0.77")
REPEATED: Final = Fraction(2)

MONTH: Final = "2031-01"
"""All usage is of this month: far ahead, so that no clock of these processes, however wrong, closes it by itself."""
CLOSING_TICK: Final = "2031-02-01T02:00:00Z"


def tokens_amount(quantity: Fraction) -> Fraction:
    """What a quantity of tokens costs: each unit at its own tier, and the flat amount of every tier entered."""
    amount, below = Fraction(0), Fraction(0)
    for up_to, unit, flat in TIERS:
        if quantity <= below:
            break
        top = quantity if up_to is None else min(quantity, up_to)
        amount += (top - below) * unit + flat
        below = top if up_to is None else up_to
    return amount


def calls_amount(count: int) -> Fraction:
    """What a number of calls costs: begun packages, behind the free ones."""
    paid = max(count - FREE_CALLS, 0)
    return -(-paid // PACKAGE_CALLS) * PACKAGE_AMOUNT
