"""Many records in one row: a step may emit tens of thousands, and a row each would cost more than what they hold.

A packed row is a codec (one byte), the length of the body (4 bytes, big-endian), and the body: a MessagePack array of
key, value, key, value, … (each a length and its bytes), compressed by Zstandard where that makes it smaller.

SQLite keeps no checksums of its pages, so every row has one of ours (`row_checksum`), which whoever reads it compares.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import pyarrow

_HEADER: Final = struct.Struct(">BI")
_PLACE: Final = struct.Struct(">QQ")
_PLAIN: Final = 0
_ZSTD: Final = 1
_WORTH_IT_BYTES: Final = 256  # shorter bodies are left as they are
_ROW_BYTES_MAX: Final = 4 * 1024 * 1024  # of the body, so that a reader never needs much more than this at once

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


def pack(records: Iterable[Record]) -> Iterator[PackedRow]:
    """Rows that hold the records in their order; a row holds at least one and about 4 MiB at most."""
    flat: list[bytes] = []
    size = 0
    for record in records:
        flat += record
        size += len(record[0]) + len(record[1])
        if size >= _ROW_BYTES_MAX:
            yield _pack(flat)
            flat, size = [], 0
    if flat:
        yield _pack(flat)


def pack_row(records: Iterable[Record]) -> PackedRow:
    """The records as one row, whatever its size."""
    return _pack([part for record in records for part in record])


def unpack(value: bytes) -> Sequence[Record]:
    """The records of a row. Raises: ValueError or msgspec.DecodeError on bytes that no `pack` made."""
    codec, length = _HEADER.unpack_from(value)
    body: bytes | memoryview = memoryview(value)[_HEADER.size :]
    if codec == _ZSTD:
        body = pyarrow.decompress(body, decompressed_size=length, codec="zstd", asbytes=True)
    elif codec != _PLAIN:
        raise ValueError(f"found the codec {codec} in a row, expected {_PLAIN} or {_ZSTD}")
    flat = _decoder.decode(body)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _pack(flat: list[bytes]) -> PackedRow:
    body = _encoder.encode(flat)
    value = _HEADER.pack(_PLAIN, len(body)) + body
    if len(body) > _WORTH_IT_BYTES:
        packed: bytes = pyarrow.Codec("zstd", compression_level=1).compress(body, asbytes=True)
        if len(packed) < len(body):
            value = _HEADER.pack(_ZSTD, len(body)) + packed
    return PackedRow(len(flat) // 2, value, zlib.crc32(value))
