"""max: the greatest value. Parts can be merged; a value cannot be taken back from the total alone."""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total


class Max(Aggregate):
    """No events are no quantity, so the first value counts whatever it is."""

    name: ClassVar[str] = "max"
    description: ClassVar[str] = "the greatest value"
    rising: ClassVar[bool] = True
    additive: ClassVar[bool] = False

    def fold(self) -> pl.Expr:
        return pl.col("value").max()

    def combine(self) -> pl.Expr:
        old, new = pl.col("value_old"), pl.col("value")
        return pl.when((pl.col("events_old") == 0) | (new > old)).then(new).otherwise(old)

    def step(self, total: Total, value: int, time: int) -> Total:
        greatest = value if total.events == 0 else max(total.value, value)
        return Total(total.events + 1, greatest, max(total.at, time))

    def merge(self, earlier: Total, later: Total) -> Total:
        return self.step(later, earlier.value, earlier.at)._replace(events=earlier.events + later.events)
