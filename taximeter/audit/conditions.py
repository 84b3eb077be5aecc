"""What a meter reads of an event, as SQL: `where`, a value's expression, and `convert`.

`where` and numbers come from the documents as JSON: a number is a `Number` there, which is the text that was written.
An event's values stand in a list `v`, one for each path, as `exact.marked` leaves them.
"""

from collections.abc import Callable
from math import gcd
from typing import Any

from schemas.expressions import (
    Chain,
    Choose,
    Coalesce,
    Compare,
    Condition,
    Constant,
    Every,
    Extreme,
    Negate,
    Not,
    Read,
    Round,
    Same,
    Some,
    is_path,
    parse_formula,
)
from schemas.expressions import Number as Numeric
from schemas.numbers import ONE, SCALE, parse_scaled
from taximeter.audit.exact import literal, text

Column = Callable[[str], str]
"""A path -> the SQL of the value that stands there."""


class Number(str):
    """The text of a number that was written as one."""


def scaled(value: Any) -> int:
    """A number of a document, whichever way it was written."""
    return parse_scaled(str(value))


# Where ---------------------------------------------------------------------------------------------------------------


def passes(where: dict[str, Any], column: Column) -> str:
    """The SQL of a meter's `where`: true or false, never NULL."""
    parts = [_condition(column(path), condition) for path, condition in where.items()]
    return " AND ".join(parts) or "true"


def _condition(x: str, condition: Any) -> str:
    if not isinstance(condition, dict):
        return f"coalesce({_any(x, condition)}, false)"
    parts: list[str] = []
    for word, bound in condition.items():
        if word == "exists":
            parts.append(f"{x} IS {'NOT ' if bound else ''}NULL")
        elif word == "not":
            parts.append(f"NOT coalesce({_any(x, bound)}, false)")
        else:
            sign = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}[word]
            parts.append(f"coalesce(is_number({x}) AND scaled({x}) {sign} {literal(scaled(bound))}, false)")
    return "(" + " AND ".join(parts) + ")"


def _any(x: str, wanted: Any) -> str:
    options = wanted if isinstance(wanted, list) else [wanted]
    return "(" + " OR ".join(_is(x, one) for one in options) + ")"


def _is(x: str, wanted: Any) -> str:
    if isinstance(wanted, bool):
        return f"{x} = chr(1) || '{str(wanted).lower()}'"
    if isinstance(wanted, Number):
        return f"(is_number({x}) AND scaled({x}) = {literal(scaled(wanted))})"
    return f"{x} = {text(wanted)}"


# Values --------------------------------------------------------------------------------------------------------------


def value_of(written: str, column: Column) -> str:
    """The SQL of a meter's `value`: a HUGEINT, NULL where the event has none that counts."""
    if is_path(written):
        return f"scaled({column(written)})"
    return _numeric(parse_formula(written).tree, column)[0]


def _numeric(node: Numeric, column: Column) -> tuple[str, str]:
    """(the number or NULL, whether it is NULL because a path found nothing) of a part."""
    if isinstance(node, Constant):
        return literal(node.value), "false"
    if isinstance(node, Read):
        return f"scaled({column(node.path)})", f"{column(node.path)} IS NULL"
    if isinstance(node, Negate):
        value, missing = _numeric(node.inside, column)
        return f"(-({value}))", missing
    if isinstance(node, Round):
        value, missing = _numeric(node.inside, column)
        unit = 10 ** (SCALE - node.digits)
        return f"fitting(half_up({value}, {literal(unit)}) * {literal(unit)})", missing
    if isinstance(node, Chain):
        value, missing = _numeric(node.first, column)
        for step in node.steps:
            right, right_missing = _numeric(step.operand, column)
            missing = f"({missing} OR (({value}) IS NOT NULL AND {right_missing}))"
            joined = {"*": f"times({value}, {right})", "/": f"over({value}, {right})"}
            value = f"fitting({joined.get(step.sign, f'(({value}) {step.sign} ({right}))')})"
        return value, missing
    if isinstance(node, Extreme):
        parts = [_numeric(item, column) for item in node.items]
        known = " AND ".join(f"({value}) IS NOT NULL" for value, _ in parts)
        name = "greatest" if node.greatest else "least"
        missing = "false"
        for value, lacks in reversed(parts):
            missing = f"CASE WHEN ({value}) IS NULL THEN {lacks} ELSE {missing} END"
        return f"CASE WHEN {known} THEN {name}({', '.join(value for value, _ in parts)}) END", missing
    if isinstance(node, Coalesce):
        parts = [_numeric(item, column) for item in node.items]
        value = "NULL::HUGEINT"
        for found, lacks in reversed(parts):
            value = f"CASE WHEN {lacks} THEN {value} ELSE {found} END"
        return value, "(" + " AND ".join(lacks for _, lacks in parts) + ")"
    assert isinstance(node, Choose)
    condition, unknown = _truth(node.condition, column)
    then, no_then = _numeric(node.then, column)
    other, no_other = _numeric(node.otherwise, column)
    return (
        f"CASE WHEN {condition} THEN {then} WHEN NOT {condition} THEN {other} END",
        f"CASE WHEN {condition} THEN {no_then} WHEN NOT {condition} THEN {no_other} ELSE {unknown} END",
    )


