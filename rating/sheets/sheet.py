"""A sheet: a file of rows of the ledger, read where it lies.

    header      64 bytes: magic, format version, nought, sections, rows, serial number, checksum of the directory
    directory   of each section: how many rows and how many cells, 8 bytes each
    sections    one for each tenant, at a multiple of 8
        rows    by cell, and in each cell as they were counted, 48 bytes each: as they stand in memory, but with
                their *rank* (how many of the section's rows were counted before) where memory has the cell
        tops    the upper halves of the identities' first words, rising
        keyed   the place of the row that each of them is of
        cells   the cells, rising
        starts  the places where the rows of each begin, and where the last one's end

56 bytes a row, and 8 for each cell of a section. A row is known by its *place* in its section. A file is named by its
content (`streams.durable.write_named`), and no two of a partition have the same: each has a serial number. It never
changes; what becomes of its rows later stands beside it (`rating.sheets.parts`).
"""

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rating.index import Keys
from rating.table import Table, row_of
from streams.durable import write_named

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".rows"
COUNT_MAX: Final = 2**31 - 1
SPEC: Final = {
    "identity": (np.uint64, 2),
    "time": (np.int64, 1),
    "cell": (np.int32, 1),
    "gauge": (np.int32, 1),  # which gauge of its cell, -1 where it is none
    "value": (np.int64, 2),  # a wide number; for a text, the 128 bits of its digest
}
"""A row of the ledger in memory."""
_RANK: Final = "cell"
ROW: Final = row_of(SPEC)
"""One in a file, where the cells have a directory: its rank stands in place of its cell."""

PIECE: Final = 131_072
"""How many rows are read and written at once."""
_MAGIC: Final = b"TAXIROWS"
_HEADER: Final = struct.Struct("<8sHHIqqI28x")  # magic, version, nought, sections, rows, serial number, checksum
_ROW_BYTES: Final = ROW.itemsize + 8
_HALF: Final = np.uint64(32)

Places = NDArray[np.int64]


class SheetRefused(ValueError):
    """A file that is no whole sheet, or one of a newer format. The message names it and says what to do."""


