"""What a journal with damaged records still says. No I/O.

A record that cannot be read leaves its place, its neighbours and the rule: a batch begins where the one before ended,
an epoch is opened once, and what is `Done` was a batch. So the part of the source that the lost records spoke of is
known even where they are not. How it was cut into batches may not be, and need not be: by law the cut shows in nothing
that leaves a processor, neither in contents nor in revisions (`streams.processor`).

What cannot be known is how many epochs a damaged end of the journal has opened. Whoever mends it opens one that is
above all of them, so that whatever they were, they are over.
"""

from collections.abc import Sequence
from typing import NamedTuple

from streams.journal import Batch, Done, JournalError, Open, Record
from streams.processor import Summary


class Damage(NamedTuple):
    """A record that cannot be read."""

    offset: int
    found: str


Item = tuple[int, Record | Damage]
"""A record's offset, and what stands there."""


class Cut(NamedTuple):
    """A part of the source that was worked in. `summary`: what it came to, None where its records are lost (then it
    may have been several steps). `done`: its outputs are known to be durable."""

    start: int
    end: int
    summary: Summary | None
    done: bool


class Mended(NamedTuple):
    """What the journal says, as far as it can be known."""

    cuts: list[Cut]
    position: int
    """Where the last cut ends. What a damaged end of the journal worked in beyond it is worked in again."""
    epoch: int
    """Above every epoch that may have been opened."""
    tail: int
    """How many records at the end are lost."""


class _OpenLost(Exception):
    """The item at `index` is of an epoch that no readable record opened."""

    def __init__(self, index: int, epoch: int) -> None:
        self.index, self.epoch = index, epoch


def mend(items: Sequence[Item], epoch: int, position: int, *, begins_later: bool = False) -> Mended:
    """Folds the records after a state at `position` under `epoch`.

    `begins_later`: the journal's beginning is gone, so its first batch may stand behind `position`.
    Raises: JournalError on a contradiction that damage does not explain.
    """
    whole = list(items)
    while True:
        try:
            return _Fold(epoch, position, begins_later).run(whole)
        except _OpenLost as lost:
            at = _place_of_open(whole, lost, epoch, position, begins_later)
            whole[at] = whole[at][0], Open(lost.epoch, "")


def _place_of_open(items: list[Item], lost: _OpenLost, epoch: int, position: int, begins_later: bool) -> int:
    """Which damaged record opened the epoch: the one under which the records before it lead to where the epoch goes on,
    because what an earlier owner wrote behind it does not count. Raises: JournalError where there is none."""
    record = items[lost.index][1]
    expected = record.start if isinstance(record, Batch) else record.end if isinstance(record, Done) else position
    best: tuple[int, int] | None = None
    for at in range(lost.index - 1, -1, -1):
        if isinstance(items[at][1], Damage):
            fold = _Fold(epoch, position, begins_later)
            trial = [*items[:at], (items[at][0], Open(lost.epoch, "")), *items[at + 1 : lost.index]]
            try:
                fold.run(trial)
            except (_OpenLost, JournalError):
                continue
            off = abs(fold.position - expected)
            if best is None or off < best[0]:
                best = off, at
    if best is None:
        raise JournalError(f"found a record of epoch {lost.epoch}, which was never opened: {record}")
    return best[1]


class _Fold:
    """The journal's rule, with room for what is lost."""

    def __init__(self, epoch: int, position: int, begins_later: bool) -> None:
        self.epoch = epoch
        self.position = position
        self._lost = 0
        self._gap_allowed = begins_later
        self._done = position
        self._cuts: list[tuple[int, int, Summary | None]] = []

    def run(self, items: Sequence[Item]) -> Mended:
        for index, (offset, record) in enumerate(items):
            if isinstance(record, Damage):
                self._lost += 1
            elif record.epoch < self.epoch:
                continue
            elif isinstance(record, Open):
                self.epoch = record.epoch
            elif record.epoch > self.epoch and not self._gap_allowed:
                raise _OpenLost(index, record.epoch)
            else:
                self.epoch = record.epoch
                self._count(offset, record)
        cuts = [Cut(start, end, summary, end <= self._done) for start, end, summary in self._cuts]
        return Mended(cuts, self.position, self.epoch + self._lost + 1, self._lost)

    def _count(self, offset: int, record: Batch | Done) -> None:
        if isinstance(record, Done):
            if record.end > self.position:
                self._reach(offset, record.end, record)
            self._done = max(self._done, record.end)
        elif record.end > self.position:
            if record.start < self.position:
                raise JournalError(
                    f"offset {offset}: found a batch from {record.start}, expected {self.position}: {record}"
                )
            if record.start > self.position:
                self._reach(offset, record.start, record)
            self._cuts.append((record.start, record.end, record.summary))
            self.position = record.end
        self._lost = 0
        self._gap_allowed = False

    def _reach(self, offset: int, end: int, record: Batch | Done) -> None:
        """The source up to `end` was worked in by records that are lost. Raises: JournalError if none are."""
        if not self._lost and not self._gap_allowed:
            raise JournalError(
                f"offset {offset}: found {record}, expected one from {self.position}, and nothing is damaged"
            )
        self._cuts.append((self.position, end, None))
        self.position = end
