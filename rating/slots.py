"""The lines and cells of a state: found by what they are of, or made.

Twin of native/src/slots.c: the same slots, in the order in which rows first ask for them.
"""

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from native.library import function
from rating.compiled import Shape
from rating.index import Keys
from rating.state import State

Rows = NDArray[np.int64]


class _Slots(Structure):
    """`Slots` of native/src/slots.c."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("line_table", "line_values")),
        *((name, c_int64) for name in ("line_size", "lines", "line_step")),
        *((f"line_{name}", c_void_p) for name in ("bill", "charge", "combo", "rate", "before", "cell")),
        *((f"line_{name}", c_void_p) for name in ("first", "last", "through")),
        ("bill_line", c_void_p),
        ("bill_step", c_int64),
        *((name, c_void_p) for name in ("cell_table", "cell_values")),
        *((name, c_int64) for name in ("cell_size", "cells", "cell_step")),
        *((f"cell_{name}", c_void_p) for name in ("line", "number", "next")),
    ]


_OF_SLOTS: Final = POINTER(_Slots)
_NATIVE_FIND_CELLS: Final = function(
    "tx_find_cells", c_int64, c_void_p, c_int64, c_void_p, c_int64, *[c_void_p] * 3, c_int64, c_void_p
)
_NATIVE_MAKE_CELLS: Final = function(
    "tx_make_cells", None, _OF_SLOTS, *[c_int64] * 2, *[c_void_p] * 4, c_int64, c_void_p
)
_NATIVE_FIND_LINES: Final = function("tx_find_lines", None, _OF_SLOTS, c_int64, *[c_void_p] * 3, c_int64, c_void_p)


def find_cells(state: State, shape: Shape, bills: Rows, combo: Rows, number: Rows, rates: Rows) -> Rows:
    """The cell of each row; new ones are made, with the lines that they need."""
    uid, charge = state.shapes.number(shape.signature), state.charges.number(shape.charge)
    if _NATIVE_FIND_CELLS is None or _NATIVE_MAKE_CELLS is None:
        return _find_cells_python(state, uid, charge, bills, combo, number, rates)
    cells, index = np.empty(len(bills), dtype=np.int64), state.cell_index
    of_bills, of_combos, of_numbers, of_rates, found = _addresses(bills, combo, number, rates, cells)
    held = (index.keys.ctypes.data, len(index.keys), index.values.ctypes.data)
    missing = _NATIVE_FIND_CELLS(*held, uid, of_bills, of_combos, of_numbers, len(bills), found)
    if missing:
        slots = _slots(state, missing, missing)
        columns = (of_bills, of_combos, of_numbers, of_rates)
        _NATIVE_MAKE_CELLS(byref(slots), uid, charge, *columns, len(bills), found)
        _keep(state, slots)
    return cells


def _find_cells_python(
    state: State, uid: int, charge: int, bills: Rows, combo: Rows, number: Rows, rates: Rows
) -> Rows:
    index = state.cell_index
    places, new = index.add(_cell_keys(uid, bills, combo, number))
    fresh = np.flatnonzero(new)
    first = state.cells.extend(len(fresh))
    made = np.arange(first, first + len(fresh))
    lines = find_lines(state, bills[fresh], charge, combo[fresh], rates[fresh])
    state.cells["line"][made], state.cells["number"][made] = lines, number[fresh]
    state.attach_cells(made, lines)
    index.values[places[fresh]] = made
    return index.values[places].astype(np.int64)


def _cell_keys(shape: int, bills: Rows, combo: Rows, number: Rows) -> Keys:
    """The keys by which cells are found."""
    high = (bills.astype(np.uint64) << np.uint64(32)) | np.uint64(shape)
    return make_keys(high, (combo.astype(np.uint64) << np.uint64(16)) | number.astype(np.uint64))


def find_lines(state: State, bills: Rows, charge: int, combo: Rows, rates: Rows) -> Rows:
    """The line of each (bill, charge, group); new ones are made."""
    if _NATIVE_FIND_LINES is None:
        return _find_lines_python(state, bills, charge, combo, rates)
    lines, slots = np.empty(len(bills), dtype=np.int64), _slots(state, len(bills), 0)
    bills, combo, rates = (np.ascontiguousarray(column, np.int64) for column in (bills, combo, rates))
    *columns, found = _addresses(bills, combo, rates, lines)
    _NATIVE_FIND_LINES(byref(slots), charge, *columns, len(bills), found)
    _keep(state, slots)
    return lines


def _find_lines_python(state: State, bills: Rows, charge: int, combo: Rows, rates: Rows) -> Rows:
    high = (bills.astype(np.uint64) << np.uint64(32)) | np.uint64(charge)
    places, new = state.line_index.add(make_keys(high, combo.astype(np.uint64)))
    fresh = np.flatnonzero(new)
    if len(fresh):
        charges = np.full(len(fresh), charge)
        state.line_index.values[places[fresh]] = state.add_lines(bills[fresh], charges, combo[fresh], rates[fresh])
    return state.line_index.values[places].astype(np.int64)


def _slots(state: State, lines: int, cells: int) -> _Slots:
    """Where lines and cells are, with room for some more of both."""
    for index, table, more in ((state.line_index, state.lines, lines), (state.cell_index, state.cells, cells)):
        index.make_room(more)
        table.make_room(more)
    of_lines, of_cells = (
        (index.keys.ctypes.data, index.values.ctypes.data, len(index.keys), table.size, table.step)
        for index, table in ((state.line_index, state.lines), (state.cell_index, state.cells))
    )
    columns = ("bill", "charge", "combo", "rate", "before", "cell", "first", "last", "through")
    line = (state.lines[name].ctypes.data for name in columns)
    cell = (state.cells[name].ctypes.data for name in ("line", "number", "next"))
    return _Slots(*of_lines, *line, state.bills["line"].ctypes.data, state.bills.step, *of_cells, *cell)


def _keep(state: State, slots: _Slots) -> None:
    """What was made is held from now on."""
    for index, table, size in (
        (state.line_index, state.lines, slots.lines),
        (state.cell_index, state.cells, slots.cells),
    ):
        index.count += size - table.size
        table.size = size


def _addresses(*columns: Rows) -> list[int]:
    assert all(column.flags.c_contiguous and column.dtype == np.int64 for column in columns)
    return [column.ctypes.data for column in columns]


def make_keys(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Keys:
    """128-bit keys of two halves."""
    keys = np.empty((len(high), 2), dtype=np.uint64)
    keys[:, 0], keys[:, 1] = high, low
    return keys
