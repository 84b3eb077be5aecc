"""time_weighted: a gauge's level over time, in units of level times time. The level holds until it changes.

Parts can be merged: integrals add up. No value can be taken back from the integral alone: every
change is held (`rating.gauges`).
"""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total


class TimeWeighted(Aggregate):
    """The changes are held by `rating.gauges`; the integral is formed there."""

    name: ClassVar[str] = "time_weighted"
    description: ClassVar[str] = "the level of a gauge, integrated over time"
    additive: ClassVar[bool] = False
    kept: ClassVar[bool] = True

    def fold(self) -> pl.Expr:
        return pl.lit(0, dtype=pl.Int128)

    def combine(self) -> pl.Expr:
        return pl.col("value_old")

    def step(self, total: Total, value: int, time: int) -> Total:
        return Total(total.events + 1, 0, max(total.at, time))
