"""Billing periods: half-open, cut at local midnight in an IANA time zone, month ends and DST included.

Hours (and minutes) are cut where the local clock begins a new one, and where it is moved: an hour that the clocks show
twice is two periods, and where they are moved within an hour, that hour ends (or begins) there. So no period is longer
than its unit, and all of one has one name and one offset.
"""

import re
from bisect import bisect_right
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.times import HOUR, SECOND, from_datetime, to_datetime

_CLOCK: Final = {"minute": 60 * SECOND, "hour": HOUR}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_UNANCHORED: Final = ("minute", "hour", "day")
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)\Z", re.ASCII)


class PeriodError(ValueError):
    """A time zone or an anchor that does not exist; the message says what was found and what was expected."""


class Period(NamedTuple):
    """A half-open stretch `[start, end)` in microseconds since the epoch."""

    start: int
    end: int


class Calendar(NamedTuple):
    """How periods are cut: the unit, the anchor and the zone. Equal calendars cut equal periods.

    `anchor_month` and `anchor_day`: the month (quarters and years; 1 for months) and the day of the month on which
    a period begins, or the weekday (1 is Monday) for weeks. A day past a month's end is that month's last day.
    """

    unit: str
    zone: str
    anchor_month: int
    anchor_day: int

    def containing(self, time: int) -> Period:
        """The period that holds `time`."""
        if self.unit in _CLOCK:
            return _of_clock(time, _CLOCK[self.unit], load_zone(self.zone))
        starts = self.starts(time, time)
        at = bisect_right(starts, time) - 1
        return Period(starts[at], starts[at + 1])

    def starts(self, first: int, last: int) -> list[int]:
        """Where periods begin, rising: from the one that holds `first` to the one after the one that holds `last`."""
        zone = load_zone(self.zone)
        if self.unit in _CLOCK:
            return _clock_starts(first, last, _CLOCK[self.unit], zone)
        local = to_datetime(first).astimezone(zone).date()
        index = self._index(local) - 1
        found: list[int] = []
        while len(found) < 2 or found[-1] <= last:
            start = self._start(index, zone)
            if not found or start > found[-1]:  # a day that a zone has left out is no period
                found.append(start)
            if len(found) > 1 and found[1] <= first:
                found.pop(0)
            index += 1
        return found

    def _index(self, day: date) -> int:
        """A whole number that counts periods; that of a period near `day` (never a later one)."""
        if self.unit == "day":
            return day.toordinal()
        if self.unit == "week":
            return (day.toordinal() - 1) // 7
        return (day.year * 12 + day.month - 1 - (self.anchor_month - 1)) // _MONTHS[self.unit]

    def _start(self, index: int, zone: ZoneInfo) -> int:
        if self.unit == "day":
            return _midnight(date.fromordinal(index), zone)
        if self.unit == "week":
            return _midnight(date.fromordinal(index * 7 + self.anchor_day), zone)
        year, month = divmod(index * _MONTHS[self.unit] + self.anchor_month - 1, 12)
        day = min(self.anchor_day, monthrange(year, month + 1)[1])
        return _midnight(date(year, month + 1, day), zone)


@lru_cache(4096)
def make_calendar(unit: str, anchor: int | str | None, zone: str, start: int | None) -> Calendar:
    """The calendar of a subscription. Without an anchor it is that of `start`, or the first day of the unit.

    Raises: PeriodError.
    """
    local = to_datetime(start).astimezone(load_zone(zone)).date() if start is not None else None
    month, day = 1, 1
    if anchor is None:
        if local is not None and unit not in _UNANCHORED:
            month, day = local.month, local.isoweekday() if unit == "week" else local.day
    elif isinstance(anchor, str):
        match = _MONTH_DAY.match(anchor)
        if match is None or unit not in ("quarter", "year"):
            raise PeriodError(f"found {anchor!r}, expected {_anchor_form(unit)}")
        month, day = int(match[1]), int(match[2])
        if not 1 <= month <= 12 or not 1 <= day <= monthrange(2024, month)[1]:
            raise PeriodError(f"found {anchor!r}, which is no day of the year")
    else:
        if unit in _UNANCHORED or (unit == "week" and anchor > 7) or not 1 <= anchor <= 31:
            raise PeriodError(f"found {anchor}, expected {_anchor_form(unit)}")
        day = anchor
        if unit in ("quarter", "year") and local is not None:
            month = local.month
    if unit == "quarter":
        month = (month - 1) % 3 + 1
    elif unit != "year":
        month = 1
    return Calendar(unit, zone, month, day)


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name. Raises: PeriodError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PeriodError(f"found {name!r}, expected an IANA time zone such as Europe/Zurich") from None


def _anchor_form(unit: str) -> str:
    if unit in _UNANCHORED:
        return f"no anchor for {unit}s"
    if unit == "week":
        return "a weekday from 1 (Monday) to 7"
    return "a day of the month from 1 to 31" + ("" if unit == "month" else " or MM-DD")


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The first moment of a local day: midnight, or the end of the gap where clocks skip it."""
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    stamp = local.astimezone(UTC)
    if stamp.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        # Midnight does not exist: the gap maps to an hour before or after; the day begins where the offset changes.
        low, high = stamp - timedelta(hours=3), stamp + timedelta(hours=3)
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            low, high = (low, middle) if middle.astimezone(zone).date() >= day else (middle, high)
        stamp = high.replace(microsecond=0)
    return from_datetime(stamp)


def _of_clock(time: int, length: int, zone: ZoneInfo) -> Period:
    """The hour or minute of the local clock that holds a time, cut where the clock is moved."""
    offset = _offset(time, zone)
    start = time - (time + offset) % length
    end = start + length
    if _offset(start, zone) != offset:
        start = _change(start, time, zone)
    if _offset(end - 1, zone) != offset:
        end = _change(time, end - 1, zone)
    return Period(start, end)


def _clock_starts(first: int, last: int, length: int, zone: ZoneInfo) -> list[int]:
    period = _of_clock(first, length, zone)
    found = [period.start]
    while True:
        found.append(period.end)
        if period.end > last:
            return found
        period = _of_clock(period.end, length, zone)


def _offset(time: int, zone: ZoneInfo) -> int:
    """How far the zone's clocks are ahead of UTC, in microseconds."""
    return (to_datetime(time).astimezone(zone).utcoffset() or timedelta()) // timedelta(microseconds=1)


def _change(low: int, high: int, zone: ZoneInfo) -> int:
    """The moment in `(low, high]`, within an hour, from which the offset is that of `high`: a whole second."""
    after = _offset(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) == after else (middle, high)
    return high - high % SECOND
