"""Texts of catalogues: JSON read by itself says the same as YAML, and what is too much or no text is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.plain
from schemas.faults import MISSING, Faults, Number
from schemas.plain import read_json, read_plain

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(KEYS, inside, max_size=3),
    max_leaves=10,
)


def plain(text: str | bytes) -> object:
    faults = Faults()
    value = read_plain(text, faults)
    assert value is not MISSING, faults
    return value


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_json_by_itself_is_what_yaml_makes_of_it(value: dict[str, object]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert plain(text) == plain(text.encode()) == plain(" - " + text)[0]  # type: ignore[index]  # a list of YAML


def test_numbers_keep_their_letters() -> None:
    text = "[0.10, 1e-9, -0, 123456789012345678901234567890.123456789012, 1E5]"
    assert plain(text) == [Number(one) for one in text.strip("[]").split(", ")]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ('{"a": }', "line 1, column 7", "not JSON"),
        ('{"a": 1, "a": 2}', "", "the key 'a' stands twice"),
        ('{"a": NaN}', "", "found NaN, expected a number"),
        ("{a: b}", "line 1, column 2", "not JSON"),
        ('{"a": "\\ud800"}', "", "no Unicode text"),
        (b"{\xff", "", "not JSON"),
        ("[" * 100_000, "", "not JSON"),
        ("", "line 1, column 1", "not JSON"),
    ],
)
def test_what_is_no_json_is_said(text: str | bytes, path: str, message: str) -> None:
    faults = Faults()
    assert read_json(text, faults) is MISSING
    [fault] = faults
    assert fault.path.startswith(path) and message in fault.message


def test_a_value_at_the_limit_is_read_and_one_above_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas.plain, "CATALOGUE_VALUES_MAX", 10)
    assert plain(json.dumps([0] * 9)) == [Number("0")] * 9
    faults = Faults()
    assert read_plain(json.dumps([0] * 10), faults) is MISSING
    assert faults[0].message == "found more than 10 values, expected at most as many"
    assert read_plain("a: &a [1, 2]\nb: [*a, *a, *a]", Faults()) is MISSING


def test_yaml_that_holds_itself_is_refused() -> None:
    assert read_plain("a: &a [*a]", Faults()) is MISSING
