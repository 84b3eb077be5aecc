"""Aggregate and rate in the compiled library: the bills of a batch that are plain, event by event in the log's order.

A bill is plain where it is one segment, every total that the batch changes needs no single event but its last, and
what such a total costs is looked up in its table. All other bills are left to `fold` and `replay`, and so is each event
that `native/src/fold.c` stops at; what is done here is the same to the last bit (a law in the tests).
"""

import ctypes
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from native.library import function
from rating.billing import Biller
from rating.cells import Contributions, Rows
from rating.columns import Batch
from rating.compiled import Compiled
from rating.exact import int_of, wide_of
from rating.prices.tiers import COLUMN_BASE_MAX
from rating.room import address_of
from rating.state import State
from rating.table import Table
from schemas.numbers import SCALED_MAX

DONE: Final = 0
REACHED: Final = 1
ODD: Final = 2

_KINDS: Final = {"sum": 0, "count": 0, "unique_count": 0, "max": 1, "min": 2, "latest": 3, "avg": 4}
"""How `fold.c` knows the aggregations that it does."""

_CELLS: Final = ("line", "number", "events", "value", "at", "quantity", "amount", "rest")
_LINES: Final = (
    *("rate", "quantity", "gross", "rest", "amount"),
    *("events", "revision", "first", "last", "through"),
)
_BILLS: Final = ("head", "next", "spend", "next_level", "touched")
_RATES: Final = (
    *("rate_table", "rate_free", "rate_minimum", "rate_maximum", "rate_enters", "rate_odd"),
    *("table_first", "table_count", "table_zero", "table_below", "table_down"),
    *("tier_start", "tier_last", "tier_base", "tier_unit", "tier_block"),
)
_ROOM: Final = ("start", "items", "changed", "odd_heads", "line_marks", "bill_marks")


_ITEM: Final = np.dtype([("value", np.int64, 2), *((name, np.int32) for name in ("cell", "bill", "part", "at"))])


class _Part(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("row", "bill", "cell", "rate", "value")),
        *((name, ctypes.c_int64) for name in ("size", "kind", "counted", "odd")),
    ]


@cache
def _parts_type(count: int) -> type[ctypes.Array[_Part]]:
    """So many parts. A type holds itself, so one for each batch would wait for the collector."""
    return _Part * count


class _Column(ctypes.Structure):
    _fields_ = [("first", ctypes.c_void_p), ("step", ctypes.c_int64)]


