"""What expressions come to: columns, row by row, the usage windows' own evaluation, and fractions all agree."""

import json
import os
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.columns import FOUND, INVALID, MISSING, OUT_OF_RANGE, PathColumn, Value, read_value
from rating.expressions import Expression, ValueFault, parse_expression
from rating.spend.formulas import meter_values
from schemas.catalogue import Meter
from schemas.numbers import ONE, SCALED_MAX, format_scaled
from schemas.paths import Extractor

# A tree of its own, drawn at random, with its text and what it comes to by fractions ---------------------------------

Row = dict[str, str]
"""The JSON text of each member that is present."""


class Wrong(Exception):
    """A row without a value: its status."""


def exact(value: Fraction) -> Fraction:
    """Rounded at the 12th digit, half away from nought; it must fit."""
    units = abs(value) * ONE
    whole = units.numerator // units.denominator
    whole += units - whole >= Fraction(1, 2)
    return fits(Fraction(whole, ONE) * (-1 if value < 0 else 1))


def fits(value: Fraction) -> Fraction:
    if abs(value) * ONE > SCALED_MAX:
        raise Wrong(OUT_OF_RANGE)
    return value


class Part:
    """A part of an expression: how tightly it binds, its text, and its meaning in a row."""

    def __init__(self, power: int, text: str, of: Callable[[Row], Any]) -> None:
        self.power, self.text, self.of = power, text, of

    def inside(self, power: int) -> str:
        """Its text as an operand, in brackets only where they are needed."""
        return self.text if self.power > power else f"({self.text})"


def member(row: Row, name: str) -> str | None:
    text = row.get(name)
    return None if text in (None, "null") else text


def read(name: str) -> Part:
    def of(row: Row) -> Fraction:
        text = member(row, name)
        if text is None:
            raise Wrong(MISSING)
        plain = json.loads(text) if text.startswith('"') else text
        if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", plain):
            raise Wrong(INVALID)
        value = Fraction(plain)
        if abs(value) * ONE > SCALED_MAX or (value * ONE).denominator != 1:
            raise Wrong(OUT_OF_RANGE)
        return value

    return Part(9, f"$.{name}", of)


def constant(text: str) -> Part:
    return Part(9, text, lambda row: Fraction(text))


def binary(sign: str, left: Part, right: Part) -> Part:
    power = 5 if sign in "+-" else 6

    def of(row: Row) -> Fraction:
        one, other = left.of(row), right.of(row)
        if sign == "/" and other == 0:
            raise Wrong(INVALID)
        return {
            "+": lambda: fits(one + other),
            "-": lambda: fits(one - other),
            "*": lambda: exact(one * other),
            "/": lambda: exact(one / other),
        }[sign]()

    # A right operand of the same power needs brackets: operators go from left to right.
    return Part(power, f"{left.inside(power - 1)} {sign} {right.inside(power)}", of)


def call(name: str, parts: list[Part], of: Callable[[Row], Any], *more: str) -> Part:
    return Part(9, f"{name}({', '.join([*(part.text for part in parts), *more])})", of)


def rounded(inside: Part, digits: int, written: bool) -> Part:
    def of(row: Row) -> Fraction:
        value = inside.of(row)
        shifted = abs(value) * Fraction(10) ** digits
        whole = shifted.numerator // shifted.denominator
        whole += shifted - whole >= Fraction(1, 2)
        return fits(Fraction(whole) / Fraction(10) ** digits * (-1 if value < 0 else 1))

    return call("round", [inside], of, *([str(digits)] if written else []))


def coalesced(parts: list[Part]) -> Part:
    def of(row: Row) -> Fraction:
        for part in parts:
            try:
                return part.of(row)
            except Wrong as wrong:
                if wrong.args[0] != MISSING:
                    raise
        raise Wrong(MISSING)

    return call("coalesce", parts, of)


def compared(sign: str, left: Part, right: Part) -> Part:
    def of(row: Row) -> bool:
        one, other = left.of(row), right.of(row)
        return {"==": one == other, "!=": one != other, "<": one < other, "<=": one <= other, ">": one > other}.get(
            sign, one >= other
        )

    return Part(4, f"{left.inside(4)} {sign} {right.inside(4)}", of)


