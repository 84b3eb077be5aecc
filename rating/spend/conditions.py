"""A meter's `where`: which events it counts. Exact: numbers are compared as decimals, never as floats.

A condition stands for each path, and all must hold: a value (a string equals that string, a number that number,
however written), a list of values (any of them), or a mapping of `not`, `gt`, `gte`, `lt`, `lte` and `exists`, all of
which must hold. What is absent (or JSON null) satisfies only `not` and `exists: false`.
"""

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rating.spend.columns import distinct
from schemas.faults import Number, describe

Value = tuple[str, Any]
"""A JSON value with its kind, so that `"1"`, `1` and `true` differ: ("text", str), ("number", Decimal),
("truth", bool), ("other", its text) or ABSENT."""

ABSENT: Final[Value] = ("absent", None)
Condition = Callable[[Value], bool]

_BOUNDS: Final = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


class ConditionError(ValueError):
    """A condition that cannot be read; the message says what was found and what was expected."""


def passing(where: Mapping[str, Any], columns: Mapping[str, pa.Array], length: int) -> npt.NDArray[np.bool_]:
    """Which of the events pass: `columns` holds each path's values as `schemas.paths.Extractor` gives them.

    Raises: ConditionError.
    """
    passed = np.ones(length, dtype=np.bool_)
    for path, wanted in where.items():
        condition = read_condition(wanted)
        values, codes = values_of(columns[path])
        holds = np.array([condition(value) for value in values], dtype=np.bool_)
        passed &= holds[codes]
    return passed


def values_of(column: pa.Array) -> tuple[list[Value], npt.NDArray[np.int64]]:
    """The different values of a path's column and, for each row, which one it has. `ABSENT` is the last one."""
    decoded, codes = distinct(column)
    if pa.types.is_dictionary(column.type):
        values: list[Value] = [("text", text) for text in decoded]
    elif pa.types.is_decimal(column.type):
        values = [("number", number) for number in decoded]
    else:
        values = [_of_json(text) for text in decoded]
    return [*values, ABSENT], codes


def read_condition(wanted: Any) -> Condition:
    """One path's condition, as a catalogue holds it. Raises: ConditionError."""
    if isinstance(wanted, dict):
        parts = [_operator(name, operand) for name, operand in wanted.items()]
        return lambda value: all(part(value) for part in parts)
    values = _values(wanted)
    return lambda value: value in values


def _operator(name: str, operand: Any) -> Condition:
    if name == "not":
        values = _values(operand)
        return lambda value: value not in values
    if name == "exists":
        if not isinstance(operand, bool):
            raise ConditionError(f"exists: found {describe(operand)}, expected true or false")
        return lambda value: (value is not ABSENT) is operand
    if name not in _BOUNDS:
        raise ConditionError(f"found the operator {name!r}, expected not, gt, gte, lt, lte or exists")
    compare, bound = _BOUNDS[name], _number(str(operand))
    if bound is None or isinstance(operand, bool):
        raise ConditionError(f"{name}: found {describe(operand)}, expected a number")
    return lambda value: value[0] == "number" and bool(compare(value[1], bound))


def _values(wanted: Any) -> frozenset[Value]:
    return frozenset(_scalar(item) for item in (wanted if isinstance(wanted, list) else [wanted]))


def _scalar(wanted: Any) -> Value:
    if isinstance(wanted, bool):
        return "truth", wanted
    if isinstance(wanted, str):
        return "text", wanted
    if isinstance(wanted, Number | int | Decimal):
        number = _number(str(wanted))
        if number is not None:
            return "number", number
    raise ConditionError(f"found {describe(wanted)}, expected a text, a number, true or false")


def _number(text: str) -> Decimal | None:
    """Exact: making a Decimal of a text, and comparing two, round nothing (arithmetic would)."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _of_json(text: str) -> Value:
    """The value of a JSON text."""
    if text.startswith('"'):
        return "text", msgspec.json.decode(text, type=str)
    if text in ("true", "false"):
        return "truth", text == "true"
    number = _number(text)
    return ("other", text) if number is None else ("number", number)
