"""Windows of time, cut in a time zone: hours, days and months as its clocks and calendars show them.

A day is 23 or 25 hours long where the clocks change. An hour that the clocks show twice is two windows, and where
they change within an hour, that hour ends (or begins) at the change.
"""

from datetime import datetime, timedelta
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.period import Calendar, Period, load_zone
from schemas.times import HOUR, SECOND, to_datetime

Unit = Literal["hour", "day", "month"]
UNITS: Final[tuple[str, ...]] = get_args(Unit)


def window_of(time: int, unit: Unit, zone: str) -> Period:
    """The window that holds a time (microseconds). Raises: schemas.period.PeriodError for an unknown zone."""
    if unit == "hour":
        return _hour_of(time, load_zone(zone))
    return Calendar(unit, zone, 1, 1).containing(time)


def cut(times: npt.NDArray[np.int64], unit: Unit, zone: str) -> tuple[list[Period], npt.NDArray[np.int64]]:
    """The windows that hold any of the times, rising, and for each time the index of its window."""
    order = np.argsort(times, kind="stable")
    rising = times[order]
    found: list[Period] = []
    index = np.empty(len(times), dtype=np.int64)
    at = 0
    while at < len(rising):
        window = window_of(int(rising[at]), unit, zone)
        end = int(np.searchsorted(rising, window.end, side="left"))
        index[order[at:end]] = len(found)
        found.append(window)
        at = end
    return found, index


def _hour_of(time: int, zone: ZoneInfo) -> Period:
    offset = _offset(time, zone)
    start = time - (time + offset) % HOUR
    end = start + HOUR
    if _offset(start, zone) != offset:
        start = _change(start, time, zone)
    if _offset(end - 1, zone) != offset:
        end = _change(time, end - 1, zone)
    return Period(start, end)


def _offset(time: int, zone: ZoneInfo) -> int:
    """How far the zone's clocks are ahead of UTC, in microseconds."""
    local: datetime = to_datetime(time).astimezone(zone)
    return (local.utcoffset() or timedelta()) // timedelta(microseconds=1)


def _change(low: int, high: int, zone: ZoneInfo) -> int:
    """The moment in `(low, high]`, within an hour, from which the offset is that of `high`: a whole second."""
    after = _offset(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) == after else (middle, high)
    return high - high % SECOND
