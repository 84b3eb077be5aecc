"""The lines and cells of a state: found by what they are of, or made.

A line is found by an index. Most lines have one cell, which is found by way of its line; only cells that are not alone
in their line are in an index of their own.

Twin of native/src/slots.c: the same slots, in the order in which rows first ask for them.
"""

from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from native.library import function
from rating.compiled import Shape
from rating.index import HashIndex, Keys, make_keys
from rating.room import address_of
from rating.state import State, cell_keys

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
        *((name, c_int64) for name in ("cell_size", "cells", "cell_step", "entered", "room")),
        *((f"cell_{name}", c_void_p) for name in ("line", "shape", "number", "next")),
    ]


_OF_SLOTS: Final = POINTER(_Slots)
_NATIVE_FIND_CELLS: Final = function(
    "tx_find_cells", c_int64, _OF_SLOTS, *[c_int64] * 2, *[c_void_p] * 3, c_int64, c_void_p
)
_NATIVE_MAKE_CELLS: Final = function(
    "tx_make_cells", c_int64, _OF_SLOTS, *[c_int64] * 2, *[c_void_p] * 4, *[c_int64] * 2, c_void_p
)
_NATIVE_FIND_LINES: Final = function("tx_find_lines", None, _OF_SLOTS, c_int64, *[c_void_p] * 3, c_int64, c_void_p)


def find_cells(state: State, shape: Shape, bills: Rows, combo: Rows, number: Rows, rates: Rows) -> Rows:
    """The cell of each row; new ones are made, with the lines that they need."""
    uid, charge = state.shapes.number(shape.signature), state.charges.number(shape.charge)
    if _NATIVE_FIND_CELLS is None or _NATIVE_MAKE_CELLS is None:
        return _find_cells_python(state, uid, charge, bills, combo, number, rates)
    cells = np.empty(len(bills), dtype=np.int64)
    of_bills, of_combos, of_numbers, of_rates, found = _addresses(bills, combo, number, rates, cells)
    of, count = (uid, charge, of_bills, of_combos, of_numbers), len(bills)
    missing, done = _NATIVE_FIND_CELLS(byref(_slots(state, 0, 0)), *of, count, found), 0
    while missing and done < count:
        slots = _slots(state, missing, missing)
        done = _NATIVE_MAKE_CELLS(byref(slots), *of, of_rates, done, count, found)
        _keep(state, slots)
        if done < count:
            state.cell_index.make_room(2 * missing)
    return cells


def _find_cells_python(
    state: State, uid: int, charge: int, bills: Rows, combo: Rows, number: Rows, rates: Rows
) -> Rows:
    keys = cell_keys(bills, uid, combo, number)
    cells = _held_cells(state, uid, number, keys, _held_lines(state, bills, charge, combo))
    missing = np.flatnonzero(cells < 0)
    wanted = HashIndex(len(missing))
    places, new = wanted.add(keys[missing])
    fresh = missing[new]
    first = state.cells.extend(len(fresh))
    made = np.arange(first, first + len(fresh))
    wanted.values[places[new]] = made
    cells[missing] = wanted.values[places]
    lines = find_lines(state, bills[fresh], charge, combo[fresh], rates[fresh])
    columns = state.cells
    columns["line"][made], columns["shape"][made], columns["number"][made] = lines, uid, number[fresh]
    before = state.lines["cell"][lines]
    state.attach_cells(made, lines)
    state.index_cells(np.concatenate([before[before >= 0], made]))
    return cells


def _held_lines(state: State, bills: Rows, charge: int, combo: Rows) -> Rows:
    """The line of each row, -1 where there is none."""
    places = state.line_index.find(_line_keys(bills, charge, combo))
    return np.where(places < 0, -1, state.line_index.values[places].astype(np.int64))


def _held_cells(state: State, uid: int, number: Rows, keys: Keys, lines: Rows) -> Rows:
    """The cell of each row, -1 where there is none: the first one of its line, or one that is not alone there."""
    table = state.cells
    first = np.where(lines < 0, -1, state.lines["cell"][lines]).astype(np.int64)
    is_first = (first >= 0) & (table["shape"][first] == uid) & (table["number"][first] == number)
    places = state.cell_index.find(keys)
    return np.where(is_first, first, np.where(places < 0, -1, state.cell_index.values[places].astype(np.int64)))


def _line_keys(bills: Rows, charge: int, combo: Rows) -> Keys:
    return make_keys((bills.astype(np.uint64) << np.uint64(32)) | np.uint64(charge), combo.astype(np.uint64))


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
    places, new = state.line_index.add(_line_keys(bills, charge, combo))
    fresh = np.flatnonzero(new)
    if len(fresh):
        charges = np.full(len(fresh), charge)
        state.line_index.values[places[fresh]] = state.add_lines(bills[fresh], charges, combo[fresh], rates[fresh])
    return state.line_index.values[places].astype(np.int64)


def _slots(state: State, lines: int, cells: int) -> _Slots:
    """Where lines and cells are, with room for some more of both."""
    state.line_index.make_room(lines)
    state.lines.make_room(lines)
    state.cells.make_room(cells)
    of_lines, of_cells = (
        (address_of(index.keys), address_of(index.values), len(index.keys), table.size, table.step)
        for index, table in ((state.line_index, state.lines), (state.cell_index, state.cells))
    )
    columns = ("bill", "charge", "combo", "rate", "before", "cell", "first", "last", "through")
    line = (address_of(state.lines[name]) for name in columns)
    cell = (address_of(state.cells[name]) for name in ("line", "shape", "number", "next"))
    bill = (address_of(state.bills["line"]), state.bills.step)
    return _Slots(*of_lines, *line, *bill, *of_cells, state.cell_index.count, state.cell_index.room, *cell)


def _keep(state: State, slots: _Slots) -> None:
    """What was made is held from now on."""
    state.line_index.count += slots.lines - state.lines.size
    state.lines.size, state.cells.size, state.cell_index.count = slots.lines, slots.cells, slots.entered


def _addresses(*columns: Rows) -> list[int]:
    assert all(column.flags.c_contiguous and column.dtype == np.int64 for column in columns)
    return [address_of(column) for column in columns]
