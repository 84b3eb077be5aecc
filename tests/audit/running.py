"""What tests of the audit share: events through the real engine, into an archive; and the audit of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rating.archive.ranges import Cut
from rating.archive.store import Archive
from rating.catalogue import load_catalogue
from rating.engine import RatingProcessor, RatingSettings
from schemas import topics
from schemas.entry import Entry, encode_tick
from schemas.times import parse_time
from streams.processor import Output, Step
from taximeter.audit.found import Found
from taximeter.audit.report import Report
from taximeter.audit.run import Audit, AuditSettings
from taximeter.rate_file import FileRater
from tests.oracle.engine import as_bytes
from tests.oracle.oracle import Tick

SETTINGS = AuditSettings(lateness=0, window_days=None, corrections=2**60)
BATCH = 1000


class Recorded(FileRater):
    """A file with ticks in it, whose entries and outputs are kept."""

    processor = RatingProcessor(RatingSettings(partitions=1, lateness=0, window_days=None, corrections=2**60))

    def __init__(self, catalogue: str | bytes) -> None:
        self.entries: list[Entry] = []
        self.outputs: list[Output] = []
        super().__init__(load_catalogue(catalogue))
        self._engine.settings = self.processor.settings

    def _process(self, value: bytes, count: int) -> None:
        self.entries.append(Entry(self._offset, self._offset + count, value))
        super()._process(value, count)

    def _gather(self, step: Step) -> None:
        self.outputs += step.outputs
        super()._gather(step)

    def tick(self, time: int) -> None:
        """It is that time now."""
        self._process(encode_tick(time), 1)
        self._lines.append(0)

    def entry(self, value: bytes) -> None:
        """Any other entry."""
        self._process(value, 1)
        self._lines.append(0)


def record(catalogue: str, inputs: Sequence[Any], as_of: str | None = None) -> Recorded:
    """Events and ticks through the engine, in their order."""
    rater = Recorded(catalogue)
    waiting: list[Any] = []

    def add() -> None:
        for first in range(0, len(waiting), BATCH):
            some = waiting[first : first + BATCH]
            rater.add(as_bytes(some), list(range(1, len(some) + 1)))
        waiting.clear()

    for one in inputs:
        if isinstance(one, Tick):
            add()
            rater.tick(parse_time(one.time))
        else:
            waiting.append(one)
    add()
    if as_of is not None:
        rater.tick(parse_time(as_of))
    return rater


def written(rater: Recorded) -> Found:
    """What the engine wrote."""
    found = Found({0: rater.entries[-1].end})
    for topic in (topics.LINE_ITEMS, topics.INVOICES):
        found.add(topic, [output.value for output in rater.outputs if output.topic == topic])
    return found


def archived(rater: Recorded, folder: Path, cuts: int = 2) -> Archive:
    """An archive of what the engine read, in a few cuts."""
    archive = Archive(folder)
    size = max(1, -(-len(rater.entries) // cuts))
    for first in range(0, len(rater.entries), size):
        some = rater.entries[first : first + size]
        archive.write(Cut(0, some[0].offset, some[-1].end), some)
    return archive


def audited(
    rater: Recorded, folder: Path, change: Callable[[Found], object] = lambda found: None, **options: Any
) -> Report:
    """The audit's report on what an engine did; `change` may corrupt what it wrote."""
    found = written(rater)
    change(found)
    return Audit(archived(rater, folder), found, SETTINGS, **options).run()


def told(report: Report) -> list[str]:
    """Every difference as a line of text."""
    return [
        f"{one.what} {one.about}: " + "; ".join(f"{name}: expected {e}, found {f}" for name, e, f in one.fields)
        for one in report.differences
    ]
