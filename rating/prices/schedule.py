"""schedule: the price depends on the event's local time; each window has a total of its own."""

import re
from typing import Any, ClassVar, Final, Literal

import msgspec

from rating.prices.model import ByTime, Choice, CompiledPrice, PriceModel, UsagePrice, Window
from rating.prices.nested import Inside
from schemas.faults import MISSING, Faults, join
from schemas.limits import WINDOWS_MAX
from schemas.period import PeriodError, load_zone

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT: Final = 24 * 60
"""Minutes of a day: the end of the last one."""

_HOURS = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)\Z", re.ASCII)


class ScheduleWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price for usage on these days within these hours, `from-to`, half-open. Hours that end before they begin run
    past midnight, into the day after each of the days."""

    price: dict[str, Any]
    days: list[Day] = msgspec.field(default_factory=lambda: list(DAYS))
    hours: str = "00:00-24:00"


class Schedule(PriceModel, frozen=True, kw_only=True):
    """The first window that holds the event's time counts. Usage in no window is in `otherwise`, and costs nothing
    where there is none."""

    name: ClassVar[str] = "schedule"
    description: ClassVar[str] = "a price for each window of the week, any model of usage inside"

    windows: list[ScheduleWindow]
    timezone: str = "UTC"
    otherwise: dict[str, Any] | None = None

    def build(self, path: str, faults: Faults, depth: int) -> CompiledPrice | Any:
        before = len(faults)
        try:
            load_zone(self.timezone)
        except PeriodError as error:
            faults.add(join(path, "timezone"), str(error))
        where = join(path, "windows")
        if not self.windows:
            faults.add(where, "found no windows, expected at least one")
        if len(self.windows) > WINDOWS_MAX:
            faults.add(where, f"found {len(self.windows)} windows, expected at most {WINDOWS_MAX}")
        inside = Inside(path, faults, depth)
        windows: list[tuple[tuple[Window, ...], Choice]] = []
        for i, window in enumerate(self.windows):
            at = join(where, i)
            stretches = _stretches(window, at, faults)
            windows.append((stretches, inside.add(window.price, join(at, "price"), i)))
        otherwise = inside.otherwise(self.otherwise, join(path, "otherwise"))
        inside.check()
        if len(faults) > before:
            return MISSING
        return UsagePrice(tuple(inside.leaves), ByTime(self.timezone, tuple(windows), otherwise))


def _stretches(window: ScheduleWindow, path: str, faults: Faults) -> tuple[Window, ...]:
    """One stretch of each day, or two where the hours run past midnight."""
    days = tuple(DAYS.index(day) + 1 for day in window.days)
    if not days:
        faults.add(join(path, "days"), "found no days, expected at least one (or none of this key for all of them)")
    for i, day in enumerate(days):
        if day in days[:i]:
            faults.add(join(join(path, "days"), i), f"found {DAYS[day - 1]} twice")
    match = _HOURS.match(window.hours)
    start, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (-1, -1)
    if not 0 <= start < MIDNIGHT or end > MIDNIGHT:
        expected = "two times of the day such as 08:00-20:00, the last one at most 24:00"
        faults.add(join(path, "hours"), f"found {window.hours!r}, expected {expected}")
    elif start == end:
        faults.add(join(path, "hours"), f"found {window.hours!r}, which holds no time (00:00-24:00 is the whole day)")
    if start < end:
        return (Window(tuple(sorted(days)), start, end),)
    evening = Window(tuple(sorted(days)), start, MIDNIGHT)
    morning = Window(tuple(sorted(day % 7 + 1 for day in days)), 0, end)
    return (evening, morning) if end else (evening,)
