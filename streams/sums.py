"""Sums: what the steps of one journal add up to, and whether they say of themselves what they add up to.

Each step says what it did and, from a processor that keeps totals in its state, what all steps so far have done
(`Summary.through`). Adding the first up by oneself must give the second. Whoever reads the journal folds it in: the
spend store, and `taximeter status`. Pure: records in, a value out.
"""

from collections.abc import Iterable

import msgspec

from streams.journal import REPAIR, Batch, Open, Record
from streams.processor import CARRIED, Counts

CLASSES = ("rated", "refused", "voids", "voided", "unused")
"""What may have become of an accepted event."""


class Wrong(msgspec.Struct, frozen=True):
    """The first step whose figures do not fit those before it."""

    position: int
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"at position {self.position}: {self.what} should be {self.expected}, found {self.found}"


class Sums(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fold of the steps. Folding some of them again changes nothing.

    `begun`: where the steps that were read begin. What came before (`base`) is taken from what the first of them says,
    so that a journal that no longer has its beginning can be added up too.
    """

    begun: int = -1
    base: Counts = Counts()
    position: int = 0
    counts: Counts = Counts()
    wrong: Wrong | None = None
    claims: bool = False
    """Whether the newest step says what all so far have done."""

    def add(self, batch: Batch) -> "Sums":
        """The sums with one more step."""
        if self.begun >= 0 and batch.end <= self.position:
            return self
        summary, through = batch.summary, batch.summary.through
        own, wrong = self.counts, self.wrong
        begun, base = self.begun, self.base
        if begun < 0:
            begun = batch.start
            if batch.start > 0 and through is not None:
                own = base = through.minus(summary.carried())
        elif batch.start != self.position:
            wrong = wrong or Wrong(batch.end, "the beginning of a step", str(self.position), str(batch.start))
        counts = own.plus(summary.carried())
        return Sums(begun, base, batch.end, counts, wrong or _check(batch, counts), through is not None)

    def take(self, record: Record) -> "Sums":
        """The sums with one more record that counts.

        A repair leaves records behind that cannot be read, and a state that has been made again without them: what is
        added up begins anew there.
        """
        if isinstance(record, Batch):
            return self.add(record)
        if isinstance(record, Open) and record.writer.startswith(REPAIR):
            return Sums(position=self.position)
        return self

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Sums":
        """The sums of a whole journal, by the journal's rule."""
        sums, epoch = cls(), 0
        for record in records:
            if record.epoch >= epoch:  # what an earlier owner wrote after a later one opened does not count
                epoch = record.epoch
                sums = sums.take(record)
        return sums


def _check(batch: Batch, counts: Counts) -> Wrong | None:
    through = batch.summary.through
    if through is not None:
        for name in (*CARRIED, "amount"):
            if getattr(through, name) != getattr(counts, name):
                return Wrong(batch.end, name, str(getattr(counts, name)), str(getattr(through, name)))
        for what, left, right in equations(counts):
            if left != right:
                return Wrong(batch.end, what, str(left), str(right))
    return None


def equations(counts: Counts) -> list[tuple[str, int, int]]:
    """What must hold of the figures of a processor of usage events: a name, and both sides."""
    return [
        ("accepted + duplicates + conflicts", counts.events, counts.accepted + counts.duplicates + counts.conflicts),
        (" + ".join(CLASSES), counts.accepted, sum(getattr(counts, name) for name in CLASSES)),
    ]