def same(name: str, sign: str, wanted: Any, fallback: str | None) -> Part:
    def of(row: Row) -> bool:
        text = member(row, name)
        if text is None and fallback is None:
            raise Wrong(MISSING)
        found = fallback if text is None else json.loads(text)
        equal = type(found) is type(wanted) and found == wanted
        return equal is (sign == "==")

    left = f"$.{name}" if fallback is None else f"coalesce($.{name}, '{fallback}')"
    right = f"'{wanted}'" if isinstance(wanted, str) else str(wanted).lower()
    return Part(4, f"{left} {sign} {right}", of)


def joined(word: str, left: Part, right: Part) -> Part:
    power = 1 if word == "or" else 2

    def of(row: Row) -> bool:
        return (left.of(row) or right.of(row)) if word == "or" else (left.of(row) and right.of(row))

    return Part(power, f"{left.inside(power - 1)} {word} {right.inside(power)}", of)


def chosen(condition: Part, then: Part, otherwise: Part) -> Part:
    return call("if", [condition, then, otherwise], lambda row: (then if condition.of(row) else otherwise).of(row))


NAMES = ["a", "b", "c"]
WORDS = ["", "x", "1"]
LARGEST = "99999999999999999999999999.999999999999"
NUMBERS = ["0", "1", "2", "3", "0.5", "7", "0.000000000001", "1e13", "123456.789", "90000000000000", LARGEST, "1e25"]


def negated(inside: Part) -> Part:
    return Part(7, f"-{inside.inside(6)}", lambda row: -inside.of(row))


def opposite(inside: Part) -> Part:
    return Part(3, f"not {inside.inside(2)}", lambda row: not inside.of(row))


def extreme(name: str, parts: list[Part]) -> Part:
    pick: Any = min if name == "min" else max
    return call(name, parts, lambda row: pick([part.of(row) for part in parts]))


def numbers(draw: Any, depth: int) -> Part:
    kind = draw(st.integers(0, 11 if depth else 3))
    if kind < 3:
        return read(draw(st.sampled_from(NAMES)))
    if kind == 3:
        return constant(draw(st.sampled_from(NUMBERS)))
    if kind in (4, 5, 6, 7):
        left, right = numbers(draw, depth - 1), numbers(draw, depth - 1)
        # A written nought to divide by is refused when the expression is read.
        sign = draw(st.sampled_from("+-*" if right.text.strip("-") == "0" else "+-*/"))
        return binary(sign, left, right)
    if kind == 8:
        return negated(numbers(draw, depth - 1))
    if kind == 9:
        written = draw(st.booleans())
        return rounded(numbers(draw, depth - 1), draw(st.integers(-26, 12)) if written else 0, written)
    if kind == 10:
        return chosen(conditions(draw, depth - 1), numbers(draw, depth - 1), numbers(draw, depth - 1))
    parts = [numbers(draw, depth - 1) for _ in range(draw(st.integers(2, 3)))]
    name = draw(st.sampled_from(["min", "max", "coalesce"]))
    return coalesced(parts) if name == "coalesce" else extreme(name, parts)


def conditions(draw: Any, depth: int) -> Part:
    kind = draw(st.integers(0, 4 if depth > 0 else 2))
    if kind < 2:
        sign = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
        return compared(sign, numbers(draw, max(depth - 1, 0)), numbers(draw, max(depth - 1, 0)))
    if kind == 2:
        sign, fallback = draw(st.sampled_from(["==", "!="])), draw(st.none() | st.sampled_from(WORDS))
        return same(draw(st.sampled_from(NAMES)), sign, draw(st.sampled_from([*WORDS, True, False])), fallback)
    if kind == 3:
        return opposite(conditions(draw, depth - 1))
    return joined(draw(st.sampled_from(["and", "or"])), conditions(draw, depth - 1), conditions(draw, depth - 1))


@st.composite
def expressions(draw: st.DrawFn) -> Part:
    return numbers(draw, 3)


