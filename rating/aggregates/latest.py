"""latest: the value of the last event by its own time; at equal times the later arrival.

Parts of the log can be merged in the log's order; a value cannot be taken back from the total alone.
"""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total


class Latest(Aggregate):
    """`at` is the time of the event whose value is held."""

    name: ClassVar[str] = "latest"
    description: ClassVar[str] = "the value of the last event by its own time"
    additive: ClassVar[bool] = False

    def fold(self) -> pl.Expr:
        # The rows stand in the log's order and the sort is stable, so the last of equal times is the later arrival.
        return pl.col("value").sort_by("time", maintain_order=True).last()

    def combine(self) -> pl.Expr:
        newer = (pl.col("events_old") == 0) | (pl.col("at") >= pl.col("at_old"))
        return pl.when(newer).then(pl.col("value")).otherwise(pl.col("value_old"))

    def step(self, total: Total, value: int, time: int) -> Total:
        newer = total.events == 0 or time >= total.at
        return Total(total.events + 1, value if newer else total.value, max(total.at, time))

    def merge(self, earlier: Total, later: Total) -> Total:
        last = later if later.at >= earlier.at else earlier
        return Total(earlier.events + later.events, last.value, last.at)
