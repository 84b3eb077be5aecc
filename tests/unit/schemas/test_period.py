"""Billing periods: every instant is in exactly one, they touch, and they begin at local midnight."""

from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.period import Calendar, PeriodError, load_zone, make_calendar
from schemas.times import DAY, HOUR, format_time, parse_time, to_datetime

# Half-hour and quarter-hour offsets, clocks that change at midnight, a day that was skipped, both hemispheres.
ZONES = ["UTC", "Europe/Zurich", "America/Los_Angeles", "Asia/Kathmandu", "Asia/Kolkata", "Australia/Lord_Howe"]
ZONES += ["America/St_Johns", "Pacific/Chatham", "America/Sao_Paulo", "Africa/Cairo", "America/Havana", "Asia/Beirut"]
ZONES += ["Pacific/Apia", "Pacific/Kiritimati", "America/Asuncion", "Antarctica/Troll"]
MOMENTS = st.integers(parse_time("1971-01-01T00:00:00Z"), parse_time("2090-01-01T00:00:00Z"))


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    unit = draw(st.sampled_from(["day", "week", "month", "quarter", "year"]))
    anchors: dict[str, list[int | str | None]] = {
        "day": [None],
        "week": [None, *range(1, 8)],
        "month": [None, 1, 15, 28, 29, 30, 31],
        "quarter": [None, 1, 29, 30, 31, "02-29", "11-30", "12-31", "01-31"],
        "year": [None, 1, 31, "02-28", "02-29", "12-31", "06-30"],
    }
    start = draw(st.none() | MOMENTS)
    return make_calendar(unit, draw(st.sampled_from(anchors[unit])), draw(st.sampled_from(ZONES)), start)


@settings(max_examples=400)
@given(calendars(), MOMENTS)
def test_every_instant_is_in_exactly_one_period(calendar: Calendar, time: int) -> None:
    period = calendar.containing(time)
    assert period.start <= time < period.end
    assert calendar.containing(period.start) == period
    assert calendar.containing(period.end - 1) == period


@settings(max_examples=400)
@given(calendars(), MOMENTS)
def test_periods_touch(calendar: Calendar, time: int) -> None:
    period = calendar.containing(time)
    assert calendar.containing(period.end).start == period.end
    assert calendar.containing(period.start - 1).end == period.start


@settings(max_examples=400)
@given(calendars(), MOMENTS, st.integers(0, 400 * DAY))
def test_starts_are_those_of_the_periods_one_by_one(calendar: Calendar, first: int, length: int) -> None:
    starts = calendar.starts(first, first + length)
    period, expected = calendar.containing(first), []
    while period.start <= first + length:
        expected.append(period.start)
        period = calendar.containing(period.end)
    assert starts == [*expected, period.start]


@settings(max_examples=400)
@given(calendars(), MOMENTS)
def test_a_period_begins_with_the_first_moment_of_a_local_day(calendar: Calendar, time: int) -> None:
    start = calendar.containing(time).start
    zone = ZoneInfo(calendar.zone)
    day, before = (to_datetime(t).astimezone(zone).date() for t in (start, start - 1))
    assert before < day
    if calendar.unit == "week":
        assert day.isoweekday() == calendar.anchor_day or (day - before).days > 1


@settings(max_examples=300)
@given(calendars(), MOMENTS)
def test_lengths_are_those_of_the_unit(calendar: Calendar, time: int) -> None:
    period = calendar.containing(time)
    least, most = {"day": (1, 1), "week": (7, 7), "month": (28, 31), "quarter": (89, 92), "year": (365, 366)}[
        calendar.unit
    ]
    # A change of the clock is an hour or two; Apia and Kiritimati have skipped a whole day.
    slack = 25 * HOUR if calendar.zone.startswith("Pacific/") else 3 * HOUR
    if calendar.anchor_day > 28:
        least, most = least - 3, most + 3
    assert least * DAY - slack <= period.end - period.start <= most * DAY + slack


def starts(unit: str, anchor: int | str | None, zone: str, first: str, count: int) -> list[str]:
    calendar = make_calendar(unit, anchor, zone, parse_time(first))
    period, found = calendar.containing(parse_time(first)), []
    for _ in range(count):
        found.append(format_time(period.start))
        period = calendar.containing(period.end)
    return found


def test_the_31st_is_the_last_day_of_a_shorter_month_and_the_31st_again_after_it() -> None:
    found = starts("month", 31, "UTC", "2027-01-31T00:00:00Z", 5)
    assert [text[:10] for text in found] == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"]


@pytest.mark.parametrize(("anchor", "day"), [(29, "02-28"), (30, "02-28"), (31, "02-28"), (28, "02-28")])
def test_february_has_an_end(anchor: int, day: str) -> None:
    assert starts("month", anchor, "UTC", "2027-02-28T12:00:00Z", 1) == [f"2027-{day}T00:00:00Z"]
    assert starts("month", anchor, "UTC", "2028-02-29T12:00:00Z", 1) == [f"2028-02-{min(anchor, 29)}T00:00:00Z"]


