"""What expressions come to, exactly: row by row, which is the rule, and by columns, which is the same and sooner.

Sums are exact. A product or quotient that does not end within 12 digits is rounded half up (away from nought) at the
12th, once for each sign. Everything between must fit 38 digits. What cannot be worked out is a `ValueFault`; operands
are looked at from left to right, the first fault counts, and what `if`, `and`, `or` and `coalesce` do not need is not
looked at.

By columns a row has a value, or lacks one (which `coalesce` may mend), or is *asked* again: row by row, for its fault
or because Int128 might not hold what stands between.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.columns import FOUND, INVALID, MISSING, OUT_OF_RANGE, Value
from rating.convert import Conversion
from rating.exact import INT128_SAFE, greatest, int128, literal, round_to_scale
from schemas.expressions import (
    Chain,
    Choose,
    Coalesce,
    Compare,
    Condition,
    Constant,
    Every,
    ExpressionError,
    Extreme,
    Formula,
    Negate,
    Not,
    Number,
    Read,
    Round,
    Same,
    Some,
    Step,
    parse_formula,
)
from schemas.numbers import DIGITS, ONE, SCALE, SCALED_MAX, NumberRangeError, check_scaled, divide_half_up
from schemas.rejection import Code

__all__ = ["CODES", "Evaluated", "Expression", "ExpressionError", "ValueFault", "explain", "parse_expression"]

CODES: Final[dict[int, Code]] = {MISSING: "missing_value", INVALID: "invalid_value", OUT_OF_RANGE: "out_of_range"}
"""What a rejection says of each status."""

Look = Callable[[str], Value | None]
"""What a path finds in one row; None: nothing."""

Flags = NDArray[np.bool_]
Status = NDArray[np.uint8]

_ASK: Final = 255
"""The status of a row that is worked out row by row."""


class PathNumbers(Protocol):
    """What a path finds in every row of a batch (`rating.columns.PathColumn`)."""

    def numbers(self) -> tuple[pl.Series, Status]:
        """The scaled number of each row (nought where there is none), and its status."""

    def coded(self) -> tuple[NDArray[np.int32], list[Value]]:
        """A code for each row (-1 where absent), and the different values that the codes stand for."""


Get = Callable[[str], PathNumbers]


class ValueFault(ArithmeticError):
    """Why a row has no value: its status, the path that is to blame (None: no single one), and the message."""

    def __init__(self, status: int, path: str | None, message: str) -> None:
        self.status = status
        self.path = path
        super().__init__(message)


class Evaluated(NamedTuple):
    """One value for each row asked for (nought where there is none), its status, and the faults by row of the batch."""

    values: pl.Series
    status: Status
    faults: dict[int, ValueFault]


def explain(status: int, found: str) -> str:
    """What is said of a value that is no number; `found`: its text."""
    if status == MISSING:
        return "found nothing (absent or null), expected the meter's value"
    if status == INVALID:
        return f"found {found[:60]!r}, expected a finite number"
    return f"found {found[:60]}, expected at most {DIGITS - SCALE} digits before and {SCALE} after the point"


def parse_expression(text: str) -> "Expression":
    """Raises: ExpressionError."""
    return Expression(parse_formula(text))


class Expression:
    """An expression, ready to read rows."""

    def __init__(self, formula: Formula) -> None:
        self.text = formula.text
        self.paths = formula.paths
        self._tree = formula.tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def evaluate(self, look: Look) -> int:
        """What one row comes to (scaled). Raises: ValueFault."""
        return _Row(self.text, look).number(self._tree)

    def columns(self, get: Get, rows: NDArray[np.int64]) -> Evaluated:
        """What these rows of a batch come to; `get` gives what a path finds in all rows of it."""
        found = _Columns(self.text, get, rows).number(self._tree)
        values, status = found.values, found.status
        faults: dict[int, ValueFault] = {}
        wrong = np.flatnonzero(status != FOUND)
        if not len(wrong):
            return Evaluated(values, status, faults)
        status, mended = status.copy(), np.zeros(len(wrong), dtype=object)
        coded = {path: get(path).coded() for path in self.paths}
        for i, at in enumerate(wrong.tolist()):
            row = int(rows[at])
            status[at] = FOUND
            try:
                mended[i] = self.evaluate(lambda path, row=row: _look(coded[path], row))  # type: ignore[misc]
            except ValueFault as fault:
                status[at] = fault.status
                faults[row] = fault
        return Evaluated(values.scatter(wrong, pl.Series(mended.tolist(), dtype=pl.Int128)), status, faults)


def _look(coded: tuple[NDArray[np.int32], list[Value]], row: int) -> Value | None:
    code = int(coded[0][row])
    return None if code < 0 else coded[1][code]


# Row by row ----------------------------------------------------------------------------------------------------------


class _Row:
    """The rule."""

    def __init__(self, text: str, look: Look) -> None:
        self._text = text
        self._look = look

    def number(self, node: Number) -> int:
        match node:
            case Constant(value=value):
                return value
            case Read(path=path):
                return self._read(path)
            case Negate(inside=inside):
                return -self.number(inside)
            case Chain(first=first, steps=steps):
                value = self.number(first)
                for step in steps:
                    value = self._step(value, step)
                return value
            case Extreme(greatest=most, items=items):
                values = [self.number(item) for item in items]
                return max(values) if most else min(values)
            case Round(at=at, inside=inside, digits=digits):
                try:
                    return Conversion.by(1, 1, digits).convert_one(self.number(inside))
                except NumberRangeError:
                    raise self._too_large("what round gives", at) from None
            case Coalesce(items=items):
                return self._coalesce(items)
            case Choose(condition=condition, then=then, otherwise=otherwise):
                return self.number(then if self.holds(condition) else otherwise)

    def holds(self, node: Condition) -> bool:
        match node:
            case Compare(sign=sign, left=left, right=right):
                return _compare(sign, self.number(left), self.number(right))
            case Same():
                return self._same(node)
            case Every(items=items):
                return all(self.holds(item) for item in items)
            case Some(items=items):
                return any(self.holds(item) for item in items)
            case Not(inside=inside):
                return not self.holds(inside)

    def _read(self, path: str) -> int:
        value = self._look(path)
        number, status = (0, MISSING) if value is None else value.number
        if status != FOUND:
            raise ValueFault(status, path, explain(status, "" if value is None else value.text))
        return number

    def _step(self, value: int, step: Step) -> int:
        other = self.number(step.operand)
        if step.sign == "/" and other == 0:
            path = step.operand.path if isinstance(step.operand, Read) else None
            place = f"character {step.at + 1} of {self._text[:60]!r}"
            raise ValueFault(INVALID, path, f"found a division by nought at {place}, expected another number")
        try:
            return check_scaled(_join(step.sign, value, other))
        except NumberRangeError:
            what = {"+": "the sum", "-": "the difference", "*": "the product", "/": "the quotient"}[step.sign]
            raise self._too_large(what, step.at) from None

    def _coalesce(self, items: tuple[Number, ...]) -> int:
        missing: ValueFault | None = None
        for item in items:
            try:
                return self.number(item)
            except ValueFault as fault:
                if fault.status != MISSING:
                    raise
                missing = missing or fault
        assert missing is not None
        raise missing

    def _same(self, node: Same) -> bool:
        for read in node.reads:
            value = self._look(read.path)
            if value is not None:
                return (value.kind == _kind(node.wanted) and value.value == node.wanted) is node.equal
        if node.fallback is None:
            raise ValueFault(MISSING, node.reads[0].path, explain(MISSING, ""))
        return _equal(node.fallback, node.wanted) is node.equal

    def _too_large(self, what: str, at: int) -> ValueFault:
        place = f"character {at + 1} of {self._text[:60]!r}"
        message = f"found more than {DIGITS - SCALE} digits before the point in {what} at {place}"
        return ValueFault(OUT_OF_RANGE, None, message)


def _join(sign: str, left: int, right: int) -> int:
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return divide_half_up(left * right, ONE)
    return divide_half_up(left * ONE if right > 0 else -left * ONE, abs(right))


def _compare(sign: str, left: int, right: int) -> bool:
    if sign in ("==", "!="):
        return (left == right) is (sign == "==")
    if sign in ("<", ">="):
        return (left < right) is (sign == "<")
    return (left <= right) is (sign == "<=")


def _kind(wanted: str | bool) -> str:
    return "flag" if isinstance(wanted, bool) else "text"


def _equal(one: str | bool, other: str | bool) -> bool:
    return isinstance(one, bool) is isinstance(other, bool) and one == other


# By columns ----------------------------------------------------------------------------------------------------------


class _Numbers(NamedTuple):
    """`values` are nought where `status` is not FOUND. `constant`: what they all are, if that is written."""

    values: pl.Series
    status: Status
    constant: int | None = None


class _Holds(NamedTuple):
    flags: Flags
    status: Status


class _Columns:
    """The same as `_Row` for many rows. Each operation is preceded by a bound."""

    def __init__(self, text: str, get: Get, rows: NDArray[np.int64]) -> None:
        self._text = text
        self._get = get
        self._rows = rows
        self._read: dict[str, _Numbers] = {}
        self._fine = np.zeros(len(rows), dtype=np.uint8)

    def number(self, node: Number) -> _Numbers:
        match node:
            case Constant(value=value):
                return self._constant(value)
            case Read(path=path):
                return self._path(path)
            case Negate(inside=inside):
                found = self.number(inside)
                return _Numbers(_NOUGHT - found.values, found.status)
            case Chain(first=first, steps=steps):
                found = self.number(first)
                for step in steps:
                    found = self._step(found, step)
                return found
            case Extreme(greatest=most, items=items):
                first_of, *others = map(self.number, items)
                for other in others:
                    taken = other.values > first_of.values if most else other.values < first_of.values
                    values = other.values.zip_with(taken, first_of.values)
                    first_of = _noughts(values, _first(first_of.status, other.status))
                return first_of
            case Round(inside=inside, digits=digits):
                found = self.number(inside)
                return self._converted(found.values, found.status, Conversion.by(1, 1, digits))
            case Coalesce(items=items):
                return self._coalesce(items)
            case Choose(condition=condition, then=then, otherwise=otherwise):
                chosen = self.holds(condition)
                one, other = self.number(then), self.number(otherwise)
                values = one.values.zip_with(pl.Series(chosen.flags), other.values)
                status = np.where(chosen.flags, one.status, other.status)
                return _noughts(values, _first(chosen.status, status))

    def holds(self, node: Condition) -> _Holds:
        match node:
            case Compare(sign=sign, left=left, right=right):
                one, other = self.number(left), self.number(right)
                return _Holds(_compared(sign, one.values, other.values), _first(one.status, other.status))
            case Same():
                return self._same(node)
            case Every(items=items):
                return self._joined(items, True)
            case Some(items=items):
                return self._joined(items, False)
            case Not(inside=inside):
                found = self.holds(inside)
                return _Holds(~found.flags, found.status)

    def _constant(self, value: int) -> _Numbers:
        return _Numbers(pl.Series([value], dtype=pl.Int128).new_from_index(0, len(self._rows)), self._fine, value)

    def _path(self, path: str) -> _Numbers:
        if path not in self._read:
            values, status = self._get(path).numbers()
            status = status[self._rows]
            self._read[path] = _Numbers(values.gather(self._rows), np.where(status > MISSING, _ASK, status))
        return self._read[path]

    def _step(self, left: _Numbers, step: Step) -> _Numbers:
        right = self.number(step.operand)
        status = _first(left.status, right.status)
        if step.sign in "+-":
            return self._sum(left.values, right.values, status, step.sign == "-")
        if right.constant is not None:
            return self._scaled(left.values, status, right.constant, step.sign == "/")
        if step.sign == "/":
            return self._quotient(left.values, right.values, status)
        if left.constant is not None:
            return self._scaled(right.values, status, left.constant, False)
        return self._product(left.values, right.values, status)

    def _sum(self, left: pl.Series, right: pl.Series, status: Status, minus: bool) -> _Numbers:
        most = greatest(left) + greatest(right)
        if most > INT128_SAFE:
            near = _size(left) + _size(right) >= _NEAR
            status = _first(status, np.where(near, _ASK, FOUND))
            left, right = _where(left, status), _where(right, status)
            most = SCALED_MAX
        return _within(left - right if minus else left + right, status, most)

    def _product(self, left: pl.Series, right: pl.Series, status: Status) -> _Numbers:
        if greatest(left) * greatest(right) > INT128_SAFE:
            status = _first(status, np.where(_size(left) * _size(right) >= INT128_SAFE, _ASK, FOUND))
            left, right = _where(left, status), _where(right, status)
        product = pl.DataFrame({"value": left * right}).select(value=round_to_scale(pl.col("value")))["value"]
        return _noughts(product, status)

    def _quotient(self, left: pl.Series, right: pl.Series, status: Status) -> _Numbers:
        wrong = (right == 0).to_numpy()
        if greatest(left) * ONE > INT128_SAFE:
            wrong |= _size(left) * float(ONE) >= INT128_SAFE
        if wrong.any():
            status = _first(status, np.where(wrong, _ASK, FOUND))
            left = _where(left, status)
            right = right.zip_with(pl.Series(status == FOUND), _UNIT)
        under, over = pl.col("under"), pl.col("over")
        frame = pl.DataFrame({"under": right.abs(), "over": left.abs() * _ONE, "same": (left < 0) == (right < 0)})
        frame = frame.with_columns(whole=over // under, rest=over % under)
        size = pl.col("whole") + (pl.col("rest") >= under - pl.col("rest")).cast(pl.Int128)
        values = frame.select(value=pl.when(pl.col("same")).then(size).otherwise(literal(0) - size))["value"]
        return _within(values, status, greatest(values))

    def _scaled(self, values: pl.Series, status: Status, by: int, divided: bool) -> _Numbers:
        """Times a constant, or over one."""
        if by == 0:
            return _Numbers(values * _NOUGHT, status)
        conversion = Conversion.by(ONE, abs(by)) if divided else Conversion.by(abs(by), ONE)
        return self._converted(_NOUGHT - values if by < 0 else values, status, conversion)

    @staticmethod
    def _converted(values: pl.Series, status: Status, conversion: Conversion) -> _Numbers:
        found = conversion.convert_columns(values)
        if found.null_count():
            status = _first(status, np.where(found.is_null().to_numpy(), _ASK, FOUND))
            found = found.fill_null(0)
        return _noughts(found, status)

    def _coalesce(self, items: tuple[Number, ...]) -> _Numbers:
        found, *others = map(self.number, items)
        for other in others:
            mended = (found.status == MISSING) & (other.status != MISSING)
            values = other.values.zip_with(pl.Series(mended), found.values)
            found = _Numbers(values, np.where(mended, other.status, found.status))
        return found

    def _same(self, node: Same) -> _Holds:
        flags, absent = np.zeros(len(self._rows), dtype=np.bool_), np.ones(len(self._rows), dtype=np.bool_)
        for read in node.reads:
            codes, values = self._get(read.path).coded()
            codes = codes[self._rows]
            same = [value.kind == _kind(node.wanted) and value.value == node.wanted for value in values]
            flags |= absent & np.array([*same, False], dtype=np.bool_)[codes]
            absent &= codes < 0
        if node.fallback is None:
            return _Holds(flags == node.equal, np.where(absent, MISSING, FOUND).astype(np.uint8))
        return _Holds((flags | (absent & _equal(node.fallback, node.wanted))) == node.equal, self._fine)

    def _joined(self, items: tuple[Condition, ...], every: bool) -> _Holds:
        found, *others = map(self.holds, items)
        for other in others:
            goes_on = (found.status == FOUND) & (found.flags == every)
            flags = np.where(goes_on, other.flags, found.flags)
            found = _Holds(flags, np.where(goes_on, other.status, found.status))
        return found


def _first(one: Status, other: Status) -> Status:
    """The fault of the left one, else that of the right one."""
    return np.where(one != FOUND, one, other).astype(np.uint8)


def _where(values: pl.Series, status: Status) -> pl.Series:
    return values.zip_with(pl.Series(status == FOUND), _NOUGHT)


def _noughts(values: pl.Series, status: Status) -> _Numbers:
    return _Numbers(_where(values, status) if status.any() else values, status)


def _within(values: pl.Series, status: Status, most: int) -> _Numbers:
    """`most` bounds the values: past 38 digits each one is looked at."""
    if most > SCALED_MAX:
        large = ((values > SCALED_MAX) | (values < -SCALED_MAX)).to_numpy()
        status = _first(status, np.where(large, _ASK, FOUND))
    return _noughts(values, status)


def _size(values: pl.Series) -> NDArray[np.float64]:
    """Magnitudes as floats, for bounds only."""
    return np.abs(values.cast(pl.Float64).to_numpy())


def _compared(sign: str, left: pl.Series, right: pl.Series) -> Flags:
    if sign in ("==", "!="):
        return (left == right).to_numpy() == (sign == "==")
    if sign in ("<", ">="):
        return (left < right).to_numpy() == (sign == "<")
    return (left <= right).to_numpy() == (sign == "<=")


_NOUGHT: Final = int128(0)
_UNIT: Final = int128(1)
_ONE: Final = int128(ONE)
_NEAR: Final = 0.9 * SCALED_MAX
"""Sums below this fit 38 digits, the errors of the floats that bound them included."""
