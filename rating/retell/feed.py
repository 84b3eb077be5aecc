"""Which entries the engine is fed: the customer's events in packs, the controls, and the ticks that matter to it.

A partition's clock ticks every few seconds for years. To one customer nearly all ticks are alike: those matter before
and after which something is otherwise. They are

- the first tick at or after each time at which a billing period begins, is closed, or is closed for good;
- the ticks beside each input that acts on what may be closed already: late events, voids, catalogues, re-ratings;
- those that the engine has named as the reason of an invoice or an alert (a gauge has reached a level);
- the first and the last.

With these the engine comes to the same amounts and invoices as with all of them (a law in the tests).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rating.retell.inputs import Inputs, Rows
from schemas.catalogue import Catalogue
from schemas.entry import EVENTS, encode_entry, encode_tick
from schemas.event import VOID_TYPE, pack_schema
from schemas.period import make_calendar
from schemas.times import from_datetime

PACK_EVENTS: Final = 500
"""Where a level may be crossed, a pack is worked through event by event: with larger ones more of them."""
_UNCOMPRESSED: Final = pa.ipc.IpcWriteOptions(use_threads=False)
_BOUND: Final = 2**62


class Fed(NamedTuple):
    """One entry's value, and how many events it holds (1 for all others)."""

    value: bytes
    size: int


def feed(
    inputs: Inputs, tenant: str, customer: str, lateness: int, targets: Iterable[int], named: Iterable[int]
) -> Iterator[Fed]:
    """The entries for an engine, in the log's order. `targets`: times whose first tick matters; `named`: ticks that
    do (all in microseconds)."""
    offsets = inputs.events["log_offset"].to_numpy()
    chosen = choose_ticks(inputs, offsets, lateness, np.array([*targets, *named], dtype=np.int64))
    others = [(one.offset, one.value) for one in inputs.controls]
    others += [(int(inputs.tick_offset[i]), encode_tick(int(inputs.tick_time[i]))) for i in chosen.tolist()]
    others.sort(key=lambda other: other[0])
    events = _pack_columns(inputs.events, tenant, customer)
    done = 0
    for offset, value in others:
        until = int(np.searchsorted(offsets, offset))
        yield from _packs(events, done, until)
        done = until
        yield Fed(value, 1)
    yield from _packs(events, done, len(offsets))


def choose_ticks(inputs: Inputs, offsets: Rows, lateness: int, targets: Rows) -> Rows:
    """The indices of the ticks that matter, rising."""
    count = len(inputs.tick_offset)
    if not count:
        return np.empty(0, np.int64)
    acting = np.array([one.offset for one in inputs.controls], dtype=np.int64)
    acting = np.concatenate([acting, offsets[_late(inputs, offsets, lateness)]])
    after = np.searchsorted(inputs.tick_offset, acting)
    at = np.searchsorted(inputs.tick_time, targets)
    found: Rows = np.unique(np.concatenate([after - 1, after, at, [0, count - 1]]))
    return found[(found >= 0) & (found < count)]


def _late(inputs: Inputs, offsets: Rows, lateness: int) -> NDArray[np.bool_]:
    """The events that may fall into a period that is closed: voids may always."""
    before = np.searchsorted(inputs.tick_offset, offsets) - 1
    clock = np.where(before >= 0, inputs.tick_time[np.maximum(before, 0)], -_BOUND)
    voids = pc.equal(inputs.events["type"], VOID_TYPE).to_numpy()
    late: NDArray[np.bool_] = (inputs.events["time"].to_numpy() < clock - lateness) | voids
    return late


def boundaries(catalogues: Sequence[Catalogue], customer: str, first: int, last: int) -> set[int]:
    """Where billing periods of a customer begin and end in a stretch of time, under any of some catalogues."""
    found: set[int] = set()
    for catalogue in catalogues:
        known = catalogue.customers.get(customer)
        zone = (known.timezone if known else None) or "UTC"
        for sub in catalogue.subscriptions.values():
            if sub.customer == customer:
                start = from_datetime(sub.start)
                calendar = make_calendar(sub.period, sub.anchor, sub.timezone or zone, start)
                found.add(start)
                found.update([] if last < start else calendar.starts(max(first, start), last))
                found.update(() if sub.end is None else (from_datetime(sub.end),))
        terms = catalogue.default_subscription
        if terms is not None:
            found.update(make_calendar(terms.period, terms.anchor, terms.timezone or zone, None).starts(first, last))
    return found


def _pack_columns(events: pa.Table, tenant: str, customer: str) -> pa.RecordBatch:
    schema = pack_schema(tenant)
    count = events.num_rows
    columns: dict[str, pa.Array] = {
        # What the door made of the content is not kept: a conflict counts as a duplicate here, as it does in amounts.
        "content": pa.array(np.zeros(count, np.uint32)),
        "customer": pa.array([customer] * count, pa.string()).dictionary_encode(),
    }
    for field in schema:
        if field.name not in columns:
            column = events[field.name].combine_chunks()
            column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            if pa.types.is_dictionary(field.type):
                column = column.cast(pa.string()).dictionary_encode()
            columns[field.name] = column.cast(field.type)
    return pa.RecordBatch.from_arrays([columns[field.name] for field in schema], schema=schema)


def _packs(events: pa.RecordBatch, start: int, end: int) -> Iterator[Fed]:
    for at in range(start, end, PACK_EVENTS):
        count = min(PACK_EVENTS, end - at)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, events.schema, options=_UNCOMPRESSED) as writer:
            writer.write_batch(events.slice(at, count))
        yield Fed(encode_entry(EVENTS, sink.getvalue().to_pybytes()), count)
