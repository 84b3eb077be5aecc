"""Records of the topics as columns: one Arrow table for each table of the store.

Every table but the events' has an `id` and a `revision`; the store keeps the highest revision of each id.
What is fixed the first time (a rejection, an alert) has a revision that falls with its offset: the first one stays.
`sort_key` orders a listing: texts of fixed width, made from what an output means and never from when it was read.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from rating.spend.line_columns import line_columns
from rating.spend.mends import names_rejection, stage_mends
from rating.spend.store import StoreError
from schemas import entry, topics
from schemas.access import DEFAULT_TENANT
from schemas.event import PACK_VERSION
from schemas.identity import digest
from schemas.numbers import DIGITS, parse_scaled
from schemas.output import Alert, Because, Invoice, decode_alert
from schemas.paths import DECIMAL
from schemas.rejection import Where
from schemas.times import parse_time
from streams.journal import JournalError, Place, Record, RecordDamaged, RecordUnknown, decode_record
from streams.log import Part, RecordBlock, Records, TopicRecord, parts_of

_logger = logging.getLogger(__name__)

_TEXT: Final = pa.string()
_WHOLE: Final = pa.int64()
_OUTPUT: Final = [
    ("id", _TEXT),
    ("revision", _WHOLE),
    ("sort_key", _TEXT),
    ("body", _TEXT),
    ("tenant", _TEXT),
]
_PERIOD: Final = [
    ("customer", _TEXT),
    ("subscription", _TEXT),
    ("currency", _TEXT),
    ("period_start", _WHOLE),
    ("period_end", _WHOLE),
]

_VIEW: Final = pa.string_view()
LINE_ITEMS: Final = pa.schema(
    [
        *(("body", _VIEW) if name == "body" else (name, type) for name, type in _OUTPUT),
        *_PERIOD,
        ("charge", _TEXT),
        ("dimensions", _TEXT),
        ("quantity", DECIMAL),
        ("amount", DECIMAL),
        ("events", _WHOLE),
        ("last_event", _WHOLE),
    ]
)
INVOICES: Final = pa.schema(
    [*_OUTPUT, *_PERIOD, ("kind", _TEXT), ("status", _TEXT), ("subtotal", DECIMAL), ("total", DECIMAL)]
)
ALERTS: Final = pa.schema([*_OUTPUT, *_PERIOD])
REJECTIONS: Final = pa.schema([*_OUTPUT, ("code", _TEXT)])
CATALOGUES: Final = pa.schema([("id", _TEXT), ("revision", _WHOLE), ("body", _TEXT)])
"""The newest catalogue of each tenant and partition (`catalogue_id`); `revision` is the offset."""
PROGRESS: Final = CATALOGUES
"""The progress of each partition (JSON): `id` is the partition, `revision` counts its changes."""
POSITIONS: Final = pa.schema([("id", _TEXT), ("revision", _WHOLE)])
"""How far each topic and partition has been read: `id` is `topic:partition`, `revision` the next offset."""
CLOCKS: Final = POSITIONS
"""The greatest tick of each partition: `id` is the partition, `revision` the time."""
EVENTS: Final = pa.schema(
    [
        ("log_partition", _WHOLE),
        ("log_offset", _WHOLE),
        ("log_index", _WHOLE),
        ("tenant", _TEXT),
        ("customer", _TEXT),
        ("identity", pa.binary(16)),
        ("type", _TEXT),
        ("time", _WHOLE),
        ("data", pa.binary()),
        ("subject", _TEXT),
        ("source", _TEXT),
        ("id", _TEXT),
        ("arrived", _WHOLE),
        ("extensions", _TEXT),
    ]
)
_KEPT: Final = ("customer", "identity", "type", "time", "data", "subject", "source", "id", "arrived", "extensions")
"""Of a pack's columns."""
CONTROLS: Final = pa.schema(
    [("log_partition", _WHOLE), ("log_offset", _WHOLE), ("kind", _WHOLE), ("time", _WHOLE), ("body", _TEXT)]
)
"""The inputs that are no usage events: of a tick its time (0 for others), of all others the entry's payload (JSON)."""

Staged = dict[str, pa.Table]
"""Table name -> its new rows: at most one of each id (events: as they came)."""

FIRST_STAYS: Final = 2**62
"""What is fixed the first time has this revision less its offset."""
_KINDS: Final = {"threshold": 0, "period": 1, "correction": 2}


class _Period(msgspec.Struct, frozen=True, gc=False):
    start: str
    end: str


