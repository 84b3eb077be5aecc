"""avg: the mean of the values, rounded half up at the 12th digit. Parts can be merged, a value taken back."""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total
from rating.exact import literal
from schemas.numbers import divide_half_up


class Avg(Aggregate):
    """The sum is held exactly; the mean is formed from it each time, so rounding never adds up."""

    name: ClassVar[str] = "avg"
    description: ClassVar[str] = "the mean of the values"
    retractable: ClassVar[bool] = True

    def quantity(self, total: Total) -> int:
        return divide_half_up(total.value, total.events) if total.events else 0

    def ratio(self, total: Total) -> tuple[int, int]:
        return (total.value, total.events) if total.events else (0, 1)

    def quantities(self) -> pl.Expr:
        events = pl.col("events").cast(pl.Int128)
        magnitude = (pl.col("value").abs() + events // 2) // events
        return pl.when(pl.col("value") < 0).then(literal(0) - magnitude).otherwise(magnitude)
