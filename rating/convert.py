"""Units into other units: a meter's `convert`, compiled. Exact, and rounded once.

A conversion is one fraction and one rounding, so that nothing is rounded twice: dividing by 1000 and rounding up to
whole units is one step. What does not fit 38 digits is refused one by one, and null in columns.
"""

from dataclasses import dataclass
from math import gcd
from typing import Final, Literal

import numpy as np
import polars as pl

from rating.exact import INT128_SAFE, greatest, literal
from schemas import catalogue
from schemas.numbers import ONE, SCALE, SCALED_MAX, NumberRangeError, check_scaled, parse_scaled

Rounding = Literal["up", "down", "half_up"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """Times `multiply`, over `divide`, to a multiple of `unit` (a scaled number); all are whole and above nought.

    `rounding`: `up` is away from nought, `down` towards it, `half_up` half away from it.
    """

    multiply: int
    divide: int
    unit: int = 1
    rounding: Rounding = "half_up"

    @classmethod
    def by(cls, multiply: int, divide: int, digits: int = SCALE, rounding: Rounding = "half_up") -> "Conversion":
        """Of any fraction above nought, to so many digits after the point (at most 12; below nought: before it)."""
        shared = gcd(multiply, divide)
        return cls(multiply // shared, divide // shared, 10 ** (SCALE - digits), rounding)

    def convert_one(self, value: int, over: int = 1) -> int:
        """The scaled number that one, or a fraction of one and a whole number, becomes. Raises: NumberRangeError."""
        count, rest = divmod(abs(value) * self.multiply, self.divide * self.unit * over)
        if self.rounding == "up":
            count += rest > 0
        elif self.rounding == "half_up":
            count += 2 * rest >= self.divide * self.unit * over
        return check_scaled((-count if value < 0 else count) * self.unit)

    def convert_columns(self, values: pl.Series) -> pl.Series:
        """The same for a column (Int128, without nulls); null where `convert_one` would raise."""
        if self.multiply == self.divide == self.unit == 1:
            return values
        most = greatest(values)
        over = self.divide * self.unit
        if over > INT128_SAFE:
            return pl.Series([self._one_or_none(value) for value in values.to_list()], dtype=pl.Int128)
        if most * self.multiply <= INT128_SAFE and most * self.multiply // self.divide + self.unit <= SCALED_MAX:
            return self._columns(values, over)
        # A bound, not a result: floats only say where Int128 is safe.
        reach = np.abs(values.cast(pl.Float64).to_numpy()) * float(self.multiply)
        by_hand = (reach >= INT128_SAFE) | (reach / float(self.divide) + float(self.unit) >= _NEAR)
        at = np.flatnonzero(by_hand)
        kept = values.zip_with(pl.Series(~by_hand), pl.zeros(1, dtype=pl.Int128, eager=True))
        done = [self._one_or_none(value) for value in values.gather(at).to_list()]
        return self._columns(kept, over).scatter(at, pl.Series(done, dtype=pl.Int128))

    def _columns(self, values: pl.Series, over: int) -> pl.Series:
        column = pl.col("value")
        reach = column.abs() * literal(self.multiply)
        count, rest = pl.col("reach") // literal(over), pl.col("reach") % literal(over)
        if self.rounding == "up":
            count = count + (rest > 0).cast(pl.Int128)
        elif self.rounding == "half_up":
            count = count + (rest >= literal(over) - rest).cast(pl.Int128)
        frame = pl.DataFrame({"value": values}).with_columns(reach=reach)
        size = count * literal(self.unit)
        return frame.select(value=pl.when(column < 0).then(literal(0) - size).otherwise(size))["value"]

    def _one_or_none(self, value: int) -> int | None:
        try:
            return self.convert_one(value)
        except NumberRangeError:
            return None


def compile_convert(convert: catalogue.Convert) -> Conversion:
    """Only of one in which `find_convert_faults` finds nothing."""
    multiply = ONE if convert.multiply is None else parse_scaled(convert.multiply)
    divide = ONE if convert.divide is None else parse_scaled(convert.divide)
    if convert.round is None:
        return Conversion.by(multiply, divide)
    return Conversion.by(multiply, divide, convert.digits, convert.round)


def find_convert_faults(convert: catalogue.Convert) -> list[tuple[str, str]]:
    """What is wrong with one, beyond the types of its keys: key and message."""
    given = {"divide": convert.divide, "multiply": convert.multiply}
    found = [
        (key, f"found {value}, expected more than nought")
        for key, value in given.items()
        if value is not None and value <= 0
    ]
    if (convert.divide is None) is (convert.multiply is None):
        which = "neither" if convert.divide is None else "both"
        found.append(("", f"found {which}, expected one of divide and multiply"))
    if convert.digits and convert.round is None:
        found.append(("digits", f"found {convert.digits} without round, expected round: up, down or half_up"))
    return found


_NEAR: Final = 0.9 * SCALED_MAX
"""Results below this fit 38 digits, the errors of the floats that bound them included."""
