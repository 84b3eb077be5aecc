"""Calendars against plain loops: minute after minute as the zone's clock shows them, day after day of the calendar."""

from calendar import monthrange
from datetime import date, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.period import Calendar, Period, PeriodError, make_calendar
from schemas.times import DAY, HOUR, SECOND, format_time, parse_time, to_datetime

MINUTE = 60 * SECOND
FIRST, LAST = parse_time("1975-01-01T00:00:00Z"), parse_time("2037-12-01T00:00:00Z")
ZONES = [
    "UTC", "Europe/Zurich", "America/New_York", "Australia/Sydney",
    "Asia/Kolkata", "Asia/Kathmandu", "Australia/Eucla", "Pacific/Marquesas",  # half and quarter hours
    "Pacific/Chatham", "America/St_Johns", "Australia/Lord_Howe",  # and summer time; changes at 00:01; half an hour
    "Antarctica/Troll", "Africa/Casablanca",  # two hours; summer time but for one month
    "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/Asuncion", "Asia/Tehran", "America/Havana",  # midnight
    "Asia/Pyongyang", "America/Caracas",  # half an hour for a few years
    "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Kiritimati",  # a day left out
]  # fmt: skip


def offset(time: int, zone: str) -> timedelta:
    return to_datetime(time).astimezone(ZoneInfo(zone)).utcoffset() or timedelta()


def day_of(time: int, zone: str) -> date:
    return to_datetime(time).astimezone(ZoneInfo(zone)).date()


@cache
def changes(zone: str) -> list[int]:
    """The days (UTC) in which the zone's clocks are moved."""
    days = range(FIRST, LAST, DAY)
    offsets = [offset(time, zone) for time in days]
    return [days[at] for at in range(len(days) - 1) if offsets[at] != offsets[at + 1]]


@st.composite
def moments(draw: st.DrawFn, zone: str) -> int:
    """A time; every other one within two days of a change of the clocks."""
    if changes(zone) and draw(st.booleans()):
        return draw(st.sampled_from(changes(zone))) + draw(st.integers(-DAY, 2 * DAY))
    return draw(st.integers(FIRST, LAST))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, int]:
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(moments(zone))


# Hours and minutes ---------------------------------------------------------------------------------------------------


def same_label(time: int, zone: str, unit: str) -> Period:
    """All the minutes around a time that bear the same hour (or minute) and offset."""

    def label(moment: int) -> tuple[int, ...]:
        local = to_datetime(moment).astimezone(ZoneInfo(zone))
        shown = local.year, local.month, local.day, local.hour, local.minute
        return *shown[: 4 if unit == "hour" else 5], (local.utcoffset() or timedelta()) // timedelta(seconds=1)

    own = label(time)
    start = end = time - time % MINUTE
    while label(start - MINUTE) == own:
        start -= MINUTE
    while label(end) == own:
        end += MINUTE
    return Period(start, end)


@settings(max_examples=400, deadline=None)
@given(cases(), st.sampled_from(["hour", "minute"]))
def test_hours_are_the_minutes_of_one_name(case: tuple[str, int], unit: str) -> None:
    zone, time = case
    assert Calendar(unit, zone, 1, 1).containing(time) == same_label(time, zone, unit)


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(0, 30 * HOUR))
def test_starts_of_hours_are_those_one_by_one(case: tuple[str, int], length: int) -> None:
    zone, time = case
    calendar = make_calendar("hour", None, zone, time)
    period, expected = same_label(time, zone, "hour"), []
    while period.start <= time + length:
        expected.append(period.start)
        period = same_label(period.end, zone, "hour")
    assert calendar.starts(time, time + length) == [*expected, period.start]


def hours(zone: str, time: str, count: int) -> list[str]:
    period = make_calendar("hour", None, zone, None).containing(parse_time(time))
    found = []
    for _ in range(count):
        found.append(format_time(period.start)[5:16])
        period = make_calendar("hour", None, zone, None).containing(period.end)
    return found


def test_an_hour_that_the_clocks_show_twice_is_two_periods() -> None:
    # 02:00 to 03:00 comes twice in Zurich: 00:00 to 01:00 and 01:00 to 02:00 UTC.
    assert hours("Europe/Zurich", "2026-10-24T23:30:00Z", 4) == [
        "10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00",
    ]  # fmt: skip


def test_an_hour_that_the_clocks_skip_is_no_period() -> None:
    assert hours("Europe/Zurich", "2026-03-29T00:30:00Z", 3) == ["03-29T00:00", "03-29T01:00", "03-29T02:00"]


def test_hours_of_zones_with_half_and_quarter_hours() -> None:
    assert hours("Asia/Kolkata", "2026-11-01T00:00:00Z", 2) == ["10-31T23:30", "11-01T00:30"]
    assert hours("Asia/Kathmandu", "2026-11-01T00:00:00Z", 2) == ["10-31T23:15", "11-01T00:15"]


def test_clocks_that_move_by_half_an_hour_cut_the_hour() -> None:
    # At 02:00 (15:00 UTC) back to 01:30, which is there for half an hour; then hours begin at half past.
    assert hours("Australia/Lord_Howe", "2026-04-04T14:00:00Z", 4) == [
        "04-04T14:00", "04-04T15:00", "04-04T15:30", "04-04T16:30",
    ]  # fmt: skip
    assert hours("Australia/Lord_Howe", "2026-10-03T14:30:00Z", 3) == ["10-03T14:30", "10-03T15:30", "10-03T16:00"]