class Sheet:
    """One file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Raises: SheetRefused, OSError."""
        self.path = path
        with path.open("rb") as file:
            self.file_bytes = os.fstat(file.fileno()).st_size
            if self.file_bytes < _HEADER.size:
                raise _damaged(path, f"found {self.file_bytes} bytes, expected at least {_HEADER.size}")
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, _, sections, self.rows, _, checksum = _HEADER.unpack_from(self._mapped)
        if magic != _MAGIC:
            raise _damaged(path, f"found the magic {magic!r}, expected {_MAGIC!r}")
        if version > FORMAT_VERSION:
            raise SheetRefused(
                f"the rows in {path} have the format version {version}, this program reads up to {FORMAT_VERSION}: "
                "run the version of Taximeter that wrote them, or a later one"
            )
        if self.file_bytes < _HEADER.size + 16 * sections:
            raise _damaged(path, f"found {self.file_bytes} bytes, expected a directory of {sections} sections")
        directory = np.frombuffer(self._mapped, np.int64, 2 * sections, _HEADER.size)
        if checksum != crc32(directory.tobytes()) or self.rows != int(directory[::2].sum()):
            raise _damaged(path, "the checksum of its directory does not agree")
        self._sizes: list[list[int]] = directory.reshape(-1, 2).tolist()
        ends = accumulate((_section_bytes(*size) for size in self._sizes), initial=_HEADER.size + 16 * sections)
        self._begins = list(ends)
        if self.file_bytes != self._begins[-1]:
            raise _damaged(path, f"found {self.file_bytes} bytes, expected {self._begins[-1]}")

    @property
    def name(self) -> str:
        """By which snapshots know the file."""
        return self.path.name

    def sections(self) -> "list[Section]":
        """All that it holds."""
        return [Section(self, number) for number in range(len(self._sizes))]

    def count(self, number: int) -> int:
        """How many rows a section has."""
        return self._sizes[number][0]

    def column(self, number: int, dtype: Any, count: int, before: int) -> NDArray[Any]:
        """Numbers of a section, `before` bytes behind its beginning."""
        return np.frombuffer(self._mapped, dtype, count, self._begins[number] + before)

    def cells(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The cells of a section, rising, and where the rows of each begin, and where the last one's end."""
        count, cells = self._sizes[number]
        before = count * _ROW_BYTES
        return self.column(number, np.int32, cells, before), self.column(
            number, np.int32, cells + 1, before + 4 * cells
        )


class Section(NamedTuple):
    """The rows of one tenant in a sheet, by their places."""

    sheet: Sheet
    number: int

    @property
    def size(self) -> int:
        """How many there are."""
        return self.sheet.count(self.number)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return 0

    @property
    def rows(self) -> NDArray[Any]:
        """All of them."""
        return self.sheet.column(self.number, ROW, self.size, 0)

    def of_events(self, identities: Keys) -> Places:
        """The rows of some events, in no order."""
        count = self.size
        tops = self.sheet.column(self.number, np.uint32, count, count * ROW.itemsize)
        keyed = self.sheet.column(self.number, np.uint32, count, count * (ROW.itemsize + 4))
        asked = (identities[:, 0] >> _HALF).astype(np.uint32)
        first = np.searchsorted(tops, asked)
        if not (tops[first.clip(max=count - 1)] == asked).any():
            return np.empty(0, np.int64)
        last = np.searchsorted(tops, asked, side="right")
        places = keyed[ranges(first, last)].astype(np.int64)
        same = self.rows["identity"][places] == identities.repeat(last - first, axis=0)
        return np.unique(places[same.all(axis=1)])

    def of_cells(self, cells: NDArray[np.int32]) -> Places:
        """The rows that were counted in some cells. `cells`: rising, each once."""
        held, starts = self.sheet.cells(self.number)
        at = np.searchsorted(held, cells).clip(max=len(held) - 1)
        at = at[held[at] == cells]
        return ranges(starts[at], starts[at + 1])

    def read(self, name: str, places: Places) -> NDArray[Any]:
        """A column of some rows; their cells are those in which they were counted."""
        if name == "cell":
            held, starts = self.sheet.cells(self.number)
            return held[np.searchsorted(starts, places.astype(np.int32), side="right") - 1]
        found: NDArray[Any] = self.rows[name][places]
        return found

    def ranks(self, places: Places) -> NDArray[np.int32]:
        """What some rows are ordered by, to have them as they were counted."""
        found: NDArray[np.int32] = self.rows[_RANK][places]
        return found

    def counts(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The cells, each once, and how many rows were counted in each."""
        held, starts = self.sheet.cells(self.number)
        return held, np.diff(starts)


def ranks_of(words: NDArray[np.int64]) -> NDArray[np.int32]:
    """The ranks of rows that are given as words, to be read and written."""
    found: NDArray[np.int32] = words.view(ROW)[_RANK][:, 0]
    return found


class Sorted(NamedTuple):
    """The rows of a section that is to be written: pieces of them as words, in order, and where each cell's are."""

    cells: NDArray[np.int32]
    starts: NDArray[np.int32]
    pieces: Iterable[NDArray[np.int64]]


def write_sheet(folder: Path, serial: int, sections: Sequence[Sorted]) -> Sheet:
    """Writes rows that no longer change; no section may be empty. Raises: OSError; nothing is left of the file then."""
    counts = [int(section.starts[-1]) for section in sections]
    if not sections or not all(0 < count <= COUNT_MAX for count in counts):
        raise ValueError(f"found sections of {counts} rows, expected some, of 1 to {COUNT_MAX}")
    return Sheet(write_named(folder, _contents(serial, sections, counts), SUFFIX))


def sort_rows(table: Table) -> Sorted:
    """The rows of a ledger's table by cell, and in each as they came."""
    cell = table["cell"][: table.size]
    shift = np.int64(len(cell).bit_length())
    both = np.sort((cell.astype(np.int64) << shift) | np.arange(len(cell)))  # in one number each: sorted fastest
    of = (both >> shift).astype(np.int32)
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    ranks = both & ((1 << int(shift)) - 1)
    words = table.words.take(ranks, axis=0)
    ranks_of(words)[:] = ranks
    return Sorted(of[starts], np.append(starts, len(of)).astype(np.int32), [words])


def _contents(serial: int, sections: Sequence[Sorted], counts: Sequence[int]) -> Iterator[bytes | memoryview]:
    sizes = [(count, len(section.cells)) for count, section in zip(counts, sections, strict=True)]
    directory = np.array(sizes, dtype=np.int64).tobytes()
    yield _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, len(sections), sum(counts), serial, crc32(directory))
    yield directory
    for count, section in zip(counts, sections, strict=True):
        yield from _section(count, section)


def _section(count: int, section: Sorted) -> Iterator[bytes | memoryview]:
    keys = np.arange(count, dtype=np.uint64)
    done = 0
    for words in section.pieces:
        keys[done : done + len(words)] |= words.view(np.uint64)[:, 0] >> _HALF << _HALF
        done += len(words)
        yield _bytes(words)
    if done != count:
        raise RuntimeError(f"found {done} rows of a section, expected {count}")
    keys.sort()
    halves = keys.view(np.uint32).reshape(-1, 2)
    for half in (1, 0):
        for at in range(0, count, PIECE):
            yield _bytes(halves[at : at + PIECE, half])
    yield _bytes(section.cells)
    yield _bytes(section.starts)
    cells = len(section.cells)
    yield bytes(_section_bytes(count, cells) - count * _ROW_BYTES - 4 * (2 * cells + 1))


def _bytes(column: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(column).reshape(-1).view(np.uint8).data


def _section_bytes(rows: int, cells: int) -> int:
    return -(-(rows * _ROW_BYTES + 4 * (2 * cells + 1)) // 8) * 8


def ranges(first: NDArray[Any], last: NDArray[Any]) -> NDArray[np.int64]:
    """All numbers of some ranges, one range behind the other."""
    lengths = (last - first).astype(np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + (first - before).repeat(lengths)


def _damaged(path: Path, found: str) -> SheetRefused:
    return SheetRefused(
        f"the rows in {path} are damaged: {found}; remove the file, and it is brought from the snapshots again"
    )