def test_the_29th_of_february_is_the_28th_in_most_years() -> None:
    found = starts("year", "02-29", "UTC", "2024-02-29T00:00:00Z", 5)
    assert [t[:10] for t in found] == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_quarters_from_an_anchor() -> None:
    found = starts("quarter", "11-30", "UTC", "2026-11-30T00:00:00Z", 4)
    assert [text[:10] for text in found] == ["2026-11-30", "2027-02-28", "2027-05-30", "2027-08-30"]


def test_days_of_23_and_25_hours() -> None:
    calendar = make_calendar("day", None, "Europe/Zurich", None)
    spring, autumn = (calendar.containing(parse_time(t)) for t in ("2027-03-28T12:00:00Z", "2026-10-25T12:00:00Z"))
    assert (spring.end - spring.start, autumn.end - autumn.start) == (23 * HOUR, 25 * HOUR)


def test_half_an_hour_of_summer_time() -> None:
    calendar = make_calendar("day", None, "Australia/Lord_Howe", None)
    periods = [calendar.containing(parse_time(f"2026-{day}T01:00:00Z")) for day in ("04-05", "07-01", "10-04")]
    half = HOUR // 2
    assert [period.end - period.start for period in periods] == [DAY + half, DAY, DAY - half]


def test_a_midnight_that_does_not_exist_is_the_end_of_the_gap() -> None:
    calendar = make_calendar("day", None, "Africa/Cairo", None)  # the clocks go from 00:00 to 01:00 on 2026-04-24
    period = calendar.containing(parse_time("2026-04-24T12:00:00Z"))
    local = to_datetime(period.start).astimezone(ZoneInfo("Africa/Cairo"))
    assert (local.date(), local.hour, period.end - period.start) == (date(2026, 4, 24), 1, 23 * HOUR)


def test_a_midnight_that_comes_twice_is_the_first_one() -> None:
    calendar = make_calendar("day", None, "America/Havana", None)  # from 01:00 back to 00:00 on 2026-11-01
    period = calendar.containing(parse_time("2026-11-01T12:00:00Z"))
    assert (format_time(period.start), period.end - period.start) == ("2026-11-01T04:00:00Z", 25 * HOUR)


def test_without_an_anchor_it_is_that_of_the_start_in_its_own_zone() -> None:
    start = parse_time("2026-11-10T23:30:00Z")  # the 11th, a Wednesday, in Zurich
    assert make_calendar("month", None, "Europe/Zurich", start).anchor_day == 11
    assert make_calendar("month", None, "UTC", start).anchor_day == 10
    assert make_calendar("week", None, "Europe/Zurich", start).anchor_day == 3
    assert make_calendar("year", None, "UTC", start)[2:] == (11, 10)
    assert make_calendar("quarter", None, "UTC", start)[2:] == (2, 10)
    assert make_calendar("quarter", 15, "UTC", start)[2:] == (2, 15)


def test_equal_calendars_are_equal() -> None:
    assert make_calendar("month", 1, "UTC", None) == make_calendar(
        "month", None, "UTC", parse_time("2026-11-01T00:00:00Z")
    )
    assert make_calendar("quarter", "02-10", "UTC", None) == make_calendar("quarter", "11-10", "UTC", None)


@pytest.mark.parametrize(
    ("unit", "anchor", "message"),
    [
        ("day", 1, "found 1, expected no anchor for days"),
        ("day", "01-01", "found '01-01', expected no anchor for days"),
        ("week", 8, "found 8, expected a weekday from 1 (Monday) to 7"),
        ("week", 0, "found 0"),
        ("month", 32, "found 32, expected a day of the month from 1 to 31"),
        ("month", "01-15", "found '01-15', expected a day of the month from 1 to 31"),
        ("quarter", 0, "expected a day of the month from 1 to 31 or MM-DD"),
        ("year", "13-01", "no day of the year"),
        ("year", "02-30", "no day of the year"),
        ("year", "2-1", "expected a day of the month from 1 to 31 or MM-DD"),
        ("year", "01-01\n", "or MM-DD"),
    ],
)
def test_anchors_out_of_range_are_refused(unit: str, anchor: int | str, message: str) -> None:
    with pytest.raises(PeriodError) as refused:
        make_calendar(unit, anchor, "UTC", None)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "europe zurich", "a\0b", "+02:00"]
)
def test_zones_that_do_not_exist_are_refused(zone: str) -> None:
    with pytest.raises(PeriodError, match="expected an IANA time zone such as Europe/Zurich"):
        load_zone(zone)
