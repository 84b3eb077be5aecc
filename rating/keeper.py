"""Keeping events: puts what a batch brings into `rating.kept`, takes it out again, and makes it all from the ledger.

Also which lines a customer's gauges reach: a level holds on into later periods, and moves on with every event of the
customer, whatever it is counted by.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rating.cells import Contributions, Rows
from rating.columns import Batch
from rating.exact import int_of
from rating.gauges import Change, counts_from
from rating.kept import Arrived, GroupKey
from rating.lines import leaf_of, shape_of
from rating.slots import find_cells
from rating.state import State


class Keeper:
    """Keeps the events of one batch."""

    def __init__(self, state: State, batch: Batch) -> None:
        self.state = state
        self.batch = batch

    def keep(self, part: Contributions) -> None:
        """Keeps what a part brings."""
        for row, cell, gauge, value in self._rows(part):
            self.keep_one(row, cell, gauge, value)

    def keep_one(self, row: int, cell: int, gauge: int, value: int) -> None:
        """Keeps what one event brings to one total."""
        keep_event(self.state, cell, gauge, int(self.batch.time[row]), self.state.arrivals + row, value)

    def forget_one(self, row: int, cell: int, gauge: int, value: int) -> None:
        """Takes out what `keep_one` put in."""
        _forget_event(self.state, cell, gauge, int(self.batch.time[row]), self.state.arrivals + row, value)

    def forget(self, part: Contributions) -> None:
        """Takes out what `keep` put in."""
        for row, cell, gauge, value in self._rows(part):
            self.forget_one(row, cell, gauge, value)

    @staticmethod
    def _rows(part: Contributions) -> Iterable[tuple[int, int, int, int]]:
        gauge = np.full(len(part.row), -1) if part.gauge is None else part.gauge
        columns = (part.row.tolist(), part.cell.tolist(), gauge.tolist(), part.value.to_list())
        return zip(*columns, strict=True)


def keep_event(state: State, cell: int, gauge: int, time: int, arrival: int, value: int) -> None:
    """Keeps one event of a total: its value for a percentile, its place for an ordered price, a change of a gauge."""
    line = int(state.cells["line"][cell])
    rate = state.catalogue.rates[int(state.lines["rate"][line])]
    if gauge >= 0:
        key = _join_group(state, cell)
        state.kept.change(key, gauge, _change(state, cell, time, arrival, value))
    elif rate.kept:
        state.kept.add_value(cell, value)
    split = leaf_of(rate, int(state.cells["number"][cell]))[0].split
    if split is not None and split.ordered:
        state.kept.add_ordered(cell, split, Arrived(time, arrival, value))


def _forget_event(state: State, cell: int, gauge: int, time: int, arrival: int, value: int) -> None:
    if gauge >= 0:
        group = state.kept.groups[state.kept.group_of[cell]]
        group.gauge(gauge).remove(_change(state, cell, time, arrival, value))
    elif cell in state.kept.values:
        state.kept.remove_value(cell, value)
    if cell in state.kept.ordered:
        state.kept.ordered[cell].remove(Arrived(time, arrival, value))


def _change(state: State, cell: int, time: int, arrival: int, value: int) -> Change:
    bill = int(state.lines["bill"][state.cells["line"][cell]])
    reading = state.kept.groups[state.kept.group_of[cell]].reading
    calendar = state.calendar_of(int(state.bills["subscription"][bill]))
    return Change(counts_from(reading, calendar, time), time, arrival, value)


def _join_group(state: State, cell: int) -> GroupKey:
    """The group of gauges that a cell shows; it is one of the group's cells from now on."""
    known = state.kept.group_of.get(cell)
    if known is not None:
        return known
    line = int(state.cells["line"][cell])
    bill = int(state.lines["bill"][line])
    customer = int(state.subscriptions["customer"][state.bills["subscription"][bill]])
    shape = shape_of(state, line)
    number = int(state.cells["number"][cell])
    key = (customer, state.shapes.number(shape.signature), int(state.lines["combo"][line]), number)
    reading = state.catalogue.meter(shape.meter).gauge
    assert reading is not None
    state.kept.join_group(key, reading, cell)
    return key


# From the ledger -----------------------------------------------------------------------------------------------------


