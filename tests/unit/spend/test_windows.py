"""Windows of time in a zone."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.windows import UNITS, cut, window_of
from schemas.times import HOUR, format_time, parse_time, to_datetime

ZONES = [
    "UTC",
    "Europe/Zurich",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/New_York",
    "Africa/Monrovia",
    "Africa/Casablanca",
]
TIMES = st.integers(0, parse_time("2037-12-01T00:00:00Z"))


@pytest.mark.parametrize(
    ("time", "zone", "unit", "start", "end"),
    [
        ("2026-03-29T12:00:00Z", "Europe/Zurich", "day", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),  # 23 hours
        ("2026-10-25T12:00:00Z", "Europe/Zurich", "day", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),  # 25 hours
        ("2026-10-25T00:30:00Z", "Europe/Zurich", "hour", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),  # 02:30
        ("2026-10-25T01:30:00Z", "Europe/Zurich", "hour", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),  # 02:30
        ("2026-11-15T00:00:00Z", "Europe/Zurich", "month", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
        ("2026-03-31T22:00:00Z", "Europe/Zurich", "month", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"),
        ("2026-11-15T10:45:00Z", "Asia/Kolkata", "hour", "2026-11-15T10:30:00Z", "2026-11-15T11:30:00Z"),
        # Lord Howe turns back half an hour at 02:00, which is 15:00 UTC: 01:30 to 02:00 comes twice.
        ("2026-04-04T14:45:00Z", "Australia/Lord_Howe", "hour", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"),
        ("2026-04-04T15:10:00Z", "Australia/Lord_Howe", "hour", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"),
        ("2026-04-04T15:40:00Z", "Australia/Lord_Howe", "hour", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z"),
        ("2026-11-15T00:00:00Z", "Europe/Zurich", "week", "2026-11-08T23:00:00Z", "2026-11-15T23:00:00Z"),
        ("2026-11-15T10:45:30Z", "Asia/Kolkata", "minute", "2026-11-15T10:45:00Z", "2026-11-15T10:46:00Z"),
        # São Paulo's clocks skipped midnight.
        ("2018-11-04T12:00:00Z", "America/Sao_Paulo", "day", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
    ],
)
def test_windows_are_cut_where_the_clocks_say(time: str, zone: str, unit: str, start: str, end: str) -> None:
    window = window_of(parse_time(time), unit, zone)  # type: ignore[arg-type]
    assert (format_time(window.start), format_time(window.end)) == (start, end)


@settings(deadline=None)
@given(TIMES, st.sampled_from(ZONES), st.sampled_from(UNITS))
def test_windows_hold_their_times_and_meet_without_gap_or_overlap(time: int, zone: str, unit: str) -> None:
    window = window_of(time, unit, zone)  # type: ignore[arg-type]
    assert window.start <= time < window.end
    for inside in (window.start, window.end - 1):
        assert window_of(inside, unit, zone) == window  # type: ignore[arg-type]
    assert window_of(window.end, unit, zone).start == window.end  # type: ignore[arg-type]
    assert window_of(window.start - 1, unit, zone).end == window.start  # type: ignore[arg-type]


@settings(deadline=None)
@given(TIMES, st.sampled_from(ZONES))
def test_all_of_a_window_has_the_same_local_label(time: int, zone: str) -> None:
    def label(moment: int, unit: str) -> tuple[int, ...]:
        local: datetime = to_datetime(moment).astimezone(ZoneInfo(zone))
        parts = local.year, local.month, local.day, local.hour, local.minute
        return (
            local.isocalendar()[:2] if unit == "week" else parts[: {"minute": 5, "hour": 4, "day": 3, "month": 2}[unit]]
        )

    for unit in UNITS:
        window = window_of(time, unit, zone)  # type: ignore[arg-type]
        assert label(window.start, unit) == label(time, unit) == label(window.end - 1, unit)


@given(st.lists(TIMES, max_size=20), st.sampled_from(UNITS))
def test_a_cut_lists_each_window_once_in_order(times: list[int], unit: str) -> None:
    windows, index = cut(np.array(times, dtype=np.int64), unit, "Europe/Zurich")  # type: ignore[arg-type]
    assert windows == sorted(set(windows))
    assert [windows[i] for i in index] == [window_of(t, unit, "Europe/Zurich") for t in times]  # type: ignore[arg-type]
    assert set(index.tolist()) == set(range(len(windows)))
    assert unit == "minute" or all(window.end - window.start >= HOUR // 2 for window in windows)