class _Line(msgspec.Struct, frozen=True, gc=False):
    """What a store needs of a line item; the rest stays in its body. It holds no cycle, so the collector skips it."""

    id: str
    revision: int
    tenant: str
    customer: str
    subscription: str
    charge: str
    dimensions: msgspec.Raw
    currency: str
    period: _Period
    quantity: str
    amount: str
    events: int
    last_event: str | None


class _Rejected(msgspec.Struct, frozen=True):
    code: str
    where: Where
    tenant: str = "default"
    meter: str | None = None


_TOPIC_OF = attrgetter("topic")
_LINE = msgspec.json.Decoder(_Line)
_INVOICE = msgspec.json.Decoder(Invoice)
_REJECTED = msgspec.json.Decoder(_Rejected)


def stage(records: Sequence[TopicRecord]) -> Staged:
    """The new rows that some records bring. Raises: StoreError, naming the record that cannot be read."""
    by_topic: dict[str, list[Part]] = {}
    for topic, group in groupby(parts_of(records), key=_TOPIC_OF):
        # an empty value is a tombstone of a compacted topic: nothing to keep
        if found := [part for part in group if isinstance(part, RecordBlock) or part.value]:
            by_topic.setdefault(topic, []).extend(found)
    staged: Staged = {}
    for topic, read in _READERS.items():
        if topic in by_topic:
            staged |= read(Records(by_topic[topic]))
    return {name: table for name, table in staged.items() if table.num_rows}


def journal_records(records: Iterable[TopicRecord]) -> list[Record]:
    """The journal's records among these. A damaged one is passed over: without it the store says later how far it is,
    never too early. What it means for the engine is the engine's to say.

    Raises: StoreError on one of a newer format, and on one that was nobody's.
    """
    found: list[Record] = []
    for record in records:
        if record.topic != topics.JOURNAL or not record.value:
            continue
        try:
            found.append(decode_record(record.value, Place(record.topic, record.partition, record.offset)))
        except RecordUnknown as error:
            raise StoreError(_named(record, error)) from error
        except RecordDamaged as damage:
            _logger.error("passed over a damaged record of the journal: %s", damage)
        except JournalError as error:
            raise StoreError(_named(record, error)) from error
    return found


def stage_positions(positions: Mapping[tuple[str, int], int]) -> pa.Table:
    """Positions as rows."""
    rows = [{"id": f"{topic}:{partition}", "revision": next} for (topic, partition), next in positions.items()]
    return pa.Table.from_pylist(rows, schema=POSITIONS)


def stage_progress(bodies: Mapping[int, bytes], revisions: Mapping[int, int]) -> pa.Table:
    """Each partition's progress (JSON) as rows."""
    rows = [{"id": str(p), "revision": revisions[p], "body": body.decode()} for p, body in bodies.items()]
    return pa.Table.from_pylist(rows, schema=PROGRESS)


def _decoded(records: Iterable[TopicRecord], decoder: Callable[[bytes], Any]) -> Iterator[tuple[TopicRecord, Any]]:
    for record in records:
        try:
            yield record, decoder(record.value)
        except (msgspec.MsgspecError, pa.ArrowInvalid, entry.EntryError) as error:
            raise StoreError(_named(record, error)) from error


def _named(record: TopicRecord, error: object) -> str:
    return f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}"


def _latest(records: Iterable[TopicRecord], decoder: Callable[[bytes], Any]) -> tuple[list[Any], list[bytes]]:
    """The documents of the highest revision of each id, and their texts."""
    latest: dict[str, tuple[Any, bytes]] = {}
    for record, document in _decoded(records, decoder):
        known = latest.get(document.id)
        if known is None or document.revision > known[0].revision:
            latest[document.id] = document, record.value
    return [document for document, _ in latest.values()], [body for _, body in latest.values()]


def _line_items(records: Sequence[TopicRecord]) -> Staged:
    columns = line_columns(parts_of(records)) or _line_columns_python(records)
    starts = columns["period_start"].dictionary_encode()
    keys = pa.array([_sort_text(start) for start in starts.dictionary.to_pylist()], _TEXT)
    return {"line_items": _table({**columns, "sort_key": keys.take(starts.indices)}, LINE_ITEMS)}