def _truth(node: Condition, column: Column) -> tuple[str, str]:
    """(true, false or NULL, whether it is NULL because a path found nothing) of a condition."""
    if isinstance(node, Compare):
        left, no_left = _numeric(node.left, column)
        right, no_right = _numeric(node.right, column)
        sign = {"==": "=", "!=": "<>"}.get(node.sign, node.sign)
        return f"(({left}) {sign} ({right}))", f"({no_left} OR (({left}) IS NOT NULL AND {no_right}))"
    if isinstance(node, Same):
        found = "coalesce(" + ", ".join([*(column(read.path) for read in node.reads), _fallback(node.fallback)]) + ")"
        wanted = f"{found} = " + (text(node.wanted) if isinstance(node.wanted, str) else _fallback(node.wanted))
        return (f"({wanted})" if node.equal else f"(NOT ({wanted}))"), f"{found} IS NULL"
    if isinstance(node, Not):
        inside, missing = _truth(node.inside, column)
        return f"(NOT {inside})", missing
    assert isinstance(node, Every | Some)
    stops = "NOT " if isinstance(node, Every) else ""
    value, missing = ("true" if isinstance(node, Every) else "false"), "false"
    for item in reversed(node.items):
        one, lacks = _truth(item, column)
        ends = "false" if isinstance(node, Every) else "true"
        missing = f"CASE WHEN {one} IS NULL THEN {lacks} WHEN {stops}{one} THEN false ELSE {missing} END"
        value = f"CASE WHEN {one} IS NULL THEN NULL WHEN {stops}{one} THEN {ends} ELSE {value} END"
    return value, missing


def _fallback(value: str | bool | None) -> str:
    if value is None:
        return "NULL"
    return f"chr(1) || '{str(value).lower()}'" if isinstance(value, bool) else text(value)


# Conversion ----------------------------------------------------------------------------------------------------------


def ratio_of(convert: dict[str, Any]) -> tuple[int, int]:
    """A conversion's factor as a fraction in its lowest terms."""
    up, down = (ONE, scaled(convert["divide"])) if "divide" in convert else (scaled(convert["multiply"]), ONE)
    common = gcd(up, down)
    return up // common, down // common


def converted(convert: dict[str, Any] | None, numerator: str, denominator: str) -> str:
    """The SQL of a fraction (of scaled numbers) in other units: one division, one rounding, 12 digits."""
    if not convert:
        return f"half_up({numerator}, {denominator})"
    up, down = ratio_of(convert)
    above = f"({numerator}) * {literal(up)}" if up != 1 else f"({numerator})"
    below = f"({denominator}) * {literal(down)}" if down != 1 else f"({denominator})"
    if not convert.get("round"):
        return f"half_up({above}, {below})"
    unit = literal(10 ** (SCALE - int(convert.get("digits", 0))))
    how = {"up": "away", "down": "towards", "half_up": "half_up"}[convert["round"]]
    return f"({how}({above}, ({below}) * {unit}) * {unit})"
