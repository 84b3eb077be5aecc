"""A log as a running system writes it, with all that came of it: entries, the engine that folded them, and a store."""

from collections.abc import Sequence
from typing import Any

import msgspec

from rating.catalogue import load_catalogue
from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.retell.retold import Said
from rating.spend.duckdb_store import DuckdbStore
from schemas import topics
from schemas.catalogue import Catalogue
from schemas.entry import CATALOGUE, Entry, Rerate, encode_entry, encode_rerate, encode_tick
from schemas.faults import encode_document
from schemas.output import LineItem
from schemas.times import parse_time
from streams.log import TopicRecord
from taximeter.rate_file import FileRater
from tests.oracle.engine import as_bytes

SETTINGS = RatingSettings(partitions=1, lateness=0, window_days=None, corrections=2**60)


class Log(FileRater):
    """Writes entries of one partition as the door and the host would, and folds them at once, as the host does."""

    def __init__(self, catalogue: str, settings: RatingSettings = SETTINGS) -> None:
        self.entries: list[Entry] = []
        self.settings = settings
        self.known: list[int] = []
        """For each entry when it was made; of a catalogue, when it was sent."""
        self.clock = 0
        super().__init__(load_catalogue(catalogue))
        self.engine: RatingEngine = RatingProcessor(settings).open(0, None)
        self._engine = self.engine
        self.all = Said()
        self._fold()

    def _process(self, value: bytes, count: int) -> None:
        self.entries.append(Entry(self._offset, self._offset + count, value))
        self.known.append(self.clock)
        self._offset += count
        if hasattr(self, "all"):
            self._fold()

    def _fold(self) -> None:
        self.all.take(self.engine.process(self.entries[-1:]).outputs)

    def send(self, events: Sequence[Any], arrived: str | int) -> None:
        """A request with some events, taken at a time."""
        self._began = self.clock = parse_time(arrived) if isinstance(arrived, str) else arrived
        self.add(as_bytes(events), [0] * len(events))

    def tick(self, time: str | int) -> None:
        """It is so late."""
        self.clock = parse_time(time) if isinstance(time, str) else time
        self._process(encode_tick(self.clock), 1)

    def change(self, catalogue: str) -> None:
        """A changed catalogue, as the API writes it: merged with what is in force."""
        documents: Catalogue = load_catalogue(catalogue).documents
        self._process(encode_entry(CATALOGUE, encode_document(documents)), 1)

    def rerate(self, **asked: Any) -> None:
        """A re-rating."""
        self._process(encode_rerate(Rerate(**asked)), 1)

    def store(self) -> DuckdbStore:
        """A spend store that has read everything."""
        store = DuckdbStore(":memory:", threads=1)
        records = [TopicRecord(topics.EVENTS, 0, e.offset, e.end, b"", e.value) for e in self.entries]
        records += [TopicRecord(o.topic, 0, i, i + 1, o.key, o.value) for i, o in enumerate(self.all.outputs)]
        store.apply(records)
        return store


def items_of(said: Said, customer: str) -> dict[str, dict[str, Any]]:
    """A customer's line items by id: what they say, without where in the log it was said."""
    items = (msgspec.json.decode(text, type=LineItem) for text in said.line_items.values())
    kept = {item.id: msgspec.to_builtins(item) for item in items if item.customer == customer}
    for item in kept.values():
        for name in ("through", "revision"):
            del item[name]
    return {id: item for id, item in kept.items() if (item["quantity"], item["amount"]) != ("0", "0")}


def documents_of(found: Sequence[Any], customer: str) -> list[dict[str, Any]]:
    """A customer's invoices or alerts, in order."""
    return [msgspec.to_builtins(one) for one in found if one.customer == customer]
