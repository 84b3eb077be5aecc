"""What must hold when a story has ended, whatever happened in it. The oracle says what must be on every bill.

Nothing of the engine, the journal's rule or the hosts is used here: the source's packs are read as the schemas say, the
journal is folded by a plain loop, and the bills are the oracle's.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from schemas import topics
from schemas.entry import CATALOGUE, EVENTS
from schemas.identity import partition_of
from streams.journal import Done, Open, decode_record
from tests.oracle.calendars import moment
from tests.oracle.engine import canonical
from tests.oracle.oracle import Ledger
from tests.oracle.oracle import Tick as OracleTick
from tests.oracle.reading import Num, number
from tests.simulation.outcome import Outcome, Record
from tests.simulation.story import Change, Events, Story

_REVISED = (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS)


def judge(outcome: Outcome) -> list[str]:
    """Everything that is not as it must be, each with what was expected and what was found."""
    found: list[str] = []
    read_pack.cache_clear()
    for partition in sorted(outcome.entries):
        inputs, identities, events = _read_source(outcome, partition)
        found += _judge_journal(outcome, partition, identities, events)
        found += _judge_contents(outcome, partition)
        found += _judge_bills(outcome, partition, inputs)
        found += _judge_readers(outcome, partition)
    found += _judge_acknowledged(outcome)
    return found


# The source --------------------------------------------------------------------------------------------------------


def _read_source(outcome: Outcome, partition: int) -> tuple[list[Any], Counter[Any], int]:
    """The oracle's inputs in the log's order; how often each identity stands there; how many events."""
    inputs: list[Any] = []
    identities: Counter[Any] = Counter()
    events = 0
    for _, _, value in outcome.entries[partition]:
        if value[1] == EVENTS:
            for event, customer in read_pack(value[2:]):
                inputs.append(event)
                identities[customer, event["source"], event["id"]] += 1
                events += 1
        elif value[1] != CATALOGUE:
            inputs.append(OracleTick(json.loads(value[2:])["time"]))
    return inputs, identities, events


@cache
def read_pack(payload: bytes) -> list[tuple[dict[str, Any], str]]:
    """The events of a pack as the oracle reads them, and the customer of each."""
    table = pa.ipc.open_stream(payload).read_all()
    names = ("customer", "subject", "source", "type", "id", "time", "data")
    found = []
    for customer, subject, source, kind, id, time, data in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        event = {"specversion": "1.0", "id": id, "source": source, "type": kind, "subject": subject}
        found.append((event | {"time": _iso(time), "data": _read(data)}, customer))
    return found


def _read(text: str | bytes) -> Any:
    return json.loads(text, parse_int=Num, parse_float=Num)


def _iso(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _judge_acknowledged(outcome: Outcome) -> list[str]:
    """What was acknowledged is in the log, and what is in the log was sent."""
    there = {
        _meaning(event)
        for entries in outcome.entries.values()
        for _, _, value in entries
        if value[1] == EVENTS
        for event, _ in read_pack(value[2:])
    }
    sent = {_meaning(_read(text)) for one in outcome.story.inputs if isinstance(one, Events) for text in one.texts}
    lost = {_meaning(_read(text)) for text in outcome.acknowledged} - there
    found = [f"acknowledged, and not in the log: {event}" for event in sorted(lost)]
    return found + [f"in the log, and never sent: {event}" for event in sorted(there - sent)]


def _meaning(event: dict[str, Any]) -> str:
    return json.dumps([event[key] for key in ("source", "id", "type", "subject")] + [event.get("data")], sort_keys=True)


# The journal -------------------------------------------------------------------------------------------------------


def _judge_journal(outcome: Outcome, partition: int, identities: Counter[Any], events: int) -> list[str]:
    """Each entry is in one batch that counts, in order, without a gap; all are done; every event counted once."""
    where, found = f"journal of partition {partition}", []
    epoch, position, done = 0, outcome.journal_begins[partition], 0
    counts: Counter[str] = Counter()
    for offset, value in enumerate(outcome.journals[partition]):
        record = decode_record(value)
        if record.epoch < epoch or (isinstance(record, Open) and record.epoch == epoch):
            continue
        if isinstance(record, Open):
            epoch = record.epoch
        elif record.epoch > epoch:
            found.append(f"{where}: {record} at {offset}, expected epoch {epoch}")
        elif isinstance(record, Done):
            done = record.end
        elif record.end > position:
            if record.start != position:
                found.append(f"{where}: found a batch from {record.start} at {offset}, expected one from {position}")
            position = record.end
            summary = msgspec.to_builtins(record.summary)
            counts.update({key: value for key, value in summary.items() if isinstance(value, int)})
    end = outcome.entries[partition][-1][1]
    if (position, done) != (end, end):
        found.append(f"{where}: found it at {position}, done up to {done}, expected {end}")
    expected = {"events": events, "accepted": len(identities), "entries": len(outcome.entries[partition])}
    counted = {key: counts[key] for key in expected}
    if counted != expected:
        found.append(f"{where}: found the sums {counted}, expected {expected}")
    if counts["events"] != counts["accepted"] + counts["duplicates"] + counts["conflicts"]:
        found.append(f"{where}: the sums do not agree: {dict(counts)}")
    return found


# Outputs -----------------------------------------------------------------------------------------------------------


def _judge_contents(outcome: Outcome, partition: int) -> list[str]:
    """The same id under the same revision says the same, whoever wrote it, however often."""
    found = []
    for topic in _REVISED:
        contents: defaultdict[Any, set[bytes]] = defaultdict(set)
        for record in outcome.outputs[topic][partition]:
            document = json.loads(record.value)
            contents[document["id"], document.get("revision", 1)].add(record.value)
        for (id, revision), texts in contents.items():
            if len(texts) > 1:
                told = " / ".join(sorted(text.decode() for text in texts))
                found.append(f"{topic}/{partition}: {len(texts)} contents of {id} revision {revision}: {told}")
    return found


class View:
    """What a consumer knows that keeps the highest revision of each id."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, dict[str, Any]]] = {topic: {} for topic in _REVISED}
        self.rejections: dict[str, dict[str, Any]] = {}

    def take(self, topic: str, records: Sequence[Record]) -> None:
        """Reads on."""
        for record in records:
            document = json.loads(record.value)
            if topic == topics.REJECTIONS:
                key = json.dumps([document["where"], document["code"], document.get("meter")], sort_keys=True)
                self.rejections[key] = document
                continue
            known = self.documents[topic].get(document["id"])
            if known is None or document.get("revision", 1) > known.get("revision", 1):
                self.documents[topic][document["id"]] = document


