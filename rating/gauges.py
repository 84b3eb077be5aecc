"""Gauges: levels that hold until they change, integrated over any stretch of time. Exact, in whole numbers.

Owns the changes of every gauge, over billing periods and restarts; it is made again from the ledger. A *group* is all
the gauges that one cell of a customer's charge adds up; its cells are those of the billing periods it reaches.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.period import Calendar
from schemas.times import HOUR

UNITS: Final = {"second": 1_000_000, "hour": HOUR, "day": 24 * HOUR, "period": None}


class Reading(NamedTuple):
    """How a meter reads its gauges. `unit` in microseconds; None is the length of the whole billing period.

    `change`: values change the level instead of setting it. `align`: a value counts from the beginning of its day.
    """

    unit: int | None
    change: bool = False
    align: bool = False


class Change(NamedTuple):
    """One event's word on a gauge: when it counts from, its own time and its place in the order of arrival (by which
    the last one of equal times holds), and its value (scaled)."""

    time: int
    spoken: int
    arrival: int
    value: int


@dataclass(slots=True)
class Gauge:
    """One gauge: its changes in order, the level after each, and the integral up to each (level times microseconds)."""

    reading: Reading
    changes: list[Change] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    integrals: list[int] = field(default_factory=list)

    def add(self, change: Change) -> None:
        """A further change; a late one is put where it belongs, and all that follows is integrated again."""
        at = bisect_right(self.changes, change)
        if at and self.changes[at - 1] == change:
            return  # the same event, seen through another subscription of the customer
        self.changes.insert(at, change)
        self._integrate(at)

    def remove(self, change: Change) -> None:
        """Takes a change back."""
        at = bisect_left(self.changes, change)
        if at < len(self.changes) and self.changes[at] == change:
            del self.changes[at]
            self._integrate(at)

    def _integrate(self, since: int) -> None:
        del self.levels[since:], self.integrals[since:]
        for at in range(since, len(self.changes)):
            time, _, _, value = self.changes[at]
            before = self.levels[at - 1] if at else 0
            gone = self.integrals[at - 1] + before * (time - self.changes[at - 1].time) if at else 0
            self.levels.append(before + value if self.reading.change else value)
            self.integrals.append(gone)

    def level(self, time: int) -> int:
        """The level at a time."""
        at = bisect_right(self.changes, (time, 2**62)) - 1
        return self.levels[at] if at >= 0 else 0

    def integral(self, start: int, end: int) -> int:
        """Level times microseconds over `[start, end)`."""
        return self._until(end) - self._until(start) if end > start else 0

    def _until(self, time: int) -> int:
        at = bisect_right(self.changes, (time, 2**62)) - 1
        return self.integrals[at] + self.levels[at] * (time - self.changes[at].time) if at >= 0 else 0


@dataclass(slots=True)
class Group:
    """The gauges that a charge's cell adds up for one customer, by their own names, and the cells that show them."""

    reading: Reading
    gauges: dict[int, Gauge] = field(default_factory=dict)
    cells: list[int] = field(default_factory=list)

    def gauge(self, name: int) -> Gauge:
        """The gauge of that name, a new one where there is none."""
        return self.gauges.setdefault(name, Gauge(self.reading))

    def ratio(self, start: int, end: int, whole: int) -> tuple[int, int]:
        """What all the gauges come to over `[start, end)`: scaled level times microseconds, over those of the unit."""
        return sum(gauge.integral(start, end) for gauge in self.gauges.values()), self.reading.unit or whole

    def holds_level(self, time: int) -> bool:
        """Whether any gauge is not at nought then."""
        return any(gauge.level(time) for gauge in self.gauges.values())


def counts_from(reading: Reading, calendar: Calendar, time: int) -> int:
    """From when on an event's value counts: its time, or the beginning of its local day."""
    if not reading.align:
        return time
    return Calendar("day", calendar.zone, 1, 1).containing(time).start
