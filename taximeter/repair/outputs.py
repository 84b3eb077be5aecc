"""Damaged rows of the output topics of an embedded log: what stood in them is made again by replaying the source.

A private engine goes over the whole partition. What it says and no readable row holds stood in the damaged ones. A row
keeps its place and its number of records: what is left over is filled up with records that stand elsewhere too, which
changes nothing for who keeps the highest revision of each id.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from rating.catalogue import load_catalogue
from rating.engine import RatingProcessor
from schemas import entry as entries
from schemas import topics
from schemas.catalogue import Catalogue, CatalogueError, Filed, split_documents
from schemas.entry import Entry
from streams.embedded.folder import LogError
from streams.embedded.log import SqliteLog
from streams.embedded.mender import records_of
from streams.journal import decode_record
from streams.repairing import Repair

_OUTPUTS: Final = (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS, topics.REJECTIONS)
_ENTRIES_MAX: Final = 4096
_EVENTS_MAX: Final = 100_000
_BYTES_MAX: Final = 32 * 1024 * 1024
_NOTHING: Final = (b"", b"")
"""A record that readers pass over."""

Record = tuple[bytes, bytes]


class _Revised(msgspec.Struct, frozen=True):
    revision: int


_REVISED = msgspec.json.Decoder(_Revised)


class Row(NamedTuple):
    """A damaged row: records `[start, end)`."""

    topic: str
    partition: int
    start: int
    end: int
    found: str

    def __str__(self) -> str:
        return (
            f"{self.topic}/{self.partition}, offset {self.start}: {self.found}; it holds the offsets up to {self.end}"
        )


def repair_outputs(log: SqliteLog, processor: RatingProcessor, partition: int, repair: Repair, source: bool) -> None:
    """Looks at the output topics of a partition. `source`: whether its source and its journal are whole."""
    rows = {topic: damaged_rows(log, topic, partition) for topic in _OUTPUTS}
    if partition == 0:
        for row in damaged_rows(log, topics.CATALOGUE, 0):
            _repair_catalogue(log, row, repair)
    if not any(rows.values()):
        return
    whole = source and log.begin(topics.EVENTS, partition) == 0
    said = _said_again(log, processor, partition, [topic for topic in rows if rows[topic]]) if whole else {}
    for topic, damaged in rows.items():
        if damaged and not whole:
            for row in damaged:
                repair.lost(str(row), "the source that it was made from is not whole, see above")
        elif damaged:
            _put_back(log, damaged, said.get(topic, []), repair)


def damaged_rows(log: SqliteLog, topic: str, partition: int) -> list[Row]:
    """The rows that cannot be read."""
    found = []
    for start, after, value, damage in log.scan(topic, partition):
        what = records_of(topic, partition, start, value) if damage is None else damage
        if isinstance(what, str):
            found.append(Row(topic, partition, start, after, what))
    return found


def _readable(log: SqliteLog, topic: str, partition: int) -> Iterator[Record]:
    for start, _, value, damage in log.scan(topic, partition):
        found = records_of(topic, partition, start, value) if damage is None else damage
        if not isinstance(found, str):
            yield from found


# Made again ----------------------------------------------------------------------------------------------------------


def _said_again(
    log: SqliteLog, processor: RatingProcessor, partition: int, wanted: Sequence[str]
) -> dict[str, list[Record]]:
    """By topic, what the engine says and no readable row holds; of line items the highest revision of each id."""
    known: dict[str, dict[bytes, int]] = {}
    for topic in wanted:
        of = _identity(topic)
        held: dict[bytes, int] = {}
        for key, value in _readable(log, topic, partition):
            if value:
                id, revision = of(key, value)
                held[id] = max(revision, held.get(id, -1))
        known[topic] = held
    lacking: dict[str, dict[bytes, tuple[int, Record]]] = {topic: {} for topic in wanted}
    engine = processor.open(partition, None)
    for part in _source(log, partition, _journalled(log, partition)):
        for topic, key, value in engine.process(part).outputs:
            if topic in lacking:
                id, revision = _identity(topic)(key, value)
                if revision > known[topic].get(id, -1):
                    lacking[topic][id] = revision, (key, value)
    return {topic: [record for _, record in found.values()] for topic, found in lacking.items()}


def _identity(topic: str) -> Callable[[bytes, bytes], tuple[bytes, int]]:
    """What tells records of a topic apart, and their revision."""
    if topic == topics.REJECTIONS:
        return lambda key, value: (value, 0)
    if topic == topics.ALERTS:
        return lambda key, value: (key, 0)
    return lambda key, value: (key, _REVISED.decode(value).revision)


def _journalled(log: SqliteLog, partition: int) -> int:
    """How far the engine has come: what it will say of the source behind that is not said yet."""
    position = 0
    at = log.begin(topics.JOURNAL, partition)
    while records := log.read_records(topics.JOURNAL, partition, at):
        for record in records:
            position = max(position, getattr(decode_record(record.value), "end", 0))
        at = records[-1].end
    return position


def _source(log: SqliteLog, partition: int, end: int) -> Iterator[list[Entry]]:
    position = 0
    while position < end:
        bounds = {"entries_max": _ENTRIES_MAX, "events_max": min(_EVENTS_MAX, end - position), "bytes_max": _BYTES_MAX}
        found = log.read_entries(partition, position, **bounds)
        yield found
        position = found[-1].end


# Put back ------------------------------------------------------------------------------------------------------------


def _put_back(log: SqliteLog, rows: list[Row], records: list[Record], repair: Repair) -> None:
    topic, partition = rows[0].topic, rows[0].partition
    filler = next(iter(records), None) or next(_readable(log, topic, partition), _NOTHING)
    left = list(records)
    missing = sum(row.end - row.start for row in rows) - len(records)
    for row in rows:
        size = row.end - row.start
        own, left = left[:size], left[size:]
        if topic == topics.REJECTIONS:
            filler = _NOTHING  # two of a kind would be two rejections
        if not repair.dry_run:
            log.replace_row(topic, partition, row.start, [*own, *[filler] * (size - len(own))])
        if topic == topics.REJECTIONS and partition == 0 and missing > 0 and row is rows[-1]:
            repair.lost(
                str(row),
                f"{len(records)} rejections of the engine are put back; {missing} were the door's, which stand nowhere "
                "else. Their senders were told; no amount rests on them",
            )
        else:
            rest = "" if len(own) == size else "; what else stood there has been overtaken by later revisions"
            repair.mended(str(row), f"{len(own)} of {size} records made again from the source{rest}")
    if left and not repair.dry_run:
        log.publish_blocking(topic, partition, left)


def _repair_catalogue(log: SqliteLog, row: Row, repair: Repair) -> None:
    """Documents stand in the source too: those in force that no readable record holds come back, as a new version."""
    held = dict(_readable(log, topics.CATALOGUE, 0))
    known = {key: bytes(msgspec.json.decode(value, type=Filed).document) for key, value in held.items() if value}
    try:
        in_force = _catalogues_in_force(log)
    except (LogError, CatalogueError) as error:
        repair.lost(str(row), f"the documents stand in the source too, which cannot be read: {error}")
        return
    filed = [one for of in in_force.items() for one in split_documents(of[1], of[0])]
    filed = [one for one in filed if known.get(one.key) != bytes(one.document)]
    records = [(one.key, msgspec.json.encode(one)) for one in filed]
    size = row.end - row.start
    filler = next(iter(records), None) or next(iter(held.items()))  # said earlier than it was: what comes later counts
    if not repair.dry_run:
        log.replace_row(topics.CATALOGUE, 0, row.start, [*records[:size], *[filler] * (size - len(records))])
        if records[size:]:
            log.publish_blocking(topics.CATALOGUE, 0, records[size:])
    repair.mended(
        str(row), f"{len(records)} documents in force put back from the source; older versions may be missing"
    )


def _catalogues_in_force(log: SqliteLog) -> dict[str, Catalogue]:
    """Tenant -> its documents."""
    newest: dict[str, bytes] = {}
    for part in _source(log, 0, log.end(topics.EVENTS, 0)):
        for entry in part:
            if entry.kind in entries.CATALOGUES:
                brought = entries.decode_catalogue(entry.kind, entry.payload)
                newest[brought.tenant] = bytes(brought.catalogue)
    return {tenant: load_catalogue(documents).documents for tenant, documents in newest.items()}
