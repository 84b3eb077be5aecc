"""A line by hand: what its totals come to, whatever its charge asks. The reference for what `fold` does by columns.

Owns everything that makes a charge's amount out of quantities: conversion, free units, the tables of its leaves, units
that earlier segments of the period have used, the charge's own discount, maximum and minimum. It only reads the state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from rating.aggregates import Aggregate, Total
from rating.aggregates.percentile import nearest_rank
from rating.compiled import Rate, Shape
from rating.exact import int_of
from rating.prices.model import Leaf
from rating.state import State
from rating.table import Table
from schemas.numbers import ONE, check_scaled, divide_half_up

Changed = Mapping[int, Total]
"""Cells whose totals differ from what the state holds."""
NONE: Changed = {}
_WHOLE: Final = 100 * ONE


class CellAfter(NamedTuple):
    """A cell's total as it stands, and its quantity after conversion (scaled). `values`: what a percentile is of."""

    total: Total
    quantity: int
    values: Sequence[int] = ()


class LineAfter(NamedTuple):
    """What a line comes to. `exact` has 24 digits after the point; `amount` is formed from it, once."""

    quantity: int
    exact: int
    amount: int


def rate_line(state: State, line: int, changed: Changed = NONE) -> LineAfter:
    """What a line comes to. Raises: NumberError where a number does not fit."""
    rate = state.catalogue.rates[int(state.lines["rate"][line])]
    own = cell_totals(state, rate, line, changed)
    if _uncounted(state, rate, own):
        return LineAfter(0, 0, 0)
    quantity = check_scaled(sum(total.quantity for number, total in own.items() if _counted(rate, number)))
    before = _carried(state, rate, line, changed)
    if before is None:
        exact = model_exact(rate, {n: t.quantity for n, t in own.items()})
        amount = _formed(rate, exact)
        return LineAfter(quantity, amount * ONE if rate.by_hand else exact, amount)
    earlier, everything = before
    whole = price(rate, everything(own)) - price(rate, earlier)
    return LineAfter(quantity, check_scaled(whole) * ONE, whole)


def _uncounted(state: State, rate: Rate, totals: Mapping[int, "CellAfter"]) -> bool:
    """Whether nothing is counted any more: everything was taken back. A level that holds on counts by itself."""
    gauge = rate.kept and state.catalogue.meter(rate.meter).gauge is not None
    return not gauge and not any(after.total.events for after in totals.values())


def unused_amount(rate: Rate) -> int:
    """What a charge comes to in a period without any usage: nought in the leaf that matches no named value."""
    exact = rate.leaves[-1].tables[0].exact(0, rate.bill_zero_usage)
    return clamp(reduce(_round(exact), rate), rate)


def cell_totals(state: State, rate: Rate, line: int, changed: Changed = NONE) -> dict[int, CellAfter]:
    """The totals of a line's cells by number: those of ordered prices included."""
    aggregate = _aggregate(state, rate)
    found: dict[int, CellAfter] = {}
    for cell in state.cells_of(line):
        number = int(state.cells["number"][cell])
        total = changed.get(cell) or held_total(state, cell)
        if not _counted(rate, number):
            found[number] = CellAfter(total, total.value)
            continue
        amount, over = kept_ratio(state, rate, cell) if rate.kept else aggregate.ratio(total)
        found[number] = CellAfter(total, _converted(rate, amount, over), state.kept.values.get(cell, ()))
        ordered = state.kept.ordered.get(cell)
        if ordered is not None:
            for at, value in enumerate(ordered.totals(), number + 1):
                found[at] = CellAfter(Total(total.events, value, total.at), value)
    return found


def held_total(state: State, cell: int) -> Total:
    """A cell's total as the state holds it."""
    cells = state.cells
    return Total(int(cells["events"][cell]), int_of(cells["value"][cell]), int(cells["at"][cell]))


def _converted(rate: Rate, amount: int, over: int) -> int:
    """A quantity, which is a fraction, in the units that are billed: rounded once."""
    if rate.convert is not None:
        return rate.convert.convert_one(amount, over)
    return check_scaled(divide_half_up(amount, over) if over != 1 else amount)


def kept_ratio(state: State, rate: Rate, cell: int) -> tuple[int, int]:
    """The quantity of a cell whose events are kept, as a fraction: a percentile, or gauges integrated to the newest
    time known."""
    key = state.kept.group_of.get(cell)
    if key is None:
        meter = state.catalogue.meter(rate.meter)
        return nearest_rank(state.kept.values.get(cell, []), meter.percentile), 1
    bill = int(state.lines["bill"][state.cells["line"][cell]])
    start, end = int(state.bills["start"][bill]), int(state.bills["end"][bill])
    now = max(state.clock, int(state.customer_newest[key[0]]))
    return state.kept.groups[key].ratio(start, min(end, now), int(state.bills["whole"][bill]))


