"""Paths: an `Extractor` finds what a walk through the parsed JSON finds, and its columns hold it exactly."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.numbers import ONE, NumberError
from schemas.paths import DECIMAL, TEXTS, Extractor, PathError, number_of, parse_path, scalar_column, text_of

NAMES = ["a", "b", "odd name", "$", "x-y", "日本", "a.b", 'q"', "it's", ""]
PATHS = ["$.a", "$.b", "$.a.b", "$.a[0]", "$['odd name'].a", "$.a[1].b", "$['日本']", '$["$"]', "$['a.b']", "$.x-y[0]"]
PATHS += ["$['']", r"$['it\'s']", "$['q\"']", "$.b.a.b", "$[0]", "$.a[0][1]"]
NUMBERS = ["0", "-0", "1", "-1.5", "0.1", "1e3", "1E-9", "9007199254740993", "12345678901234567890123456.123456789012"]
NUMBERS += ["1e26", "0.0000000000001", "1e400", "-3.10", "1.0"]
SCALARS = st.sampled_from(
    [*NUMBERS, "null", "true", "false", '"x"', '""', '"1.5"', r'"\n"', r'"\u00e9"', '"é🚕"', '"a b"']
)


def texts(depth: int = 3) -> st.SearchStrategy[str]:
    """JSON texts with odd but legal white space."""
    if depth == 0:
        return SCALARS
    inner = texts(depth - 1)
    pads = st.sampled_from(["", " ", "\n\t"])
    keys = st.sampled_from(NAMES).map(lambda name: json.dumps(name, ensure_ascii=False))
    members = st.dictionaries(keys, inner, max_size=4)
    objects = st.builds(lambda m, p: "{" + ",".join(f"{p}{k}{p}:{p}{v}{p}" for k, v in m.items()) + "}", members, pads)
    lists = st.builds(lambda v, p: "[" + p + f"{p},".join(v) + "]", st.lists(inner, max_size=3), pads)
    return SCALARS | objects | lists


def documents() -> st.SearchStrategy[str]:
    keys = st.sampled_from(NAMES).map(lambda name: json.dumps(name, ensure_ascii=False))
    return st.dictionaries(keys, texts(), max_size=6).map(
        lambda members: "{" + ",".join(f"{key}: {value}" for key, value in members.items()) + "}"
    )


def walk(text: str, steps: tuple[str | int, ...]) -> Any:
    """What stands there, read plainly; numbers as their text."""
    value = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def of_column(column: pa.Array) -> list[Any]:
    """What a column says of each row, as JSON values."""
    if column.type == DECIMAL or column.type == TEXTS:
        return column.to_pylist()
    assert column.type == pa.string()
    return [None if t is None else json.loads(t, parse_int=Decimal, parse_float=Decimal) for t in column.to_pylist()]


@settings(max_examples=300, deadline=None)
@given(st.lists(documents(), max_size=5), st.lists(st.sampled_from(PATHS), min_size=1, max_size=4))
def test_an_extractor_finds_what_a_walk_finds(rows: list[str], paths: list[str]) -> None:
    columns = Extractor(paths).extract([row.encode() for row in rows])
    assert list(columns) == list(dict.fromkeys(paths))
    for path in paths:
        assert len(columns[path]) == len(rows)
        assert of_column(columns[path]) == [walk(row, parse_path(path)) for row in rows]


@given(st.lists(st.sampled_from([*NUMBERS[:9], "null"]), max_size=6))
def test_numbers_that_fit_are_held_exactly(found: list[str]) -> None:
    column = scalar_column([text.encode() for text in found])
    if set(found) - {"null"}:
        assert column.type == DECIMAL
    exact = [None if text == "null" else Fraction(Decimal(text)) for text in found]
    assert [None if v is None else Fraction(v) for v in column.to_pylist()] == exact


@pytest.mark.parametrize("text", NUMBERS[9:12])
def test_a_number_that_does_not_fit_stays_a_text(text: str) -> None:
    column = scalar_column([b"1", text.encode()])
    assert column.type == pa.string()
    assert column.to_pylist() == ["1", text]
    with pytest.raises(NumberError):
        number_of(text)


@pytest.mark.parametrize(("text", "number"), [("1.5", 3 * ONE // 2), ('"1.5"', 3 * ONE // 2), ('"1\\u0030"', 10 * ONE)])
def test_a_number_may_stand_in_quotes(text: str, number: int) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize("text", ["true", "null", "{}", "[1]", '""', '"x"', '"NaN"', '" 1"', ""])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(NumberError):
        number_of(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('"a\\nb"', "a\nb"),
        ("7.0", "7"),
        ("1e2", "100"),
        ("-0", "0"),
        ("1e99", "1e99"),
        ("true", "true"),
        ("[1]", "[1]"),
    ],
)
def test_texts_by_which_values_are_grouped(text: str, shown: str) -> None:
    assert text_of(text) == shown


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$.a", ("a",)),
        ("$.a.b-c[10]", ("a", "b-c", 10)),
        ("$['a b'][\"c\"]", ("a b", "c")),
        (r"$['it\'s']", ("it's",)),
        (r"$['a\\b']", (r"a\b",)),
        ("$._x1", ("_x1",)),
        ("$[0].a", (0, "a")),
        ("$['']", ("",)),
    ],
)
def test_steps_of_a_path(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        ".a",
        "$",
        "$a",
        "$.",
        "$..a",
        "$.a b",
        "$.*",
        "$.a[*]",
        "$.a[-1]",
        "$.a[1:2]",
        "$.a[?(@.b)]",
        "$.1a",
        "$['a'",
        "$[a]",
        "$.a.",
        "$.a ",
        "$.ä",
        "$['a']x",
        "$[1234567]",
        "$.a\n",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(PathError, match="expected"):
        parse_path(path)