def _judge_readers(outcome: Outcome, partition: int) -> list[str]:
    """A reader that never restarted knows what one knows that reads from the beginning."""
    always, fresh = View(), View()
    for topic, partitions in outcome.followed.items():
        always.take(topic, partitions[partition])
        fresh.take(topic, outcome.outputs[topic][partition])
        last = {record.key: record.value for record in outcome.outputs[topic][partition]}
        if topic == topics.LINE_ITEMS:
            known = fresh.documents[topic].values()
            stale = sum(document not in known for document in map(json.loads, last.values()))
            outcome.happened["older revisions that stand last"] += stale
    same = (always.documents, always.rejections) == (fresh.documents, fresh.rejections)
    return [] if same else [f"partition {partition}: a reader that never restarted knows something else"]


def _judge_bills(outcome: Outcome, partition: int, inputs: list[Any]) -> list[str]:
    """What the consumer knows is what the oracle says."""
    view = View()
    for topic, partitions in outcome.outputs.items():
        view.take(topic, partitions[partition])
    items = view.documents[topics.LINE_ITEMS].values()
    found = canonical(
        {
            "line_items": [item for item in items if number(item["quantity"]) or number(item["amount"])],
            "invoices": list(view.documents[topics.INVOICES].values()),
            "alerts": list(view.documents[topics.ALERTS].values()),
            "rejections": [_rejection(rejection) for rejection in view.rejections.values()],
        }
    )
    expected = canonical(expect(outcome.story, partition, inputs))
    lines = []
    for part in ("line_items", "invoices", "alerts"):
        for key in sorted(found[part].keys() | expected[part].keys()):
            one, other = expected[part].get(key), found[part].get(key)
            if one != other:
                lines.append(f"{part} {key}\n        expected {one}\n        found    {other}")
    if found["rejections"] != expected["rejections"]:
        lines.append(f"rejections\n        expected {expected['rejections']}\n        found    {found['rejections']}")
    return [f"partition {partition}: {line}" for line in lines]


def _rejection(rejection: dict[str, Any]) -> dict[str, Any]:
    event = rejection["event"]
    return {"source": event["source"], "id": event["id"], "code": rejection["code"], "meter": rejection.get("meter")}


def expect(story: Story, partition: int, inputs: list[Any]) -> Any:
    """What the oracle says of a partition's inputs under the catalogue as it is in the end.

    Stories change a catalogue only for times that nothing has reached yet, so it is as if it had always been so."""
    changes = [one.catalogue for one in story.inputs if isinstance(one, Change)]
    book = _read(changes[-1] if changes else json.dumps(story.catalogue))
    book["subscriptions"] = {
        name: terms
        for name, terms in (book.get("subscriptions") or {}).items()
        if partition_of("default", terms["customer"], story.partitions) == partition
    }
    ledger = Ledger(book)
    for arrival, one in enumerate(inputs):
        if isinstance(one, OracleTick):
            ledger.tick(moment(one.time))
        else:
            ledger.take(arrival, one)
    ledger.bring_up()
    return {
        "line_items": ledger.line_items(),
        "invoices": ledger.invoices,
        "alerts": ledger.alerts,
        "rejections": ledger.rejections,
    }
