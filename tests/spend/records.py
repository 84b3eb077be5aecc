"""Records of the topics as an engine and a door would write them, and a source that is fed from lists."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from schemas import topics
from schemas.entry import EVENTS, encode_catalogue, encode_entry, encode_tick
from schemas.event import pack_schema
from schemas.identity import event_identity
from schemas.output import Alert, Because, EventRef, Invoice, InvoiceLine, LineItem, Span, Through
from schemas.rejection import Rejection, Where
from schemas.times import parse_time
from streams.journal import Done, Open, Record, encode_record
from streams.log import Positions, TopicRecord

NOVEMBER = Span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
DECEMBER = Span("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")


def line(id: str = "li_1", revision: int = 1, **changes: Any) -> LineItem:
    """A line item of acme's."""
    values: dict[str, Any] = {
        "tenant": "default",
        "customer": "acme",
        "subscription": "acme-launch",
        "charge": "tokens",
        "meter": "tokens",
        "dimensions": {},
        "currency": "USD",
        "period": NOVEMBER,
        "quantity": "10",
        "amount": "1.5",
        "price_book": "launch",
        "price_version": 1,
        "tiers": [],
        "events": 1,
        "first_event": "2026-11-02T00:00:00Z",
        "last_event": "2026-11-02T00:00:00Z",
        "through": Through(0, 1),
    }
    return LineItem(id=id, revision=revision, **(values | changes))


def invoice(id: str = "in_1", revision: int = 1, **changes: Any) -> Invoice:
    """An invoice of acme's."""
    bill = InvoiceLine(line_item="li_1", charge="tokens", dimensions={}, quantity="10", description="", amount="1.5")
    values: dict[str, Any] = {
        "kind": "period",
        "status": "issued",
        "tenant": "default",
        "customer": "acme",
        "subscription": "acme-launch",
        "currency": "USD",
        "period": NOVEMBER,
        "lines": [bill],
        "subtotal": "1.5",
        "minimum": "0",
        "discounts": "0",
        "credits": "0",
        "taxes": "0",
        "total": "1.5",
        "because": None,
    }
    return Invoice(id=id, revision=revision, **(values | changes))


def threshold(id: str, level: str, **changes: Any) -> Invoice:
    """A threshold invoice of acme's."""
    because = Because(threshold="100", level=level, event=EventRef("cli", "e1"))
    return invoice(id, kind="threshold", because=because, **changes)


def alert(id: str = "al_1", level: str = "100", **changes: Any) -> Alert:
    """An alert of acme's."""
    values: dict[str, Any] = {
        "kind": "threshold",
        "tenant": "default",
        "customer": "acme",
        "subscription": "acme-launch",
        "currency": "USD",
        "period": NOVEMBER,
        "spend": level,
        "because": Because(threshold="100", level=level, event=EventRef("cli", "e1")),
        "invoice": "in_1",
    }
    return Alert(id=id, **(values | changes))


def rejection(offset: int, code: Any = "missing_value", **changes: Any) -> Rejection:
    """A rejection by the engine of the event at an offset of the source."""
    values: dict[str, Any] = {"event": {"id": f"e{offset}"}, "message": "lacks $.tokens", "meter": "tokens"}
    return Rejection(code=code, where=Where(partition=0, offset=offset), **(values | changes))


def event(id: str, time: str, data: Mapping[str, Any] | str, **changes: Any) -> dict[str, Any]:
    """One usage event, as a row of a pack. `data` may be JSON text."""
    text = data if isinstance(data, str) else json.dumps(data)
    values = {"customer": "acme", "source": "cli", "type": "llm.request"} | changes
    return {"id": id, "time": parse_time(time), "data": text.encode(), **values}


def pack(events: Sequence[Mapping[str, Any]], tenant: str = "default") -> bytes:
    """An entry that holds usage events."""
    rows = [
        {
            "content": 0,
            "subject": row["customer"],
            "arrived": 0,
            "extensions": None,
            **row,
            "identity": event_identity(tenant, row["customer"], row["source"], row["id"]),
        }
        for row in events
    ]
    schema = pack_schema(tenant)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
    return encode_entry(EVENTS, stream.getvalue().to_pybytes())


def catalogue(meters: Mapping[str, Any], tenant: str = "default") -> bytes:
    """An entry that holds a catalogue."""
    return encode_catalogue(tenant, json.dumps({"meters": meters}).encode())


def tick(time: str) -> bytes:
    """An entry that says what time it is."""
    return encode_tick(parse_time(time))


class Log:
    """Topics in memory: appends, and a `streams.log.Source` over what has been appended (and what will be)."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.records: list[TopicRecord] = []
        self._ends: dict[tuple[str, int], int] = {}
        self._grown = asyncio.Event()

    def append(self, topic: str, value: bytes | msgspec.Struct, partition: int = 0, size: int = 1) -> TopicRecord:
        """Appends one record of `size` offsets."""
        raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
        offset = self._ends.get((topic, partition), 0)
        record = TopicRecord(topic, partition, offset, offset + size, b"", raw)
        self._ends[topic, partition] = record.end
        self.records.append(record)
        self._grown.set()
        return record

    def end(self, topic: str, partition: int = 0) -> int:
        """The offset after a topic's last record."""
        return self._ends.get((topic, partition), 0)

    def events(self, *events: Mapping[str, Any], partition: int = 0) -> TopicRecord:
        """Appends a pack; the log numbers its events."""
        return self.append(topics.EVENTS, pack(events), partition, len(events))

    def journal(self, record: Record, partition: int = 0) -> TopicRecord:
        """Appends a journal record."""
        return self.append(topics.JOURNAL, encode_record(record), partition)

    def done(self, end: int, epoch: int = 1, partition: int = 0) -> TopicRecord:
        """Appends that the source up to `end` is worked in and all outputs so far are durable."""
        emitted = {topic: end for (topic, p), end in self._ends.items() if p == partition and topic in _OUTPUTS}
        return self.journal(Done(epoch, end, emitted), partition)

    def open(self, epoch: int = 1, partition: int = 0) -> TopicRecord:
        """Appends that an owner takes the partition."""
        return self.journal(Open(epoch, f"worker-{epoch}"), partition)

    async def read(self, wanted: Sequence[str], positions: Positions) -> AsyncIterator[list[TopicRecord]]:
        """As `streams.log.Source`."""
        at = 0
        while True:
            self._grown.clear()
            found = [
                record
                for record in self.records[at:]
                if record.topic in wanted and record.offset >= positions.get((record.topic, record.partition), 0)
            ]
            at = len(self.records)
            if found:
                yield found
            await self._grown.wait()


_OUTPUTS = (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS, topics.REJECTIONS)
