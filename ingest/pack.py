"""Routed events -> packs: Arrow IPC streams within the bounds of a log's message (see `schemas.event`)."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import pyarrow as pa

from ingest.columns import Rows
from schemas.event import PACK_COLUMNS, pack_schema
from schemas.limits import PACK_BYTES_MAX, PACK_EVENTS_MAX
from schemas.paths import Extractor
from schemas.trace import Stretch, cut, event_traces

# Without threads: for buffers as small as a pack's, handing them to threads takes longer than compressing them.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_UNCOMPRESSED = pa.ipc.IpcWriteOptions(use_threads=False)
_COMPRESSED_MIN = 4
"""Compression makes the pack of fewer events longer."""
_TYPES = [field.type for field in PACK_COLUMNS]
_EVENT_BYTES = 100
"""About what an event takes beside its texts, before compression."""


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
        for pack in _encode_within(tenant, part, extractor, cut(traces, start, start + len(part.id)) if traces else ())
    ]


def _cut(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Where each part begins, and it: at most PACK_EVENTS_MAX events, about PACK_BYTES_MAX bytes before compression."""
    sizes = list(accumulate(map(len, rows.data), initial=0))
    count, start = len(rows.id), 0
    while start < count:
        end = min(start + PACK_EVENTS_MAX, count)
        while end > start + 1 and sizes[end] - sizes[start] + _EVENT_BYTES * (end - start) > PACK_BYTES_MAX:
            end = start + (end - start) // 2
        yield start, rows if end - start == count else rows.cut(start, end)
        start = end


def _encode_within(
    tenant: str, rows: Rows, extractor: Extractor | None, traces: Sequence[Stretch]
) -> list[tuple[bytes, int]]:
    """One pack where it keeps within the bytes; else halves; one event alone goes without its path columns."""
    value, count = encode_pack(tenant, rows, extractor, traces), len(rows.id)
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
    paths = _path_columns(rows, extractor) if extractor is not None and extractor.paths else {}
    columns = [*map(pa.array, rows[: len(_TYPES)], _TYPES), *paths.values()]
    fields = tuple(pa.field(path, column.type) for path, column in paths.items())
    schema = pack_schema(tenant, fields, [*event_traces(rows.extensions), *traces])
    sink = pa.BufferOutputStream()
    options = _OPTIONS if len(rows.id) >= _COMPRESSED_MIN else _UNCOMPRESSED
    writer = pa.ipc.new_stream(sink, schema, options=options)
    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    writer.close()
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _path_columns(rows: Rows, extractor: Extractor) -> dict[str, pa.Array]:
    values = [known for known in rows.values if known is not None]
    return extractor.extract_values(values, rows.data) if len(values) == len(rows.id) else extractor.extract(rows.data)
