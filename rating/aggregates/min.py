"""min: the least value. Parts can be merged; a value cannot be taken back from the total alone."""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total


class Min(Aggregate):
    """No events are no quantity, so the first value counts whatever it is."""

    name: ClassVar[str] = "min"
    description: ClassVar[str] = "the least value"
    additive: ClassVar[bool] = False

    def fold(self) -> pl.Expr:
        return pl.col("value").min()

    def combine(self) -> pl.Expr:
        old, new = pl.col("value_old"), pl.col("value")
        return pl.when((pl.col("events_old") == 0) | (new < old)).then(new).otherwise(old)

    def step(self, total: Total, value: int, time: int) -> Total:
        least = value if total.events == 0 else min(total.value, value)
        return Total(total.events + 1, least, max(total.at, time))

    def merge(self, earlier: Total, later: Total) -> Total:
        return self.step(later, earlier.value, earlier.at)._replace(events=earlier.events + later.events)
