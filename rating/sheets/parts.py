"""Parts of a ledger: rows that were counted one behind the other, in memory or in a file.

A row is known by its *place* in its part: in memory they lie as they were counted, in a file by cell, with their ranks.
What becomes of a row after its part was sealed (it is taken back, or moves to another cell) stands beside the part, and
holds for whoever reads it: so what lies in a file never changes, nor does what is being written to one.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rating.index import Keys
from rating.sheets.sheet import Places, Section
from rating.table import Table

GONE: Final = -1
"""The cell of a row that was taken back."""


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

    def of_events(self, identities: Keys) -> Places:
        """The rows of some events."""
        held = self.table["identity"][: self.size]
        candidates = np.flatnonzero(np.isin(held[:, 0], identities[:, 0]))
        wanted = {tuple(key) for key in identities.tolist()}
        keys = held[candidates].tolist()
        return np.array([r for r, key in zip(candidates.tolist(), keys, strict=True) if tuple(key) in wanted], np.int64)

    def of_cells(self, cells: NDArray[np.int32]) -> Places:
        """The rows that were counted in some cells."""
        return np.flatnonzero(np.isin(self.table["cell"][: self.size], cells))

    def read(self, name: str, places: Places) -> NDArray[Any]:
        """A column of some rows."""
        return self.table[name][places]

    def ranks(self, places: Places) -> Places:
        """What some rows are ordered by, to have them as they were counted."""
        return places

    def all(self) -> Places:
        """All rows, in the order in which they were counted."""
        return np.arange(self.size)

    def counts(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The cells, each once, and how many rows were counted in each."""
        return np.unique(self.table["cell"][: self.size], return_counts=True)


class Owner(Protocol):
    """Whose parts they are: a ledger."""

    @property
    def over(self) -> NDArray[np.bool_]:
        """By cell, whether nobody asks for it any more."""
        ...

    def replace(self, parts: "Sequence[Sealed]", by: "Sealed | None") -> None:
        """What is left of some parts that follow each other is another one from now on, if anything is."""
        ...


class Sealed:
    """A part that takes no more rows. `first`: the number of its first row; `base`: where its rows lie."""

    def __init__(
        self,
        owner: Owner,
        first: int,
        base: Loose | Section,
        moved: NDArray[np.uint32] | None = None,
        cells: NDArray[np.int32] | None = None,
    ) -> None:
        """`moved`: the rows that have other cells by now, rising; `cells`: theirs."""
        self.owner = owner
        self.first = first
        self.base = base
        self.moved = np.empty(0, np.uint32) if moved is None else moved
        self.cells = np.empty(0, np.int32) if cells is None else cells
        self.left = base.size
        """How many of its rows counted when the ledger last looked."""
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

    def of_events(self, identities: Keys) -> Places:
        """The rows of some events, in the order in which they were counted."""
        return self._in_order(self.base.of_events(identities))

    def of_cells(self, cells: NDArray[np.int32]) -> Places:
        """The rows that count in some cells by now, in the order in which they were counted."""
        found = self.base.of_cells(cells)
        if len(self.moved):
            here = self.moved[np.isin(self.cells, cells)].astype(np.int64)
            found = np.concatenate([found[self._known(found) < 0], here])
        return self._in_order(found)

    def _in_order(self, places: Places) -> Places:
        return places[np.argsort(self.base.ranks(places))] if len(places) > 1 else places

    def read(self, name: str, places: Places) -> NDArray[Any]:
        """A column of some rows, their cells as they are by now."""
        found = self.base.read(name, places)
        if name == "cell" and len(self.moved):
            known = self._known(places)
            return np.where(known < 0, found, self.cells[known])
        return found

    def all(self) -> Places:
        """All rows, in the order in which they were counted."""
        return self._in_order(np.arange(self.size))

    def move(self, places: Places, cells: NDArray[np.int32]) -> None:
        """Some rows, each named once, stand in other cells from now on."""
        at = self._known(places)
        known, new = at >= 0, at < 0
        self.cells[at[known]] = cells[known]
        self._set(np.concatenate([self.moved, places[new].astype(np.uint32)]), np.concatenate([self.cells, cells[new]]))

    def _set(self, moved: NDArray[np.uint32], cells: NDArray[np.int32]) -> None:
        order = np.argsort(moved)
        self.moved, self.cells = moved[order], cells[order]

    def lie(self, base: Section) -> None:
        """The rows, which lay in memory, lie in a file from now on."""
        self.base = base
        if len(self.moved):
            self._set(self.all()[self.moved].astype(np.uint32), self.cells)

    def look(self) -> int:
        """Counts how many rows count in cells that are not over."""
        over = self.owner.over
        cells, counts = self.base.counts()
        before = self.base.read("cell", self.moved.astype(np.int64))
        left = int(counts[~stands(over, cells) & (cells != GONE)].sum())
        for sign, column in ((-1, before), (1, self.cells)):
            left += sign * int((~stands(over, column) & (column != GONE)).sum())
        self.left = left
        return left

    def _known(self, places: Places) -> Places:
        """Where each row is among those that have moved, -1 where it is not."""
        if not len(self.moved):
            return np.full(len(places), -1)
        at = np.searchsorted(self.moved, places.astype(np.uint32)).clip(max=len(self.moved) - 1)
        return np.where(self.moved[at] == places, at, -1)


def stands(flags: NDArray[np.bool_], cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the flag of each cell stands; those behind the last flag have none."""
    inside = (cells >= 0) & (cells < len(flags))
    found = np.zeros(len(cells), dtype=np.bool_)
    found[inside] = flags[cells[inside]]
    return found
