"""Aggregate, rate and invoice, event by event: for periods on which the order of single events shows.

The same totals as `fold` by other means (a law in the tests), slower by two orders of magnitude: it is entered for
periods that may reach a level in this batch, or whose numbers may leave their bounds. Where the compiled library works
through the plain periods (`fold_native`), the levels that they reach are seen to here, and the events it stops at.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.aggregates import Aggregate, Total
from rating.billing import Biller
from rating.cells import Contributions, Refusal
from rating.columns import Batch
from rating.exact import int_of, to_wide, wide_of
from rating.fold_native import DONE, REACHED, Plain
from rating.keeper import Keeper
from rating.ledger import Events
from rating.lines import LineAfter, clamp, exact_of, held_total, rate_line
from rating.state import State
from rating.voids import Takeback, refuse_unfit, take_back
from schemas.event import VOID_TYPE
from schemas.numbers import ONE, NumberError, check_scaled, divide_half_up
from schemas.output import EventRef


class Place(NamedTuple):
    """A contribution: the part of the batch that it is in, and where in it."""

    part: int
    at: int


class _Item(NamedTuple):
    """What one event brings to one cell."""

    place: Place
    row: int
    order: int
    head: int
    cell: int
    rate: int
    value: int
    aggregate: Aggregate
    wide: tuple[int, int]
    gauge: int
    part: Contributions


class _CellAfter(NamedTuple):
    cell: int
    total: Total
    quantity: int
    exact: int


class Replay:
    """Works through the events of one batch for some periods (`careful`: their heads), and with `plain` for those.

    `entered`: what was counted here, as it was put into the ledger; `dropped`: what did not fit; `unfit`: the voids (by
    row) without whose events a number would not fit."""

    def __init__(
        self,
        state: State,
        batch: Batch,
        contributions: Sequence[Contributions],
        biller: Biller,
        careful: set[int],
        plain: Plain | None = None,
    ) -> None:
        self.state = state
        self.batch = batch
        self.contributions = contributions
        self.biller = biller
        self.careful = careful
        self.plain = plain
        self.keeper = Keeper(state, batch)
        self.refusals: list[Refusal] = []
        self.unfit: dict[int, Refusal] = {}
        self.entered: list[Place] = []
        self.dropped: set[Place] = set()
        self._counted: list[_Item] = []

    def run(self, takebacks: Iterable[Takeback], moves: dict[int, int]) -> None:
        """In the log's order. `moves`: row -> the customer whose gauges move on with that event, whatever counts it."""
        voids = {takeback.row: takeback for takeback in takebacks} if self.careful else {}
        by_row: dict[int, list[_Item]] = {}
        for item in self._careful_items():
            by_row.setdefault(item.row, []).append(item)
        for row in sorted(by_row.keys() | voids.keys() | moves.keys()):
            self._run_plain(row)
            items = by_row.get(row, [])
            if self.plain is not None:
                items = sorted([*items, *self._plain_items(row)], key=lambda item: item.place)
                self.plain.skip()
            self._event(row, items, voids.get(row), moves.get(row, -1))
        self._run_plain(self.batch.rows)
        self._enter()

    def _run_plain(self, until: int) -> None:
        """The events before a row: where the library stops at one, a level is reached, or it is done here."""
        plain = self.plain
        if plain is None:
            return
        while (found := plain.run(until)) != DONE:
            items = self._plain_items(plain.row)
            if found == REACHED:
                self._check_levels(plain.row, list(dict.fromkeys(item.head for item in items)))
            else:
                self._event(plain.row, items, None, -1)
            plain.skip()

    def _plain_items(self, row: int) -> list[_Item]:
        assert self.plain is not None
        return [item for part, at in self.plain.items(row) for item in self._items(part, np.array([at]))]

    def _careful_items(self) -> list[_Item]:
        heads = np.array(sorted(self.careful), dtype=np.int64)
        found: list[_Item] = []
        if len(heads):
            for index, part in enumerate(self.contributions):
                found += self._items(index, np.flatnonzero(np.isin(self.state.bills["head"][part.bill], heads)))
        return found

    def _items(self, index: int, chosen: NDArray[np.int64]) -> list[_Item]:
        """Some of what one part brings."""
        part = self.contributions[index]
        head = self.state.bills["head"][part.bill[chosen]]
        gauge = np.full(len(chosen), -1) if part.gauge is None else part.gauge[chosen]
        value = part.value.gather(chosen)
        wide = to_wide(value) if part.texts is None else part.texts[chosen]
        columns = (chosen, part.row[chosen], head, part.cell[chosen], part.rate[chosen], wide, gauge)
        rows = zip(*(c.tolist() for c in columns), value.to_list(), strict=True)
        return [
            _Item(Place(index, at), row, part.order, of, cell, rate, value, part.aggregate, tuple(wide), name, part)
            for at, row, of, cell, rate, wide, name, value in rows
        ]

    def _event(self, row: int, items: list[_Item], void: Takeback | None, customer: int) -> None:
        """One event: all its charges, then the levels of the periods that it touched."""
        state, biller = self.state, self.biller
        if customer >= 0:
            biller.advance(self.batch, row, customer)
        for order in sorted({item.order for item in items}):
            own = [item for item in items if item.order == order]
            try:
                self._count(own)
            except NumberError as error:
                message = f"the total would not fit: {error}"
                for item in own:
                    biller.tally.drop(row, item.part, item.cell, item.value)
                self.dropped.update(item.place for item in own)
                self.refusals.append(Refusal(row, order, own[0].part.meter.name, "out_of_range", None, message))
        touched = {item.head: None for item in items}
        if void is not None:
            self._enter()
            touched |= dict.fromkeys(self.take_back(void, within=True))
        if customer >= 0:
            offset = int(self.batch.offset[row])
            touched |= dict.fromkeys(biller.move_gauges(customer, offset, self.careful, int(self.batch.time[row])))
        for head in touched:
            state.bills["touched"][head] = 1
        self._check_levels(row, list(touched))

    def take_back(self, void: Takeback, within: bool) -> list[int]:
        """What a void does to the periods that are worked through here (`within`), or to all others. Returns those that
        it changed: none where a number would not fit."""
        try:
            return take_back(self.state, self.biller, void, self.careful, within)
        except NumberError as error:
            self.unfit[void.row] = refuse_unfit(void, error)
            return []

    def _check_levels(self, row: int, heads: list[int]) -> None:
        """What the periods that an event touched have reached by it."""
        if heads:
            reference = EventRef(self.batch.text_at("source", row), self.batch.text_at("id", row))
            for head in heads:
                self.biller.check_levels(head, reference, self._time(row, head))

    def _time(self, row: int, head: int) -> int:
        """When an event was. A void's own time has no meaning: it stands at the newest event that its period counts."""
        if self.batch.text_at("type", row) != VOID_TYPE:
            return int(self.batch.time[row])
        lines, counted = self.state.lines, [n for n in self.state.period_lines(head) if self.state.lines["events"][n]]
        return max((int(lines["last"][line]) for line in counted), default=int(self.state.bills["start"][head]))

    def _count(self, items: list[_Item]) -> None:
        """One meter's part of one event: all of it or, where a number does not fit, nothing. Raises: NumberError."""
        time = int(self.batch.time[items[0].row])
        undo: list[_Item] = []
        worked: dict[int, tuple[LineAfter, int]] = {}
        changed: dict[int, Total] = {}
        cells: list[tuple[_Item, _CellAfter | None]] = []
        try:
            for item in items:
                if item.part.kept:
                    self.keeper.keep_one(item.row, item.cell, item.gauge, item.value)
                    undo.append(item)
                held = held_total(self.state, item.cell)
                total = item.aggregate.step(held if held.events else Total(0, 0, time), item.value, time)
                if item.part.kept and item.aggregate.kept:
                    total = total._replace(value=0)
                check_scaled(total.value)
                changed[item.cell] = total
            for item in items:
                line = int(self.state.cells["line"][item.cell])
                rate = self.state.catalogue.rates[item.rate]
                after = None if rate.by_hand else self._cell_after(item, changed[item.cell])
                cells.append((item, after))
                plain = not rate.spread and not self._segmented(item.head)
                worked[line] = self._line_after(item, line, after if plain else None, worked, changed), item.head
            spend = {head: int_of(self.state.bills["spend"][head]) for _, head in worked.values()}
            for line, (after_line, head) in worked.items():
                spend[head] += after_line.amount - int_of(self.state.lines["amount"][line])
                check_scaled(spend[head])
        except NumberError:
            for item in undo:
                self.keeper.forget_one(item.row, item.cell, item.gauge, item.value)
            raise
        for item, after in cells:
            self._write_cell(item, changed[item.cell], after)
        for line, (after_line, head) in worked.items():
            self._write_line(line, after_line, head, [i for i in items if self.state.cells["line"][i.cell] == line])
        for item in items:
            if item.part.counted and self._segmented(item.head):
                line = int(self.state.cells["line"][item.cell])
                self.biller.rerate_siblings(line, [self.state.arrivals + item.row], int(self.batch.offset[item.row]))

    def _segmented(self, head: int) -> bool:
        return bool(self.state.bills["next"][head] >= 0)

    def _cell_after(self, item: _Item, total: Total) -> _CellAfter:
        rate = self.state.catalogue.rates[item.rate]
        quantity = item.aggregate.quantity(total)
        billed = max(quantity - rate.free_units, 0) if quantity > 0 else quantity
        exact = rate.tables[int(self.state.cells["number"][item.cell])].exact(billed, rate.bill_zero_usage)
        check_scaled(divide_half_up(exact, ONE))
        return _CellAfter(item.cell, total, quantity, exact)

    def _line_after(
        self,
        item: _Item,
        line: int,
        after: _CellAfter | None,
        worked: dict[int, tuple[LineAfter, int]],
        changed: dict[int, Total],
    ) -> LineAfter:
        if after is None:
            return rate_line(self.state, line, changed)
        held, cells = self.state.lines, self.state.cells
        so_far = worked.get(line)
        quantity = so_far[0].quantity if so_far else int_of(held["quantity"][line])
        exact = so_far[0].exact if so_far else exact_of(held, "gross", line)
        if item.part.counted:
            quantity += after.quantity - int_of(cells["quantity"][after.cell])
        exact += after.exact - exact_of(cells, "amount", after.cell)
        amount = check_scaled(divide_half_up(exact, ONE))
        return LineAfter(check_scaled(quantity), exact, clamp(amount, self.state.catalogue.rates[item.rate]))

    def _write_cell(self, item: _Item, total: Total, after: _CellAfter | None) -> None:
        cells = self.state.cells
        cells["events"][item.cell], cells["at"][item.cell] = total.events, total.at
        cells["value"][item.cell] = wide_of(total.value)
        if after is not None:
            cells["quantity"][item.cell] = wide_of(after.quantity)
            self.biller.set_exact(cells, "amount", item.cell, after.exact)
        if item.head in self.careful:
            self._counted.append(item)

    def _enter(self) -> None:
        """What was counted stands in the ledger, from where a void may take it back."""
        if self._counted:
            self.entered.extend(item.place for item in self._counted)
            row = np.array([item.row for item in self._counted])
            cell, gauge = ([getattr(item, name) for item in self._counted] for name in ("cell", "gauge"))
            wide = np.array([item.wide for item in self._counted], dtype=np.int64)
            batch = self.batch
            events = Events(batch.identity.take(row, axis=0), batch.time[row])
            self.state.ledger.append(events, np.arange(len(row)), np.array(cell), wide, np.array(gauge))
            self._counted.clear()

    def _write_line(self, line: int, after: LineAfter, head: int, items: list[_Item]) -> None:
        lines, row = self.state.lines, items[0].row
        time = int(self.batch.time[row])
        counted = sum(item.part.counted for item in items)
        change = after.amount - int_of(lines["amount"][line])
        lines["rate"][line] = items[0].rate
        lines["quantity"][line] = wide_of(after.quantity)
        self.biller.set_exact(lines, "gross", line, after.exact)
        lines["amount"][line] = wide_of(after.amount)
        if not lines["events"][line] and self._segmented(head):
            self.state.born[line] = self.state.arrivals + row
        lines["events"][line] += counted
        lines["revision"][line] += counted
        lines["first"][line] = min(int(lines["first"][line]), time)
        lines["last"][line] = max(int(lines["last"][line]), time)
        lines["through"][line] = max(int(lines["through"][line]), int(self.batch.offset[row]))
        self.biller.change_spend(head, change)
        self.biller.changed.append(line)
