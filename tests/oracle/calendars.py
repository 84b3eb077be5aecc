"""Times and billing periods of the oracle. A time is a whole number of microseconds since 1970 in UTC."""

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def moment(text: str) -> int:
    """Microseconds of an RFC 3339 time."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def clock(time: int) -> datetime:
    """The UTC `datetime` of a time."""
    return _EPOCH + timedelta(microseconds=time)


def iso(time: int) -> str:
    """The ISO 8601 text of a time, with as many digits of the second as it needs."""
    text = clock(time).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


def terms_of(unit: str, anchor: Any, zone: str, start: int | None) -> tuple[str, int, int, str]:
    """(unit, anchor month, anchor day, zone): by default the anchor is the local day of `start`."""
    local = clock(start).astimezone(ZoneInfo(zone)).date() if start is not None else date(1970, 1, 1)
    monday = start is None
    if anchor is None:
        day = (1 if monday else local.isoweekday()) if unit == "week" else local.day
        return unit, local.month, day, zone
    if "-" in anchor:
        month, day = anchor.split("-")
        return unit, int(month), int(day), zone
    return unit, local.month, int(anchor), zone


@cache
def whole_period(terms: tuple[str, int, int, str], day: date) -> list[int]:
    """The starts of periods around a local day, rising."""
    unit, anchor_month, anchor_day, zone = terms
    if unit == "hour":
        first, last = (_first_moment(day + timedelta(days=n), zone) for n in (-1, 2))
        return list(range(first, last + 1, 3600 * 10**6))
    if unit == "day":
        days = [day + timedelta(days=n) for n in range(-2, 4)]
    elif unit == "week":
        days = [d for n in range(-15, 16) if (d := day + timedelta(days=n)).isoweekday() == anchor_day]
    else:
        days = []
        for n in range(-25, 26):
            year, month = divmod(day.year * 12 + day.month - 1 + n, 12)
            if (month + 1 - anchor_month) % _MONTHS[unit] == 0:
                days.append(date(year, month + 1, min(anchor_day, calendar.monthrange(year, month + 1)[1])))
    return [_first_moment(d, zone) for d in days]


@cache
def period_of(terms: tuple[str, int, int, str], time: int) -> tuple[int, int]:
    """The whole period `[start, end)` that holds a time."""
    starts = whole_period(terms, clock(time).astimezone(ZoneInfo(terms[3])).date())
    begin = max(s for s in starts if s <= time)
    return begin, min(s for s in starts if s > time)


def day_of(time: int, zone: str) -> date:
    """The local day that holds a time."""
    return clock(time).astimezone(ZoneInfo(zone)).date()


def first_moment_of_day(time: int, zone: str) -> int:
    """When the local day that holds a time began."""
    return _first_moment(day_of(time, zone), zone)


@cache
def _first_moment(day: date, zone: str) -> int:
    """When a local day begins: midnight, or the moment in which the clocks leap over it."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    stamp = (local.astimezone(UTC) - _EPOCH) // timedelta(seconds=1)
    seen = lambda second: clock(second * 10**6).astimezone(ZoneInfo(zone)).date()  # noqa: E731
    if clock(stamp * 10**6).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != local.replace(tzinfo=None):
        while seen(stamp) >= day:
            stamp -= 1
        while seen(stamp) < day:
            stamp += 1
    return stamp * 10**6
