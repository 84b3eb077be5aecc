"""Which offsets of the log an archive holds, read from the names of its files. Pure.

A *cut* is a stretch `[first, end)` of one partition's log. All its files carry the cut in their names, and the file
under `entries/` is written last: it says that the cut is whole. A file of events without that one counts for nothing.

Two archivers, or one that was restarted, may leave cuts that overlap. What stands in a file follows from its name alone
(the log's records never change), so overlaps are no contradiction: of each offset, one cut is read.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

ENTRIES: Final = "entries"
EVENTS: Final = "events"

_NAME = re.compile(r"(\d{5})-(\d{20})-(\d{20})\.parquet\Z")


class Cut(NamedTuple):
    """A stretch `[first, end)` of a partition's log that was archived at once."""

    partition: int
    first: int
    end: int

    @property
    def name(self) -> str:
        """The name that all files of the cut have."""
        return f"{self.partition:05d}-{self.first:020d}-{self.end:020d}.parquet"


class Part(NamedTuple):
    """What is read of one cut: the entries that begin in `[first, end)`."""

    cut: Cut
    first: int
    end: int


class Coverage(NamedTuple):
    """What an archive holds of one partition: everything in `[begin, end)` but the `gaps`."""

    begin: int
    end: int
    gaps: tuple[tuple[int, int], ...]
    parts: tuple[Part, ...]


def cut_of(path: str) -> Cut | None:
    """The cut that a path names; None where it is no file of an archive."""
    match = _NAME.search(path)
    return Cut(int(match[1]), int(match[2]), int(match[3])) if match else None


def coverage(cuts: Iterable[Cut]) -> dict[int, Coverage]:
    """Partition -> what whole cuts hold of it, each offset once.

    At each offset the cut is taken that reaches furthest; one that lies within others is not read at all.
    """
    by_partition: dict[int, list[Cut]] = {}
    for cut in cuts:
        by_partition.setdefault(cut.partition, []).append(cut)
    return {partition: _cover(sorted(found)) for partition, found in sorted(by_partition.items())}


def _cover(cuts: list[Cut]) -> Coverage:
    begin = position = cuts[0].first
    gaps: list[tuple[int, int]] = []
    parts: list[Part] = []
    at = 0
    while True:
        best: Cut | None = None
        while at < len(cuts) and cuts[at].first <= position:
            if best is None or cuts[at].end > best.end:
                best = cuts[at]
            at += 1
        if best is not None and best.end > position:
            parts.append(Part(best, position, best.end))
            position = best.end
        elif at < len(cuts) and cuts[at].first > position:
            gaps.append((position, cuts[at].first))
            position = cuts[at].first
        elif at == len(cuts):
            return Coverage(begin, position, tuple(gaps), tuple(parts))
