"""Which window of a schedule holds each of many times, in the schedule's own time zone."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rating.prices.model import ByTime, Window
from schemas.period import load_zone
from schemas.times import DAY, SECOND, to_datetime

_DAY_MINUTES = 24 * 60
_THURSDAY = 3
"""Days from Monday to the day of the week on which the epoch began."""


def window_codes(node: ByTime, time: NDArray[np.int64]) -> NDArray[np.int32]:
    """For each time (UTC microseconds) the place of the first window that holds it, -1 where none does."""
    local = time + _offsets(node.zone, time)
    minute = local // (60 * SECOND) + _THURSDAY * _DAY_MINUTES
    return _week(tuple(window for window, _ in node.windows))[minute % (7 * _DAY_MINUTES)]


@lru_cache(maxsize=1024)
def _week(windows: tuple[tuple[Window, ...], ...]) -> NDArray[np.int32]:
    """For each minute of the local week, from Monday, the place of the first window that holds it."""
    found = np.full((7, _DAY_MINUTES), -1, dtype=np.int32)
    for place in reversed(range(len(windows))):
        for days, start, end in windows[place]:
            for day in days:
                found[day - 1, start:end] = place
    return found.reshape(-1)


def _offsets(zone: str, time: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far the local clock is ahead of UTC at each time, in microseconds. From the same time zones as the periods
    are cut in: one look at the clock for each day, so that the work for a time is a lookup."""
    days, at = np.unique(time // DAY, return_inverse=True)
    known = np.array([_day(zone, day) for day in days.tolist()], dtype=np.int64).reshape(-1, 3)[at]
    return np.where(time < known[:, 0], known[:, 1], known[:, 2])


@lru_cache(maxsize=100_000)
def _day(zone: str, day: int) -> tuple[int, int, int]:
    """When in a UTC day the clock is set, and its offset before and from then on. (Never has it been set twice in one
    since 1970.)"""
    low, high = day * DAY, (day + 1) * DAY
    before, after = _offset(zone, low), _offset(zone, high)
    while before != after and high - low > SECOND:
        middle = (low + high) // (2 * SECOND) * SECOND
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high, before, after


def _offset(zone: str, time: int) -> int:
    offset = to_datetime(time).astimezone(load_zone(zone)).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * SECOND