def _line_columns_python(records: Sequence[TopicRecord]) -> dict[str, Any]:
    """What `line_columns` gives, of line items in every form. Raises: StoreError."""
    lines, bodies = _latest(records, _LINE.decode)
    last_event = pa.array([line.last_event for line in lines], _TEXT).cast(pa.timestamp("us", "UTC")).cast(_WHOLE)
    return {
        **_output_columns(lines, bodies, []),
        **_period_columns(lines),
        "body": pa.array(bodies, pa.binary()).cast(_TEXT).cast(_VIEW),
        "charge": [line.charge for line in lines],
        "dimensions": pa.array([bytes(line.dimensions) for line in lines], pa.binary()).cast(_TEXT),
        "quantity": _decimals([line.quantity for line in lines]),
        "amount": _decimals([line.amount for line in lines]),
        "events": [line.events for line in lines],
        "last_event": last_event,
    }


def _invoices(records: Sequence[TopicRecord]) -> Staged:
    found, bodies = _latest(records, _INVOICE.decode)
    keys = [
        f"{_span_key(invoice.period.start)}/{_KINDS[invoice.kind]}/{_level_key(invoice.because)}" for invoice in found
    ]
    columns = {
        **_output_columns(found, bodies, keys),
        **_period_columns(found),
        "kind": [invoice.kind for invoice in found],
        "status": [invoice.status for invoice in found],
        "subtotal": _decimals([invoice.subtotal for invoice in found]),
        "total": _decimals([invoice.total for invoice in found]),
    }
    return {"invoices": _table(columns, INVOICES)}


def _alerts(records: Sequence[TopicRecord]) -> Staged:
    first: dict[str, tuple[Alert, TopicRecord]] = {}
    for record, alert in _decoded(records, decode_alert):
        if isinstance(alert, Alert):  # the engine's own are no customer's: `/v1/status` shows them
            first.setdefault(alert.id, (alert, record))
    alerts = [alert for alert, _ in first.values()]
    revisions = [FIRST_STAYS - record.offset for _, record in first.values()]
    keys = [f"{_span_key(alert.period.start)}/{_level_key(alert.because)}" for alert in alerts]
    columns = {
        **_output_columns(alerts, [record.value for _, record in first.values()], keys, revisions),
        **_period_columns(alerts),
    }
    return {"alerts": _table(columns, ALERTS)}


def _rejections(records: Sequence[TopicRecord]) -> Staged:
    first: dict[str, tuple[_Rejected, TopicRecord]] = {}
    for record, rejected in _decoded(records, _REJECTED.decode):
        first.setdefault(_rejection_id(record, rejected), (rejected, record))
    kept = list(first.values())
    columns = {
        "id": list(first),
        "revision": [FIRST_STAYS - record.offset for _, record in kept],
        "sort_key": [f"{record.offset:020d}/{record.partition:06d}" for _, record in kept],
        "body": [record.value.decode() for _, record in kept],
        "tenant": [rejected.tenant for rejected, _ in kept],
        "code": [rejected.code for rejected, _ in kept],
    }
    return {"rejections": _table(columns, REJECTIONS)}


def _rejection_id(record: TopicRecord, rejected: _Rejected) -> str:
    """A rejection has no identity of its own: the engine's is the event's place, the meter and the code (so a replay
    says it again under the same id); the door's, whose event never got a place, is that of its record."""
    where = rejected.where
    if where.partition is None or where.offset is None:
        return f"{record.partition}:{record.offset}"
    place = f"{where.partition}:{where.offset}:{where.index}"
    return digest(rejected.tenant, place, rejected.meter or "", rejected.code).hex()


def _entries(records: Sequence[TopicRecord]) -> Staged:
    packs: list[pa.RecordBatch] = []
    mended: list[pa.RecordBatch] = []
    catalogues: dict[str, tuple[TopicRecord, bytes]] = {}
    ticks: list[TopicRecord] = []
    controls: list[dict[str, Any]] = []
    for record, kind in _decoded(records, lambda value: entry.Entry(0, 0, value).kind):
        if kind == entry.EVENTS:
            packs += (rows := _pack(record))
            mended += filter(names_rejection, rows)
        elif kind in entry.CATALOGUES:
            brought = entry.decode_catalogue(kind, record.value[2:])
            catalogues[catalogue_id(brought.tenant, record.partition)] = record, bytes(brought.catalogue)
        elif kind == entry.TICK:
            ticks.append(record)
        if kind not in (entry.EVENTS, entry.TICK):
            controls.append(_control(record, kind, 0, record.value[2:].decode()))
    clocks: dict[int, int] = {}
    for record, time in _decoded(ticks, lambda value: entry.decode_tick(value[2:])):
        clocks[record.partition] = max(time, clocks.get(record.partition, 0))
        controls.append(_control(record, entry.TICK, time, ""))
    rows = [{"id": id, "revision": record.offset, "body": body.decode()} for id, (record, body) in catalogues.items()]
    return {
        "events": pa.Table.from_batches(packs, EVENTS),
        "mends": stage_mends(mended),
        "catalogues": pa.Table.from_pylist(rows, schema=CATALOGUES),
        "clocks": pa.Table.from_pylist([{"id": str(p), "revision": time} for p, time in clocks.items()], schema=CLOCKS),
        "controls": pa.Table.from_pylist(controls, schema=CONTROLS),
    }


