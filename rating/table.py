"""Growable tables of numpy columns: the engine's state, one row for each slot.

The columns of a row stand beside each other: what is done to a line needs most of them, and a batch comes to its lines
in no order, so that memory is waited for once or twice a row instead of once for each column.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table:
    """Columns of equal length. `spec` gives each its dtype and, for wide numbers, a width of 2.

    Columns are reached by name (`table["amount"]`); a reference taken before `extend` may be stale after it.
    """

    def __init__(self, spec: dict[str, tuple[Any, int]], capacity: int = 16) -> None:
        fields = sorted(spec.items(), key=lambda field: -np.dtype(field[1][0]).itemsize)
        self._row = np.dtype([(name, dtype, width) if width > 1 else (name, dtype) for name, (dtype, width) in fields])
        self._names = tuple(spec)
        self._set(np.zeros(capacity, self._padded(self._row)))
        self.size = 0

    @staticmethod
    def _padded(row: np.dtype[Any]) -> np.dtype[Any]:
        """The row, so long that the next one is aligned."""
        size = -(-row.itemsize // 8) * 8
        offsets = [row.fields[name][1] for name in row.names] if row.fields and row.names else []
        return np.dtype(
            {"names": row.names, "formats": [row[n] for n in row.names or ()], "offsets": offsets, "itemsize": size}
        )

    def _set(self, rows: NDArray[Any]) -> None:
        self._rows, self._capacity = rows, len(rows)
        self._columns = {name: rows[name] for name in self._names}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    @property
    def step(self) -> int:
        """Bytes from a row of any column to the next."""
        return self._rows.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._rows.nbytes

    def extend(self, count: int) -> int:
        """Adds `count` rows of noughts and returns the first one's slot."""
        first = self.size
        self.size += count
        if self.size > self._capacity:
            capacity = self._capacity
            while self.size > capacity:
                capacity *= 2
            grown = np.zeros(capacity, self._rows.dtype)
            grown[:first] = self._rows[:first]
            self._set(grown)
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
