"""Usage periods of this dialect: of one length, begun at an anchor to the very moment, in UTC.

(A subscription's periods are another thing: they are cut at local midnight, see `schemas.period`.)
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from schemas.period import Period
from schemas.times import from_datetime, to_datetime

Interval = Literal["day", "week", "month", "year"]
INTERVALS: Final[dict[str, Interval]] = {
    "DAY": "day",
    "WEEK": "week",
    "MONTH": "month",
    "YEAR": "year",
    "P1D": "day",
    "P1W": "week",
    "P7D": "week",
    "P1M": "month",
    "P1Y": "year",
}
"""What is asked for -> the interval."""
ISO: Final[dict[Interval, str]] = {"day": "P1D", "week": "P1W", "month": "P1M", "year": "P1Y"}
_DAYS: Final = {"day": 1, "week": 7}
_MONTHS: Final = {"month": 1, "year": 12}


def period_of(anchor: datetime, interval: Interval, time: int) -> Period:
    """The period that holds a time (microseconds). Periods begin at the anchor and so many intervals before or after.

    A day that a month has not is its last one.
    """
    if interval in _DAYS:
        length = timedelta(days=_DAYS[interval]) // timedelta(microseconds=1)
        first = from_datetime(anchor)
        start = first + (time - first) // length * length
        return Period(start, start + length)
    step = _MONTHS[interval]
    stamp = to_datetime(time)
    at = ((stamp.year - anchor.year) * 12 + stamp.month - anchor.month) // step
    while _begin(anchor, at * step) > time:
        at -= 1
    while _begin(anchor, (at + 1) * step) <= time:
        at += 1
    return Period(_begin(anchor, at * step), _begin(anchor, (at + 1) * step))


def _begin(anchor: datetime, months: int) -> int:
    """The anchor so many months later."""
    anchor = anchor.astimezone(UTC)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return from_datetime(anchor.replace(year=year, month=month + 1, day=day))
