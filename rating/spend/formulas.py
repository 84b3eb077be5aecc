"""A meter's values, worked out from its paths' columns for usage windows: another road than the engine's.

Only the reading of an expression is shared with it (`schemas.expressions`); what a tree comes to is said here anew, by
closures over whole numbers that count 10^-12. A conversion of single events comes after.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rating.spend.columns import numbers, texts
from rating.spend.conditions import ABSENT, values_of
from schemas.catalogue import Convert, Meter
from schemas.expressions import (
    Chain,
    Choose,
    Coalesce,
    Compare,
    Constant,
    Every,
    Extreme,
    Negate,
    Node,
    Not,
    Read,
    Round,
    Same,
    Some,
    is_path,
    parse_formula,
)
from schemas.numbers import DIGITS, ONE, SCALE

_MOST: Final = 10**DIGITS - 1
_COMPARISONS: Final = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}

Columns = Mapping[str, pa.Array]
Of = Callable[[int], Any]
"""What a part of an expression comes to in one row. Raises: _Missing, _Refused."""


class _Missing(Exception):
    """A path without a value, which `coalesce` may mend."""


class _Refused(Exception):
    """A value that cannot be counted."""


def meter_values(meter: Meter, columns: Columns, length: int) -> tuple[list[Any], npt.NDArray[np.bool_]]:
    """What each event brings to a meter (a text for `unique_count`, else a whole number), and which ones bring it."""
    if meter.value is None or meter.aggregate == "count":
        return [0] * length, np.ones(length, dtype=np.bool_)
    if meter.aggregate == "unique_count":
        return texts(columns[meter.value])
    if is_path(meter.value):
        values, valued = numbers(columns[meter.value])
    else:
        values, valued = _evaluate(meter.value, columns, length)
    if meter.convert is not None and meter.convert.per == "event":
        values = [None if value is None else convert(meter.convert, value) for value in values]
        valued = valued & np.array([value is not None for value in values], dtype=np.bool_)
    return values, valued


def convert(rule: Convert, value: int) -> int | None:
    """A value in other units, by fractions; None where it does not fit 38 digits."""
    exact = Fraction(value) * Fraction(rule.multiply or 1) / Fraction(rule.divide or 1)
    unit = 10 ** (SCALE - rule.digits) if rule.round else 1
    found = _to_unit(exact, unit, rule.round or "half_up")
    return found if abs(found) <= _MOST else None


def _to_unit(exact: Fraction, unit: int, rounding: str) -> int:
    count, rest = divmod(abs(exact), unit)
    if rounding == "up":
        count += rest > 0
    elif rounding == "half_up":
        count += 2 * rest >= unit
    return int(count) * unit * (-1 if exact < 0 else 1)


def _evaluate(text: str, columns: Columns, length: int) -> tuple[list[int | None], npt.NDArray[np.bool_]]:
    of = _Builder(columns).build(parse_formula(text).tree)
    found: list[int | None] = []
    for row in range(length):
        try:
            found.append(of(row))
        except (_Missing, _Refused):
            found.append(None)
    return found, np.array([value is not None for value in found], dtype=np.bool_)


class _Builder:
    """Makes a closure of each part."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def build(self, node: Node) -> Of:
        """The closure of a number or a condition."""
        return getattr(self, "_" + type(node).__name__.lower())(node)

    def _constant(self, node: Constant) -> Of:
        return lambda _: node.value

    def _read(self, node: Read) -> Of:
        column = self._columns[node.path]
        values, valued = numbers(column)
        present = column.is_valid().to_pylist()

        def of(row: int) -> int:
            if not valued[row]:
                raise _Refused if present[row] else _Missing
            return int(values[row] or 0)

        return of

    def _negate(self, node: Negate) -> Of:
        inside = self.build(node.inside)
        return lambda row: -inside(row)

    def _chain(self, node: Chain) -> Of:
        first = self.build(node.first)
        steps = [(_SIGNS[step.sign], self.build(step.operand)) for step in node.steps]

        def of(row: int) -> int:
            found = first(row)
            for joined, operand in steps:
                found = _fitting(joined(found, operand(row)))
            return found

        return of

    def _extreme(self, node: Extreme) -> Of:
        items, pick = [self.build(item) for item in node.items], max if node.greatest else min
        return lambda row: pick([item(row) for item in items])

    def _round(self, node: Round) -> Of:
        inside, unit = self.build(node.inside), 10 ** (SCALE - node.digits)
        return lambda row: _fitting(_to_unit(Fraction(inside(row)), unit, "half_up"))

    def _coalesce(self, node: Coalesce) -> Of:
        items = [self.build(item) for item in node.items]

        def of(row: int) -> int:
            for item in items:
                try:
                    return item(row)
                except _Missing:
                    continue
            raise _Missing

        return of

    def _choose(self, node: Choose) -> Of:
        condition, then, otherwise = map(self.build, (node.condition, node.then, node.otherwise))
        return lambda row: then(row) if condition(row) else otherwise(row)

    def _compare(self, node: Compare) -> Of:
        compare, left, right = _COMPARISONS[node.sign], self.build(node.left), self.build(node.right)

        def of(row: int) -> bool:
            one = left(row)
            return bool(compare(one, right(row)))

        return of

    def _same(self, node: Same) -> Of:
        read = [values_of(self._columns[read.path]) for read in node.reads]
        wanted = _plain(node.wanted)

        def of(row: int) -> bool:
            for values, codes in read:
                found = values[codes[row]]
                if found is not ABSENT:
                    return (found == wanted) is node.equal
            if node.fallback is None:
                raise _Missing
            return (_plain(node.fallback) == wanted) is node.equal

        return of

    def _every(self, node: Every) -> Of:
        items = [self.build(item) for item in node.items]
        return lambda row: all(item(row) for item in items)

    def _some(self, node: Some) -> Of:
        items = [self.build(item) for item in node.items]
        return lambda row: any(item(row) for item in items)

    def _not(self, node: Not) -> Of:
        inside = self.build(node.inside)
        return lambda row: not inside(row)


def _plain(wanted: str | bool) -> tuple[str, Any]:
    return ("truth", wanted) if isinstance(wanted, bool) else ("text", wanted)


def _fitting(value: int) -> int:
    if abs(value) > _MOST:
        raise _Refused
    return value


def _times(left: int, right: int) -> int:
    return _to_unit(Fraction(left * right, ONE), 1, "half_up")


def _over(left: int, right: int) -> int:
    if right == 0:
        raise _Refused
    return _to_unit(Fraction(left * ONE, right), 1, "half_up")


_SIGNS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": _times,
    "/": _over,
}
