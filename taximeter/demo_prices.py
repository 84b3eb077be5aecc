"""The price models that the demo's price book uses, in fractions: the second opinion, see `demo_check`."""

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

Document = Mapping[str, Any]
_HALF = Fraction(1, 2)


def find_cell(price: Document, dimensions: Document) -> int:
    """The cell of a matrix price that matches the most dimensions, the first written of several; -1 is the rest.

    0 for a price that is no matrix.
    """
    if price["model"] != "matrix":
        return 0
    best, most = -1, 0
    for number, cell in enumerate(price["cells"]):
        match = cell["match"]
        if len(match) > most and all(dimensions.get(name) == value for name, value in match.items()):
            best, most = number, len(match)
    return best


def price_line(charge: Document, cells: Mapping[int, Fraction]) -> Fraction:
    """What a line item comes to. `cells`: its usage by cell. Free units are for prices without cells only."""
    price = charge["price"]
    if price["model"] != "matrix":
        return _price(price, max(cells[0] - Fraction(charge.get("free_units", "0")), Fraction(0)))
    total = Fraction(0)
    for number, quantity in cells.items():
        total += _price(price["otherwise"] if number < 0 else price["cells"][number]["price"], quantity)
    return total


def _price(price: Document, quantity: Fraction) -> Fraction:
    if price["model"] == "unit":
        return quantity * Fraction(price["unit_amount"])
    if price["model"] == "package":
        return math.ceil(quantity / Fraction(price["package_size"])) * Fraction(price["package_amount"])
    if price["model"] == "graduated":
        return _graduated(price["tiers"], quantity)
    raise ValueError(f"the demo's calculation knows no price model {price['model']!r}")


def _graduated(tiers: list[Document], quantity: Fraction) -> Fraction:
    total = start = Fraction(0)
    for tier in tiers:
        if quantity <= start:
            break
        end = min(quantity, Fraction(tier["up_to"])) if "up_to" in tier else quantity
        total += (end - start) * Fraction(tier["unit_amount"]) + Fraction(tier.get("flat_amount", "0"))
        start = end
    return total


def cents(amount: Fraction) -> Decimal:
    """Dollars and cents of an amount, halves up (the demo has no negative amounts)."""
    return Decimal(math.floor(amount * 100 + _HALF)) / 100


def plain(number: Fraction) -> str:
    """The shortest decimal text."""
    text = f"{(Decimal(number.numerator) / Decimal(number.denominator)).quantize(Decimal('1e-12'), ROUND_HALF_UP):f}"
    return text.rstrip("0").rstrip(".")