def billed_quantities(rate: Rate, quantities: Mapping[int, int]) -> dict[int, int]:
    """What of each cell's quantity its table prices: free units come off in the order of the price book."""
    free = rate.free_units
    found: dict[int, int] = {}
    for number, quantity in sorted(quantities.items()):
        taken = min(free, quantity) if quantity > 0 and free else 0
        free -= taken
        found[number] = quantity - taken
    return found


def price(rate: Rate, quantities: Mapping[int, int]) -> int:
    """The charge's whole price of some quantities (by cell number), scaled: discount, maximum and minimum included."""
    if not quantities:
        return 0
    return _formed(rate, model_exact(rate, quantities))


def model_exact(rate: Rate, quantities: Mapping[int, int]) -> int:
    """What the price model asks, before the charge's discount and bounds (24 digits)."""
    billed = billed_quantities(rate, quantities)
    if not rate.spread:
        return sum(rate.tables[n].exact(q, rate.bill_zero_usage) for n, q in billed.items())
    exact = first = 0
    for leaf in rate.leaves:
        whole = 0
        for number, table in enumerate(leaf.tables, first):
            quantity = billed.get(number)
            if quantity is not None and quantity < 0 and leaf.split is not None:
                whole += table.tiers[0].unit_amount * quantity
            elif quantity is not None:
                whole += table.exact(quantity, rate.bill_zero_usage)
        exact += whole if leaf.split is None else max(whole, 0)  # nought where corrections outweigh what was paid
        first += len(leaf.tables)
    return exact


def _formed(rate: Rate, exact: int) -> int:
    """The charge's amount: the model's less the discount, between maximum and minimum; rounded once."""
    reduction = rate.reduction
    share = 0 if reduction is None else reduction.percent
    amount = divide_half_up(exact * (_WHOLE - share), _WHOLE * ONE) if share else _round(exact)
    if reduction is not None and reduction.amount and amount > 0:
        amount = max(amount - reduction.amount, 0)
    return clamp(check_scaled(amount), rate)


def reduce(amount: int, rate: Rate) -> int:
    """An amount less its charge's discount."""
    return amount if rate.reduction is None else _formed(rate, amount * ONE)


def clamp(gross: int, rate: Rate) -> int:
    """A charge's amount between its own maximum and minimum."""
    if rate.maximum is not None:
        gross = min(gross, rate.maximum)
    if rate.minimum is not None:
        gross = max(gross, rate.minimum)
    return gross


def _round(exact: int) -> int:
    return divide_half_up(exact, ONE)


def exact_of(table: Table, name: str, slot: int) -> int:
    """A rounded amount and what rounding took from it: 24 digits after the point."""
    return int_of(table[name][slot]) * ONE + int(table["rest"][slot])


def _aggregate(state: State, rate: Rate) -> Aggregate:
    return state.catalogue.meter(rate.meter).aggregate


def _counted(rate: Rate, number: int) -> bool:
    return rate.counted[number]


class Explained(NamedTuple):
    """How a line's amount comes about: what each cell's table prices, by number, and then each further step.

    Steps are `discount`, `maximum`, `minimum`, and `earlier`: what earlier segments of the period have come to."""

    billed: list[tuple[int, int]]
    steps: list[tuple[str, int]]


def explain_line(state: State, line: int) -> Explained:
    """Every step from a line's totals to its amount."""
    rate = state.catalogue.rates[int(state.lines["rate"][line])]
    own = cell_totals(state, rate, line)
    before = _carried(state, rate, line, NONE)
    quantities = {n: t.quantity for n, t in own.items()} if before is None else before[1](own)
    billed = billed_quantities(rate, quantities)
    amount = _round(model_exact(rate, quantities))
    steps: list[tuple[str, int]] = []
    whole = price(rate, quantities)
    reduced = _formed(replace(rate, minimum=None, maximum=None), model_exact(rate, quantities))
    capped = reduced if rate.maximum is None else min(reduced, rate.maximum)
    for name, change in (("discount", reduced - amount), ("maximum", capped - reduced), ("minimum", whole - capped)):
        if change:
            steps.append((name, change))
    if before is not None:
        earlier = price(rate, before[0])
        if earlier:
            steps.append(("earlier", -earlier))
    return Explained(sorted(billed.items()), steps)


# Segments ------------------------------------------------------------------------------------------------------------


