"""Routed events -> packs: Arrow IPC streams within the bounds of a log's message (see `schemas.event`)."""

import ctypes
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from ingest.columns import Rows
from ingest.table import DATA, EXTENSIONS, SEED, WORDS, Table
from native.library import function
from schemas.event import PACK_COLUMNS, pack_schema
from schemas.limits import PACK_BYTES_MAX, PACK_EVENTS_MAX
from schemas.paths import TEXTS, Extractor
from schemas.trace import Stretch, cut, event_traces

# Without threads: for buffers as small as a pack's, handing them to threads takes longer than compressing them.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_UNCOMPRESSED = pa.ipc.IpcWriteOptions(use_threads=False)
_COMPRESSED_MIN = 4
"""Compression makes the pack of fewer events longer."""
_TYPES = [field.type for field in PACK_COLUMNS]
_EVENT_BYTES = 100
"""About what an event takes beside its texts, before compression."""
_LAYOUT: Final = struct.Struct("=qq")
_BUFFERS: Final = 23
"""What `tx_pack` writes: a buffer for each plain column, two for texts, three for a dictionary or texts with nulls."""

_pack_size = function("tx_pack_size", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
_pack = function("tx_pack", None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p)


def encode_packs(
    tenant: str, rows: Rows, extractor: Extractor | None, traces: Sequence[Stretch] = ()
) -> list[tuple[bytes, int]]:
    """The packs of one tenant's and partition's rows, in order, each with its number of events.

    At most PACK_EVENTS_MAX events and PACK_BYTES_MAX bytes each. `extractor`: the paths that get a column. `traces`:
    those of requests; the contexts that events bring themselves come before them.
    """
    return [
        pack
        for start, part in _cut(rows)
        for pack in _encode_within(tenant, part, extractor, cut(traces, start, start + len(part)) if traces else ())
    ]


def _cut(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Where each part begins, and it: at most PACK_EVENTS_MAX events, about PACK_BYTES_MAX bytes before compression."""
    count, start = len(rows), 0
    if count <= PACK_EVENTS_MAX and rows.data_bytes + _EVENT_BYTES * count <= PACK_BYTES_MAX:
        yield 0, rows
        return
    ends = rows.data_ends()
    while start < count:
        end = min(start + PACK_EVENTS_MAX, count)
        while end > start + 1 and ends[end] - ends[start] + _EVENT_BYTES * (end - start) > PACK_BYTES_MAX:
            end = start + (end - start) // 2
        yield start, rows if end - start == count else rows.cut(start, end)
        start = end


def _encode_within(
    tenant: str, rows: Rows, extractor: Extractor | None, traces: Sequence[Stretch]
) -> list[tuple[bytes, int]]:
    """One pack where it keeps within the bytes; else halves; one event alone goes without its path columns."""
    value, count = encode_pack(tenant, rows, extractor, traces), len(rows)
    if len(value) <= PACK_BYTES_MAX:
        return [(value, count)]
    if count == 1:
        # The bounds of an event's parts, together, are below the bound of a pack.
        return [(encode_pack(tenant, rows, None, traces), 1)]
    half = count // 2
    parts = ((rows.cut(0, half), cut(traces, 0, half)), (rows.cut(half, count), cut(traces, half, count)))
    return [pack for part, of in parts for pack in _encode_within(tenant, part, extractor, of)]


def encode_pack(tenant: str, rows: Rows, extractor: Extractor | None, traces: Sequence[Stretch] = ()) -> bytes:
    """One pack of all the rows."""
    table = rows.table
    columns = list(map(pa.array, rows.lists(), _TYPES)) if table is None else _columns(table)
    paths = {} if extractor is None else _paths(rows, extractor)
    columns += paths.values()
    extensions = [None] if table is not None and not table.sizes(EXTENSIONS).any() else rows.extensions
    fields = tuple(pa.field(path, column.type) for path, column in paths.items())
    schema = pack_schema(tenant, fields, [*event_traces(extensions), *traces])
    sink = pa.BufferOutputStream()
    options = _OPTIONS if len(rows) >= _COMPRESSED_MIN else _UNCOMPRESSED
    writer = pa.ipc.new_stream(sink, schema, options=options)
    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    writer.close()
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _paths(rows: Rows, extractor: Extractor) -> dict[str, pa.Array]:
    """A column for each path."""
    table = rows.table
    if table is None:
        return extractor.extract(rows.data)
    found = extractor.extract_at(table.address + DATA * 8, len(table), WORDS)
    return extractor.extract(rows.data) if found is None else found


def _columns(table: Table) -> list[pa.Array]:
    """The columns of PACK_COLUMNS, their buffers written by the compiled half."""
    assert _pack is not None and _pack_size is not None
    count, address = len(table), table.address
    arena = pa.allocate_buffer(_pack_size(address, count))
    _pack(address, count, SEED, arena.address)
    buffers = (arena.slice(start, size) for start, size in _LAYOUT.iter_unpack(memoryview(arena)[: 16 * _BUFFERS]))

    def plain(kind: pa.DataType) -> pa.Array:
        return pa.Array.from_buffers(kind, count, [None, next(buffers)], 0)

    def texts(kind: pa.DataType) -> pa.Array:
        return pa.Array.from_buffers(kind, count, [None, next(buffers), next(buffers)], 0)

    def dictionary() -> pa.Array:
        numbers, ends, bytes = next(buffers), next(buffers), next(buffers)
        different = pa.StringArray.from_buffers(ends.size // 4 - 1, ends, bytes, None, 0)
        return pa.DictionaryArray.from_buffers(TEXTS, count, [None, numbers], different, 0)

    identity, content = plain(pa.binary(16)), plain(pa.uint32())
    dictionaries = [dictionary() for _ in range(4)]
    id, moment, arrived = texts(pa.string()), plain(pa.int64()), plain(pa.int64())
    data, present = texts(pa.binary()), next(buffers)
    extensions = pa.Array.from_buffers(pa.string(), count, [present, next(buffers), next(buffers)], -1)
    return [identity, content, *dictionaries, id, moment, arrived, data, extensions]
