"""`where`: which events pass."""

from typing import Any

import pytest

from rating.spend.conditions import ConditionError, passing
from schemas.catalogue import read_catalogue
from schemas.paths import Extractor

VALUES = ['"ok"', '"1"', "1", "1.0", "1e0", "2", "9007199254740993", "1e-13", "true", "false", "null", "[1]", "{}"]
ABSENT = "absent"


def where(text: str) -> Any:
    """A condition as a catalogue holds it."""
    catalogue, faults = read_catalogue(f"meters: {{m: {{event: e, aggregate: count, where: {{$.v: {text}}}}}}}")
    assert catalogue is not None, faults
    return catalogue.meters["m"].where


def passed(condition: str, values: list[str]) -> set[str]:
    data = [b"{}" if value == ABSENT else b'{"v": %b}' % value.encode() for value in values]
    columns = Extractor(["$.v"]).extract(data)
    found = passing(where(condition), columns, len(data))
    return {value for value, holds in zip(values, found, strict=True) if holds}


EVERYTHING = {*VALUES, ABSENT}
ONES = {"1", "1.0", "1e0"}
CASES = [
    ("ok", {'"ok"'}),
    ('"1"', {'"1"'}),
    ("1", ONES),
    ("1.000", ONES),
    ("true", {"true"}),
    ("9007199254740993", {"9007199254740993"}),
    ("9007199254740992", set()),
    ("[ok, 2, false]", {'"ok"', "2", "false"}),
    ("[]", set()),
    ("{not: 1}", EVERYTHING - ONES),
    ("{not: [1, ok]}", EVERYTHING - ONES - {'"ok"'}),
    ("{gt: 1}", {"2", "9007199254740993"}),
    ("{gte: 1, lt: 9007199254740993}", {*ONES, "2"}),
    ("{lte: 9007199254740993, gt: 9007199254740992}", {"9007199254740993"}),
    ("{lt: 0.000000000001}", {"1e-13"}),
    ('{gt: "1.5"}', {"2", "9007199254740993"}),
    ("{exists: true}", EVERYTHING - {"null", ABSENT}),
    ("{exists: false}", {"null", ABSENT}),
    ("{exists: true, not: ok}", EVERYTHING - {"null", ABSENT, '"ok"'}),
    ("{gt: 0, not: 2}", {*ONES, "9007199254740993", "1e-13"}),
]


@pytest.mark.parametrize(("condition", "expected"), CASES)
def test_a_condition_passes_what_it_says(condition: str, expected: set[str]) -> None:
    assert passed(condition, [*VALUES, ABSENT]) == expected


@pytest.mark.parametrize(("condition", "expected"), CASES)
def test_what_stands_beside_a_value_changes_nothing(condition: str, expected: set[str]) -> None:
    for value in [*VALUES, ABSENT]:
        assert passed(condition, [value]) == expected & {value}


def test_all_conditions_must_hold() -> None:
    conditions = {"$.a": "x", "$.b": {"exists": True}}
    data = [b'{"a": "x", "b": 1}', b'{"a": "x"}', b'{"a": "y", "b": 1}']
    assert passing(conditions, Extractor(list(conditions)).extract(data), 3).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"near": "1"}, "found the operator 'near', expected not, gt"),
        ({"gt": "many"}, "gt: found 'many', expected a number"),
        ({"exists": "yes"}, "exists: found 'yes', expected true or false"),
        ([["a"]], "found a list, expected a text"),
        (None, "found nothing, expected a text"),
    ],
)
def test_an_unreadable_condition_is_named(condition: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        passing({"$.v": condition}, Extractor(["$.v"]).extract([b"{}"]), 1)
