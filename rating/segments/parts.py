"""Parts of a ledger: rows that were counted one behind the other, known by their ranks, in memory or in a file.

What becomes of a row after its part was sealed (it is taken back, or moves to another cell) stands beside the part, and
holds for whoever reads it: so what lies in a file never changes, nor does what is being written to one.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rating.index import Keys
from rating.segments.file import Section
from rating.table import Table

GONE: Final = -1
"""The cell of a row that was taken back."""

Rows = NDArray[np.int64]


class Loose:
    """Rows in memory, found by looking at all of them."""

    def __init__(self, table: Table) -> None:
        self.table = table

    @property
    def size(self) -> int:
        """How many there are."""
        return self.table.size

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.table.nbytes

    def of_events(self, identities: Keys) -> Rows:
        """The rows of some events, rising."""
        held = self.table["identity"][: self.size]
        candidates = np.flatnonzero(np.isin(held[:, 0], identities[:, 0]))
        wanted = {tuple(key) for key in identities.tolist()}
        keys = held[candidates].tolist()
        return np.array([r for r, key in zip(candidates.tolist(), keys, strict=True) if tuple(key) in wanted], np.int64)

    def of_cells(self, cells: NDArray[np.int32]) -> Rows:
        """The rows that were counted in some cells, rising."""
        return np.flatnonzero(np.isin(self.table["cell"][: self.size], cells))

    def read(self, name: str, ranks: Rows) -> NDArray[Any]:
        """A column of some rows."""
        return self.table[name][ranks]

    def counts(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The cells, each once, and how many rows were counted in each."""
        return np.unique(self.table["cell"][: self.size], return_counts=True)


class Sealed:
    """A part that takes no more rows. `first`: the number of its first row; `base`: where its rows lie."""

    def __init__(
        self,
        first: int,
        base: Loose | Section,
        moved: NDArray[np.uint32] | None = None,
        cells: NDArray[np.int32] | None = None,
    ) -> None:
        """`moved`: the rows that have other cells by now, rising; `cells`: theirs."""
        self.first = first
        self.base = base
        self.moved = np.empty(0, np.uint32) if moved is None else moved
        self.cells = np.empty(0, np.int32) if cells is None else cells
        self.is_dropped = False
        """Nobody asks for it any more."""

    @property
    def size(self) -> int:
        """How many rows there are."""
        return self.base.size

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.base.nbytes + self.moved.nbytes + self.cells.nbytes

    def of_events(self, identities: Keys) -> Rows:
        """The rows of some events, rising."""
        return self.base.of_events(identities)

    def of_cells(self, cells: NDArray[np.int32]) -> Rows:
        """The rows that count in some cells by now, rising."""
        found = self.base.of_cells(cells)
        if not len(self.moved):
            return found
        here = self.moved[np.isin(self.cells, cells)].astype(np.int64)
        return np.sort(np.concatenate([found[self._places(found) < 0], here]))

    def read(self, name: str, ranks: Rows) -> NDArray[Any]:
        """A column of some rows, their cells as they are by now."""
        found = self.base.read(name, ranks)
        if name == "cell" and len(self.moved):
            places = self._places(ranks)
            return np.where(places < 0, found, self.cells[places])
        return found

    def move(self, ranks: Rows, cells: NDArray[np.int32]) -> None:
        """Some rows, each named once, stand in other cells from now on."""
        places = self._places(ranks)
        known, new = places >= 0, places < 0
        self.cells[places[known]] = cells[known]
        moved = np.concatenate([self.moved, ranks[new].astype(np.uint32)])
        order = np.argsort(moved)
        self.moved, self.cells = moved[order], np.concatenate([self.cells, cells[new]])[order]

    def live(self, over: NDArray[np.bool_]) -> int:
        """How many rows count in cells that are not over."""
        cells, counts = self.base.counts()
        before = self.base.read("cell", self.moved.astype(np.int64))
        left = int(counts[~stands(over, cells) & (cells != GONE)].sum())
        for sign, column in ((-1, before), (1, self.cells)):
            left += sign * int((~stands(over, column) & (column != GONE)).sum())
        return left

    def _places(self, ranks: Rows) -> Rows:
        """Where each row is among those that have moved, -1 where it is not."""
        if not len(self.moved):
            return np.full(len(ranks), -1)
        places = np.searchsorted(self.moved, ranks.astype(np.uint32)).clip(max=len(self.moved) - 1)
        return np.where(self.moved[places] == ranks, places, -1)


def stands(flags: NDArray[np.bool_], cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the flag of each cell stands; those behind the last flag have none."""
    inside = (cells >= 0) & (cells < len(flags))
    found = np.zeros(len(cells), dtype=np.bool_)
    found[inside] = flags[cells[inside]]
    return found
