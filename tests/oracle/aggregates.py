"""Aggregations of the oracle, in fractions: what some events of one meter come to, looked at all at once.

Readings: a quantity is worked out exactly, converted exactly, and rounded at the 12th digit once, where the total
that a price looks at is formed; with `convert: {per: event}` each event's value is rounded so. A gauge is one
for each customer and combination of all the meter's dimensions and the key; with `align: day` the later of a day's
events wins, and a value may count for a stretch that was over before the event.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from tests.oracle.calendars import first_moment_of_day
from tests.oracle.reading import TINY, amount, away, half_up, towards

NOUGHT = Fraction(0)
SECOND = 10**6
UNITS = {"second": SECOND, "hour": 3600 * SECOND, "day": 86400 * SECOND}
Span = tuple[int, int]


class Use(NamedTuple):
    """What one event brought to one meter: a number (1 for `count`) or a name (`unique_count`)."""

    time: int
    arrival: int
    value: Any
    dimensions: dict[str, str | None]
    key: str | None = None
    data: Any = None


def exact_quantity(meter: dict[str, Any], uses: list[Use]) -> Fraction:
    """The quantity of some events of a meter that is no gauge; there is at least one."""
    how, values = meter["aggregate"], [use.value for use in uses]
    if how == "unique_count":
        return Fraction(len(set(values)))
    if how == "avg":
        return sum(values, NOUGHT) / len(values)
    if how == "latest":
        return max(uses, key=lambda use: (use.time, use.arrival)).value
    if how == "percentile":
        rank = -(-amount(meter["percentile"]) * len(values) // 100)
        return sorted(values)[max(rank, 1) - 1]
    if how in ("count", "sum"):
        return sum(values, NOUGHT)
    return {"min": min, "max": max}[how](values)


class Gauge:
    """The level of one gauge over time, from all its events."""

    def __init__(self, meter: dict[str, Any], uses: Iterable[Use], zone: str) -> None:
        daily = meter.get("align") == "day"
        moments = sorted(
            (first_moment_of_day(use.time, zone) if daily else use.time, use.time, use.arrival, use.value)
            for use in uses
        )
        self.steps: list[tuple[int, Fraction]] = []
        level = NOUGHT
        for time, _, _, value in moments:
            level = level + value if meter.get("reads") == "change" else value
            self.steps.append((time, level))

    def level(self, time: int) -> Fraction:
        """The level at a time."""
        return next((level for moment, level in reversed(self.steps) if moment <= time), NOUGHT)

    def level_times_time(self, spans: list[Span]) -> Fraction:
        """The integral over some stretches of time, in level times microseconds."""
        total = NOUGHT
        for begin, end in spans:
            for place, (time, level) in enumerate(self.steps):
                until = self.steps[place + 1][0] if place + 1 < len(self.steps) else end
                total += level * max(0, min(end, until) - max(begin, time))
        return total


def time_unit(meter: dict[str, Any], whole: int) -> int:
    """By how many microseconds an integral is divided; `whole` is the length of the whole billing period."""
    unit = meter.get("unit", "hour")
    return whole if unit == "period" else UNITS[unit]


def converted_total(meter: dict[str, Any], exact: Fraction) -> Fraction:
    """A total as a price looks at it: converted where the meter says so, and with 12 digits."""
    convert = meter.get("convert")
    if convert and convert.get("per", "total") == "total":
        exact = _convert(convert, exact)
    return half_up(exact, TINY)


def converted_value(meter: dict[str, Any], value: Fraction) -> Fraction:
    """One event's value, converted where the meter says so for each event."""
    convert = meter.get("convert")
    if convert and convert.get("per", "total") == "event":
        value = half_up(_convert(convert, value), TINY)
    return value


def _convert(convert: dict[str, Any], value: Fraction) -> Fraction:
    value = value / amount(convert["divide"]) if convert.get("divide") else value * amount(convert["multiply"])
    if convert.get("round"):
        unit = Fraction(10) ** -int(convert.get("digits", 0))
        value = {"up": away, "down": towards, "half_up": half_up}[convert["round"]](value, unit)
    return value
