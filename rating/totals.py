"""Totals: what has become of every event, and what all lines have come to, carried through every step.

They are part of the state, and are added up from what the stages are given and give back, never from the tables that
the stages write: so the tables can be held against them (`rating.reconcile`), and so can the journal by its readers.

Every accepted event is in one class: *rated* (some charge counted it), *refused* (nothing did, and some meter rejected
it), a *void*, *voided* (taken back before it came), *unused* (no meter reads it, or no charge asks for it).
"""

from typing import Any

import msgspec

from streams.processor import CARRIED, Counts


class ChargeTotals(msgspec.Struct):
    """What events have brought to the lines of one charge, less what was taken back."""

    cells: int = 0
    """To how many totals: an event once for each."""
    lines: int = 0
    """To how many line items' quantities."""
    quantity: int = 0
    """How much to those that add up (`sum`, `count`, `avg`): the sum of the values, scaled."""


class Broken(msgspec.Struct, frozen=True):
    """What was found to differ, and from which position of the source on."""

    position: int
    expected: str
    found: str


class Totals:
    """The totals of one partition; or of one tenant in it, then without the place in the log and what differs.

    `position`: the source entries below it are in them."""

    def __init__(self) -> None:
        self.position = 0
        self.skipped = 0
        """Offsets that no entry took: marks of transactions, on Kafka."""
        self.offsets = 0
        """Offsets that the entries took."""
        self.numbers = 0
        """Offsets that they take on a log that numbers events: as many as a pack holds, one for any other entry."""
        self.counts = dict.fromkeys(CARRIED, 0)
        self.amount = 0
        self.charges: dict[int, ChargeTotals] = {}
        """By the charge's number in the state."""
        self.checked = 0
        """The tick's time at which the tables were last looked at."""
        self.broken: dict[str, Broken] = {}
        """What was found to differ. It stays: whatever came of it has been emitted, until the state is made anew."""

    def read(self, offset: int, end: int, numbers: int) -> None:
        """An entry of the source is worked in. `numbers`: how many offsets it takes where events are numbered."""
        self.skipped += max(offset - self.position, 0)
        self.offsets += end - max(offset, self.position)
        self.numbers += numbers
        self.position = max(end, self.position)

    def add(self, step: Counts) -> None:
        """A step is done."""
        for name in CARRIED:
            self.counts[name] += getattr(step, name)
        self.amount += int(step.amount)

    def charge(self, number: int) -> ChargeTotals:
        """Those of a charge."""
        found = self.charges.get(number)
        if found is None:
            found = self.charges[number] = ChargeTotals()
        return found

    def as_counts(self) -> Counts:
        """The sums of all steps so far."""
        return Counts(amount=str(self.amount), **self.counts)

    def dump(self) -> dict[str, Any]:
        """For a snapshot: plain values."""
        return {
            "log": [self.position, self.skipped, self.offsets, self.numbers],
            "counts": self.counts,
            "amount": str(self.amount),
            "charges": [[number, t.cells, t.lines, str(t.quantity)] for number, t in self.charges.items()],
            "checked": self.checked,
            "broken": {what: [one.position, one.expected, one.found] for what, one in self.broken.items()},
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "Totals":
        """What `dump` wrote."""
        totals = cls()
        totals.position, totals.skipped, totals.offsets, totals.numbers = dumped["log"]
        totals.counts |= dumped["counts"]
        totals.amount = int(dumped["amount"])
        totals.charges = {
            n: ChargeTotals(cells, lines, int(quantity)) for n, cells, lines, quantity in dumped["charges"]
        }
        totals.checked = dumped["checked"]
        totals.broken = {what: Broken(*one) for what, one in dumped["broken"].items()}
        return totals
