"""What a journal with damaged records still says. No I/O.

A record that cannot be read leaves its place, its neighbours and the rule: a batch begins where the one before ended,
an epoch is opened once, and what is `Done` was a batch. So the part of the source that the lost records spoke of is
known even where they are not. Two records side by side hold one batch at most, so a cut between two that can be read is
known as it was. Where more are lost it is not, and the part is worked in by other steps: what leaves the rating engine
is the same for any, contents and revisions (`rating.engine`), and it is compared with what was emitted
(`streams.repairing.Rise`). Nor need be known which owner wrote a part that two of them worked in: both came to the
same.

What cannot be known is how many epochs a damaged end of the journal has opened. Whoever mends it opens one that is
above all of them, so that whatever they were, they are over.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.journal import Batch, Done, JournalError, Open, Record
from streams.processor import Summary

_LOST_OF_ONE_STEP: Final = 2
"""Records side by side that hold one batch at most: behind each stands a `Done`, or the `Open` of who found it."""


class Damage(NamedTuple):
    """A record that cannot be read."""

    offset: int
    found: str


Item = tuple[int, Record | Damage]
"""A record's offset, and what stands there."""


class Cut(NamedTuple):
    """A part of the source that was worked in. `summary`: what it came to, None where its record is lost. `done`: its
    outputs are known to be durable. `one_step`: it was one, as far as can be known; else it may have been several."""

    start: int
    end: int
    summary: Summary | None
    done: bool
    one_step: bool = True


class Mended(NamedTuple):
    """What the journal says, as far as it can be known."""

    cuts: list[Cut]
    position: int
    """Where the last cut ends. What a damaged end of the journal worked in beyond it is worked in again."""
    epoch: int
    """Above every epoch that may have been opened."""
    tail: int
    """How many records at the end are lost."""


def mend(items: Sequence[Item], epoch: int, position: int, *, begins_later: bool = False) -> Mended:
    """Folds the records after a state at `position` under `epoch`.

    `begins_later`: the journal's beginning is gone, so its first batch may stand behind `position`.
    Raises: JournalError on a contradiction that damage does not explain.
    """
    return _Fold(epoch, position, begins_later).run(items)


class _Fold:
    """The journal's rule, with room for what is lost."""

    def __init__(self, epoch: int, position: int, begins_later: bool) -> None:
        self._epoch = epoch
        self._position = position
        self._lost = 0
        """Damaged records since the last one that counted."""
        self._damaged = 0
        self._begins_later = begins_later
        self._done = position
        self._cuts: list[tuple[int, int, Summary | None, bool]] = []

    def run(self, items: Sequence[Item]) -> Mended:
        for offset, record in items:
            if isinstance(record, Damage):
                self._lost += 1
                self._damaged += 1
            elif record.epoch < self._epoch:
                continue
            elif isinstance(record, Open):
                self._epoch = record.epoch
            elif record.epoch > self._epoch and not self._excused:
                raise JournalError(
                    f"offset {offset}: found a record of epoch {record.epoch}, which was never opened: {record}"
                )
            else:
                self._epoch = record.epoch
                self._count(offset, record)
        cuts = [Cut(start, end, summary, end <= self._done, one) for start, end, summary, one in self._cuts]
        return Mended(cuts, self._position, self._epoch + self._damaged + 1, self._lost)

    @property
    def _excused(self) -> bool:
        """Whether something that is lost may explain what does not fit."""
        return self._damaged > 0 or self._begins_later

    def _count(self, offset: int, record: Batch | Done) -> None:
        if isinstance(record, Done):
            self._reach(offset, record.end, record)
            self._done = max(self._done, record.end)
        elif record.end > self._position:
            self._reach(offset, record.start, record)
            if record.start == self._position:
                self._cuts.append((record.start, record.end, record.summary, True))
                self._position = record.end
            else:
                # The barrier between two owners is lost, and a batch that the first wrote behind it was counted. It was
                # never emitted, but working it in is right: what is left is the rest of the second one's.
                self._reach(offset, record.end, record)
        self._lost = 0
        self._begins_later = False

    def _reach(self, offset: int, end: int, record: Batch | Done) -> None:
        """The source up to `end` was worked in by records that are lost. Raises: JournalError if none are."""
        if end == self._position or (end < self._position and (self._excused or isinstance(record, Done))):
            return
        if not self._excused:
            raise JournalError(
                f"offset {offset}: found {record}, expected one from {self._position}, and nothing is damaged"
            )
        self._cuts.append((self._position, end, None, 0 < self._lost <= _LOST_OF_ONE_STEP))
        self._position = end
