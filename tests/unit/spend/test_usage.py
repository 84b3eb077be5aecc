"""Usage windows against an independent calculation: plain loops, fractions and `zoneinfo`."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.gauges import TooManyWindows
from rating.spend.usage import _AGGREGATES, CatalogueUnreadable, Question, Usage, measure, read_meters, stretch
from schemas.catalogue import Aggregate, Convert, Meter
from schemas.times import parse_time

AGGREGATES = ["count", "sum", "min", "max", "avg", "latest", "unique_count"]
ZONES = ["UTC", "Europe/Zurich", "Asia/Kolkata", "America/New_York"]
START = parse_time("2026-10-24T00:00:00Z") // 1_000_000
NUMBERS = ["0", "1", "-1", "1.0", '"2.5"', "1e-9", "0.1", "9007199254740993", "-0.000000000001", "1e25", "7", "3"]
JUNK = ["null", '"many"', "true", "[1]", "{}", "1e-13", "1e26", '""']


def table(rows: list[tuple[int, str]]) -> pa.Table:
    """Events as a store gives them: time in microseconds, and data."""
    times, data = [time for time, _ in rows], [text.encode() for _, text in rows]
    return pa.table({"time": pa.array(times, pa.int64()), "data": pa.array(data, pa.binary())})


@st.composite
def events(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Events around a change of clocks, in order of arrival; many at the same second."""
    rows = []
    for _ in range(draw(st.integers(0, 25))):
        members = []
        if draw(st.integers(0, 9)):
            members.append(f'"n": {draw(st.sampled_from(NUMBERS * 3 + JUNK))}')
        if draw(st.booleans()):
            members.append(f'"model": {draw(st.sampled_from(["1", "1.0", "null", *map(json.dumps, "ab1é")]))}')
        if draw(st.booleans()):
            members.append(f'"ok": {draw(st.sampled_from(["true", "false", "null", "1"]))}')
        second = START + 1800 * draw(st.integers(0, 24 * 2 * 9))
        rows.append((second * 1_000_000 + draw(st.sampled_from([0, 0, 999_999])), "{" + ", ".join(members) + "}"))
    return rows


def number(value: Any) -> Fraction | None:
    """The exact number of a JSON value, where it fits."""
    if isinstance(value, Fraction):
        found = value
    elif isinstance(value, str):
        try:
            found = Fraction(value)
        except ValueError:
            return None
    else:
        return None
    fits = (found * 10**12).denominator == 1 and abs(found) < 10**26
    return found if fits else None