JUNK = ["null", '"x"', '"many"', "true", "false", "[1]", '{"a": 1}', "1e-13", "1e26", '""']
GOOD = [*NUMBERS, "-1", "-2.5", f"-{LARGEST}", '"4.25"', '"1"', "-0", "33.333333333333", "1e-9"]
VALUES = st.sampled_from(GOOD) | st.sampled_from(GOOD + JUNK)
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), min_size=1, max_size=12)
CLEAN = st.lists(st.fixed_dictionaries({name: st.sampled_from(GOOD[:-5]) for name in NAMES}), min_size=1, max_size=12)


def extracted(rows: list[Row]) -> dict[str, pa.Array]:
    data = [("{" + ", ".join(f'"{name}": {text}' for name, text in row.items()) + "}").encode() for row in rows]
    paths = [f"$.{name}" for name in NAMES]
    return Extractor(paths).extract(data)


def columns(rows: list[Row]) -> dict[str, PathColumn]:
    return {path: PathColumn([column]) for path, column in extracted(rows).items()}


def wanted(part: Part, row: Row) -> tuple[int, int]:
    try:
        return int(part.of(row) * ONE), FOUND
    except Wrong as wrong:
        return 0, wrong.args[0]


def one(expression: Expression, row: Row) -> tuple[int, int]:
    def look(path: str) -> Value | None:
        text = member(row, path[2:])
        return None if text is None else read_value(text)

    try:
        return expression.evaluate(look), FOUND
    except ValueFault as fault:
        return 0, fault.status


@settings(max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "400")), deadline=None)
@given(expressions(), ROWS | CLEAN, st.data())
def test_columns_and_rows_are_what_fractions_say(part: Part, rows: list[Row], data: st.DataObject) -> None:
    if len(part.text) > 1000:
        return
    expression = parse_expression(part.text)
    expected = [wanted(part, row) for row in rows]
    assert [one(expression, row) for row in rows] == expected
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=15))
    found = expression.columns(columns(rows).__getitem__, np.array(asked, dtype=np.int64))
    assert list(zip(found.values.to_list(), found.status.tolist(), strict=True)) == [expected[at] for at in asked]
    assert set(found.faults) == {at for at in asked if expected[at][1] != FOUND}
    meter = Meter(event="e", aggregate="sum", value=part.text)
    values, valued = meter_values(meter, extracted(rows), len(rows))
    assert valued.tolist() == [status == FOUND for _, status in expected]
    assert [value or 0 for value in values] == [value for value, _ in expected]


# By example ----------------------------------------------------------------------------------------------------------


def value(text: str, **row: Any) -> str:
    """What an expression comes to in one row, by columns; a fault as its path and message."""
    expression = parse_expression(text)
    found = expression.columns(
        columns([{name: json.dumps(v) for name, v in row.items()}]).__getitem__, np.zeros(1, int)
    )
    if found.status[0] == FOUND:
        return format_scaled(found.values[0])
    fault = found.faults[0]
    return f"{fault.status} {fault.path}: {fault}"


