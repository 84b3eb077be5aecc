"""Windows of gauges (`time_weighted`): a level that holds until it changes, summed over time. By whole numbers.

A gauge is nought before its first event. One sweep over time: the level of all the gauges of a group is kept as a sum,
and each stretch between two changes, or two bounds of windows, adds level times length to its window.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rating.spend.windows import Unit, window_of
from schemas.catalogue import Meter
from schemas.numbers import divide_half_up
from schemas.period import Period
from schemas.times import DAY, HOUR, SECOND

WINDOWS_MAX: Final = 20_000
"""Windows that one question about a gauge may have: it has usage in those without events too."""

_UNITS: Final = {"second": SECOND, "hour": HOUR, "day": DAY}


class TooManyWindows(ValueError):
    """A question whose answer would have more windows than are given at once; the message says what to do."""


class Reading(NamedTuple):
    """One event as a gauge has it: its time (of `align: day`: the beginning of its day), in the order of arrival."""

    time: int
    gauge: Any
    value: int


class Span(NamedTuple):
    """The events and the integral (in the meter's unit, scaled) of one window."""

    window: Period
    events: int
    value: int


def integrate(
    meter: Meter, readings: Sequence[Reading], unit: Unit, zone: str, first: int | None, end: int
) -> Iterator[Span]:
    """The windows of one group's gauges from `first` (or the first event) up to `end`, those without usage left out.

    `readings` stand in order of arrival, none behind `end`. Raises: TooManyWindows.
    """
    changes = _changes(meter, readings)
    if not changes:
        return
    now = changes[0][0] if first is None else max(first, changes[0][0])
    at = bisect_left(changes, now, key=lambda change: change[0])
    level = sum(change for _, change in changes[:at])
    window = window_of(now, unit, zone)
    for _ in range(WINDOWS_MAX):
        integral = events = 0
        while at < len(changes) and changes[at][0] < window.end:
            time, change = changes[at]
            integral += level * (time - now)
            level, now, events, at = level + change, time, events + 1, at + 1
        integral += level * max(min(window.end, end) - now, 0)
        if integral or events:
            yield Span(window, events, divide_half_up(integral, _length(meter, window)))
        if at == len(changes) and (window.end >= end or level == 0):
            return
        window = window_of(window.end if level else changes[at][0], unit, zone)
        now = window.start
    raise TooManyWindows(
        f"more than {WINDOWS_MAX} windows, expected longer ones, or a shorter stretch by `from` and `to`"
    )


def integrate_whole(meter: Meter, readings: Sequence[Reading], window: Period, end: int) -> Iterator[Span]:
    """One window of any bounds in place of those that clocks and calendars cut; nothing, where there is no usage."""
    integral, level, now, events = 0, 0, window.start, 0
    for time, change in _changes(meter, readings):
        if time >= window.start:
            integral += level * (time - now)
            now, events = time, events + 1
        level += change
    integral += level * max(end - now, 0)
    if integral or events:
        yield Span(window, events, divide_half_up(integral, _length(meter, window)))


def _length(meter: Meter, window: Period) -> int:
    """How long the meter's unit is; of `period` it is the whole window."""
    return window.end - window.start if meter.unit == "period" else _UNITS[meter.unit or "hour"]


def _changes(meter: Meter, readings: Sequence[Reading]) -> list[tuple[int, int]]:
    """When the sum of all levels changes and by how much, in order; at equal times the later arrival comes last."""
    levels: dict[Any, int] = {}
    found: list[tuple[int, int]] = []
    for reading in sorted(readings, key=lambda reading: reading.time):  # stable: arrivals stay in order
        before = levels.get(reading.gauge, 0)
        after = before + reading.value if meter.reads == "change" else reading.value
        levels[reading.gauge] = after
        found.append((reading.time, after - before))
    return found
