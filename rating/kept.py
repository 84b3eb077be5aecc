"""Kept events: totals that need every event of theirs, in its order, and not a running sum.

Owns the sorted values of percentiles, the events of prices with allowances (`Split.ordered`), and the gauges. All of it
is made from the ledger, which the snapshot holds; nothing here is written down by itself.
"""

from bisect import insort
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.gauges import Change, Group, Reading
from rating.prices.model import Split


class Arrived(NamedTuple):
    """One event of an ordered price: its time, its place in the order of arrival, its value (scaled)."""

    time: int
    arrival: int
    value: int


@dataclass(slots=True)
class Ordered:
    """The events of one total in order, and how far they have been fed to the price."""

    split: Split
    events: list[Arrived] = field(default_factory=list)
    fed: int = 0
    running: tuple[int, ...] = ()

    def add(self, event: Arrived) -> None:
        """A further event; what follows a late one is fed again."""
        if not self.events or event > self.events[-1]:
            self.events.append(event)
            return
        insort(self.events, event)
        self.fed = 0

    def remove(self, event: Arrived) -> None:
        """Takes an event back."""
        self.events.remove(event)
        self.fed = 0

    def totals(self) -> list[int]:
        """What each further channel holds."""
        if not self.fed:
            self.running = self.split.start()
        if self.fed < len(self.events):
            self.running = self.split.feed(self.running, [event.value for event in self.events[self.fed :]])
            self.fed = len(self.events)
        return self.split.totals(self.running)


GroupKey = tuple[int, int, int, int]
"""(customer, shape, combination of `group_by` values, cell number)."""


@dataclass(slots=True)
class Kept:
    """Everything kept of one partition, by cell."""

    values: dict[int, list[int]] = field(default_factory=dict)
    ordered: dict[int, Ordered] = field(default_factory=dict)
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    group_of: dict[int, GroupKey] = field(default_factory=dict)
    of_customer: dict[int, list[GroupKey]] = field(default_factory=dict)

    def join_group(self, key: GroupKey, reading: Reading, cell: int) -> Group:
        """The group of a cell; a new one where there is none, and the cell a new one of its cells."""
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(reading)
            self.of_customer.setdefault(key[0], []).append(key)
        if cell not in self.group_of:
            self.group_of[cell] = key
            group.cells.append(cell)
        return group

    def add_value(self, cell: int, value: int) -> None:
        """A value of a percentile."""
        insort(self.values.setdefault(cell, []), value)

    def remove_value(self, cell: int, value: int) -> None:
        """Takes a value back."""
        self.values[cell].remove(value)

    def drop(self, over: NDArray[np.bool_]) -> None:
        """Values and events of cells whose rows the ledger has dropped go with them: after a restart they are gone too.
        `over`: by cell."""
        held: dict[int, Any]
        for held in (self.values, self.ordered):
            for cell in [cell for cell in held if cell < len(over) and over[cell]]:
                del held[cell]

    def add_ordered(self, cell: int, split: Split, event: Arrived) -> None:
        """An event of an ordered price."""
        found = self.ordered.get(cell)
        if found is None:
            found = self.ordered[cell] = Ordered(split)
        found.add(event)

    def begun(self, customer: int) -> int:
        """When the first level of a customer's gauges begins; 2**62 where it has none."""
        groups = (self.groups[key] for key in self.of_customer.get(customer, ()))
        gauges = (gauge for group in groups for gauge in group.gauges.values() if gauge.changes)
        return min((gauge.changes[0].time for gauge in gauges), default=2**62)

    def change(self, key: GroupKey, gauge: int, change: Change) -> None:
        """A change of a gauge."""
        self.groups[key].gauge(gauge).add(change)
