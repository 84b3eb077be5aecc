"""Growable tables of numpy columns: the engine's state, one row for each slot.

The columns of a row stand beside each other: what is done to a line needs most of them, and a batch comes to its lines
in no order, so that memory is waited for once or twice a row instead of once for each column.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rating.room import noughts

ROWS_AT_ONCE: Final = 4096
"""New rows are written column by column: so many stay near the processor while all their columns are."""


class Table:
    """Columns of equal length. `spec` gives each its dtype and, for wide numbers, a width of 2.

    Columns are reached by name (`table["amount"]`); a reference taken before `extend` may be stale after it. They are
    no whole pieces of memory: `column[rows]` reads some rows, where `column.take(rows)` would copy all of it first.
    """

    def __init__(self, spec: dict[str, tuple[Any, int]], capacity: int = 16) -> None:
        self._spec = spec
        self._set(np.zeros(capacity, row_of(spec)))
        self.size = 0

    def _set(self, rows: NDArray[Any]) -> None:
        self._rows = rows
        self._columns = {name: rows[name] for name in self._spec}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    @property
    def words(self) -> NDArray[np.int64]:
        """The rows as they stand in memory, each as numbers of eight bytes: what copies whole rows is quick."""
        return self._rows[: self.size].view(np.int64).reshape(self.size, -1)

    @property
    def step(self) -> int:
        """Bytes from a row of any column to the next."""
        return self._rows.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of memory held. Room that no row has come to is none of them: nothing has written to it."""
        return self.size * self.step

    def make_room(self, count: int) -> None:
        """Room for `count` rows more, which are noughts."""
        if self.size + count > len(self._rows):
            grown = noughts(max(self.size + count, 2 * len(self._rows)), self._rows.dtype)
            held = self.size * self.step
            grown.view(np.uint8)[:held] = self._rows.view(np.uint8)[:held]  # all columns of a row in one go
            self._set(grown)

    def extend(self, count: int) -> int:
        """Adds `count` rows of noughts and returns the first one's slot."""
        self.make_room(count)
        first = self.size
        self.size += count
        return first

    def dump(self) -> dict[str, bytes]:
        """Each column's bytes, without the spare room."""
        return {name: column[: self.size].tobytes() for name, column in self._columns.items()}

    @classmethod
    def load(cls, spec: dict[str, tuple[Any, int]], columns: dict[str, bytes], size: int) -> "Table":
        """The table that `dump` wrote; a column that it did not know is nought."""
        table = cls(spec, max(16, size))
        table.size = size
        for name, (dtype, width) in spec.items():
            if name in columns:
                flat = np.frombuffer(columns[name], dtype=dtype)
                table._columns[name][:size] = flat.reshape(-1, width) if width > 1 else flat
        return table


def row_of(spec: dict[str, tuple[Any, int]]) -> np.dtype[Any]:
    """The columns beside each other, the wide ones first, so that all are aligned; a row ends where the next one is."""
    names = sorted(spec, key=lambda name: -np.dtype(spec[name][0]).itemsize)
    formats = [np.dtype((dtype, (width,))) if width > 1 else np.dtype(dtype) for dtype, width in map(spec.get, names)]  # type: ignore[misc]
    ends = np.cumsum([one.itemsize for one in formats]).tolist()
    size = -(-ends[-1] // 8) * 8
    return np.dtype({"names": names, "formats": formats, "offsets": [0, *ends[:-1]], "itemsize": size})


def different(numbers: NDArray[Any]) -> list[int]:
    """The different numbers among small ones, -1 or greater, rising."""
    return (np.flatnonzero(np.bincount(numbers + 1)) - 1).tolist()
