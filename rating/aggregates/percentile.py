"""percentile: nearest rank, the ceil(p * n / 100)-th smallest value. Exact: every value is held.

Parts cannot be merged from their percentiles, nor a value taken back: a total is counted from its events.
"""

from typing import ClassVar

import polars as pl

from rating.aggregates.aggregate import Aggregate, Total


class Percentile(Aggregate):
    """The values are held by `rating.kept`; the rank is formed there."""

    name: ClassVar[str] = "percentile"
    description: ClassVar[str] = "the value that a share of all values does not exceed (nearest rank)"
    mergeable: ClassVar[bool] = False
    additive: ClassVar[bool] = False
    kept: ClassVar[bool] = True

    def fold(self) -> pl.Expr:
        return pl.lit(0, dtype=pl.Int128)

    def combine(self) -> pl.Expr:
        return pl.col("value_old")

    def step(self, total: Total, value: int, time: int) -> Total:
        return Total(total.events + 1, 0, max(total.at, time))


def nearest_rank(values: list[int], percent: int) -> int:
    """The percentile of scaled values that rise; `percent` is scaled (95 is 95 * 10^12). Nought of none."""
    if not values:
        return 0
    rank = -(-percent * len(values) // (100 * 10**12))
    return values[max(rank, 1) - 1]
