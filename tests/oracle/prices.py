"""Aggregations and price models of the oracle, in fractions. One function each, straight from the contracts."""

from fractions import Fraction
from typing import Any, NamedTuple

from tests.oracle.reading import TINY, amount, half_up, show

NOUGHT = Fraction(0)
OTHERWISE = -1


class Use(NamedTuple):
    """What one event brought to one meter: a number, a name (unique_count) or nothing (count)."""

    time: int
    arrival: int
    value: Any


def aggregate(how: str, uses: list[Use]) -> Fraction:
    """The quantity of some events; there is at least one."""
    values = [use.value for use in uses]
    if how == "count":
        return Fraction(len(values))
    if how == "unique_count":
        return Fraction(len(set(values)))
    if how == "avg":
        return half_up(sum(values, NOUGHT) / len(values), TINY)
    if how == "latest":
        return max(uses, key=lambda use: (use.time, use.arrival)).value
    return {"sum": lambda v: sum(v, NOUGHT), "min": min, "max": max}[how](values)


def cell_of(price: dict[str, Any], dimensions: dict[str, str | None]) -> int | None:
    """Which cell of a matrix prices an event: 0 is the first written, -1 `otherwise`, None no cell at all."""
    best, most = OTHERWISE if price.get("otherwise") else None, 0
    for index, cell in enumerate(price["cells"]):
        match = cell["match"]
        if len(match) > most and all(_named(dimensions.get(key), wanted) for key, wanted in match.items()):
            best, most = index, len(match)
    return best


def _named(value: str | None, wanted: Any) -> bool:
    return value is not None and value in [str(one) for one in (wanted if isinstance(wanted, list) else [wanted])]


class Priced(NamedTuple):
    """What a charge comes to for one line: both exact to the 12th digit, and the tiers that were entered."""

    quantity: Fraction
    amount: Fraction
    tiers: list[dict[str, str]]


def price_line(charge: dict[str, Any], cells: dict[int, Fraction]) -> Priced:
    """The price of one line from the quantities of its cells (a charge without a matrix has the one cell 0).

    Free units come off first, then the model prices what is left, then the charge's maximum and minimum."""
    price, free = charge["price"], amount(charge.get("free_units", "0"))
    matrix = price["model"] == "matrix"
    zero = charge.get("bill_zero_usage", False)
    exact, tiers = NOUGHT, []
    for index in sorted(cells, key=lambda i: (i == OTHERWISE, i)):
        billed = cells[index]
        if billed > 0:
            used_up = min(free, billed)
            free, billed = free - used_up, billed - used_up
        inner = price if not matrix else price["otherwise"] if index == OTHERWISE else price["cells"][index]["price"]
        cost, entered = _model(inner, billed, zero)
        exact += cost
        tiers += entered
    return Priced(sum(cells.values(), NOUGHT), bounded(charge, exact), tiers)


def bounded(charge: dict[str, Any], exact: Fraction) -> Fraction:
    """An exact amount within the charge's maximum and minimum, rounded half up at the 12th digit."""
    if charge.get("maximum") is not None:
        exact = min(exact, amount(charge["maximum"]))
    if charge.get("minimum") is not None:
        exact = max(exact, amount(charge["minimum"]))
    return half_up(exact, TINY)


def _model(price: dict[str, Any], q: Fraction, zero: bool) -> tuple[Fraction, list[dict[str, str]]]:
    """(exact amount, tiers entered) of a quantity. `zero`: nought enters the first tier."""
    model = price["model"]
    if model == "unit":
        return q * amount(price["unit_amount"]), []
    if q < 0 or (q == 0 and not zero):
        return NOUGHT, []
    if model == "package":
        packages = q / amount(price["package_size"])
        whole = packages.numerator // packages.denominator
        if price.get("round", "up") == "up" and whole != packages:
            whole += 1
        return whole * amount(price["package_amount"]), []
    if model == "graduated":
        return _graduated(price["tiers"], q)
    if model in ("volume", "stairstep"):
        return _one_tier(price["tiers"], q)
    raise ValueError(f"the oracle has no model {model!r}")


def _spans(tiers: list[dict[str, Any]]) -> list[tuple[Fraction, Fraction | None, Fraction, Fraction]]:
    """(above, up to and with, unit amount, flat amount) of each tier."""
    spans, above = [], NOUGHT
    for tier in tiers:
        up_to = amount(tier["up_to"]) if tier.get("up_to") is not None else None
        spans.append((above, up_to, amount(tier.get("unit_amount", "0")), amount(tier.get("flat_amount", "0"))))
        above = up_to
    return spans


def _graduated(tiers: list[dict[str, Any]], q: Fraction) -> tuple[Fraction, list[dict[str, str]]]:
    total, entered = NOUGHT, []
    for above, up_to, unit, flat in _spans(tiers):
        if q <= above and above > 0:
            break
        inside = (q if up_to is None else min(q, up_to)) - above
        total += inside * unit + flat
        entered.append(_tier(above, up_to, inside, unit, flat))
    return total, entered


def _one_tier(tiers: list[dict[str, Any]], q: Fraction) -> tuple[Fraction, list[dict[str, str]]]:
    for above, up_to, unit, flat in _spans(tiers):
        if up_to is None or q <= up_to:
            return q * unit + flat, [_tier(above, up_to, q, unit, flat)]
    raise ValueError("the last tier is not open above")


def _tier(above: Fraction, up_to: Fraction | None, inside: Fraction, unit: Fraction, flat: Fraction) -> dict[str, str]:
    tier = {"from": show(above), "quantity": show(inside), "unit_amount": show(unit), "flat_amount": show(flat)}
    if up_to is not None:
        tier["up_to"] = show(up_to)
    return tier | {"amount": show(half_up(inside * unit + flat, TINY))}
