"""`taximeter rate-file`: a file of events through the same engine, in memory, without a log or a clock.

Arrival is the order in the file, the deduplication window spans it, and no event is refused for its time. Events
without a time get the moment at which rating began.
"""

import gzip
import itertools
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ingest.columns import Parsed, make_rejection
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, View
from ingest.routed import Routed, refuse_unroutable
from rating.catalogue import load_catalogue
from rating.compiled import Compiled
from rating.engine import RatingProcessor, RatingSettings
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.entry import EVENTS, Entry, encode_catalogue, encode_entry, encode_tick
from schemas.faults import encode_document
from schemas.limits import BATCH_EVENTS_MAX
from schemas.output import Alert, Invoice, LineItem, decode_alert
from schemas.rejection import Rejection, Where
from streams.processor import Output, Step
from taximeter.process import say

BATCH = 5_000
_WHITE = b" \t\r\n"


@dataclass(slots=True)
class Rated:
    """What a file came to: the latest revision of each line item, and everything else in the order it was made."""

    line_items: list[LineItem] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0

    @property
    def rejected(self) -> int:
        """How many rejections; conflicts are none."""
        return sum(rejection.code != "conflict" for rejection in self.rejections)


def rate_events(catalogue: str | bytes, events: Iterable[bytes], as_of: int | None = None, batch: int = BATCH) -> Rated:
    """Rates CloudEvents (each a JSON text) under a catalogue's text. `as_of`: microseconds; closes what has ended.

    `batch` is how many events go in at once: it changes nothing. Raises: CatalogueError.
    """
    rater = FileRater(load_catalogue(catalogue))
    numbered = ((number, text.strip(_WHITE)) for number, text in enumerate(events, 1))
    lines = ((number, text) for number, text in numbered if text)
    while chunk := list(itertools.islice(lines, min(batch, BATCH_EVENTS_MAX))):
        rater.add([text for _, text in chunk], [number for number, _ in chunk])
    return rater.finish(as_of)


class FileRater:
    """Feeds lines of a file to an engine and gathers what it says."""

    def __init__(self, compiled: Compiled, tenant: str = DEFAULT_TENANT) -> None:
        self._tenant = tenant
        settings = RatingSettings(partitions=1, lateness=0, window_days=None)
        self._engine = RatingProcessor(settings).open(0, None)
        view = View.of(compiled.documents)
        self._router = Router(tenant, view, 1)
        self._extractor = view.extractor
        self._offset = 0
        self._lines: list[int] = []
        self._latest: dict[str, LineItem] = {}
        self._began = time.time_ns() // 1000
        self.rated = Rated()
        self._process(encode_catalogue(tenant, encode_document(compiled.documents)), 1)
        self._lines.append(0)

    def add(self, texts: list[bytes], lines: list[int]) -> None:
        """Rates some lines; `lines` are their numbers in the file."""
        parsed = parse_texts(texts)._replace(lines=lines)
        self.rated.events += parsed.total
        arrived = [self._began] * parsed.total
        events, refused = refuse_unroutable(parsed, self._router, arrived, None)
        self.rated.rejections.extend(make_rejection(one, parsed.where(one.at), self._tenant) for one in refused)
        if len(events):
            self._events(parsed, Routed(events, self._router, [self._began] * len(events)))

    def _events(self, parsed: Parsed, routed: Routed) -> None:
        rows = routed.by_partition()[0]
        assert parsed.lines is not None
        self._lines.extend(parsed.lines[at] for at in routed.events.at)
        for pack, count in encode_packs(self._tenant, rows, self._extractor):
            self._process(encode_entry(EVENTS, pack), count)

    def finish(self, as_of: int | None) -> Rated:
        """Closes what has ended by `as_of`, and returns everything."""
        if as_of is not None:
            self._process(encode_tick(as_of), 1)
        else:
            self._gather(self._engine.settle())
        rated = self.rated
        rated.line_items = sorted(filter(_says_something, self._latest.values()), key=_order)
        rated.rejections.sort(key=lambda rejection: rejection.where.line or 0)
        return rated

    def _process(self, value: bytes, count: int) -> None:
        entry = Entry(self._offset, self._offset + count, value)
        self._offset += count
        self._gather(self._engine.process([entry]))

    def _gather(self, step: Step) -> None:
        self.rated.accepted += step.summary.accepted
        self.rated.duplicates += step.summary.duplicates
        self.rated.conflicts += step.summary.conflicts
        for output in step.outputs:
            self._take(output)

    def _take(self, output: Output) -> None:
        if output.topic == topics.LINE_ITEMS:
            item = msgspec.json.decode(output.value, type=LineItem)
            self._latest[item.id] = item
        elif output.topic == topics.INVOICES:
            self.rated.invoices.append(msgspec.json.decode(output.value, type=Invoice))
        elif output.topic == topics.ALERTS:
            alert = decode_alert(output.value)
            if not isinstance(alert, Alert):
                raise RuntimeError(alert.message)  # a broken invariant: nothing of it may be written
            self.rated.alerts.append(alert)
        elif output.topic == topics.REJECTIONS:
            rejection = _decode_rejection(output.value)
            line = self._lines[rejection.where.offset or 0]
            self.rated.rejections.append(msgspec.structs.replace(rejection, where=Where(line=line)))


class _AsItCame(Rejection, frozen=True, kw_only=True):
    """A rejection whose event keeps its text, so that no number of it is read through a float."""

    event: msgspec.Raw


def _decode_rejection(value: bytes) -> Rejection:
    return msgspec.json.decode(value, type=_AsItCame)


def _says_something(item: LineItem) -> bool:
    return item.quantity != "0" or item.amount != "0"


def _order(item: LineItem) -> tuple[Any, ...]:
    dimensions = [(value is not None, value or "") for value in item.dimensions.values()]
    return item.tenant, item.customer, item.subscription, item.period.start, item.charge, dimensions


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, `.gz` too. Raises: OSError."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from file


def write_outputs(rated: Rated, folder: Path) -> dict[str, int]:
    """Writes the four NDJSON files into the folder. Returns how many lines each has. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[Any]] = {
        "line_items.ndjson": rated.line_items,
        "invoices.ndjson": rated.invoices,
        "alerts.ndjson": rated.alerts,
        "rejections.ndjson": rated.rejections,
    }
    encode = msgspec.json.Encoder().encode
    for name, documents in files.items():
        (folder / name).write_bytes(b"".join(encode(document) + b"\n" for document in documents))
    return {name: len(documents) for name, documents in files.items()}


def rate_path(catalogue: Path, events: Path, as_of: int | None, out: Path) -> int:
    """The command: rates one file, writes the outputs, says how many. Returns the exit status 0 or 3.

    Raises: CatalogueError, OSError.
    """
    try:
        rated = rate_events(catalogue.read_bytes(), read_lines(events), as_of)
    except (EOFError, zlib.error) as error:
        raise OSError(None, f"not a whole gzip file: {error}", str(events)) from None
    counts = write_outputs(rated, out)
    say(f"{rated.events} events: {rated.accepted} accepted, {rated.duplicates} duplicates, {rated.conflicts} conflicts")
    for name, count in counts.items():
        say(f"{count:>8} {name}")
    say(f"{rated.rejected} rejected")
    return 3 if rated.rejected else 0
