"""Growable tables of numpy columns: the engine's state, one row for each slot."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table:
    """Columns of equal length. `spec` gives each its dtype and, for wide numbers, a width of 2.

    Columns are reached by name (`table["amount"]`); a reference taken before `extend` may be stale after it.
    """

    def __init__(self, spec: dict[str, tuple[Any, int]], capacity: int = 16) -> None:
        self._columns = {
            name: np.zeros((capacity, width) if width > 1 else capacity, dtype=dtype)
            for name, (dtype, width) in spec.items()
        }
        self._capacity = capacity
        self.size = 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(column.nbytes for column in self._columns.values())

    def extend(self, count: int) -> int:
        """Adds `count` rows of noughts and returns the first one's slot."""
        first = self.size
        self.size += count
        if self.size > self._capacity:
            while self.size > self._capacity:
                self._capacity *= 2
            for name, column in self._columns.items():
                grown = np.zeros((self._capacity, *column.shape[1:]), dtype=column.dtype)
                grown[:first] = column[:first]
                self._columns[name] = grown
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
