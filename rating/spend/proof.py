"""Proof: what the store holds against what the journal says. The store read both, from topics of their own.

Three things are held against each other: the journal's steps against the totals that each of them states
(`streams.sums`); the events that the store has read from the source against those that the engine says it was given;
the sum of all line items against the sum of all changes. Nothing is repaired: whoever finds a difference must look.
"""

from collections.abc import Iterable
from typing import NamedTuple

from rating.spend.store import SpendStore
from schemas import topics
from schemas.numbers import format_scaled


class Difference(NamedTuple):
    """One thing that should be the same on two sides. `partition`: -1 is all of them together."""

    what: str
    partition: int
    position: int
    expected: str
    found: str

    def __str__(self) -> str:
        where = "all partitions" if self.partition < 0 else f"partition {self.partition}"
        return f"{where} at position {self.position}: {self.what} should be {self.expected}, found {self.found}"


class Verdict(NamedTuple):
    """What a comparison came to."""

    differences: tuple[Difference, ...]
    positions: dict[int, int]
    """Partition -> the position of the source up to which its journal and its events were compared."""
    amounts: bool
    """Whether the sum of all line items was compared: only where the store has just what the journal says is done."""

    @property
    def reconciled(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def reconcile(store: SpendStore) -> Verdict:
    """Compares all that can be compared now. Not while records are applied."""
    progress, positions = store.progress(), store.positions()
    found: list[Difference] = []
    compared: dict[int, int] = {}
    for partition, one in sorted(progress.items()):
        sums = one.sums
        if sums.wrong is not None:
            wrong = sums.wrong
            found.append(Difference(f"journal: {wrong.what}", partition, wrong.position, wrong.expected, wrong.found))
        read = positions.get((topics.EVENTS, partition), 0) >= sums.position
        if sums.begun < 0 or not read or not 0 <= one.source <= sums.begun:
            continue
        expected = sums.counts.events - sums.base.events
        there = store.count_events(partition, sums.begun, sums.position)
        compared[partition] = sums.position
        if expected != there:
            found.append(Difference("events in the store", partition, sums.position, str(expected), str(there)))
    whole = all(
        one.sums.position == one.done and positions.get((topics.LINE_ITEMS, partition), 0) == one.lines
        for partition, one in progress.items()
    )
    whole = whole and all(one.sums.claims or one.sums.begun == 0 for one in progress.values()) and bool(progress)
    if whole:
        expected = sum(int(one.sums.counts.amount) for one in progress.values())
        there = store.sum_amounts()
        if expected != there:
            through = sum(one.sums.position for one in progress.values())
            texts = (format_scaled(expected), format_scaled(there))
            found.append(Difference("the sum of all line items", -1, through, *texts))
    return Verdict(tuple(found), compared, whole)


def news(before: Verdict | None, now: Verdict) -> Iterable[Difference]:
    """The differences that were not there before."""
    known = {(one.what, one.partition) for one in before.differences} if before else set()
    return (one for one in now.differences if (one.what, one.partition) not in known)
