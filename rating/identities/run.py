"""A run: a file of identities in order, each with the fingerprint of its content, read where it lies.

    header      64 bytes: magic, format version, radix bits, bucket, count, checksum of what stands before the blocks
    directory   where each slot begins, 4 bytes each and the count: slots are the first `radix bits` of the keys
    blocks      of 256 keys: the next 32 bits of their leads, the rest of their leads, their other halves, fingerprints

A key is two 64-bit words; its *lead* is the first of them, and the order is that of the leads. What the slot says is
left out of the keys: a run of 65,536 or more has as many slots and takes 18 bytes a key and 256 KiB, a smaller one has
a single slot and takes 20. A file is named by its content (`streams.durable.write_named`) and never changes.
"""

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from ctypes import c_int64, c_void_p
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from native.library import function
from rating.identities.bloom import Filter
from rating.index import Keys
from streams.durable import write_named

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".run"
COUNT_MAX: Final = 2**32 - 1
RADIX_FROM: Final = 65_536
"""The least count with a directory of all slots: below, it would take more room than the bytes that it saves. Just
above it pays in time: a search begins among a few keys."""
RADIX_BITS: Final = 16
READ_KEYS: Final = 262_144
"""How many keys are read or merged at once: about 30 MB of working memory."""

_MAGIC: Final = b"TAXIRUN\x00"
_HEADER: Final = struct.Struct("<8sHHIqQI28x")  # magic, version, radix bits, nought, bucket, count, checksum
_BLOCK: Final = 256
_BLOCK_SHIFT: Final = np.int64(8)
_BLOCK_MASK: Final = np.int64(_BLOCK - 1)
_ALIGNMENT: Final = 64
_NATIVE_FIND: Final = function(
    "tx_run_find", c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p
)


class RunRefused(ValueError):
    """A file that is no whole run, or one of a newer format. The message names it and says what to do."""


class Rows(NamedTuple):
    """Identities and the fingerprints of their contents, in the order of the leads."""

    leads: NDArray[np.uint64]
    others: NDArray[np.uint64]
    contents: NDArray[np.uint32]

    def cut(self, begin: int, end: int | None = None) -> "Rows":
        """Some that follow each other."""
        return Rows(self.leads[begin:end], self.others[begin:end], self.contents[begin:end])

    def ordered(self) -> "Rows":
        """The same in the order of their leads."""
        order = np.argsort(self.leads)
        return Rows(self.leads.take(order), self.others.take(order), self.contents.take(order))


def join(parts: Sequence[Rows]) -> Rows:
    """All rows of several parts."""
    leads, others = np.concatenate([p.leads for p in parts]), np.concatenate([p.others for p in parts])
    return Rows(leads, others, np.concatenate([p.contents for p in parts]))


