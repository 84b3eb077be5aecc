"""Several sheets in one: rows that count nowhere any more are left out, and whoever looks a row up opens fewer files.

The sheets follow each other, so all rows of the result were counted between those before and behind it. It is made
slice by slice: besides a slice, memory holds 8 bytes for each row, and the directories. A row that has moved lies where
it lay, by the cell that it was counted in.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.sheets.parts import GONE, stands
from rating.sheets.sheet import PIECE, ROW, Places, Section, Sheet, Sorted, ranges, ranks_of, write_sheet


class Old(NamedTuple):
    """A section that goes, and what had become of its rows when that was decided (see `rating.sheets.parts`)."""

    section: Section
    moved: NDArray[np.uint32]
    cells: NDArray[np.int32]


class Source:
    """The rows of an old section that stay. The *kept number* of one says how many of them lie before it."""

    def __init__(self, old: Old, over: NDArray[np.bool_], first: int) -> None:
        """`over`: by cell, whether nobody asks for it any more; `first`: how many rows the sources before bring."""
        self._section = old.section
        self._dead = _dead(old, over)
        self._kept_before = self._dead - np.arange(len(self._dead))
        self.held, starts = old.section.sheet.cells(old.section.number)
        self.starts: Places = starts - np.searchsorted(self._dead, starts)
        """For each cell in `held` the kept number of its first row; and how many there are in all."""
        self._first = first
        self._ranks = self._new_ranks() if len(self._dead) else None

    @property
    def size(self) -> int:
        """How many rows stay."""
        return int(self.starts[-1])

    def _new_ranks(self) -> NDArray[np.int32]:
        """By rank, how many rows that stay were counted before."""
        stays = np.ones(self._section.size, np.bool_)
        stays[self._section.ranks(self._dead)] = False
        return (np.cumsum(stays) - 1).astype(np.int32)

    def read(self, begin: int, end: int) -> NDArray[np.int64]:
        """Rows that stay, as words, by their kept numbers, with their ranks in the result."""
        first, last = (n + int(np.searchsorted(self._kept_before, n, side="right")) for n in (begin, end - 1))
        words = self._section.rows[first : last + 1].view(np.int64).reshape(-1, ROW.itemsize // 8)
        if last + 1 - first > end - begin:
            stays = np.ones(len(words), np.bool_)
            stays[self._dead[slice(*np.searchsorted(self._dead, (first, last)))] - first] = False
            words = words[stays]
        else:
            words = words.copy()
        ranks = ranks_of(words)
        ranks[:] = (ranks if self._ranks is None else self._ranks[ranks]) + self._first
        return words

    def stay(self, places: Places) -> NDArray[np.bool_]:
        """Whether some rows of the old section stay."""
        return ~np.isin(places, self._dead)

    def within(self, places: Places) -> tuple[NDArray[np.int32], Places]:
        """The cell in which each of some rows that stay was counted, and how many rows of this source lie before it
        there."""
        cells = self._section.read("cell", places)
        kept = places - np.searchsorted(self._dead, places)
        return cells, kept - self.starts[np.searchsorted(self.held, cells)]

    def count(self, cells: NDArray[np.int32]) -> Places:
        """How many rows stay in some cells."""
        at = np.searchsorted(self.held, cells).clip(max=len(self.held) - 1)
        return np.where(self.held[at] == cells, self.starts[at + 1] - self.starts[at], 0)


class Merged(NamedTuple):
    """What came of it. `sources`: those of each section that was asked for; a section of which nothing is left is not
    in the sheet, which is None where nothing is left at all."""

    sheet: Sheet | None
    sources: list[list[Source]]

    def sections(self) -> Iterator[Section | None]:
        """What became of each that was asked for."""
        made = iter(self.sheet.sections() if self.sheet is not None else ())
        for sources in self.sources:
            yield next(made) if _size(sources) else None


class Asked(NamedTuple):
    """The sections of one tenant that become one, in their order; and by cell, whether nobody asks for it any more."""

    olds: Sequence[Old]
    over: NDArray[np.bool_]


def merge(folder: Path, serial: int, asked: Sequence[Asked], pause: Callable[[], None]) -> Merged:
    """Writes one sheet, with a section for each tenant. `pause` is called between slices. Raises: OSError."""
    found: list[list[Source]] = []
    for olds, over in asked:
        sources: list[Source] = []
        for old in olds:
            sources.append(Source(old, over, _size(sources)))
            pause()
        found.append(sources)
    left = [_sort(sources, pause) for sources in found if _size(sources)]
    return Merged(write_sheet(folder, serial, left) if left else None, found)


def places_of(into: Section, sources: Sequence[Source], which: int, places: Places) -> Places:
    """Where rows of one of the sources lie in what came of them all."""
    cells, found = sources[which].within(places)
    held, starts = into.sheet.cells(into.number)
    return found + sum(source.count(cells) for source in sources[:which]) + starts[np.searchsorted(held, cells)]


def _size(sources: Sequence[Source]) -> int:
    return sum(source.size for source in sources)


def _dead(old: Old, over: NDArray[np.bool_]) -> Places:
    """The rows of a section that count nowhere any more, rising."""
    held, starts = old.section.sheet.cells(old.section.number)
    gone = stands(over, held) | (held == GONE)
    places = ranges(starts[:-1][gone], starts[1:][gone])
    if not len(old.moved):
        return places
    dead = (old.cells == GONE) | stands(over, old.cells)
    return np.union1d(np.setdiff1d(places, old.moved), old.moved[dead].astype(np.int64))


class _Runs(NamedTuple):
    """Rows of one cell and one source, in the order of the result."""

    source: Places
    begin: Places
    end: Places
    ends: Places
    """How many rows of the result there are up to the end of each."""


def _sort(sources: Sequence[Source], pause: Callable[[], None]) -> Sorted:
    cells = np.concatenate([source.held for source in sources])
    source = np.arange(len(sources)).repeat([len(one.held) for one in sources])
    begin, end = (np.concatenate([one.starts[cut] for one in sources]) for cut in (slice(-1), slice(1, None)))
    order = np.argsort(cells, kind="stable")
    order = order[(end > begin)[order]]
    cells, source, begin, end = cells[order], source[order], begin[order], end[order]
    ends = np.cumsum(end - begin)
    new = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
    starts = np.append((ends - end + begin)[new], ends[-1]).astype(np.int32)
    return Sorted(cells[new], starts, _pieces(sources, _Runs(source, begin, end, ends), pause))


def _pieces(sources: Sequence[Source], runs: _Runs, pause: Callable[[], None]) -> Iterator[NDArray[Any]]:
    total = int(runs.ends[-1])
    for at in range(0, total, PIECE):
        until = min(at + PIECE, total)
        first, last = int(np.searchsorted(runs.ends, at, side="right")), int(np.searchsorted(runs.ends, until))
        source, begin, end = (column[first : last + 1].copy() for column in runs[:3])
        begin[0] = end[0] - (runs.ends[first] - at)
        end[-1] -= runs.ends[last] - until
        low, high = np.full(len(sources), total), np.zeros(len(sources), np.int64)
        np.minimum.at(low, source, begin)
        np.maximum.at(high, source, end)  # what lies between them is in these runs: their cells follow each other
        pieces = [sources[n].read(int(low[n]), int(high[n])) for n in np.unique(source).tolist()]
        sizes = (high - low).clip(min=0)
        shift = (np.cumsum(sizes) - sizes - low)[source]
        yield np.concatenate(pieces).take(ranges(begin + shift, end + shift), axis=0)
        pause()
