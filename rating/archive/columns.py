"""Entries of the log -> the tables of an archive's files. What was accepted stands there as it was."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.entry import CATALOGUE, EVENTS, RERATE, TENANT_CATALOGUE, TICK, Entry
from schemas.times import DAY, to_datetime

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # of the entry that holds the pack
        pa.field("index", pa.int32(), nullable=False),  # place in the pack
        pa.field("tenant", _TEXT, nullable=False),
        pa.field("customer", _TEXT, nullable=False),
        pa.field("source", _TEXT, nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("type", _TEXT, nullable=False),
        pa.field("subject", _TEXT, nullable=False),
        pa.field("time", _TIME, nullable=False),
        pa.field("arrived", _TIME, nullable=False),
        pa.field("data", pa.string(), nullable=False),
        pa.field("extensions", pa.string()),
        pa.field("identity", pa.binary(16), nullable=False),
    ],
    metadata={b"taximeter": b"archived events, version 1"},
)
ENTRY_SCHEMA: Final = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
    ],
    metadata={b"taximeter": b"archived entries, version 1"},
)
KINDS: Final = {TICK: "tick", CATALOGUE: "catalogue", TENANT_CATALOGUE: "tenant_catalogue", RERATE: "rerate"}
"""Entries that are no packs, by what the column `kind` calls them."""


class Tables(NamedTuple):
    """One cut as tables: the events by day of arrival (`2026-11-01`), and the other entries."""

    events: dict[str, pa.Table]
    entries: pa.Table


def make_tables(partition: int, log: Sequence[Entry]) -> Tables:
    """The tables of consecutive entries of a partition. Raises: EntryError on one that is none."""
    packs: list[pa.Table] = []
    others: list[tuple[int, str, str]] = []
    for entry in log:
        if entry.kind == EVENTS:
            packs.append(_events_of(partition, entry))
        else:
            others.append((entry.offset, KINDS[entry.kind], bytes(entry.payload).decode()))
    return Tables(_by_day(packs), _entries(partition, others))


def _events_of(partition: int, entry: Entry) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(entry.payload)) as reader:
        pack = reader.read_all()
    rows = pack.num_rows
    tenant = (pack.schema.metadata or {})[b"tenant"].decode()
    made: dict[str, Any] = {
        "partition": pa.array(np.full(rows, partition, np.int32)),
        "offset": pa.array(np.full(rows, entry.offset, np.int64)),
        "index": pa.array(np.arange(rows, dtype=np.int32)),
        "tenant": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([tenant])),
    }
    columns = [made[field.name] if field.name in made else pack[field.name].cast(field.type) for field in EVENT_SCHEMA]
    return pa.table(columns, schema=EVENT_SCHEMA)


def _by_day(packs: list[pa.Table]) -> dict[str, pa.Table]:
    if not packs:
        return {}
    events = pa.concat_tables(packs).unify_dictionaries()
    days = pc.divide(events["arrived"].cast(pa.int64()), DAY).to_numpy()
    found = {}
    for day in np.unique(days).tolist():
        name = to_datetime(int(day) * DAY).date().isoformat()
        found[name] = events.filter(pa.array(days == day))
    return found


def _entries(partition: int, others: Iterable[tuple[int, str, str]]) -> pa.Table:
    rows = [
        {"partition": partition, "offset": offset, "kind": kind, "payload": payload} for offset, kind, payload in others
    ]
    return pa.Table.from_pylist(rows, schema=ENTRY_SCHEMA)
