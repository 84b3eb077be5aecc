"""What the engines of this process have come to: told by their threads, read by status and metrics.

A difference that an engine finds is logged here at once, as an error; it is an alert on `taximeter.alerts` besides.
"""

import logging
from dataclasses import dataclass
from threading import Lock

from rating.totals import Broken, Totals
from streams.processor import Counts
from taximeter.status import Finding

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """One partition's totals at a moment."""

    position: int
    numbers: int
    """Offsets that its entries take on a log that numbers events."""
    skipped: int
    counts: Counts
    broken: dict[str, Broken]

    def findings(self, partition: int) -> list[Finding]:
        """What the engine has found to differ."""
        return [
            Finding(partition=partition, position=one.position, what=what, expected=one.expected, found=one.found)
            for what, one in self.broken.items()
        ]


class EngineTotals:
    """An observer of rating engines (`rating.engine.Observer`)."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._lock = Lock()

    def told(self, partition: int, totals: Totals) -> None:
        """See `rating.engine.Observer`."""
        broken = dict(totals.broken)
        seen = Seen(totals.position, totals.numbers, totals.skipped, totals.as_counts(), broken)
        with self._lock:
            before = self._seen.get(partition)
            self._seen[partition] = seen
        for what in broken.keys() - (before.broken.keys() if before else ()):
            one = broken[what]
            _logger.error(
                "partition %d does not reconcile from position %d on: %s should be %s, found %s",
                partition, one.position, what, one.expected, one.found,
            )  # fmt: skip

    def get(self, partition: int) -> Seen | None:
        """The newest of a partition."""
        return self._seen.get(partition)
