"""The ledger: what each counted event brought to each total, so that it can be taken back and totals counted again.

Owns the rows behind open totals, in the order in which they were counted: which event, when, which cell, how much. A
total can always be counted again from its rows; nothing else of an event is kept. 48 bytes a row in memory; those that
have been there for a while are sealed, where there is a folder, and lie in files (`rating.sheets`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.exact import to_wide
from rating.index import Keys
from rating.sheets.parts import GONE, Loose, Sealed, stands
from rating.sheets.sheet import SPEC, Section
from rating.sheets.shelf import Shelf
from rating.table import Table

Rows = NDArray[np.int64]
_KEPT_BELOW: Final = 1000
"""Fewer rows are not worth dropping any."""


class Events(NamedTuple):
    """Columns of events, some of which are counted."""

    identity: Keys
    time: Rows


class _Waiting(NamedTuple):
    events: Events
    row: Rows
    cell: NDArray[Any]
    value: NDArray[np.int64] | pl.Series
    gauge: NDArray[Any] | None


class Ledger:
    """Rows that are appended, read by event or by cell, and taken back.

    A row is known by its number, which means nothing any more once rows were dropped or the shelf was tended. What is
    appended stands beside the table until somebody looks: most rows are never looked at one by one."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf or Shelf()
        self._sealed: list[Sealed] = []
        self._first = 0
        """The number of the first row that was not sealed."""
        self._table = Table(SPEC)
        self._waiting: list[_Waiting] = []
        self._rows = 0
        """How many rows were not sealed, those that wait included."""
        self._held = 0
        """How many there are in all."""
        self._gauged: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """By cell, whether it shows gauges."""
        self.over: NDArray[np.bool_] = np.zeros(0, np.bool_)
        """By cell, whether its rows were dropped: nobody finds them any more, wherever they still lie."""
        self._live = 0
        """How many rows may be found."""
        self._dead = 0
        """How many were taken back since rows were last dropped."""
        self.dropped = 0
        """How many rows are neither in memory nor in a file any more."""
        self.gone = 0
        """How many rows were taken back, those that were dropped since included."""

    def __len__(self) -> int:
        return self._held

    @property
    def counted(self) -> int:
        """How many rows count, those that were dropped included."""
        return len(self) + self.dropped - self.gone

    @property
    def nbytes(self) -> int:
        """Bytes of memory held (of what waits, those that it will take)."""
        return self._rows * self._table.step + sum(part.nbytes for part in self._sealed)

    # Rows that come ----------------------------------------------------------------------------------------------

    def append(
        self,
        events: Events,
        row: Rows,
        cell: NDArray[Any],
        value: NDArray[np.int64] | pl.Series,
        gauge: NDArray[Any] | None = None,
    ) -> None:
        """Adds rows, in the log's order within each cell: `row` says which of the events, `value` may be a column.

        The arrays are the ledger's from now on.
        """
        self._waiting.append(_Waiting(events, row, cell, value, gauge))
        self._rows += len(row)
        self._held += len(row)
        self._live += len(row)
        self._shelf.loose += len(row)
        if gauge is not None:
            self._gauged = _raised(self._gauged, cell[gauge >= 0])

    def arrange(self, order: Rows) -> None:
        """The newest rows, which no one has sealed, take another order among them."""
        table = self._settled()
        for name in SPEC:
            column = table[name][table.size - len(order) : table.size]
            column[:] = column[order]

    def _settled(self) -> Table:
        """All the rows that were not sealed."""
        table = self._table
        if self._waiting:
            at = table.extend(self._rows - table.size)
            for one in self._waiting:
                into = slice(at, at + len(one.row))
                table["identity"][into] = one.events.identity.take(one.row, axis=0)
                table["time"][into] = one.events.time[one.row]
                wide = one.value if isinstance(one.value, np.ndarray) else to_wide(one.value)
                table["cell"][into], table["value"][into] = one.cell, wide
                table["gauge"][into] = -1 if one.gauge is None else one.gauge
                at = into.stop
            self._waiting.clear()
        return table

    def seal(self, least: int) -> Sealed | None:
        """What is in memory takes no more rows: as a part that is to be written. None where it is less than so much."""
        if self._rows < least:
            return None
        table = self._settled()
        part = Sealed(self, self._first, Loose(table))
        self._sealed.append(part)
        self._first += table.size
        self._table, self._rows = Table(SPEC), 0
        return part

    # Rows that are found -----------------------------------------------------------------------------------------

    def of_events(self, identities: Keys) -> Rows:
        """The rows of some events that count, in the order in which they were counted."""
        rows = _joined([first + part.of_events(identities) for first, part in self._parts()])
        cells = self.read("cell", rows)
        return rows[(cells != GONE) & ~stands(self.over, cells)]

    def of_cells(self, cells: NDArray[Any]) -> Rows:
        """The rows that count in some cells, in the order in which they were counted."""
        asked = np.unique(cells).astype(np.int32)
        asked = asked[~stands(self.over, asked)]
        return _joined([first + part.of_cells(asked) for first, part in self._parts()])

    def read(self, name: str, rows: Rows) -> NDArray[Any]:
        """A column of some rows, in any order."""
        if not self._sealed:
            return self._settled()[name][rows - self._first]
        dtype, width = SPEC[name]
        found = np.empty((len(rows), width) if width > 1 else len(rows), dtype)
        for first, part, at in self._parts_of(rows):
            found[at] = part.read(name, rows[at] - first)
        return found

    def _parts(self) -> Iterator[tuple[int, Sealed | Loose]]:
        for part in self._sealed:
            yield part.first, part
        yield self._first, Loose(self._settled())

    def _parts_of(self, rows: Rows) -> Iterator[tuple[int, Sealed | Loose, Rows]]:
        """The parts that hold some rows, and which of them each does."""
        parts = list(self._parts())
        which = np.searchsorted([first for first, _ in parts], rows, side="right") - 1
        for number in np.unique(which).tolist():
            yield *parts[number], np.flatnonzero(which == number)

    # Rows that change --------------------------------------------------------------------------------------------

    def move(self, rows: Rows, cells: NDArray[Any]) -> None:
        """Some rows, each named once, count in other cells from now on."""
        if len(self._gauged):
            self._gauged = _raised(self._gauged, cells[stands(self._gauged, self.read("cell", rows))])
        for first, part, at in self._parts_of(rows):
            if isinstance(part, Sealed):
                part.move(rows[at] - first, cells[at].astype(np.int32))
            else:
                part.table["cell"][rows[at] - first] = cells[at]

    def take_back(self, rows: Rows) -> None:
        """These rows count no more."""
        self.move(rows, np.full(len(rows), GONE))
        self._count_back(len(rows))

    def put_back(self, rows: Rows, cells: NDArray[Any]) -> None:
        """What was taken back counts again where it did."""
        self.move(rows, cells)
        self._count_back(-len(rows))

    def _count_back(self, count: int) -> None:
        self.gone += count
        self._dead += count
        self._live -= count

    def drop(self, cells: Rows, counts: Rows) -> bool:
        """Drops the rows of some cells (`counts`: how many each has), but for those that show gauges, and all that were
        taken back, where that halves the ledger. Returns whether it did."""
        ending = ~stands(self.over, cells) & ~stands(self._gauged, cells)
        over = int(counts[ending].sum())
        size = self._live + self._dead
        if (over + self._dead) * 2 <= size or size <= _KEPT_BELOW:
            return False
        self.over = _raised(self.over, cells[ending])
        self._live -= over
        self._dead = 0
        table = self._settled()
        held = table["cell"][: table.size]
        self._keep((held != GONE) & ~stands(self.over, held))
        self._shelf.is_settled = False
        for part in list(self._sealed):
            if not part.look():
                self._sealed.remove(part)
                self._forget(part.size)
                self._shelf.release(part)
        return True

    def replace(self, parts: Sequence[Sealed], by: Sealed | None) -> None:
        """What is left of some parts that follow each other is another one from now on, if anything is."""
        at = self._sealed.index(parts[0])
        self._sealed[at : at + len(parts)] = [] if by is None else [by]
        self._forget(sum(part.size for part in parts) - (0 if by is None else by.size))

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        count = int(mask.sum())
        kept = Table(SPEC, max(16, count))
        kept.extend(count)
        for name in SPEC:
            kept[name][:count] = self._table[name][: self._table.size][mask]
        self._forget(self._rows - count)
        self._table, self._rows = kept, count

    def _forget(self, count: int) -> None:
        self.dropped += count
        self._held -= count

    # Snapshots ---------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """What is in memory, and where in the files the rest lies, for a snapshot."""
        sealed: list[list[Any]] = []
        first = self._first
        for part in reversed(self._sealed):  # those that are not written yet are the last ones
            if isinstance(part.base, Section):
                place = (part.base.sheet.name, part.base.number)
                sealed.append([*place, part.first, part.moved.tobytes(), part.cells.tobytes()])
            else:
                first = part.first
        numbers = np.arange(first, self._first + self._rows)
        return {
            "counts": [self.dropped, self.gone, self._live, self._dead],
            "gauged": np.packbits(np.trim_zeros(self._gauged, "b")).tobytes(),
            "over": np.packbits(np.trim_zeros(self.over, "b")).tobytes(),
            "sealed": sealed[::-1],
            "first": first,
            "rows": [len(numbers), {name: self.read(name, numbers).tobytes() for name in SPEC}],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any], shelf: Shelf | None = None) -> "Ledger":
        """What `dump` wrote. `shelf`: with the files that the snapshot rests on; all is taken into memory where it has
        no folder."""
        found = cls(shelf)
        found.dropped, found.gone, found._live, found._dead = dumped["counts"]
        found._gauged, found.over = (_unpacked(dumped[name]) for name in ("gauged", "over"))
        for name, number, first, moved, cells in dumped["sealed"]:
            section = found._shelf.section(name, number)
            part = Sealed(found, first, section, np.frombuffer(moved, np.uint32), np.frombuffer(cells, np.int32).copy())
            found._sealed.append(part)
        found._first, (size, columns) = dumped["first"], dumped["rows"]
        found._table = Table.load(SPEC, columns, size)
        found._rows = size
        found._held = size + sum(part.size for part in found._sealed)
        if found._shelf.folder is None:
            found._bring_in()
        for part in found._sealed:
            found._shelf.take(part)
        found._shelf.loose += found._rows
        return found

    def _bring_in(self) -> None:
        """All rows into memory."""
        parts = list(self._parts())
        table = Table(SPEC, len(self))
        table.extend(len(self))
        at = 0
        for _, part in parts:
            places = part.all()
            for name in SPEC:
                table[name][at : at + part.size] = part.read(name, places)
            at += part.size
        self._first, self._table, self._rows = 0, table, table.size
        self._sealed.clear()


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _raised(flags: NDArray[np.bool_], cells: NDArray[Any]) -> NDArray[np.bool_]:
    """The flags, and those of some cells besides."""
    cells = cells[cells >= 0]
    if len(cells) and int(cells.max()) >= len(flags):
        flags = np.append(flags, np.zeros(max(int(cells.max()) + 1, 2 * len(flags)) - len(flags), np.bool_))
    flags[cells] = True
    return flags


def _unpacked(bits: bytes) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.bool_)
