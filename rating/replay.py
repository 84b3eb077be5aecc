"""Aggregate, rate and invoice, event by event: for bills on which the order of single events shows.

The same totals as `fold` by other means (a law in the tests), slower by two orders of magnitude: it is entered for
bills that may reach a level in this batch, whose numbers may leave their bounds, or whose free units span cells.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.aggregates import Aggregate, Total
from rating.billing import Biller, clamp, exact_of, rate_cells, set_exact
from rating.columns import Batch
from rating.exact import int_of, wide_of
from rating.metering import Contributions, Refusal
from rating.state import State
from schemas.numbers import ONE, NumberError, check_scaled, divide_half_up
from schemas.output import EventRef


class _Item(NamedTuple):
    """What one event brings to one cell."""

    row: int
    order: int
    bill: int
    cell: int
    rate: int
    value: int
    aggregate: Aggregate
    meter: str


class _CellAfter(NamedTuple):
    cell: int
    total: Total
    quantity: int
    exact: int


class _LineAfter(NamedTuple):
    line: int
    rate: int
    quantity: int
    exact: int
    amount: int


def replay_events(
    state: State, batch: Batch, contributions: list[Contributions], careful: NDArray[np.int64], biller: Biller
) -> list[Refusal]:
    """Works through the events of the bills in `careful`, in the log's order. Returns what did not fit."""
    refusals: list[Refusal] = []
    items = _items(contributions, set(careful.tolist()))
    at = 0
    while at < len(items):
        row = items[at].row
        until = at
        while until < len(items) and items[until].row == row:
            until += 1
        _event(state, batch, items[at:until], biller, refusals)
        at = until
    return refusals


def _items(contributions: list[Contributions], bills: set[int]) -> list[_Item]:
    found: list[_Item] = []
    for part in contributions:
        chosen = np.flatnonzero(np.isin(part.bill, np.array(sorted(bills))))
        aggregate, name, order = part.meter.aggregate, part.meter.name, part.order
        columns = (part.row[chosen], part.bill[chosen], part.cell[chosen], part.rate[chosen])
        rows = zip(*(column.tolist() for column in columns), part.value.gather(chosen).to_list(), strict=True)
        found.extend(
            _Item(row, order, bill, cell, rate, value, aggregate, name) for row, bill, cell, rate, value in rows
        )
    found.sort(key=lambda item: (item.row, item.order))
    return found


def _event(state: State, batch: Batch, items: list[_Item], biller: Biller, refusals: list[Refusal]) -> None:
    """One event: all its charges, then the levels of the bills that it touched."""
    row = items[0].row
    for order in dict.fromkeys(item.order for item in items):
        own = [item for item in items if item.order == order]
        try:
            _count(state, batch, own, biller)
        except NumberError as error:
            message = f"the total would not fit: {error}"
            refusals.append(Refusal(row, order, own[0].meter, "out_of_range", None, message))
    reference: EventRef | None = None
    for bill in dict.fromkeys(item.bill for item in items):
        reference = reference or EventRef(batch.text_at("source", row), batch.text_at("id", row))
        biller.check_levels(bill, reference)


def _count(state: State, batch: Batch, items: list[_Item], biller: Biller) -> None:
    """One meter's part of one event: all of it or, where a number does not fit, nothing. Raises: NumberError."""
    time = int(batch.time[items[0].row])
    worked: list[tuple[_Item, _CellAfter, _LineAfter, int]] = []
    for item in items:
        after = _cell_after(state, item, time)
        line = _line_after(state, item, after)
        change = line.amount - int_of(state.lines["amount"][line.line])
        check_scaled(int_of(state.bills["spend"][item.bill]) + change)
        worked.append((item, after, line, change))
    for item, after, line, change in worked:
        _write(state, batch, item, after, line, time)
        biller.change_spend(item.bill, change)
        biller.changed.append(line.line)


def _cell_after(state: State, item: _Item, time: int) -> _CellAfter:
    cells = state.cells
    held = Total(int(cells["events"][item.cell]), int_of(cells["value"][item.cell]), int(cells["at"][item.cell]))
    total = item.aggregate.step(held, item.value, time) if held.events else _first(item, time)
    check_scaled(total.value)
    quantity = item.aggregate.quantity(total)
    rate = state.catalogue.rates[item.rate]
    billed = max(quantity - rate.free_units, 0) if quantity > 0 else quantity
    table = rate.tables[int(cells["number"][item.cell])]
    exact = table.exact(billed, rate.bill_zero_usage)
    check_scaled(divide_half_up(exact, ONE))
    return _CellAfter(item.cell, total, quantity, exact)


def _first(item: _Item, time: int) -> Total:
    return item.aggregate.step(Total(0, 0, time), item.value, time)


def _line_after(state: State, item: _Item, after: _CellAfter) -> _LineAfter:
    rate = state.catalogue.rates[item.rate]
    line = int(state.cells["line"][after.cell])
    held = state.lines
    quantity = int_of(held["quantity"][line]) + after.quantity - int_of(state.cells["quantity"][after.cell])
    if rate.coupled:
        exact = sum(exact for _, exact in rate_cells(state, rate, line, {after.cell: after.quantity}))
    else:
        exact = exact_of(held, "gross", line) + after.exact - exact_of(state.cells, "amount", after.cell)
    amount = check_scaled(divide_half_up(exact, ONE))
    return _LineAfter(line, item.rate, check_scaled(quantity), exact, clamp(amount, rate))


def _write(state: State, batch: Batch, item: _Item, after: _CellAfter, line: _LineAfter, time: int) -> None:
    cells, lines, at = state.cells, state.lines, line.line
    cells["events"][after.cell], cells["at"][after.cell] = after.total.events, after.total.at
    cells["value"][after.cell] = wide_of(after.total.value)
    cells["quantity"][after.cell] = wide_of(after.quantity)
    set_exact(cells, "amount", after.cell, after.exact)
    lines["rate"][at] = line.rate
    lines["quantity"][at] = wide_of(line.quantity)
    set_exact(lines, "gross", at, line.exact)
    lines["amount"][at] = wide_of(line.amount)
    lines["events"][at] += 1
    lines["revision"][at] += 1
    lines["first"][at] = min(int(lines["first"][at]), time)
    lines["last"][at] = max(int(lines["last"][at]), time)
    lines["through"][at] = max(int(lines["through"][at]), int(batch.offset[item.row]))
