"""Windows of time, cut in a time zone: minutes, hours, days, weeks (from Monday) and months as its clocks and calendars
show them.

A day is 23 or 25 hours long where the clocks change. An hour that the clocks show twice is two windows, and where
they change within an hour, that hour ends (or begins) at the change.
"""

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from schemas.period import Calendar, Period

Unit = Literal["minute", "hour", "day", "week", "month"]
UNITS: Final[tuple[str, ...]] = get_args(Unit)


def window_of(time: int, unit: Unit, zone: str) -> Period:
    """The window that holds a time (microseconds). Raises: schemas.period.PeriodError for an unknown zone."""
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
