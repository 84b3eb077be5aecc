"""Many records in one row: a step may emit tens of thousands, and a row each would cost more than what they hold.

A packed row is a codec (one byte), the length of the body (4 bytes, big-endian), and the body: a MessagePack array of
key, value, key, value, … (each a length and its bytes), compressed by Zstandard where that makes it smaller.

SQLite keeps no checksums of its pages, so every row has one of ours (`row_checksum`), which whoever reads it compares.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from ctypes import c_char_p, c_int64, c_void_p
from itertools import chain, islice
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow
from numpy.typing import NDArray

from native.library import function
from streams.processor import Block

_HEADER: Final = struct.Struct(">BI")
_PLACE: Final = struct.Struct(">QQ")
_PLAIN: Final = 0
_ZSTD: Final = 1
_WORTH_IT_BYTES: Final = 256  # shorter bodies are left as they are
_ROW_BYTES_MAX: Final = 4 * 1024 * 1024  # of the body, so that a reader never needs much more than this at once

_LENGTHS_BYTES: Final = 10  # what MessagePack needs to say how long a key and a value are, at most
_VALUE_BYTES_END: Final = 1 << 32  # MessagePack cannot say more, and its Python refuses it
_BLOCK: Final = (c_char_p, c_int64, c_char_p, c_void_p)
_NATIVE_PACK: Final = function("tx_pack_records", c_int64, *_BLOCK, c_int64, c_int64, c_void_p)
_NATIVE_UNPACK: Final = function("tx_unpack_records", c_int64, c_char_p, c_int64, c_int64, c_void_p)

_decoder: Final = msgspec.msgpack.Decoder(list[bytes])
_encoder: Final = msgspec.msgpack.Encoder()

Record = tuple[bytes, bytes]
"""Key and value."""


def row_checksum(position: int, after: int, value_checksum: int) -> int:
    """A CRC-32 of what a row holds and of where it stands. The value's part (`zlib.crc32`) is the larger work, and is
    done before the place is known, by whoever appends, while the disk is busy with others."""
    return zlib.crc32(_PLACE.pack(position, after), value_checksum)


class PackedRow(NamedTuple):
    """Some records as one row."""

    records: int
    value: bytes
    checksum: int
    """Of the value alone: see `row_checksum`."""


def pack(records: Iterable[Record | Block]) -> Iterator[PackedRow]:
    """Rows that hold the records in their order, also those of blocks; a row holds one at least, and about 4 MiB at
    most."""
    row = _Row()
    for given in records:
        count = len(given) if isinstance(given, Block) else 1
        taken = 0
        while taken < count:
            taken = row.take_block(given, taken) if isinstance(given, Block) else row.take(given)
            if row.bytes >= _ROW_BYTES_MAX:
                yield row.packed()
                row = _Row()
    if row.records:
        yield row.packed()


def pack_row(records: Iterable[Record]) -> PackedRow:
    """The records as one row, whatever its size."""
    row = _Row()
    for record in records:
        row.take(record)
    return row.packed()


def unpack(value: bytes) -> Sequence[Record]:
    """The records of a row. Raises: ValueError or msgspec.DecodeError on bytes that no `pack` made."""
    flat = _decoder.decode(_body(value))
    return list(zip(flat[::2], flat[1::2], strict=True))


def unpack_spans(value: bytes, count: int) -> tuple[bytes, NDArray[np.int64]]:
    """The same `count` records where they stand: some bytes, and `RecordBlock.spans` in them. Raises as `unpack`."""
    body = _body(value)
    spans = np.empty((count, 4), np.int64)
    if _NATIVE_UNPACK is not None and _NATIVE_UNPACK(body, len(body), count, spans.ctypes.data):
        return body, spans
    flat = _decoder.decode(body)
    ends = np.cumsum([0, *map(len, flat)], dtype=np.int64)
    return b"".join(flat), np.stack((ends[:-1], ends[1:]), axis=1).reshape(-1, 4)


def _body(value: bytes) -> bytes:
    codec, length = _HEADER.unpack_from(value)
    if codec == _ZSTD:
        compressed = memoryview(value)[_HEADER.size :]
        body: bytes = pyarrow.decompress(compressed, decompressed_size=length, codec="zstd", asbytes=True)
        return body
    if codec != _PLAIN:
        raise ValueError(f"found the codec {codec} in a row, expected {_PLAIN} or {_ZSTD}")
    return value[_HEADER.size :]


class _Row:
    """One row in the making."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        """Of keys and values."""
        self._pieces: list[bytes | memoryview] = []
        """Encoded."""
        self._flat: list[bytes] = []
        """Keys and values that come after the pieces."""

    def take(self, record: Record) -> int:
        """Adds a record. Returns 1."""
        self._flat += record
        self.records += 1
        self.bytes += len(record[0]) + len(record[1])
        return 1

    def take_block(self, block: Block, first: int) -> int:
        """Adds records of a block from `first` on, until the row is full. Returns which is the next to be taken."""
        before = block.ends + np.arange(len(block.ends)) * block.width  # bytes of keys and values before each record
        full = int(np.searchsorted(before, before[first] + _ROW_BYTES_MAX - self.bytes))
        end = min(full, len(block))
        size = int(before[end] - before[first])
        if _NATIVE_PACK is None or size >= _VALUE_BYTES_END:
            self._flat += chain.from_iterable(output[1:] for output in islice(block, first, end))
        else:
            out = np.empty(size + (end - first) * _LENGTHS_BYTES, np.uint8)
            at = block.ends.ctypes.data, first, end, out.ctypes.data
            written = _NATIVE_PACK(block.keys, block.width, block.values, *at)
            self._pieces += (self._encoded(), out[:written].data)
            self._flat = []
        self.records += end - first
        self.bytes += size
        return end

    def packed(self) -> PackedRow:
        """The row as it is stored."""
        body = b"".join((_array_head(2 * self.records), *self._pieces, self._encoded()))
        value = _HEADER.pack(_PLAIN, len(body)) + body
        if len(body) > _WORTH_IT_BYTES:
            packed: bytes = pyarrow.Codec("zstd", compression_level=1).compress(body, asbytes=True)
            if len(packed) < len(body):
                value = _HEADER.pack(_ZSTD, len(body)) + packed
        return PackedRow(self.records, value, zlib.crc32(value))

    def _encoded(self) -> bytes:
        return _encoder.encode(self._flat)[len(_array_head(len(self._flat))) :]


def _array_head(count: int) -> bytes:
    """What MessagePack writes before an array of so many."""
    if count < 1 << 4:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count < 1 << 16 else struct.pack(">BI", 0xDD, count)
