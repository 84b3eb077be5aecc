"""A log as a running system writes it, with all that came of it: entries, the engine that folded them, and a store."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from rating.catalogue import load_catalogue
from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.retell.moment import Moment
from rating.retell.retold import Retold, Said
from rating.retell.service import Retellings
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
        self.catalogue = catalogue
        self.entries: list[Entry] = []
        self.settings = settings
        self.known: list[int] = []
        """For each entry when it was made; of a catalogue, when it was sent."""
        self.clock = 0
        self.done: list[tuple[str, Any, int]] = []
        """What was done, in order: its name, what with, and when."""
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
        self.done.append(("send", list(events), self.clock))
        self.add(as_bytes(events), [0] * len(events))

    def tick(self, time: str | int) -> None:
        """It is so late."""
        self.clock = parse_time(time) if isinstance(time, str) else time
        self.done.append(("tick", None, self.clock))
        self._process(encode_tick(self.clock), 1)

    def change(self, catalogue: str) -> None:
        """A changed catalogue, as the API writes it: merged with what is in force."""
        self.done.append(("change", catalogue, self.clock))
        documents: Catalogue = load_catalogue(catalogue).documents
        self._process(encode_entry(CATALOGUE, encode_document(documents)), 1)

    def rerate(self, **asked: Any) -> None:
        """A re-rating."""
        self.done.append(("rerate", asked, self.clock))
        self._process(encode_rerate(Rerate(**asked)), 1)

    def again(self, as_of: int | None, known_at: int | None) -> "Log":
        """A log of what is left of this one at a moment; the clock of usage stands at it in the end."""
        other = Log(self.catalogue, self.settings)
        stop = next((i for i, (name, _, at) in enumerate(self.done) if _is_later(name, at, known_at)), len(self.done))
        clock = -1
        for place, (name, what, at) in enumerate(self.done):
            if name == "send" and (known_at is None or at <= known_at):
                other.send([one for one in what if _is_before(one, as_of)], at)
            elif name == "tick" and (known_at is None or at <= known_at):
                clock = max(clock, at)
                if as_of is None or at <= as_of:
                    other.tick(at)
            elif name == "change" and place < stop:
                other.change(what)
            elif name == "rerate" and place < stop:
                other.rerate(**what)
        if as_of is not None and as_of <= clock:
            other.tick(as_of)
        return other

    def store(self) -> DuckdbStore:
        """A spend store that has read everything."""
        store = DuckdbStore(":memory:", threads=1)
        records = [TopicRecord(topics.EVENTS, 0, e.offset, e.end, b"", e.value) for e in self.entries]
        records += [TopicRecord(o.topic, 0, i, i + 1, o.key, o.value) for i, o in enumerate(self.all.outputs)]
        store.apply(records)
        return store


def _is_later(name: str, at: int, known_at: int | None) -> bool:
    return known_at is not None and name in ("send", "tick") and at > known_at


def _is_before(event: Any, as_of: int | None) -> bool:
    found = json.loads(event)
    return as_of is None or found["type"] == "taximeter.void" or parse_time(found["time"]) < as_of


def items_of(said: Said, customer: str) -> dict[str, dict[str, Any]]:
    """A customer's line items by id: what they say, without where in the log and how often. A changed price
    that changes no amount is told with the line's next revision, or with the step's: so tiers are left out too."""
    items = (msgspec.json.decode(text, type=LineItem) for text in said.line_items.values())
    kept = {item.id: msgspec.to_builtins(item) for item in items if item.customer == customer}
    for item in kept.values():
        for name in ("through", "revision", "tiers"):
            del item[name]
    return {id: item for id, item in kept.items() if (item["quantity"], item["amount"]) != ("0", "0")}


def documents_of(found: Sequence[Any], customer: str) -> list[dict[str, Any]]:
    """A customer's invoices or alerts, in order."""
    return [msgspec.to_builtins(one) for one in found if one.customer == customer]


def by_service(log: Log, store: DuckdbStore, customer: str, moment: Moment) -> Retold:
    """As a question would have it told."""
    retellings = Retellings(ViewOf(store, log.entries[-1].end), log.settings)  # type: ignore[arg-type]
    with retellings.told("default", customer, moment) as retold:
        return retold


class ViewOf:
    """A view that stands still."""

    def __init__(self, store: DuckdbStore, end: int) -> None:
        self.store, self.partitions, self.end = store, 1, end

    def through(self, of: str) -> dict[int, int]:
        """Everything."""
        return {0: self.end}