def text(value: Any) -> str | None:
    if isinstance(value, Fraction):
        return plain(value) if number(value) is not None else str(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def plain(value: Fraction) -> str:
    """The shortest plain decimal text, rounded half away from nought at the 12th digit."""
    units, rest = divmod(abs(value) * 10**12, 1)
    whole = int(units) + (1 if rest >= Fraction(1, 2) else 0)
    digits = f"{whole // 10**12}.{whole % 10**12:012d}".rstrip("0").rstrip(".")
    return "-" + digits if value < 0 and whole else digits


def label(time: int, unit: str, zone: str) -> tuple[Any, ...]:
    """What the zone's clock and calendar show, offset included: one for each window."""
    local = datetime.fromtimestamp(time // 1_000_000, UTC).astimezone(ZoneInfo(zone))
    if unit == "week":
        return tuple(local.isocalendar()[:2])
    if unit == "hour":
        return local.year, local.month, local.day, local.hour, str(local.utcoffset())
    return (local.year, local.month, local.day)[: 3 if unit == "day" else 2]


def expected(rows: list[tuple[int, str]], aggregate: str, unit: str, zone: str, grouped: bool) -> tuple[list[Any], int]:
    groups: dict[Any, list[tuple[int, int, Any]]] = defaultdict(list)
    rejected = 0
    for arrival, (time, data) in enumerate(rows):
        event = json.loads(data, parse_int=Fraction, parse_float=Fraction)
        if event.get("ok") is not True:
            continue
        raw = event.get("n")
        value = 1 if aggregate == "count" else text(raw) if aggregate == "unique_count" else number(raw)
        if value is None:
            rejected += 1
            continue
        key = label(time, unit, zone), text(event.get("model")) if grouped else None
        groups[key].append((time, arrival, value))
    found = [
        (window, model, plain(result(aggregate, members)), len(members)) for (window, model), members in groups.items()
    ]
    return sorted(found, key=str), rejected


def result(aggregate: str, members: list[tuple[int, int, Any]]) -> Fraction:
    """What the rows (time, arrival, value) come to."""
    values = [value for _, _, value in members]
    if aggregate in ("count", "unique_count"):
        return Fraction(len(values if aggregate == "count" else set(values)))
    if aggregate in ("sum", "avg"):
        return sum(values, Fraction(0)) / (1 if aggregate == "sum" else len(values))
    if aggregate == "latest":
        return Fraction(max(members, key=lambda row: row[:2])[2])
    return Fraction(min(values) if aggregate == "min" else max(values))


@settings(deadline=None, max_examples=300)
@given(
    events(),
    st.sampled_from(AGGREGATES),
    st.sampled_from(["hour", "day", "month"]),
    st.sampled_from(ZONES),
    st.booleans(),
)
def test_windows_equal_an_independent_calculation(
    rows: list[tuple[int, str]], aggregate: Any, unit: Any, zone: str, grouped: bool
) -> None:
    meter = Meter(
        event="e", aggregate=aggregate, value="$.n", where={"$.ok": True}, dimensions={"model": "$.model", "x": "$.x"}
    )
    usage = measure(meter, table(rows), Question(unit, zone, group_by=("model",) if grouped else ()))
    found = [
        (label(parse_time(w.start), unit, zone), w.dimensions.get("model"), w.value, w.events) for w in usage.windows
    ]
    windows, rejected = expected(rows, aggregate, unit, zone, grouped)
    assert sorted(found, key=str) == windows
    assert usage.rejected == rejected
    starts = [w.start for w in usage.windows]
    assert list(map(parse_time, starts)) == sorted(map(parse_time, starts))


def sums(rows: list[tuple[str, str]], question: Question) -> Usage:
    meter = Meter(event="e", aggregate="sum", value="$.n", dimensions={"model": "$.model"})
    return measure(meter, table([(parse_time(time), data) for time, data in rows]), question)


def test_days_of_23_and_25_hours_hold_what_falls_into_them() -> None:
    rows = [(f"2026-10-{24 + (22 + h) // 24}T{(22 + h) % 24:02d}:00:00Z", '{"n": 1}') for h in range(26)]
    found = sums(rows, Question("day", "Europe/Zurich")).windows
    assert [(w.start, w.end, w.value) for w in found] == [
        ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "25"),
        ("2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", "1"),
    ]
    rows = [(f"2026-03-{28 + (23 + h) // 24}T{(23 + h) % 24:02d}:00:00Z", '{"n": 1}') for h in range(24)]
    assert [w.value for w in sums(rows, Question("day", "Europe/Zurich")).windows] == ["23", "1"]


def test_bounds_cut_the_windows_that_they_fall_into() -> None:
    first, last = parse_time("2026-11-02T06:00:00Z"), parse_time("2026-11-03T06:00:00Z")
    rows = [("2026-11-02T06:00:00Z", '{"n": 1}'), ("2026-11-03T05:59:59Z", '{"n": 2}')]
    found = sums(rows, Question("day", "UTC", first, last)).windows
    assert [(w.start, w.end) for w in found] == [
        ("2026-11-02T06:00:00Z", "2026-11-03T00:00:00Z"),
        ("2026-11-03T00:00:00Z", "2026-11-03T06:00:00Z"),
    ]


def test_sums_above_38_digits_are_exact() -> None:
    rows = [("2026-11-02T06:00:00Z", '{"n": 99999999999999999999999999.999999999999}')] * 3
    assert sums(rows, Question("day", "UTC")).windows[0].value == "299999999999999999999999999.999999999997"


def test_no_events_no_windows() -> None:
    assert sums([], Question("day", "UTC")) == Usage([], 0)
    assert sums([("2026-11-02T06:00:00Z", "{}")], Question("day", "UTC", group_by=("model",))) == Usage([], 1)


def test_groups_stand_null_first_then_by_text() -> None:
    rows = [("2026-11-02T06:00:00Z", f'{{"n": 1, "model": {model}}}') for model in ('"b"', "null", '"a"', "10", "9")]
    found = sums(rows, Question("day", "UTC", group_by=("model",))).windows
    assert [w.dimensions["model"] for w in found] == [None, "10", "9", "a", "b"]


def test_meters_keep_their_numbers_exact() -> None:
    text = b'{"meters": {"m": {"event": "e", "aggregate": "count", "where": {"$.n": 9007199254740993}}}, "other": 1}'
    meter = read_meters(text)["m"]
    rows = [(0, '{"n": 9007199254740993}'), (0, '{"n": 9007199254740992}')]
    assert measure(meter, table(rows), Question("day", "UTC")).windows[0].value == "1"


def test_meters_that_cannot_be_read_are_named() -> None:
    with pytest.raises(CatalogueUnreadable, match=r"1 fault.*meters\.m\.aggregate"):
        read_meters(b'{"meters": {"m": {"event": "e", "aggregate": "most"}}}')


def test_every_aggregate_of_the_catalogue_is_known() -> None:
    assert set(get_args(Aggregate)) == set(_AGGREGATES) | {"time_weighted"}


def usage(rows: list[tuple[str, str]], question: Question, **meter: Any) -> list[tuple[str, str, int]]:
    found = measure(Meter(event="e", **meter), table([(parse_time(time), data) for time, data in rows]), question)
    return [(w.start, w.value, w.events) for w in found.windows]


def test_percentiles_are_of_the_nearest_rank() -> None:
    rows = [("2026-11-02T06:00:00Z", f'{{"n": {n}}}') for n in range(1, 21)]
    for percent, rank in (("95", 19), ("95.1", 20), ("100", 20), ("5", 1), ("0.1", 1)):
        found = usage(rows, Question("day", "UTC"), aggregate="percentile", value="$.n", percentile=Decimal(percent))
        assert found == [("2026-11-02T00:00:00Z", str(rank), 20)]


def test_expressions_and_conversions_of_single_events() -> None:
    rows = [("2026-11-02T06:00:00Z", data) for data in ('{"in": 1500, "out": 100}', '{"in": 1}', '{"out": 1}')]
    convert = Convert(divide=Decimal(1000), round="up", per="event")
    found = measure(
        Meter(event="e", aggregate="sum", value="$.in + 5 * coalesce($.out, 0)", convert=convert),
        table([(parse_time(time), data) for time, data in rows]),
        Question("minute", "UTC"),
    )
    assert [(w.start, w.value, w.events) for w in found.windows] == [("2026-11-02T06:00:00Z", "3", 2)]
    assert found.rejected == 1


def test_weeks_begin_on_monday() -> None:
    rows = [("2026-11-01T22:59:59Z", '{"n": 1}'), ("2026-11-01T23:00:00Z", '{"n": 2}')]
    assert usage(rows, Question("week", "Europe/Zurich"), aggregate="sum", value="$.n") == [
        ("2026-10-25T23:00:00Z", "1", 1),
        ("2026-11-01T23:00:00Z", "2", 1),
    ]


GAUGE: dict[str, Any] = {"aggregate": "time_weighted", "value": "$.n", "key": "$.disk"}


def test_a_gauge_holds_its_level_through_windows_without_events() -> None:
    rows = [("2026-11-02T22:00:00Z", '{"n": 10}'), ("2026-11-05T06:00:00Z", '{"n": 0}')]
    assert usage(rows, Question("day", "UTC"), **GAUGE) == [
        ("2026-11-02T00:00:00Z", "20", 1),
        ("2026-11-03T00:00:00Z", "240", 0),
        ("2026-11-04T00:00:00Z", "240", 0),
        ("2026-11-05T00:00:00Z", "60", 1),
    ]


def test_a_gauge_goes_on_to_the_newest_time_known_and_no_further() -> None:
    rows = [("2026-11-02T22:00:00Z", '{"n": 10}')]
    assert usage(rows, Question("day", "UTC"), **GAUGE) == [("2026-11-02T00:00:00Z", "0", 1)]
    newest = Question("day", "UTC", newest=parse_time("2026-11-03T00:30:00Z"))
    assert usage(rows, newest, **GAUGE) == [("2026-11-02T00:00:00Z", "20", 1), ("2026-11-03T00:00:00Z", "5", 0)]
    cut = newest._replace(first=parse_time("2026-11-02T23:00:00Z"), last=parse_time("2026-11-03T00:15:00Z"))
    assert usage(rows, cut, **GAUGE) == [("2026-11-02T23:00:00Z", "10", 0), ("2026-11-03T00:00:00Z", "2.5", 0)]
    assert stretch(Meter(event="e", **GAUGE), cut) == (None, cut.last)


def test_gauges_are_one_for_each_key_and_changes_add_up() -> None:
    rows = [
        ("2026-11-02T00:00:00Z", '{"n": 10, "disk": "a"}'),
        ("2026-11-02T00:00:00Z", '{"n": 5, "disk": "b"}'),
        ("2026-11-02T12:00:00Z", '{"n": 1, "disk": "a"}'),
        ("2026-11-02T12:00:00Z", '{"n": 2, "disk": "a"}'),
    ]
    noon = Question("day", "UTC", newest=parse_time("2026-11-03T00:00:00Z"))
    assert usage(rows, noon, **GAUGE) == [("2026-11-02T00:00:00Z", str(12 * 15 + 12 * 7), 4)]
    assert usage(rows, noon, **GAUGE, reads="change") == [("2026-11-02T00:00:00Z", str(12 * 15 + 12 * 18), 4)]
    # The share of the whole window: the mean level.
    assert usage(rows, noon, **GAUGE, unit="period") == [("2026-11-02T00:00:00Z", "11", 4)]


def test_a_gauge_may_count_from_the_beginning_of_its_day() -> None:
    rows = [("2026-11-02T15:00:00Z", '{"n": 24}')]
    question = Question(
        "day", "UTC", last=parse_time("2026-11-02T12:00:00Z"), newest=parse_time("2026-11-04T00:00:00Z")
    )
    meter = Meter(event="e", **GAUGE, align="day")
    assert stretch(meter, question) == (None, parse_time("2026-11-03T00:00:00Z"))
    assert usage(rows, question, **GAUGE, align="day") == [("2026-11-02T00:00:00Z", "288", 1)]


def test_too_many_windows_of_a_gauge_are_refused() -> None:
    rows = [("2026-11-02T00:00:00Z", '{"n": 1}')]
    question = Question("minute", "UTC", newest=parse_time("2026-12-02T00:00:00Z"))
    with pytest.raises(TooManyWindows, match="more than 20000 windows, expected longer ones"):
        usage(rows, question, **GAUGE)


@settings(deadline=None, max_examples=150)
@given(events(), st.sampled_from(["hour", "day", "week", "month"]), st.sampled_from(ZONES), st.booleans(), st.data())
def test_gauges_equal_a_walk_from_half_hour_to_half_hour(
    rows: list[tuple[int, str]], unit: Any, zone: str, change: bool, data: st.DataObject
) -> None:
    rows = [(time - time % 1_800_000_000, text) for time, text in rows]
    reads: Any = "change" if change else "level"
    meter = Meter(event="e", **GAUGE | {"key": "$.model"}, reads=reads, dimensions={"ok": "$.ok"})
    bounds = st.none() | st.integers(0, 24 * 2 * 9 + 5).map(lambda n: (START + 1800 * n) * 1_000_000)
    first, last = sorted([data.draw(bounds), data.draw(bounds)], key=lambda bound: bound or 0)
    first, last = (first, last) if None not in (first, last) else (None, last or first)
    newest = max([time for time, _ in rows], default=0) + 1_800_000_000 * data.draw(st.integers(0, 60))
    question = Question(unit, zone, first, last, ("ok",), newest)
    seen = [row for row in rows if last is None or row[0] < last]
    found = measure(meter, table(seen), question).windows
    shown = [((label(parse_time(w.start), unit, zone), w.dimensions["ok"]), w.value, w.events) for w in found]
    assert sorted(shown, key=str) == walk(seen, question, change)
    assert [w.start for w in found] == sorted(w.start for w in found)


def walk(rows: list[tuple[int, str]], question: Question, change: bool) -> list[Any]:
    """Half hour after half hour: the events of this moment, then the level up to the next."""
    half = 1_800_000_000
    levels: dict[Any, Fraction] = defaultdict(Fraction)
    found: dict[Any, list[Any]] = {}
    decoded = [(time, json.loads(data, parse_int=Fraction, parse_float=Fraction)) for time, data in rows]
    if not decoded:
        return []
    end, times = question.newest or 0, [time for time, _ in decoded]
    for now in range(min(times), max([end, *times]) + half, half):
        here = label(now, question.unit, question.zone)
        counts = question.first is None or now >= question.first
        for time, event in decoded:
            value = number(event.get("n"))
            if time != now or value is None:
                continue
            gauge = text(event.get("ok")), text(event.get("model"))
            levels[gauge] = levels[gauge] + value if change else value
            if counts:
                found.setdefault((here, gauge[0]), [Fraction(0), 0])[1] += 1
        for gauge, level in levels.items():
            if counts and now < min(end, question.last or end):
                found.setdefault((here, gauge[0]), [Fraction(0), 0])[0] += level / 2
    shown = [(key, plain(value), count) for key, (value, count) in found.items() if value or count]
    return sorted(shown, key=str)
