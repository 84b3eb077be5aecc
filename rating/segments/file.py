"""A segment: a file of rows of the ledger, read where it lies.

    header      64 bytes: magic, format version, nought, sections, rows, checksum of the directory
    directory   of each section: how many rows and how many cells, 8 bytes each
    sections    one for each tenant, at a multiple of 8: columns one behind the other, the rows by cell, and in each
                cell as they were counted
        value, identity, time, gauge
        rank    how many of the section's rows were counted before this one
        place   for each rank where its row lies
        tops    the upper halves of the identities' first words, rising
        keyed   where the row of each of them lies
        cells   the cells, rising
        starts  where the rows of each begin, and where the last one's end

60 bytes a row, and 8 for each cell of a section. A file is named by its content (`streams.durable.write_named`) and
never changes; what becomes of its rows later stands beside it (`rating.segments.parts`).
"""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rating.index import Keys
from rating.table import Table
from streams.durable import write_named

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".rows"
COUNT_MAX: Final = 2**31 - 1

_MAGIC: Final = b"TAXIROWS"
_HEADER: Final = struct.Struct("<8sHHIqI36x")  # magic, version, nought, sections, rows, checksum
_TYPES: Final[dict[str, tuple[np.dtype[Any], int]]] = {
    "value": (np.dtype(np.int64), 2),
    "identity": (np.dtype(np.uint64), 2),
    "time": (np.dtype(np.int64), 1),
    "gauge": (np.dtype(np.int32), 1),
    "rank": (np.dtype(np.uint32), 1),
    "place": (np.dtype(np.uint32), 1),
    "tops": (np.dtype(np.uint32), 1),
    "keyed": (np.dtype(np.uint32), 1),
}
"""The columns of a section that have a value for each row, as they follow each other."""
_WIDTHS: Final = [dtype.itemsize * width for dtype, width in _TYPES.values()]
_BEFORE: Final = dict(zip(_TYPES, accumulate(_WIDTHS, initial=0), strict=False))
_ROW_BYTES: Final = sum(_WIDTHS)
_HALF: Final = np.uint64(32)


class SegmentRefused(ValueError):
    """A file that is no whole segment, or one of a newer format. The message names it and says what to do."""


