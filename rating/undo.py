"""Undo: the totals from which a void takes something back, as they stood before it.

Owns the rows of the tables, and what is kept of events, that `rating.voids.take_back` may change; it can put them back
to the last bit where a number would not fit. Everything else a void changes only once all of it has fitted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rating.billing import Biller
from rating.lines import later_segments, sibling
from rating.state import BILLS, CELLS, LINES, State
from rating.table import Table

_Columns = dict[str, NDArray[Any]]


class Undo:
    """How the cells of some rows of the ledger, their lines, those that build on them, and their periods stand.

    `rows`: those that are to be taken back; `of`: the cell of each."""

    def __init__(self, state: State, biller: Biller, rows: NDArray[np.int64], of: NDArray[np.int32]) -> None:
        self._state = state
        self._biller = biller
        self._taken = rows, of
        cells = np.unique(of)
        self._changed, self._amount_change = len(biller.changed), biller.amount_change
        lines = _with_later(state, np.unique(state.cells["line"][cells]).tolist())
        heads = np.unique(state.bills["head"][state.lines["bill"][lines]])
        own = np.array([cell for line in lines for cell in state.cells_of(line)], dtype=np.int64)
        self._tables = [
            _rows(state.cells, CELLS, own),
            _rows(state.lines, LINES, np.array(lines, dtype=np.int64)),
            _rows(state.bills, BILLS, heads.astype(np.int64)),
        ]
        kept = state.kept
        self._groups = {kept.group_of[cell] for cell in cells.tolist() if cell in kept.group_of}
        self._cells = {*cells.tolist(), *(cell for key in self._groups for cell in kept.groups[key].cells)}
        # Values, events and gauges are not changed in place where rows are taken back: others take their place.
        self._gauges = {key: dict(kept.groups[key].gauges) for key in self._groups}
        self._values = {cell: kept.values[cell] for cell in self._cells if cell in kept.values}
        self._ordered = {cell: kept.ordered[cell] for cell in self._cells if cell in kept.ordered}

    def restore(self) -> None:
        """Everything stands as it stood. The rows have been taken back."""
        state, kept = self._state, self._state.kept
        for table, slots, columns in self._tables:
            for name, column in columns.items():
                table[name][slots] = column
        state.ledger.put_back(*self._taken)
        for key, gauges in self._gauges.items():
            kept.groups[key].gauges.clear()
            kept.groups[key].gauges.update(gauges)
        for cell in self._cells:
            kept.values.pop(cell, None)
            kept.ordered.pop(cell, None)
        kept.values.update(self._values)
        kept.ordered.update(self._ordered)
        del self._biller.changed[self._changed :]
        self._biller.amount_change = self._amount_change


def _with_later(state: State, lines: list[int]) -> list[int]:
    """Some lines, and those in later segments that build on them."""
    found = set(lines)
    for line in lines:
        others = (sibling(state, line, bill) for bill in later_segments(state, int(state.lines["bill"][line])))
        found.update(other for other in others if other is not None)
    return sorted(found)


def _rows(table: Table, names: Any, slots: NDArray[np.int64]) -> tuple[Table, NDArray[np.int64], _Columns]:
    return table, slots, {name: table[name][slots] for name in names}