def keep_again(state: State, cells: Iterable[int] | None = None) -> None:
    """Makes what is kept of some cells (of all) again from the ledger, after rows were taken back or a restart."""
    ledger, kept = state.ledger, state.kept
    if cells is None:
        wanted = set(range(state.cells.size))
        _join_all(state)
    else:
        wanted = set(cells)
        for key in {kept.group_of[cell] for cell in wanted if cell in kept.group_of}:
            wanted.update(kept.groups[key].cells)
            kept.groups[key].gauges.clear()
        for cell in wanted:
            kept.values.pop(cell, None)
            kept.ordered.pop(cell, None)
    special = np.array([rate.kept or rate.ordered for rate in state.catalogue.rates] + [False], dtype=np.bool_)
    asked = np.array(sorted(wanted), dtype=np.int64)
    rows = ledger.of_cells(asked[special[state.lines["rate"][state.cells["line"][asked]]]])
    first: dict[tuple[int, int], int] = {}
    columns = (ledger.read(name, rows).tolist() for name in ("identity", "cell", "gauge", "time", "value"))
    for identity, cell, gauge, time, value in zip(*columns, strict=True):
        arrival = first.setdefault(tuple(identity), len(first))
        rate = state.catalogue.rates[int(state.lines["rate"][state.cells["line"][cell]])]
        if rate.counted[int(state.cells["number"][cell])]:
            keep_event(state, cell, gauge, time, arrival, int_of(value))


def _join_all(state: State) -> None:
    """Every cell that shows gauges finds its group, those that no event speaks of included."""
    gauges = [state.catalogue.meter(rate.meter).gauge is not None for rate in state.catalogue.rates]
    shows = np.array([*gauges, False], dtype=np.bool_)
    rate = state.lines["rate"][state.cells["line"][: state.cells.size]]
    for cell in np.flatnonzero(shows[rate]).tolist():
        _join_group(state, cell)


# Where gauges reach --------------------------------------------------------------------------------------------------


def gauge_customers(state: State, customers: NDArray[np.int64]) -> list[int]:
    """Those of some customers that have gauges, rising."""
    return [c for c in np.unique(customers).tolist() if c in state.kept.of_customer] if state.kept.of_customer else []


def spread_gauges(state: State, customers: Iterable[int]) -> None:
    """Makes the cells of the periods that a customer's levels hold on into: bills that stand after a change."""
    wanted = list(customers)
    if not wanted:
        return
    size = state.bills.size
    owner = state.subscriptions["customer"][state.bills["subscription"][:size]]
    bills = np.flatnonzero(np.isin(owner, np.array(wanted)))
    by_customer: dict[int, list[int]] = {}
    for bill, customer in zip(bills.tolist(), owner[bills].tolist(), strict=True):
        by_customer.setdefault(customer, []).append(bill)
    for customer in wanted:
        for key in state.kept.of_customer.get(customer, ()):
            _spread_group(state, key, by_customer.get(customer, []))


def _spread_group(state: State, key: GroupKey, bills: list[int]) -> None:
    _, uid, combo, number = key
    group = state.kept.groups[key]
    shape = state.catalogue.shape_of(state.shapes.values[uid])
    if shape is None or not any(gauge.changes for gauge in group.gauges.values()):
        return
    begun = min(gauge.changes[0].time for gauge in group.gauges.values() if gauge.changes)
    showing = {int(state.lines["bill"][state.cells["line"][cell]]) for cell in group.cells}
    for bill in bills:
        plan = int(state.bills["plan"][bill])
        rate = int(state.catalogue.plan_rates[plan, shape.index]) if plan >= 0 else -1
        if rate < 0 or bill in showing or int(state.bills["end"][bill]) <= begun:
            continue
        if group.holds_level(int(state.bills["start"][bill])):
            one: Rows = np.array([bill])
            cell = find_cells(state, shape, one, np.array([combo]), np.array([number]), np.array([rate]))
            state.kept.join_group(key, group.reading, int(cell[0]))


def gauge_lines(state: State, customer: int) -> list[int]:
    """The lines that show a customer's gauges."""
    cells = [cell for key in state.kept.of_customer.get(customer, ()) for cell in state.kept.groups[key].cells]
    return sorted({int(state.cells["line"][cell]) for cell in cells})
