"""Faults: everything that is wrong with a document is found at once, each with its path; what is right is read."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from schemas.faults import MISSING, Faults, Number, describe, encode_document, join, read, unknown
from schemas.times import parse_time, to_datetime


class Leg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    length: Decimal
    kind: Literal["road", "rail"] = "road"


class Trip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern="^[a-z]+$", max_length=5)]
    legs: list[Leg] = []
    stops: dict[Annotated[str, Meta(min_length=2)], Decimal] = {}
    at: datetime | None = None
    seats: Annotated[int, Meta(ge=1, le=9)] | str | None = None
    night: bool = False
    extra: dict[str, Any] = {}


def faults_of(value: Any) -> list[tuple[str, str]]:
    faults = Faults()
    found = read(Trip, value, "", faults)
    assert (found is MISSING) == bool(faults)
    return [tuple(fault) for fault in faults]


def test_what_is_right_is_read() -> None:
    faults = Faults()
    trip = read(
        Trip,
        {
            "name": "alps",
            "legs": [{"length": Number("12.50")}, {"length": "1e-9", "kind": "rail"}],
            "stops": {"ab": "3"},
            "at": "2026-11-21T10:00:00+01:00",
            "seats": Number("9"),
            "night": True,
        },
        "",
        faults,
    )
    assert not faults
    assert [leg.length for leg in trip.legs] == [Decimal("12.5"), Decimal("0.000000001")]
    assert (trip.stops, trip.seats, trip.night) == ({"ab": Decimal(3)}, 9, True)
    assert trip.at == to_datetime(parse_time("2026-11-21T09:00:00Z"))


def test_everything_that_is_wrong_is_found_at_once_in_its_order() -> None:
    found = faults_of(
        {
            "nam": "x",
            "legs": [{"length": "far"}, {"kind": "rale", "length": Number("1")}, 7, {}],
            "stops": {"a": "1", "bc": True},
            "at": "tomorrow",
            "seats": Number("10"),
            "night": "yes",
            "extra": [],
        }
    )
    assert found == [
        ("nam", "unknown key: found 'nam' (did you mean 'name'?), "
         "expected one of at, extra, legs, name, night, seats, stops"),
        ("name", "missing"),
        ("legs[0].length", "found 'far', expected a decimal number such as 12.5"),
        ("legs[1].kind", "found 'rale' (did you mean 'rail'?), expected one of rail, road"),
        ("legs[2]", "found 7, expected a mapping"),
        ("legs[3].length", "missing"),
        ("stops.a", "found 'a', expected at least 2 characters"),
        ("stops.bc", 'found true, expected a decimal number such as "12.5"'),
        ("at", "found 'tomorrow', expected an RFC 3339 time with an offset such as 2026-11-21T10:00:00Z"),
        ("seats", "found 10, expected a whole number from 1 to 9"),
        ("night", "found 'yes', expected true or false"),
        ("extra", "found a list, expected a mapping"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (None, "", "found nothing, expected a mapping"),
        ([], "", "found a list, expected a mapping"),
        ({"name": 3}, "name", "expected a text"),
        ({"name": Number("3")}, "name", "found 3, expected a text"),
        ({"name": "Alps"}, "name", "expected a text that matches ^[a-z]+$"),
        ({"name": "alpine"}, "name", "at most 5 characters"),
        ({"name": "a", "legs": {}}, "legs", "found a mapping, expected a list"),
        ({"name": "a", "legs": [{"length": 0.5}]}, "legs[0].length", "found 0.5, expected a decimal number"),
        ({"name": "a", "legs": [{"length": None}]}, "legs[0].length", "found nothing, expected a decimal number"),
        ({"name": "a", "legs": [{"length": Number(".nan")}]}, "legs[0].length", "expected a decimal number"),
        ({"name": "a", "stops": []}, "stops", "found a list, expected a mapping"),
        ({"name": "a", "at": Number("3")}, "at", "found 3, expected a time"),
        ({"name": "a", "at": "2026-02-30T00:00:00Z"}, "at", "day is out of range"),
        ({"name": "a", "seats": Number("1.5")}, "seats", "found 1.5, expected a whole number"),
        ({"name": "a", "seats": True}, "seats", "found true, expected a whole number or a text"),
        ({"name": "a", "night": Number("1")}, "night", "found 1, expected true or false"),
    ],
)
def test_each_fault_says_where_what_was_found_and_what_was_expected(value: Any, path: str, message: str) -> None:
    [(where, what)] = faults_of(value)
    assert where == path
    assert message in what


def test_a_pattern_holds_for_the_whole_text() -> None:
    assert [path for path, _ in faults_of({"name": "alps\n"})] == ["name"]


def test_paths_are_joined() -> None:
    assert join("", "a") == "a"
    assert join("a", "b") == "a.b"
    assert join("a", 0) == "a[0]"


def test_a_hint_is_given_only_where_something_is_close() -> None:
    assert (
        unknown("tokns", ["tokens", "calls"]) == "found 'tokns' (did you mean 'tokens'?), expected one of calls, tokens"
    )
    assert unknown("xyz", ["tokens"]) == "found 'xyz', expected one of tokens"
    assert unknown("xyz", []) == "found 'xyz', expected one of nothing"


def test_long_values_are_shown_by_their_beginning() -> None:
    assert len(describe("x" * 1000)) <= 80


def test_numbers_of_free_form_are_written_as_json_numbers() -> None:
    text = encode_document({"b": Number("1.50"), "a": Decimal("0.1"), "c": Number("1e99")})
    assert text == b'{"b":1.5,"a":"0.1","c":"1e99"}'
