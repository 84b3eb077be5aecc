"""Times are whole microseconds since 1970-01-01T00:00:00Z (`int`), ISO 8601 with `Z` on the wire."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.limits import TIME_MAX_YEAR, TIME_MIN_YEAR

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)\Z", re.ASCII)


class TimeError(ValueError):
    """A text that is no time; the message says what was found and what was expected."""


def parse_time(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time; an offset is required. Raises: TimeError.

    Digits after the sixth are dropped (a time is *truncated* to its microsecond, so it never leaves its period);
    a leap second `:60` is read as the second that follows.
    """
    match = _TIME.match(text)
    if match is None:
        raise TimeError(f"found {text[:60]!r}, expected an RFC 3339 time with an offset such as 2026-11-21T10:00:00Z")
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    if not TIME_MIN_YEAR <= year <= TIME_MAX_YEAR:
        raise TimeError(f"found the year {year}, expected {TIME_MIN_YEAR} to {TIME_MAX_YEAR}")
    leap = second == 60
    try:
        stamp = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise TimeError(f"found {text[:60]!r}: {error}") from None
    micros = (stamp - EPOCH) // _MICROSECOND + leap * SECOND + int((match[7] or "0").ljust(6, "0")[:6])
    zone = match[8]
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            raise TimeError(f"found the offset {zone!r}, expected at most 23:59")
        offset = (hours * 60 + minutes) * 60 * SECOND
        micros += offset if zone[0] == "-" else -offset
    return micros


def format_time(micros: int) -> str:
    """The ISO 8601 text in UTC, with as many digits of the second as needed: `2026-11-01T00:00:00Z`."""
    stamp = to_datetime(micros)
    text = f"{stamp.year:04d}-{stamp.month:02d}-{stamp.day:02d}T{stamp.hour:02d}:{stamp.minute:02d}:{stamp.second:02d}"
    return f"{text}.{stamp.microsecond:06d}".rstrip("0") + "Z" if stamp.microsecond else text + "Z"


def to_datetime(micros: int) -> datetime:
    """The aware `datetime` (UTC) of a time in microseconds."""
    return EPOCH + timedelta(microseconds=micros)


def from_datetime(stamp: datetime) -> int:
    """Microseconds since the epoch of an aware `datetime`."""
    return (stamp - EPOCH) // _MICROSECOND