class Run:
    """One file, mapped into memory, and its filter."""

    def __init__(self, path: Path, filter: Filter | None = None) -> None:
        """`filter`: as `write_run` made it; without one it is made from the file. Raises: RunRefused, OSError."""
        self.path = path
        with path.open("rb") as file:
            self.file_bytes = os.fstat(file.fileno()).st_size
            if self.file_bytes < _HEADER.size:
                raise _damaged(path, f"found {self.file_bytes} bytes, expected at least {_HEADER.size}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, self.radix_bits, _, self.bucket, self.count, checksum = _HEADER.unpack_from(mapped)
        if magic != _MAGIC:
            raise _damaged(path, f"found the magic {magic!r}, expected {_MAGIC!r}")
        if version > FORMAT_VERSION:
            raise RunRefused(
                f"the identities in {path} have the format version {version}, this program reads up to "
                f"{FORMAT_VERSION}: run the version of Taximeter that wrote them, or a later one"
            )
        if self.radix_bits not in (0, RADIX_BITS):
            raise _damaged(path, f"found {self.radix_bits} radix bits, expected 0 or {RADIX_BITS}")
        begin = _HEADER.size + _directory_bytes(self.radix_bits)
        width = _block_bytes(self.radix_bits)
        blocks = -(-self.count // _BLOCK)
        if self.file_bytes != begin + blocks * width:
            raise _damaged(path, f"found {self.file_bytes} bytes, expected {begin + blocks * width}")
        slots = 1 << self.radix_bits
        self._directory = np.frombuffer(mapped, np.uint32, slots + 1, _HEADER.size)
        if checksum != _checksum(self.radix_bits, self.bucket, self.count, self._directory):
            raise _damaged(path, "the checksum of its directory does not agree")
        if hasattr(mmap, "MADV_RANDOM"):
            mapped.madvise(mmap.MADV_RANDOM)  # a search needs a page here and a page there, and none beside them
        self._mapped = mapped
        raw = np.frombuffer(mapped, np.uint8, blocks * width, begin).reshape(blocks, width)
        rest = _rest_type(self.radix_bits)
        ends = np.cumsum([4 * _BLOCK, rest.itemsize * _BLOCK, 8 * _BLOCK]).tolist()
        self._blocks = raw
        self._nexts = raw[:, : ends[0]].view(np.uint32)
        self._rests = raw[:, ends[0] : ends[1]].view(rest)
        self._others = raw[:, ends[1] : ends[2]].view(np.uint64)
        self._contents = raw[:, ends[2] :].view(np.uint32)
        self.filter = self._filled() if filter is None else filter

    @property
    def name(self) -> str:
        """By which snapshots know the file."""
        return self.path.name

    def find(self, keys: Keys) -> tuple[NDArray[np.bool_], NDArray[np.uint32]]:
        """Whether each key is held, by all its 128 bits, and with which content (no meaning where it is not)."""
        if _NATIVE_FIND is not None:
            keys, held, contents = (
                np.ascontiguousarray(keys),
                np.empty(len(keys), np.bool_),
                np.empty(len(keys), np.uint32),
            )
            run = (self._blocks.ctypes.data, self.radix_bits, self._directory.ctypes.data, self.count)
            if not _NATIVE_FIND(*run, keys.ctypes.data, len(keys), held.ctypes.data, contents.ctypes.data):
                raise _damaged(self.path, "its directory points beyond its end")
            return held, contents
        leads, others = keys[:, 0], keys[:, 1]
        below = np.uint64(32 - self.radix_bits)
        nexts = (leads >> below).astype(np.uint32)
        rests = (leads & np.uint64((1 << int(below)) - 1)).astype(_rest_type(self.radix_bits))
        slots = (leads >> np.uint64(64 - RADIX_BITS)).astype(np.int64) if self.radix_bits else np.zeros(len(keys), int)
        end = self._directory[slots + 1].astype(np.int64)
        at = self._first(nexts, self._directory[slots].astype(np.int64), end)
        held = np.zeros(len(keys), dtype=np.bool_)
        contents = np.zeros(len(keys), dtype=np.uint32)
        rows = np.flatnonzero(at < end)
        while len(rows):  # nearly always once: of hashes, hardly two agree in 48 bits
            block, place = at[rows] >> _BLOCK_SHIFT, at[rows] & _BLOCK_MASK
            near = self._nexts[block, place] == nexts[rows]
            rows, block, place = rows[near], block[near], place[near]
            same = (self._rests[block, place] == rests[rows]) & (self._others[block, place] == others[rows])
            held[rows[same]] = True
            contents[rows[same]] = self._contents[block[same], place[same]]
            rows = rows[~same]
            at[rows] += 1
            rows = rows[at[rows] < end[rows]]
        return held, contents

    def _first(self, nexts: NDArray[np.uint32], low: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each row the first place in `[low, end)` that is not less than its next bits, or `end`."""
        high = end.copy()
        going = np.flatnonzero(low < high)
        while len(going):
            middle = (low[going] + high[going]) >> np.int64(1)
            less = self._nexts[middle >> _BLOCK_SHIFT, middle & _BLOCK_MASK] < nexts[going]
            low[going[less]] = middle[less] + 1
            high[going[~less]] = middle[~less]
            going = going[low[going] < high[going]]
        return low

    def read(self, begin: int, end: int) -> Rows:
        """The rows of some places."""
        self._read_ahead(begin, end)
        first, last = begin // _BLOCK, -(-end // _BLOCK)
        cut = slice(begin - first * _BLOCK, end - first * _BLOCK)
        others, contents = self._others[first:last].reshape(-1)[cut], self._contents[first:last].reshape(-1)[cut]
        return Rows(self._leads(begin, end), others, contents)

    def _leads(self, begin: int, end: int) -> NDArray[np.uint64]:
        first, last = begin // _BLOCK, -(-end // _BLOCK)
        cut = slice(begin - first * _BLOCK, end - first * _BLOCK)
        leads = self._nexts[first:last].reshape(-1)[cut].astype(np.uint64)
        leads <<= np.uint64(32 - self.radix_bits)
        leads |= self._rests[first:last].reshape(-1)[cut]
        if self.radix_bits:
            low = int(np.searchsorted(self._directory, begin, side="right")) - 1
            high = int(np.searchsorted(self._directory, end, side="left"))
            edges = np.clip(self._directory[low : high + 1].astype(np.int64), begin, end)
            slots = np.repeat(np.arange(low, high, dtype=np.uint64), np.diff(edges))
            leads |= slots << np.uint64(64 - RADIX_BITS)
        return leads

    def starts(self) -> NDArray[np.int64]:
        """Where each of the 65,536 slots begins and the last one ends, whether or not the file has them."""
        if self.radix_bits:
            return self._directory.astype(np.int64)
        return starts_of(self._leads(0, self.count))

    def _filled(self) -> Filter:
        filter = Filter(self.count)
        for begin in range(0, self.count, READ_KEYS):
            end = min(begin + READ_KEYS, self.count)
            self._read_ahead(begin, end)
            filter.add(self._leads(begin, end))
        return filter

    def _read_ahead(self, begin: int, end: int) -> None:
        """Has the operating system read the blocks of some places at once, where it can be told."""
        if hasattr(mmap, "MADV_WILLNEED"):
            width, before = _block_bytes(self.radix_bits), _HEADER.size + _directory_bytes(self.radix_bits)
            first = (before + begin // _BLOCK * width) // mmap.PAGESIZE * mmap.PAGESIZE
            last = min(before + -(-end // _BLOCK) * width, self.file_bytes)
            self._mapped.madvise(mmap.MADV_WILLNEED, first, last - first)


def starts_of(leads: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each of the 65,536 slots begins among sorted leads, and where the last one ends."""
    counts = np.bincount((leads >> np.uint64(64 - RADIX_BITS)).astype(np.int64), minlength=1 << RADIX_BITS)
    return np.append(0, np.cumsum(counts))


def write_run(
    folder: Path, bucket: int, starts: NDArray[np.int64], parts: Iterable[Rows], radix_bits: int | None = None
) -> Run:
    """Writes the rows of all parts, which follow each other in order, and whose slots begin at `starts`.

    `radix_bits`: 0 or 16; by default what takes less room. Raises: OSError; nothing is left of the file then.
    """
    count = int(starts[-1])
    if not 0 < count <= COUNT_MAX:
        raise ValueError(f"found {count} identities for a run, expected 1 to {COUNT_MAX}")
    bits = radix_bits if radix_bits is not None else RADIX_BITS if count >= RADIX_FROM else 0
    directory = (starts if bits else np.array([0, count])).astype(np.uint32)
    filter = Filter(count)
    path = write_named(folder, _contents(bucket, bits, count, directory, parts, filter), SUFFIX)
    return Run(path, filter)


def _contents(
    bucket: int, bits: int, count: int, directory: NDArray[np.uint32], parts: Iterable[Rows], filter: Filter
) -> Iterator[bytes | memoryview]:
    yield _HEADER.pack(_MAGIC, FORMAT_VERSION, bits, 0, bucket, count, _checksum(bits, bucket, count, directory))
    yield directory.tobytes().ljust(_directory_bytes(bits), b"\x00")
    rest = Rows(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32))
    for part in parts:
        filter.add(part.leads)
        joined = join([rest, part])
        whole = len(joined.leads) // _BLOCK * _BLOCK
        yield _blocks(joined.cut(0, whole), bits)
        rest = joined.cut(whole)
    if short := -len(rest.leads) % _BLOCK:
        filling = Rows(np.zeros(short, np.uint64), np.zeros(short, np.uint64), np.zeros(short, np.uint32))
        yield _blocks(join([rest, filling]), bits)


def _blocks(rows: Rows, bits: int) -> memoryview:
    """Whole blocks as they stand in the file."""
    nexts = (rows.leads >> np.uint64(32 - bits)).astype(np.uint32)
    rests = (rows.leads & np.uint64((1 << (32 - bits)) - 1)).astype(_rest_type(bits))
    columns = [column.reshape(-1, _BLOCK).view(np.uint8) for column in (nexts, rests, rows.others, rows.contents)]
    return np.concatenate(columns, axis=1).reshape(-1).data


def _rest_type(bits: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint16 if bits else np.uint32)


def _block_bytes(bits: int) -> int:
    return _BLOCK * (4 + _rest_type(bits).itemsize + 8 + 4)


def _directory_bytes(bits: int) -> int:
    return -(-4 * ((1 << bits) + 1) // _ALIGNMENT) * _ALIGNMENT


def _checksum(bits: int, bucket: int, count: int, directory: NDArray[np.uint32]) -> int:
    return crc32(directory.tobytes(), crc32(struct.pack("<Hqq", bits, bucket, count)))


def _damaged(path: Path, found: str) -> RunRefused:
    return RunRefused(
        f"the identities in {path} are damaged: {found}; remove the file, and it is brought from the snapshots again"
    )
