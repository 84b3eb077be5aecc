"""Columns of exact numbers. The one home of arithmetic on many numbers at once, with its bounds checked.

Three forms of the same column of scaled numbers (see `schemas.numbers`):

- polars `Int128`: for arithmetic. It wraps in silence, so every product and sum here is preceded by a bound;
- *wide*: a numpy array of shape (n, 2), `int64`: the low and the high half of each two's complement 128-bit number,
  for state that is changed in place. Arrow's decimal128 has the same bytes, so that the way between the two copies
  memory and computes nothing;
- Python `int`: where a bound does not hold. Always right, about fifty times slower.
"""

from collections.abc import Iterable
from typing import Any, Final, cast

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from schemas.numbers import ONE, SCALED_MAX

_WORD: Final = 2**64
_HALF_WORD: Final = np.uint64(2**32 - 1)
_HALF_BITS: Final = np.uint64(32)
_PLAIN: Final = pa.decimal128(38, 0)
_ONE_LITERAL = pl.lit(ONE, dtype=pl.Int128)
_HALF_LITERAL = pl.lit(ONE // 2, dtype=pl.Int128)

INT128_SAFE: Final = 16 * 10**37
"""Whole numbers of at most this magnitude cannot leave Int128 (1.7e38), nor can a float that bounds them be so wrong
that they do."""

Wide = NDArray[np.int64]


class OutOfBounds(ArithmeticError):
    """A bound does not hold, so that a column operation could wrap: the caller goes on number by number."""


def int128(values: Iterable[int] | int) -> pl.Series:
    """A polars column of Python integers."""
    return pl.Series([values] if isinstance(values, int) else list(values), dtype=pl.Int128)


def literal(value: int) -> pl.Expr:
    """A constant in an expression."""
    return pl.lit(value, dtype=pl.Int128)


def to_int128(wide: Wide) -> pl.Series:
    """The polars column of a wide array (a copy)."""
    array = np.ascontiguousarray(wide)
    column = pa.Array.from_buffers(_PLAIN, len(array), [None, pa.py_buffer(array)])
    return pl.Series(column).to_physical()


def to_wide(column: pl.Series) -> Wide:
    """The wide array of an `Int128` column without nulls (read-only view). Raises: OutOfBounds past 38 digits."""
    try:
        array = column.cast(pl.Decimal(38, 0)).rechunk().to_arrow()
    except pl.exceptions.InvalidOperationError:
        raise OutOfBounds("a number has more than 38 digits") from None
    start = array.offset * 2
    return np.frombuffer(array.buffers()[1], dtype=np.int64)[start : start + 2 * len(array)].reshape(-1, 2)


def from_decimal(column: pa.Array) -> pl.Series:
    """The `Int128` column (nulls kept) of an Arrow decimal128(38, 12) column: its scaled numbers."""
    return pl.Series(column).to_physical()


def wide_of(value: int) -> tuple[int, int]:
    """The (low, high) halves of one scaled number."""
    low = value % _WORD
    return (low - _WORD if low >= _WORD // 2 else low), value >> 64


def int_of(wide: Any) -> int:
    """The scaled number of one row of a wide array."""
    return (int(wide[1]) << 64) + int(wide[0]) % _WORD


def sum_wide(wide: Wide) -> int:
    """The exact sum of a wide array, whatever it comes to."""
    if not len(wide):
        return 0
    low = np.ascontiguousarray(wide[:, 0]).view(np.uint64)
    high = wide[:, 1]
    # Four sums of 32 bits each: none of them can leave 64 bits below two thousand million rows.
    lower = int((low & _HALF_WORD).sum()) + (int((low >> _HALF_BITS).sum()) << 32)
    upper = int((high & np.int64(2**32 - 1)).sum()) + (int((high >> np.int64(32)).sum()) << 32)
    return lower + (upper << 64)


def greatest(column: pl.Series) -> int:
    """The greatest magnitude in a column (0 for an empty one)."""
    if len(column) == 0:
        return 0
    return max(abs(cast(int, column.max())), abs(cast(int, column.min())))


def check_sum(bound: int) -> None:
    """Raises: OutOfBounds where a total of at most `bound` may not fit 38 digits."""
    if bound > SCALED_MAX:
        raise OutOfBounds(f"a total may reach {bound}")


def form_amount(gross: pl.Expr, rest: pl.Expr) -> pl.Expr:
    """What several rounded amounts come to when it is their exact sum that is rounded, once.

    `gross` is the sum of the rounded ones, `rest` (Int64) what rounding took from them all, in units of 10^-24.
    """
    rest = rest.cast(pl.Int128)
    small = pl.when(gross.abs() < literal(ONE)).then(gross).otherwise(literal(0)) * _ONE_LITERAL + rest
    below = (gross <= literal(-ONE)) | ((gross.abs() < literal(ONE)) & (small < 0))
    up = (rest + _HALF_LITERAL) // _ONE_LITERAL
    down = (_HALF_LITERAL - rest) // _ONE_LITERAL
    return gross + pl.when(below).then(literal(0) - down).otherwise(up)


def round_to_scale(product: pl.Expr) -> pl.Expr:
    """A product of two scaled numbers back to one: divided by 10^12, rounded half up, mirrored below nought."""
    magnitude = (product.abs() + _HALF_LITERAL) // _ONE_LITERAL
    return pl.when(product < 0).then(literal(0) - magnitude).otherwise(magnitude)
