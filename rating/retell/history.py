"""What each total has counted, when: from the ledger of a customer's engine, by local day and by hour of the week.

A *series* is one total that adds up: a charge and its group, and one cell of its price. What earlier periods counted
for the same is the same series.
"""

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from rating.exact import int_of
from rating.state import State
from schemas.period import Calendar, load_zone
from schemas.times import to_datetime


class Series(NamedTuple):
    """Names one: numbers of the state's charge and combination of `group_by` values, and the cell's number."""

    subscription: int
    charge: int
    combo: int
    number: int


class Counted(NamedTuple):
    """What a series has counted: rising times (microseconds) and the scaled values at them."""

    times: list[int]
    values: list[int]

    def between(self, start: int, end: int) -> int:
        """What was counted in `[start, end)`."""
        first, last = (bisect_right(self.times, at - 1) for at in (start, end))
        return sum(self.values[first:last])


ADDING: Final = ("sum", "count")


def series_of(state: State, cell: int) -> Series:
    """The series of a cell."""
    line = int(state.cells["line"][cell])
    lines, bill = state.lines, int(state.lines["bill"][line])
    place = int(lines["charge"][line]), int(lines["combo"][line])
    return Series(int(state.bills["subscription"][bill]), *place, int(state.cells["number"][cell]))


def read_history(state: State, since: int) -> dict[Series, Counted]:
    """Everything that the ledger still holds of events at or after a time."""
    rows = state.ledger.of_cells(np.arange(state.cells.size))
    times = state.ledger.read("time", rows)
    chosen = np.flatnonzero((times >= since) & (state.ledger.read("gauge", rows) < 0))
    rows = rows[chosen[np.argsort(times[chosen], kind="stable")]]
    columns = (state.ledger.read(name, rows).tolist() for name in ("cell", "time", "value"))
    found: dict[Series, Counted] = {}
    known: dict[int, Series] = {}
    for cell, time, wide in zip(*columns, strict=True):
        series = known.get(cell)
        if series is None:
            series = known[cell] = series_of(state, cell)
        own = found.setdefault(series, Counted([], []))
        own.times.append(time)
        own.values.append(int_of(wide))
    return found


def hours(start: int, end: int, zone: str) -> Iterator[tuple[int, int, Fraction]]:
    """The hours of `[start, end)` as the zone's clocks show them: where each begins inside, which hour of the week it
    is (Monday 0:00 is 0), and which share of it lies inside."""
    edges = Calendar("hour", zone, 1, 1).starts(start, end - 1) if end > start else []
    local = load_zone(zone)
    for at, following in pairwise(edges):
        shown = to_datetime(at).astimezone(local)
        begin, finish = max(at, start), min(following, end)
        if begin < finish:
            yield begin, shown.weekday() * 24 + shown.hour, Fraction(finish - begin, following - at)


def whole_days(start: int, end: int, zone: str) -> list[tuple[int, int]]:
    """The local days that lie in `[start, end)` whole."""
    edges = Calendar("day", zone, 1, 1).starts(start, end) if end > start else []
    return [(at, following) for at, following in pairwise(edges) if at >= start and following <= end]