def _carried(state: State, rate: Rate, line: int, changed: Changed) -> Any:
    """None where the line's segment starts from nothing. Else the quantities that earlier segments of the period have
    used of the same charge and group, and a function that joins the line's own to them."""
    bills = earlier_segments(state, int(state.lines["bill"][line]))
    if not bills:
        return None
    aggregate = _aggregate(state, rate)
    joined: dict[int, list[CellAfter]] = {}
    ordered = _alike(state, line, bills)
    for other in ordered:
        for number, after in cell_totals(state, rate, other, changed).items():
            joined.setdefault(number, []).append(after)
    percent = state.catalogue.meter(rate.meter).percentile
    earlier = {n: _join(aggregate, rate, n, parts, percent) for n, parts in joined.items()}
    if not any(part.total.events or part.quantity for parts in joined.values() for part in parts):
        earlier = {}
    _feed_again(state, rate, ordered, earlier)

    def everything(own: dict[int, CellAfter]) -> dict[int, int]:
        numbers = joined.keys() | own.keys()
        parts = {n: [*joined.get(n, []), *([own[n]] if n in own else [])] for n in numbers}
        found = {n: _join(aggregate, rate, n, parts[n], percent) for n in numbers}
        _feed_again(state, rate, [*ordered, line], found)
        return found

    return earlier, everything


def _alike(state: State, line: int, bills: list[int]) -> list[int]:
    """The lines of the same charge and group in earlier segments, back to where it read usage in another way."""
    found: list[int] = []
    signature = shape_of(state, line).signature
    for other in (sibling(state, line, bill) for bill in reversed(bills)):
        if other is not None and int(state.lines["rate"][other]) >= 0 and state.cells_of(other):
            if shape_of(state, other).signature != signature:
                break
            found.append(other)
    return found[::-1]


def shape_of(state: State, line: int) -> Shape:
    """The shape by which a line reads usage."""
    rate, plan = int(state.lines["rate"][line]), int(state.bills["plan"][state.lines["bill"][line]])
    charge = state.charges.values[state.lines["charge"][line]]
    for shapes in state.catalogue.shapes.values():
        for shape in shapes:
            if shape.charge == charge and state.catalogue.plan_rates[plan, shape.index] == rate:
                return shape
    raise AssertionError(f"no shape reads usage for the charge {charge!r} of line {line}")


def _feed_again(state: State, rate: Rate, lines: list[int], quantities: dict[int, int]) -> None:
    """Allowances that earlier segments have used stay used: ordered prices see the events of all segments."""
    events: dict[int, list[int]] = {}
    for line in lines:
        for cell in state.cells_of(line):
            found = state.kept.ordered.get(cell)
            if found is not None:
                values = events.setdefault(int(state.cells["number"][cell]), [])
                values.extend(event.value for event in found.events)
    for number, values in events.items():
        split = leaf_of(rate, number)[0].split
        if split is not None and split.ordered:
            totals = split.totals(split.feed(split.start(), values))
            quantities.update(enumerate(totals, number + 1))


def _join(aggregate: Aggregate, rate: Rate, number: int, parts: list[CellAfter], percent: int) -> int:
    """The quantity of a cell over several segments."""
    if percent:
        return _converted(rate, nearest_rank(sorted(value for part in parts for value in part.values), percent), 1)
    if not _counted(rate, number) or rate.kept:
        return sum(part.quantity for part in parts)
    total = Total(0, 0, 0)
    for part in parts:
        if part.total.events:
            total = aggregate.merge(total, part.total) if total.events else part.total
    return _converted(rate, *aggregate.ratio(total))


def earlier_segments(state: State, bill: int) -> list[int]:
    """The segments before this one whose units stay used in it, in order."""
    chain = state.segments(int(state.bills["head"][bill]))
    at = chain.index(bill)
    first = at
    while first > 0 and state.bills["carries"][chain[first]]:
        first -= 1
    return [other for other in chain[first:at] if not state.plan_of(other).trial]


def later_segments(state: State, bill: int) -> list[int]:
    """The segments after this one in which its units stay used."""
    following = int(state.bills["next"][bill])
    found: list[int] = []
    while following >= 0 and state.bills["carries"][following] and not state.plan_of(bill).trial:
        found.append(following)
        following = int(state.bills["next"][following])
    return found


def sibling(state: State, line: int, bill: int) -> int | None:
    """The line of the same charge and group in another segment."""
    charge, combo = int(state.lines["charge"][line]), int(state.lines["combo"][line])
    for other in state.lines_of(bill):
        if state.lines["charge"][other] == charge and state.lines["combo"][other] == combo:
            return other
    return None


def leaf_of(rate: Rate, number: int) -> tuple[Leaf, int]:
    """The leaf and the channel of a cell number."""
    for leaf in rate.leaves:
        if number < len(leaf.tables):
            return leaf, number
        number -= len(leaf.tables)
    raise AssertionError(f"no cell {number} in {rate}")