def catalogue_id(tenant: str, partition: int) -> str:
    """Under what a tenant's catalogue in a partition stands: `3`, or of any tenant but `default` `acme/3`."""
    return str(partition) if tenant == DEFAULT_TENANT else f"{tenant}/{partition}"


def catalogue_place(id: str) -> tuple[str, int]:
    """The tenant and the partition of such an id; a tenant's name may hold slashes."""
    tenant, _, partition = id.rpartition("/")
    return tenant or DEFAULT_TENANT, int(partition)


def _control(record: TopicRecord, kind: int, time: int, body: str) -> dict[str, Any]:
    place = {"log_partition": record.partition, "log_offset": record.offset}
    return {**place, "kind": kind, "time": time, "body": body}


def _pack(record: TopicRecord) -> list[pa.RecordBatch]:
    """The events of one pack, as rows of the store."""
    try:
        body = pa.py_buffer(record.value)[2:]
        schema = pa.ipc.open_stream(body).schema
        metadata = schema.metadata or {}
        if metadata.get(b"version") != PACK_VERSION:
            raise StoreError(_named(record, f"found a pack of version {metadata.get(b'version')!r}, expected 1"))
        tenant = metadata[b"tenant"].decode()
        wanted = pa.ipc.IpcReadOptions(included_fields=list(map(schema.names.index, _KEPT)))  # others stay compressed
        reader = pa.ipc.open_stream(body, options=wanted)
        return [_pack_rows(batch, record, tenant) for batch in reader if batch.num_rows]
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise StoreError(_named(record, f"found no readable pack of usage events: {error}")) from error


def _pack_rows(batch: pa.RecordBatch, record: TopicRecord, tenant: str) -> pa.RecordBatch:
    count = batch.num_rows
    columns = [
        pa.repeat(pa.scalar(record.partition, _WHOLE), count),
        pa.repeat(pa.scalar(record.offset, _WHOLE), count),
        pa.array(np.arange(count), _WHOLE),
        pa.repeat(pa.scalar(tenant, _TEXT), count),
        batch.column("customer").cast(_TEXT),
        batch.column("identity"),
        batch.column("type").cast(_TEXT),
        batch.column("time"),
        batch.column("data"),
        batch.column("subject").cast(_TEXT),
        batch.column("source").cast(_TEXT),
        batch.column("id"),
        batch.column("arrived"),
        batch.column("extensions"),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENTS)


def _output_columns(
    found: Sequence[Any], bodies: Sequence[bytes], keys: Sequence[str], revisions: Sequence[int] | None = None
) -> dict[str, Any]:
    return {
        "id": [output.id for output in found],
        "revision": [output.revision for output in found] if revisions is None else revisions,
        "sort_key": keys,
        "body": pa.array(bodies, pa.binary()).cast(_TEXT),
        "tenant": [output.tenant for output in found],
    }


def _period_columns(found: Sequence[Any]) -> dict[str, Any]:
    return {
        "customer": [output.customer for output in found],
        "subscription": [output.subscription for output in found],
        "currency": [output.currency for output in found],
        "period_start": pa.array([_micros(output.period.start) for output in found], _WHOLE),
        "period_end": [_micros(output.period.end) for output in found],
    }


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        columns[field.name] if isinstance(columns[field.name], pa.Array) else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _decimals(texts: Sequence[str]) -> pa.Array:
    """Exact, or `ArrowInvalid`."""
    return pa.array(texts, _TEXT).cast(DECIMAL)


_micros = lru_cache(maxsize=4096)(parse_time)


def _span_key(start: str) -> str:
    return _sort_text(_micros(start))


def _sort_text(time: int) -> str:
    return f"{time:020d}"


def _level_key(because: Because | None) -> str:
    """A level as a text that sorts like it (levels below nought too)."""
    return f"{(parse_scaled(because.level) if because else 0) + 10**DIGITS:039d}"


_READERS: Final[dict[str, Callable[[Sequence[TopicRecord]], Staged]]] = {
    topics.EVENTS: _entries,
    topics.LINE_ITEMS: _line_items,
    topics.INVOICES: _invoices,
    topics.ALERTS: _alerts,
    topics.REJECTIONS: _rejections,
}
