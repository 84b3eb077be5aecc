"""schedule: what its windows hold, and the law that by columns they hold what the clock on the wall says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.prices.model import ByTime
from rating.prices.schedule import DAYS
from rating.prices.windows import window_codes
from schemas.numbers import ONE
from schemas.times import EPOCH, from_datetime, parse_time
from tests.unit.rating.prices.reading import usage

UNIT = {"model": "unit", "unit_amount": "1"}


def node(*windows: dict[str, Any], timezone: str = "UTC") -> ByTime:
    found = usage(model="schedule", timezone=timezone, windows=[window | {"price": UNIT} for window in windows])
    assert isinstance(found.choice, ByTime)
    return found.choice


def place(of: ByTime, time: str) -> int:
    (code,) = window_codes(of, np.array([parse_time(time)], dtype=np.int64)).tolist()
    return int(code)


def test_each_window_is_a_leaf_and_the_rest_the_last() -> None:
    windows = [{"hours": "08:00-20:00", "price": UNIT}, {"days": ["sat"], "price": UNIT | {"unit_amount": "2"}}]
    found = usage(model="schedule", windows=windows)
    assert [leaf.label for leaf in found.leaves] == [0, 1, -1]
    assert isinstance(found.choice, ByTime)
    assert (found.choice.zone, found.choice.otherwise) == ("UTC", 2)
    assert [inside for _, inside in found.choice.windows] == [0, 1]
    assert found.leaves[2].tables[0].amount(5 * ONE) == 0
    found = usage(model="schedule", windows=windows, otherwise=UNIT)
    assert found.leaves[2].tables[0].amount(5 * ONE) == 5 * ONE


@pytest.mark.parametrize(
    ("time", "held"),
    [
        ("2026-11-20T07:59:59.999999Z", -1),
        ("2026-11-20T08:00:00Z", 0),
        ("2026-11-20T19:59:59.999999Z", 0),
        ("2026-11-20T20:00:00Z", -1),
        ("2026-11-21T08:00:00Z", 1),
        ("2026-11-21T23:59:59.999999Z", 1),
        ("2026-11-22T00:00:00Z", -1),
    ],
)
def test_windows_are_half_open(time: str, held: int) -> None:
    of = node({"days": ["fri"], "hours": "08:00-20:00"}, {"days": ["sat"], "hours": "08:00-24:00"})
    assert place(of, time) == held


@pytest.mark.parametrize(
    ("time", "held"),
    [
        ("2026-11-20T05:59:00Z", -1),
        ("2026-11-20T21:59:00Z", -1),
        ("2026-11-20T22:00:00Z", 0),
        ("2026-11-21T00:00:00Z", 0),
        ("2026-11-21T05:59:59Z", 0),
        ("2026-11-21T06:00:00Z", -1),
        ("2026-11-21T22:00:00Z", -1),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(time: str, held: int) -> None:
    assert place(node({"days": ["fri"], "hours": "22:00-06:00"}), time) == held


def test_a_sunday_night_ends_on_monday() -> None:
    of = node({"days": ["sun"], "hours": "22:00-06:00"})
    assert [place(of, f"2026-11-{day}T05:00:00Z") for day in ("22", "23", "24")] == [-1, 0, -1]


def test_until_midnight_may_be_written_both_ways() -> None:
    assert node({"hours": "22:00-00:00"}) == node({"hours": "22:00-24:00"})


def test_the_first_window_that_holds_wins() -> None:
    of = node({"hours": "10:00-12:00"}, {"hours": "09:00-12:00"}, {})
    assert [place(of, f"2026-11-20T{hour}:30:00Z") for hour in ("08", "09", "11")] == [2, 1, 0]


def test_the_local_clock_counts() -> None:
    of = node({"days": ["sat"], "hours": "02:00-03:00"}, timezone="Asia/Kathmandu")
    assert place(of, "2026-11-20T20:14:59Z") == -1
    assert place(of, "2026-11-20T20:15:00Z") == 0


def test_an_hour_that_comes_twice_is_held_twice_and_one_that_is_skipped_never() -> None:
    of = node({"days": ["sun"], "hours": "02:00-03:00"}, timezone="Europe/Zurich")
    autumn = [place(of, f"2026-10-25T{hour}Z") for hour in ("00:00:00", "00:59:59", "01:00:00", "01:59:59", "02:00:00")]
    assert autumn == [0, 0, 0, 0, -1]
    assert [place(of, f"2026-03-29T0{hour}:30:00Z") for hour in (0, 1, 2)] == [-1, -1, -1]


def test_no_times_are_no_codes() -> None:
    assert window_codes(node({}), np.empty(0, dtype=np.int64)).tolist() == []


ZONES = [
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Antarctica/Troll",
    "America/Sao_Paulo",
]
CHANGES = ["2026-10-25T01:00Z", "2026-03-29T01:00Z", "2026-11-01T06:00Z", "2026-04-04T15:00Z", "2026-10-03T15:30Z"]
CHANGES += ["2011-12-30T10:00Z", "1972-01-07T00:44Z", "2026-02-15T02:00Z", "2018-11-04T03:00Z", "2026-03-08T05:30Z"]
NEAR = st.builds(
    lambda at, minutes, micros: from_datetime(datetime.fromisoformat(at) + timedelta(minutes=minutes)) + micros,
    st.sampled_from(CHANGES),
    st.integers(-36 * 60, 36 * 60),
    st.sampled_from([0, 0, -1, 1, 30_000_000]),
)
TIMES = NEAR | st.integers(0, 250_000_000_000_000_000)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    start, end = draw(st.integers(0, 1439)), draw(st.integers(0, 1440))
    end = 1440 if start == end else end
    hours = f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    days = draw(st.lists(st.sampled_from(DAYS), min_size=1, unique=True))
    return {"hours": hours, "days": days}


def naive(written: list[dict[str, Any]], zone: str, time: int) -> int:
    """The place of the first window that holds the time, by the clock on the wall."""
    local = (EPOCH + timedelta(microseconds=time)).astimezone(ZoneInfo(zone))
    clock, day = f"{local.hour:02d}:{local.minute:02d}", local.weekday()
    for at, window in enumerate(written):
        start, end = window["hours"].split("-")
        if start < end:
            holds = DAYS[day] in window["days"] and start <= clock < end
        else:
            late, early = start <= clock, clock < end
            holds = (late and DAYS[day] in window["days"]) or (early and DAYS[day - 1] in window["days"])
        if holds:
            return at
    return -1


@settings(deadline=None, max_examples=300)
@given(st.lists(windows(), min_size=1, max_size=4), st.sampled_from(ZONES), st.lists(TIMES, min_size=1, max_size=40))
def test_by_columns_as_by_the_clock_on_the_wall(written: list[dict[str, Any]], zone: str, times: list[int]) -> None:
    found = window_codes(node(*written, timezone=zone), np.array(times, dtype=np.int64))
    assert found.dtype == np.int32
    assert found.tolist() == [naive(written, zone, time) for time in times]


def test_every_quarter_of_an_hour_of_a_day_that_is_skipped() -> None:
    """Samoa went from the 29th to the 31st of December 2011."""
    start = from_datetime(datetime(2011, 12, 29, 0, 0, tzinfo=UTC))
    times = [start + quarter * 900_000_000 for quarter in range(3 * 96)]
    of = [{"days": ["fri"]}, {"days": ["thu"]}, {"days": ["sat"]}]
    found = window_codes(node(*of, timezone="Pacific/Apia"), np.array(times, dtype=np.int64)).tolist()
    assert found == [naive([w | {"hours": "00:00-24:00"} for w in of], "Pacific/Apia", time) for time in times]
    assert 0 not in found