class _Fold(ctypes.Structure):
    _fields_ = [
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("time", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        *((f"cell_{name}", _Column) for name in _CELLS),
        *((f"line_{name}", _Column) for name in _LINES),
        *((f"bill_{name}", _Column) for name in _BILLS),
        *((name, ctypes.c_void_p) for name in (*_RATES, *_ROOM)),
        *((name, ctypes.c_int64) for name in ("row", "until", "changed_count", "odd_count", "count")),
        ("amount_change", ctypes.c_int64 * 2),
    ]


_ORDER = function("tx_fold_order", ctypes.c_int64, ctypes.c_void_p)
_RUN = function("tx_fold_run", ctypes.c_int64, ctypes.c_void_p)


class Workspace:
    """What is kept between the batches of one state: addresses of its tables and rates, and room to work in."""

    def __init__(self) -> None:
        self.fold = _Fold()
        self.address = ctypes.addressof(self.fold)
        self.room: dict[str, NDArray[Any]] = {}
        self.working = False
        self._catalogue: Compiled | None = None
        self._rates: dict[str, NDArray[Any]] = {}
        self._tables: dict[str, NDArray[Any]] = {}

    def prepare(self, state: State, rows: int, items: int, odd: int) -> None:
        """Everything that the library reads and writes has its address, for a batch of so many rows and items."""
        if self.working:  # a batch was left half done, by an error
            self.room.clear()
        self.bind(state)
        if self._catalogue is not state.catalogue:
            self._catalogue, self._rates = state.catalogue, _rates(state.catalogue)
            for name, column in self._rates.items():
                setattr(self.fold, name, address_of(column))
        self._make("start", rows + 2, np.int32)
        self._make("items", items, _ITEM)
        self._make("changed", items, np.int64)
        self._make("odd_heads", items + odd, np.int64)
        self._make("line_marks", len(state.lines["rate"]), np.uint8)
        self._make("bill_marks", len(state.bills["head"]), np.uint8)
        self.working = True

    def bind(self, state: State) -> None:
        """The tables have their addresses: to be said again after anything that may have made them grow."""
        self._bind("cell", state.cells, _CELLS)
        self._bind("line", state.lines, _LINES)
        self._bind("bill", state.bills, _BILLS)

    def _bind(self, prefix: str, table: Table, names: tuple[str, ...]) -> None:
        if self._tables.get(prefix) is table[names[0]]:
            return  # a table that grows has other columns, all of them
        self._tables[prefix] = table[names[0]]
        for name in names:
            column = table[name]
            setattr(self.fold, f"{prefix}_{name}", _Column(address_of(column), column.strides[0]))

    def _make(self, name: str, size: int, dtype: Any) -> None:
        if name not in self.room or len(self.room[name]) < size:
            self.room[name] = np.zeros(size + size // 2, dtype)
            setattr(self.fold, name, address_of(self.room[name]))


class Plain:
    """The plain bills of one batch. `heads` are known to need single events, so they are none.

    `odd`: those that are none, of all that the batch changes; `left`: how many contributions they have."""

    def __init__(self, state: State, batch: Batch, parts: Sequence[Contributions], heads: Iterable[int]) -> None:
        self._state = state
        self._space = space = _workspace(state)
        items = sum(len(part.row) for part in parts)
        known = np.array(sorted(heads), dtype=np.int64)
        space.prepare(state, batch.rows, items, len(known))
        self._kept: list[Any] = []
        self._fold = fold = space.fold
        self._parts = _parts_type(len(parts))(*(self._part(part) for part in parts))
        fold.parts, fold.part_count, fold.rows = ctypes.addressof(self._parts), len(parts), batch.rows
        fold.time, fold.offset = self._address(batch.time), self._address(batch.offset)
        fold.row, fold.changed_count, fold.odd_count = 0, 0, len(known)
        fold.amount_change[:] = (0, 0)
        space.room["bill_marks"][known] = 1
        space.room["odd_heads"][: len(known)] = known
        assert _ORDER is not None and _RUN is not None
        self._run = _RUN
        self.left: int = _ORDER(space.address)
        self.count = items - self.left
        self.odd: Rows = space.room["odd_heads"][: fold.odd_count].copy()

    def _part(self, part: Contributions) -> _Part:
        """What the library is told of a part."""
        kind = _KINDS.get(part.aggregate.name, -1)
        odd = part.kept or part.gauge is not None or kind < 0
        columns = (self._address(column) for column in (part.row, part.bill, part.cell, part.rate))
        value = None if part.aggregate.reads == "nothing" else self._values(part.value)
        return _Part(*columns, value, len(part.row), kind, part.counted, odd)

    def _address(self, column: NDArray[Any]) -> int:
        whole = np.ascontiguousarray(column, dtype=np.int64)
        self._kept.append(whole)
        return address_of(whole)

    def _values(self, column: pl.Series) -> int:
        self._kept.append(column)
        # The one way to the numbers where they stand; `rating.exact.to_wide` copies them.
        return int(column._s.as_single_ptr())

    @property
    def row(self) -> int:
        """The event at which it stands."""
        return int(self._fold.row)

    def skip(self) -> None:
        """It goes on behind the event at which it stands."""
        self._fold.row += 1

    def run(self, until: int) -> int:
        """Works through the events before the row `until`: DONE, or what there is to do at the event at `row`."""
        self._space.bind(self._state)  # a level that was reached, a void or a gauge may have made new lines
        self._fold.until = until
        return int(self._run(self._space.address))

    def items(self, row: int) -> list[tuple[int, int]]:
        """What an event brings to plain bills: the part, and the place in it."""
        start = self._space.room["start"]
        found = self._space.room["items"][int(start[row]) : int(start[row + 1])]
        return list(zip(found["part"].tolist(), found["at"].tolist(), strict=True))

    def finish(self, biller: Biller) -> None:
        """All is done: says which lines have changed, and by how much they have together."""
        room = self._space.room
        changed = room["changed"][: self._fold.changed_count].copy()
        room["line_marks"][changed] = 0
        room["bill_marks"][self.odd] = 0
        biller.changed_columns.append(changed)
        biller.amount_change += int_of(self._fold.amount_change)
        self._space.working = False


def is_there() -> bool:
    """Whether the library is used in this process."""
    return _RUN is not None


def _workspace(state: State) -> Workspace:
    if state.workspace is None:
        state.workspace = Workspace()
    found: Workspace = state.workspace
    return found


def _rates(catalogue: Compiled) -> dict[str, NDArray[Any]]:
    """The compiled rates as the library reads them."""
    rates, tables = catalogue.rates, catalogue.tiers.tables
    tiers = [tier for table in tables for tier in table.tiers]
    fits = [table.columnar and abs(table.zero_amount) < COLUMN_BASE_MAX for table in tables]
    odd = [
        rate.by_hand or rate.spread or not all(fits[first : first + len(rate.tables)])
        for rate, first in zip(rates, catalogue.rate_table.tolist(), strict=True)
    ]
    return {
        "rate_table": np.ascontiguousarray(catalogue.rate_table),
        "rate_free": _wide(rate.free_units for rate in rates),
        "rate_minimum": _wide(-SCALED_MAX if rate.minimum is None else rate.minimum for rate in rates),
        "rate_maximum": _wide(SCALED_MAX if rate.maximum is None else rate.maximum for rate in rates),
        "rate_enters": np.array([rate.bill_zero_usage for rate in rates], dtype=np.uint8),
        "rate_odd": np.array(odd, dtype=np.uint8),
        "table_first": np.ascontiguousarray(catalogue.tiers.first),
        "table_count": np.ascontiguousarray(catalogue.tiers.count),
        "table_zero": _wide(table.zero_amount if fit else 0 for table, fit in zip(tables, fits, strict=True)),
        "table_below": np.array([table.below_nought == "unit" for table in tables], dtype=np.uint8),
        "table_down": np.array([table.blocks_down for table in tables], dtype=np.uint8),
        "tier_start": _wide(tier.start for tier in tiers),
        "tier_last": _wide(table.last(tier) or 0 for table in tables for tier in table.tiers),
        "tier_base": _wide(
            tier.base if fit else 0 for table, fit in zip(tables, fits, strict=True) for tier in table.tiers
        ),
        "tier_unit": _wide(tier.unit_amount for tier in tiers),
        "tier_block": _wide(tier.block for tier in tiers),
    }


def _wide(values: Iterable[int]) -> NDArray[np.int64]:
    return np.array([wide_of(value) for value in values], dtype=np.int64).reshape(-1, 2)