@pytest.mark.parametrize(
    ("text", "row", "result"),
    [
        ("$.a + 3 * $.b", {"a": 1, "b": 2}, "7"),
        ("($.a + 3) * $.b", {"a": 1, "b": 2}, "8"),
        ("$.a - $.b - $.c", {"a": 1, "b": 2, "c": 3}, "-4"),
        ("$.a - ($.b - $.c)", {"a": 1, "b": 2, "c": 3}, "2"),
        ("$.a / $.b / 2", {"a": 12, "b": 3}, "2"),
        ("-$.a * -2", {"a": 3}, "6"),
        ("1 / 3", {}, "0.333333333333"),
        ("2 / 3", {}, "0.666666666667"),
        ("-2 / 3", {}, "-0.666666666667"),
        ("2 / 3 * 3", {}, "2.000000000001"),  # rounded once for each sign
        ("0.000001 * $.a", {"a": "0.0000005"}, "0.000000000001"),  # 5e-13
        ("0.000001 * $.a", {"a": "-0.0000005"}, "-0.000000000001"),
        ("round($.a)", {"a": "2.5"}, "3"),
        ("round($.a)", {"a": "-2.5"}, "-3"),
        ("round($.a, 1)", {"a": "0.25"}, "0.3"),
        ("round($.a, -3)", {"a": 1500}, "2000"),
        ("min($.a, $.b, 5)", {"a": 7, "b": 6}, "5"),
        ("max($.a, $.b, 5)", {"a": 7, "b": 6}, "7"),
        ("coalesce($.a, $.b, 0)", {"b": 4}, "4"),
        ("coalesce($.a, 0) + 1", {"a": None}, "1"),
        ("coalesce($.a + $.b, 9)", {"a": 1}, "9"),
        ("if($.a == 'read', 1, 2)", {"a": "read"}, "1"),
        ("if($.a == '1', 1, 2)", {"a": 1}, "2"),
        ("if($.a == 1, 1, 2)", {"a": "1.0"}, "1"),
        ("if($.a == true, 1, 2)", {"a": True}, "1"),
        ("if(coalesce($.a, 'x') == 'x', 1, 2)", {}, "1"),
        ("if($.b == 0, 0, $.a / $.b)", {"a": 1, "b": 0}, "0"),
        ("if($.b != 0 and $.a / $.b > 1, 1, 0)", {"a": 1, "b": 0}, "0"),
        ("if($.b == 0 or $.a / $.b > 1, 1, 0)", {"a": 1, "b": 0}, "1"),
        ("if(not $.a > 1 and $.a > 0, 1, 0)", {"a": 1}, "1"),
        ("if(1 < 2 or 1 < 2 and 2 < 1, 1, 0)", {}, "1"),
        ("90000000000000 * $.a / 90000000000000", {"a": "90000000000"}, "90000000000"),
        ("$.a * 0", {"a": LARGEST}, "0"),
        (f"$.a - {LARGEST}", {"a": LARGEST}, "0"),
    ],
)
def test_what_expressions_come_to(text: str, row: dict[str, Any], result: str) -> None:
    assert value(text, **row) == result


@pytest.mark.parametrize(
    ("text", "row", "status", "path", "message"),
    [
        ("$.a + $.b", {"b": 1}, MISSING, "$.a", "found nothing (absent or null), expected the meter's value"),
        ("$.a + $.b", {"a": None, "b": "x"}, MISSING, "$.a", "found nothing"),
        ("$.b + $.a", {"a": None, "b": "x"}, INVALID, "$.b", "found 'x', expected a finite number"),
        ("coalesce($.a, 0)", {"a": "x"}, INVALID, "$.a", "found 'x', expected a finite number"),
        ("coalesce($.a, $.b)", {}, MISSING, "$.a", "found nothing"),
        ("if($.a == 'x', 1, 0)", {}, MISSING, "$.a", "found nothing"),
        ("$.a + 1", {"a": [1]}, INVALID, "$.a", "found '[1]', expected a finite number"),
        ("$.a / $.b", {"a": 1, "b": 0}, INVALID, "$.b", "found a division by nought at character 5 of '$.a / $.b'"),
        ("1 / ($.a - $.a)", {"a": 1}, INVALID, None, "found a division by nought at character 3"),
        (
            "$.a + $.a",
            {"a": LARGEST},
            OUT_OF_RANGE,
            None,
            "26 digits before the point in the sum at character 5",
        ),
        ("$.a * $.a", {"a": "1e13"}, OUT_OF_RANGE, None, "in the product at character 5 of '$.a * $.a'"),
        ("$.a / 0.000000000001", {"a": "1e15"}, OUT_OF_RANGE, None, "in the quotient at character 5"),
        ("-$.a - $.a", {"a": LARGEST}, OUT_OF_RANGE, None, "in the difference at character 6"),
        ("round($.a, -26)", {"a": LARGEST}, OUT_OF_RANGE, None, "in what round gives at character 1"),
    ],
)
def test_faults_name_the_path_and_the_place(
    text: str, row: dict[str, Any], status: int, path: str | None, message: str
) -> None:
    found = value(text, **row)
    assert found.startswith(f"{status} {path}: ") and message in found


def test_equal_texts_are_equal_expressions() -> None:
    assert parse_expression("$.a + 1") == parse_expression("$.a + 1") != parse_expression("$.a  + 1")
    assert len({parse_expression("$.a + 1"), parse_expression("$.a + 1")}) == 1
