"""What tests of the engine share: events as a log's entries, and engines that are fed with them."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ingest.columns import Parsed
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, View
from ingest.routed import Routed, refuse_unroutable
from rating.catalogue import load_catalogue
from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.entry import EVENTS, Entry, encode_catalogue, encode_entry, encode_tick
from schemas.faults import encode_document
from schemas.times import parse_time
from streams.processor import Output

SETTINGS = RatingSettings(partitions=1, lateness=0, window_days=None)
ARRIVED = parse_time("2026-11-21T10:00:00Z")


class Log:
    """Entries that follow each other, as an embedded log would hold them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.tenant = DEFAULT_TENANT
        self.views: dict[str, View] = {}

    def of(self, tenant: str) -> "Log":
        """Documents and events from here on are this tenant's."""
        self.tenant = tenant
        return self

    def _append(self, kind: int, payload: bytes, count: int) -> None:
        self._value(encode_entry(kind, payload), count)

    def _value(self, value: bytes, count: int) -> None:
        offset = self.entries[-1].end if self.entries else 0
        self.entries.append(Entry(offset, offset + count, value))

    def catalogue(self, text: str) -> "Log":
        """Documents that take force here."""
        documents = load_catalogue(text).documents
        self.views[self.tenant] = View.of(documents)
        self._value(encode_catalogue(self.tenant, encode_document(documents)), 1)
        return self

    def tick(self, time: str) -> "Log":
        """It is now `time`."""
        self._value(encode_tick(parse_time(time)), 1)
        return self

    def events(self, texts: Iterable[str], batch: int = 1000, arrived: int = ARRIVED) -> "Log":
        """Packs of at most `batch` events each."""
        lines = [text.encode() for text in texts]
        for start in range(0, len(lines), batch):
            self._pack(parse_texts(lines[start : start + batch]), arrived)
        return self

    def _pack(self, parsed: Parsed, arrived: int) -> None:
        view = self.views.get(self.tenant, View({}))
        router = Router(self.tenant, view, 1)
        events, refused = refuse_unroutable(parsed, router, [arrived] * parsed.total, None)
        assert not refused, refused
        rows = Routed(events, router, [arrived] * len(events.id)).by_partition()[0]
        for pack, count in encode_packs(self.tenant, rows, view.extractor):
            self._append(EVENTS, pack, count)


def open_engine(snapshot: bytes | None = None, settings: RatingSettings = SETTINGS) -> RatingEngine:
    """An engine of partition 0."""
    engine = RatingProcessor(settings).open(0, snapshot)
    assert isinstance(engine, RatingEngine)
    return engine


def event(id: str, time: str, data: str = '{"n": 1}', **changes: Any) -> str:
    """A CloudEvent's text; `data` is taken letter by letter."""
    envelope = {"specversion": "1.0", "id": id, "source": "gate", "type": "use", "subject": "acme", "time": time}
    return msgspec.json.encode({**envelope, **changes, "data": msgspec.Raw(data.encode())}).decode()


def run(log: Log, engine: RatingEngine | None = None) -> list[Output]:
    """Everything that an engine says of a log, entry by entry. The log goes on where the engine stands."""
    engine = engine or open_engine()
    on = engine.tenants.totals.position - log.entries[0].offset if log.entries else 0
    entries = [Entry(entry.offset + on, entry.end + on, entry.value) for entry in log.entries]
    return [output for entry in entries for output in engine.process([entry]).outputs]


def decoded(outputs: Sequence[Output], topic: str) -> list[dict[str, Any]]:
    """The records of one topic."""
    return [msgspec.json.decode(output.value) for output in outputs if output.topic == topic]


def latest_lines(outputs: Sequence[Output]) -> dict[str, dict[str, Any]]:
    """The highest revision of each line item, by id."""
    found: dict[str, dict[str, Any]] = {}
    for item in decoded(outputs, topics.LINE_ITEMS):
        if item["id"] not in found or item["revision"] > found[item["id"]]["revision"]:
            found[item["id"]] = item
    return found


def plain_dump(snapshot: bytes) -> dict[str, Any]:
    """A snapshot by what it holds: indexes and ledger without the order of their places."""
    whole = msgspec.msgpack.decode(snapshot)
    [[_, dump]] = whole["tenants"]  # of a log with one tenant
    dump["identities"], dump["whole"] = whole["identities"], whole["totals"]
    dump["indexes"] = {name: _pairs(*parts) for name, parts in dump["indexes"].items()}
    ledger = dump["tables"]["ledger"] = dump["ledger"].pop("rows")
    widths = {name: len(column) // max(1, ledger[0]) for name, column in ledger[1].items()}
    rows = [b"".join(c[i * widths[n] : (i + 1) * widths[n]] for n, c in ledger[1].items()) for i in range(ledger[0])]
    ledger[1] = sorted(rows)  # in the log's order within each cell only
    buckets = dump["identities"]["buckets"]
    dump["identities"]["buckets"] = {number: _pairs(*parts) for number, parts in buckets.items()}
    return dump


def _pairs(keys: bytes, values: bytes) -> list[tuple[bytes, bytes]]:
    return sorted((keys[16 * i : 16 * i + 16], values[4 * i : 4 * i + 4]) for i in range(len(values) // 4))