class Segment:
    """One file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Raises: SegmentRefused, OSError."""
        self.path = path
        with path.open("rb") as file:
            self.file_bytes = os.fstat(file.fileno()).st_size
            if self.file_bytes < _HEADER.size:
                raise _damaged(path, f"found {self.file_bytes} bytes, expected at least {_HEADER.size}")
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, _, sections, rows, checksum = _HEADER.unpack_from(self._mapped)
        if magic != _MAGIC:
            raise _damaged(path, f"found the magic {magic!r}, expected {_MAGIC!r}")
        if version > FORMAT_VERSION:
            raise SegmentRefused(
                f"the rows in {path} have the format version {version}, this program reads up to {FORMAT_VERSION}: "
                "run the version of Taximeter that wrote them, or a later one"
            )
        if self.file_bytes < _HEADER.size + 16 * sections:
            raise _damaged(path, f"found {self.file_bytes} bytes, expected a directory of {sections} sections")
        directory = np.frombuffer(self._mapped, np.int64, 2 * sections, _HEADER.size)
        if checksum != crc32(directory.tobytes()) or rows != int(directory[::2].sum()):
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

    def column(self, number: int, name: str) -> NDArray[Any]:
        """A column of a section, a value for each row."""
        dtype, width = _TYPES[name]
        count = self._sizes[number][0]
        flat = np.frombuffer(self._mapped, dtype, count * width, self._begins[number] + count * _BEFORE[name])
        return flat.reshape(-1, width) if width > 1 else flat

    def cells(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The cells of a section, rising, and where the rows of each begin, and where the last one's end."""
        count, cells = self._sizes[number]
        begin = self._begins[number] + count * _ROW_BYTES
        found = np.frombuffer(self._mapped, np.int32, cells, begin)
        return found, np.frombuffer(self._mapped, np.int32, cells + 1, begin + 4 * cells)


class Section(NamedTuple):
    """The rows of one tenant in a segment, by their ranks."""

    segment: Segment
    number: int

    @property
    def size(self) -> int:
        """How many there are."""
        return self.segment.count(self.number)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return 0

    def of_events(self, identities: Keys) -> NDArray[np.int64]:
        """The rows of some events, rising."""
        tops, asked = self._column("tops"), (identities[:, 0] >> _HALF).astype(np.uint32)
        first, last = (np.searchsorted(tops, asked, side=side) for side in ("left", "right"))
        near = _ranges(first, last)
        if not len(near):
            return near
        places = self._column("keyed")[near].astype(np.int64)
        wanted = identities.repeat(last - first, axis=0)
        places = places[(self._column("identity")[places] == wanted).all(axis=1)]
        return np.unique(self._column("rank")[places].astype(np.int64))

    def of_cells(self, cells: NDArray[np.int32]) -> NDArray[np.int64]:
        """The rows that were counted in some cells, rising. `cells`: rising, each once."""
        held, starts = self.segment.cells(self.number)
        at = np.searchsorted(held, cells).clip(max=len(held) - 1)
        at = at[held[at] == cells]
        return np.sort(self._column("rank")[_ranges(starts[at], starts[at + 1])].astype(np.int64))

    def read(self, name: str, ranks: NDArray[np.int64]) -> NDArray[Any]:
        """A column of some rows; their cells are those in which they were counted."""
        places = self._column("place")[ranks]
        if name == "cell":
            held, starts = self.segment.cells(self.number)
            return held[np.searchsorted(starts, places.astype(np.int32), side="right") - 1]
        found: NDArray[Any] = self._column(name)[places]
        return found

    def counts(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The cells, each once, and how many rows were counted in each."""
        held, starts = self.segment.cells(self.number)
        return held, np.diff(starts)

    def _column(self, name: str) -> NDArray[Any]:
        return self.segment.column(self.number, name)


def write_segment(folder: Path, tables: Sequence[Table]) -> Segment:
    """Writes rows that no longer change, those of each table in a section of its own; none may be empty.

    Raises: OSError; nothing is left of the file then.
    """
    if not all(0 < table.size <= COUNT_MAX for table in tables):
        raise ValueError(f"found sections of {[table.size for table in tables]} rows, expected 1 to {COUNT_MAX}")
    return Segment(write_named(folder, _contents(tables), SUFFIX))


class _Order(NamedTuple):
    rank: NDArray[np.int64]
    cells: NDArray[np.int32]
    starts: NDArray[np.int32]


def _contents(tables: Sequence[Table]) -> Iterator[bytes | memoryview]:
    orders = [_order(table["cell"][: table.size]) for table in tables]
    sizes = [(table.size, len(order.cells)) for table, order in zip(tables, orders, strict=True)]
    directory = np.array(sizes, dtype=np.int64).tobytes()
    rows = sum(table.size for table in tables)
    yield _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, len(tables), rows, crc32(directory))
    yield directory
    for table, order in zip(tables, orders, strict=True):
        yield from _section(table, order)


def _section(table: Table, order: _Order) -> Iterator[bytes | memoryview]:
    rank = order.rank
    for name in ("value", "identity", "time", "gauge"):
        yield _bytes(table[name][rank])
    yield _bytes(rank.astype(np.uint32))
    place = np.empty(len(rank), dtype=np.uint32)
    place[rank] = np.arange(len(rank), dtype=np.uint32)
    yield _bytes(place)
    tops = table["identity"][rank, 0] >> _HALF
    tops = np.sort((tops << _HALF) | np.arange(len(rank), dtype=np.uint64))
    yield _bytes((tops >> _HALF).astype(np.uint32))
    yield _bytes(tops.astype(np.uint32))
    yield _bytes(order.cells)
    yield _bytes(order.starts)
    taken = table.size * _ROW_BYTES + 4 * (2 * len(order.cells) + 1)
    yield bytes(_section_bytes(table.size, len(order.cells)) - taken)


def _order(cell: NDArray[np.int32]) -> _Order:
    """By cell, and in each as they came: cell and place in one number each, as that is sorted fastest."""
    shift = np.int64(len(cell).bit_length())
    both = np.sort((cell.astype(np.int64) << shift) | np.arange(len(cell)))
    of = (both >> shift).astype(np.int32)
    starts = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
    return _Order(both & ((1 << int(shift)) - 1), of[starts], np.append(starts, len(of)).astype(np.int32))


def _bytes(column: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(column).reshape(-1).view(np.uint8).data


def _section_bytes(rows: int, cells: int) -> int:
    return -(-(rows * _ROW_BYTES + 4 * (2 * cells + 1)) // 8) * 8


def _ranges(first: NDArray[Any], last: NDArray[Any]) -> NDArray[np.int64]:
    """All numbers of some ranges, one range behind the other."""
    lengths = (last - first).astype(np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + (first - before).repeat(lengths)


def _damaged(path: Path, found: str) -> SegmentRefused:
    return SegmentRefused(
        f"the rows in {path} are damaged: {found}; remove the file, and it is brought from the snapshots again"
    )