@pytest.mark.parametrize(("anchor", "found"), [(1, "1"), ("01-01", "'01-01'")])
def test_hours_have_no_anchor(anchor: int | str, found: str) -> None:
    with pytest.raises(PeriodError, match=f"found {found}, expected no anchor for hours"):
        make_calendar("hour", anchor, "UTC", None)


# Days and what is made of them ---------------------------------------------------------------------------------------


@cache
def first_moment(day: date, zone: str) -> int:
    """The first minute at which the zone's clock shows that day, or a later one where the day is left out."""
    time = parse_time(f"{day}T00:00:00Z") - 15 * HOUR
    while day_of(time, zone) < day:
        time += MINUTE
    return time


ANCHORS: dict[str, list[int | str | None]] = {
    "day": [None],
    "week": [None, *range(1, 8)],
    "month": [None, 1, 2, 15, 28, 29, 30, 31],
    "quarter": [None, 1, 29, 30, 31, "02-29", "05-31", "11-30", "12-31", "01-31"],
    "year": [None, 1, 30, 31, "02-28", "02-29", "03-01", "12-31", "06-30"],
}
REACH = {"day": 3, "week": 16, "month": 65, "quarter": 190, "year": 740}


def is_anchor(day: date, unit: str, anchor: int | str | None, begun: date) -> bool:
    """Whether a period begins on that day; `begun`: the local day of the subscription's start."""
    if unit == "day":
        return True
    if unit == "week":
        return day.isoweekday() == (anchor or begun.isoweekday())
    month, wanted = begun.month, begun.day
    if isinstance(anchor, int):
        wanted = anchor
    elif anchor is not None:
        month, wanted = int(anchor[:2]), int(anchor[3:])
    if unit == "quarter" and (day.month - month) % 3:
        return False
    if unit == "year" and day.month != month:
        return False
    return day.day == min(wanted, monthrange(day.year, day.month)[1])


@settings(max_examples=120, deadline=None)
@given(cases(), st.data())
def test_periods_are_those_of_the_calendar_day_by_day(case: tuple[str, int], data: st.DataObject) -> None:
    zone, time = case
    unit = data.draw(st.sampled_from(list(ANCHORS)))
    anchor = data.draw(st.sampled_from(ANCHORS[unit]))
    start = data.draw(st.integers(FIRST, LAST))
    here, reach = day_of(time, zone), REACH[unit]
    days = [here + timedelta(days=n) for n in range(-reach, reach + 1)]
    begins = [first_moment(day, zone) for day in days if is_anchor(day, unit, anchor, day_of(start, zone))]
    expected = Period(max(t for t in begins if t <= time), min(t for t in begins if t > time))
    assert make_calendar(unit, anchor, zone, start).containing(time) == expected


def starts(unit: str, anchor: int | str | None, zone: str, first: str, count: int) -> list[str]:
    calendar = make_calendar(unit, anchor, zone, parse_time(first))
    period, found = calendar.containing(parse_time(first)), []
    for _ in range(count):
        found.append(format_time(period.start)[:16])
        period = calendar.containing(period.end)
    return found


def test_a_day_that_a_zone_left_out_is_no_period() -> None:
    # Samoa went from the 29th of December 2011 to the 31st.
    assert starts("day", None, "Pacific/Apia", "2011-12-29T12:00:00Z", 3) == [
        "2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00",
    ]  # fmt: skip
    calendar = make_calendar("day", None, "Pacific/Apia", None)
    found = calendar.starts(parse_time("2011-12-28T12:00:00Z"), parse_time("2012-01-02T12:00:00Z"))
    assert found == sorted(set(found))
    assert starts("month", 30, "Pacific/Apia", "2011-12-29T12:00:00Z", 2) == ["2011-11-30T10:00", "2011-12-30T10:00"]


@pytest.mark.parametrize(
    ("anchor", "days"),
    [
        (29, ["01-29", "02-28", "03-29", "04-29"]),
        (30, ["01-30", "02-28", "03-30", "04-30"]),
        (31, ["01-31", "02-28", "03-31", "04-30"]),
    ],
)
def test_months_from_the_29th_to_the_31st(anchor: int, days: list[str]) -> None:
    assert [text[5:10] for text in starts("month", anchor, "UTC", "2027-01-31T00:00:00Z", 4)] == days
    leap = starts("month", anchor, "UTC", "2028-02-29T00:00:00Z", 1)
    assert leap == ["2028-02-29T00:00"]


def test_leap_days() -> None:
    assert starts("day", None, "Europe/Zurich", "2028-02-28T12:00:00Z", 3) == [
        "2028-02-27T23:00", "2028-02-28T23:00", "2028-02-29T23:00",
    ]  # fmt: skip
    assert [t[:10] for t in starts("year", None, "UTC", "2028-02-29T12:00:00Z", 5)] == [
        "2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29",
    ]  # fmt: skip
    assert [t[:10] for t in starts("quarter", "02-29", "UTC", "2027-02-28T12:00:00Z", 5)] == [
        "2027-02-28", "2027-05-29", "2027-08-29", "2027-11-29", "2028-02-29",
    ]  # fmt: skip
    # A century is a leap year only every fourth time.
    assert starts("year", "02-29", "UTC", "2100-06-01T00:00:00Z", 1) == ["2100-02-28T00:00"]


def test_weeks_over_a_change_of_clocks() -> None:
    calendar = make_calendar("week", 7, "Europe/Zurich", None)
    autumn = calendar.containing(parse_time("2026-10-26T00:00:00Z"))
    spring = calendar.containing(parse_time("2026-03-30T00:00:00Z"))
    assert (autumn.end - autumn.start, spring.end - spring.start) == (7 * DAY + HOUR, 7 * DAY - HOUR)
