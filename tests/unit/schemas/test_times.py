"""Times: UTC to the microsecond, an offset is required, what is no time is refused by name."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import SECOND, TimeError, format_time, from_datetime, parse_time, to_datetime

FIRST = datetime(1970, 1, 1)
LAST = datetime(9998, 12, 31, 23, 59, 59, 999999)
STAMPS = st.datetimes(FIRST, LAST)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@given(STAMPS)
def test_what_is_written_is_read_back(naive: datetime) -> None:
    micros = from_datetime(naive.replace(tzinfo=UTC))
    assert parse_time(format_time(micros)) == micros
    assert to_datetime(micros) == naive.replace(tzinfo=UTC)
    assert datetime.fromisoformat(format_time(micros)) == naive.replace(tzinfo=UTC)


@given(STAMPS)
def test_texts_are_in_utc_and_without_closing_noughts(naive: datetime) -> None:
    text = format_time(from_datetime(naive.replace(tzinfo=UTC)))
    assert text[10] == "T" and text[-1] == "Z" and (len(text) == 20 or (text[19] == "." and text[-2] != "0"))


@given(STAMPS, OFFSETS)
def test_an_offset_is_taken_off(naive: datetime, minutes: int) -> None:
    stamp = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = stamp.isoformat()
    assert parse_time(text) == (stamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(text[:-3] + text[-2:]) == parse_time(text)  # +0530 as well as +05:30


@given(STAMPS, STAMPS)
def test_order_is_kept(one: datetime, other: datetime) -> None:
    first, second = sorted(from_datetime(t.replace(tzinfo=UTC)) for t in (one, other))
    assert to_datetime(first) <= to_datetime(second)


def test_digits_after_the_sixth_are_dropped_never_rounded_up() -> None:
    at = parse_time("2026-11-30T23:59:59.999999Z")
    assert parse_time("2026-11-30T23:59:59.999999999Z") == at
    assert parse_time("2026-11-30T23:59:59.9Z") == at - 99_999
    assert parse_time("1970-01-01T00:00:00.0000009Z") == 0


def test_a_leap_second_is_the_second_after_it() -> None:
    assert parse_time("2016-12-31T23:59:60Z") == parse_time("2017-01-01T00:00:00Z")
    assert parse_time("2016-12-31T18:59:60.5-05:00") == parse_time("2017-01-01T00:00:00.5Z")


@pytest.mark.parametrize("text", ["2026-11-21t10:00:00z", "2026-11-21 10:00:00Z", "2026-11-21T10:00:00,0Z"])
def test_other_letters_of_the_standard_are_read(text: str) -> None:
    assert parse_time(text) == parse_time("2026-11-21T10:00:00Z")


@pytest.mark.parametrize("year", [1970, 9998])
def test_years_at_the_limit(year: int) -> None:
    assert format_time(parse_time(f"{year}-06-15T12:00:00Z")) == f"{year}-06-15T12:00:00Z"


@pytest.mark.parametrize("year", ["0000", "0001", "1969", "9999"])
def test_years_beyond_the_limit(year: str) -> None:
    with pytest.raises(TimeError, match=f"found the year {int(year)}, expected 1970 to 9998"):
        parse_time(f"{year}-06-15T12:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "10:00:00Z",
        "2026-11-21T10:00:00",
        "2026-11-21T10:00Z",
        "2026-11-21T10:00:00 Z",
        "2026-11-21T10:00:00.Z",
        "2026-11-21T10:00:00.1234567890Z",
        "2026-11-21T10:00:00+5",
        "2026-11-21T10:00:00Z\n",
        "2026-11-21T10:00:00+05",
        "20261121T100000Z",
        "2026-W47-6T10:00:00Z",
        "+2026-11-21T10:00:00Z",
        "1795255200",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(TimeError, match="expected an RFC 3339 time with an offset"):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-00-01", "2026-02-29", "2026-04-31", "2026-11-00", "2100-02-29", "2026-11-32"]
)
def test_days_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(TimeError, match=text):
        parse_time(f"{text}T00:00:00Z")


@pytest.mark.parametrize("text", ["24:00:00", "10:60:00", "10:00:61", "25:00:00"])
def test_clock_times_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(TimeError, match=text):
        parse_time(f"2026-11-21T{text}Z")


@pytest.mark.parametrize("offset", ["+24:00", "-99:00", "+00:60"])
def test_offsets_that_do_not_exist_are_refused(offset: str) -> None:
    with pytest.raises(TimeError, match="expected at most 23:59"):
        parse_time(f"2026-11-21T10:00:00{offset}")


def test_seconds_are_a_million_microseconds() -> None:
    assert parse_time("1970-01-01T00:00:01Z") == SECOND
