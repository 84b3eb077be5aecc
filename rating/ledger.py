"""The ledger: what each counted event brought to each total, so that it can be taken back and totals counted again.

Owns the rows behind open totals, in the order in which they were counted: which event, when, where in the log, which
cell, how much. A total can always be counted again from its rows; nothing else of an event is kept. 56 bytes a row.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.exact import to_wide
from rating.index import Keys
from rating.table import Table

Rows = NDArray[np.int64]
GONE: Final = -1
"""The cell of a row that was taken back."""
SPEC: Final = {
    "identity": (np.uint64, 2),
    "time": (np.int64, 1),
    "offset": (np.int64, 1),
    "cell": (np.int32, 1),
    "gauge": (np.int32, 1),  # which gauge of its cell, -1 where it is none
    "value": (np.int64, 2),  # a wide number; for a text, the 128 bits of its digest
}


ROW_BYTES: Final = sum(np.dtype(dtype).itemsize * width for dtype, width in SPEC.values())


class Events(NamedTuple):
    """Columns of events, some of which are counted."""

    identity: Keys
    time: Rows
    offset: Rows


class _Waiting(NamedTuple):
    events: Events
    row: Rows
    cell: NDArray[Any]
    value: NDArray[np.int64] | pl.Series
    gauge: NDArray[Any] | None


class Ledger:
    """Rows that are appended, read by event or by cell, and taken back.

    What is appended stands beside the table until somebody looks: most rows are never looked at one by one."""

    def __init__(self, table: Table | None = None, dropped: int = 0, gone: int = 0) -> None:
        self._table = table or Table(SPEC)
        self._waiting: list[_Waiting] = []
        self._size = self._table.size
        self.dropped = dropped
        """How many rows were dropped from the front or the middle: `dropped + row` never falls as rows are added."""
        self.gone = gone
        """How many rows were taken back, those that were dropped since included."""

    def __len__(self) -> int:
        return self._size

    @property
    def table(self) -> Table:
        """All the rows."""
        if self._waiting:
            at = self._table.extend(self._size - self._table.size)
            for one in self._waiting:
                into = slice(at, at + len(one.row))
                self._table["identity"][into] = one.events.identity.take(one.row, axis=0)
                self._table["time"][into] = one.events.time[one.row]
                self._table["offset"][into] = one.events.offset[one.row]
                wide = one.value if isinstance(one.value, np.ndarray) else to_wide(one.value)
                self._table["cell"][into], self._table["value"][into] = one.cell, wide
                self._table["gauge"][into] = -1 if one.gauge is None else one.gauge
                at = into.stop
            self._waiting.clear()
        return self._table

    @property
    def counted(self) -> int:
        """How many rows count, those that were dropped included."""
        return self._size + self.dropped - self.gone

    @property
    def nbytes(self) -> int:
        """Bytes of memory held (of what waits, those that it will take)."""
        return self._table.nbytes + sum(len(one.row) for one in self._waiting) * ROW_BYTES

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
        self._size += len(row)

    def of_events(self, identities: Keys) -> Rows:
        """The rows of some events that count, rising."""
        size = self.table.size
        held = self.table["identity"][:size]
        candidates = np.flatnonzero(np.isin(held[:, 0], identities[:, 0]) & (self.table["cell"][:size] != GONE))
        wanted = {tuple(key) for key in identities.tolist()}
        keys = held[candidates].tolist()
        return np.array([r for r, key in zip(candidates.tolist(), keys, strict=True) if tuple(key) in wanted], np.int64)

    def of_cells(self, cells: NDArray[Any]) -> Rows:
        """The rows that count in some cells, rising."""
        return np.flatnonzero(np.isin(self.table["cell"][: self.table.size], cells))

    def take_back(self, rows: Rows) -> None:
        """These rows count no more."""
        self.table["cell"][rows] = GONE
        self.gone += len(rows)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drops the rows that are not in `mask`."""
        kept = Table(SPEC, max(16, int(mask.sum())))
        kept.extend(int(mask.sum()))
        for name in SPEC:
            kept[name][: kept.size] = self.table[name][: self.table.size][mask]
        self.dropped += self.table.size - kept.size
        self._table, self._size = kept, kept.size
