"""What an aggregation is: how the values of events become one quantity, by columns and one by one.

Every total (a *cell*) holds three things: `events`, how many it has counted; `value`, a scaled number; and `at`, a
time. An aggregation says how a batch folds into them, in two forms that must agree (a law in the tests):

- by columns: `fold` reduces the new values of one cell, `combine` joins the result to what the cell holds;
- one by one: `step`.

Its algebra is stated: `mergeable` (parts counted apart can be joined), `retractable` (a value can be taken back
from the total alone), `rising` (the quantity never falls while no value is below nought).
"""

from typing import ClassVar, NamedTuple

import polars as pl


class Total(NamedTuple):
    """What a cell holds: `events` counted, `value` (scaled) and `at` (microseconds)."""

    events: int
    value: int
    at: int


class Aggregate:
    """One aggregation. Columns inside a fold: `value` (what the event brings, Int128) and `time`; inside a
    combination: `value`, `at`, `events` (new) and `value_old`, `at_old`, `events_old`."""

    name: ClassVar[str]
    description: ClassVar[str]
    reads: ClassVar[str] = "number"
    """What it reads from an event: `nothing`, a `number`, or a `text` (whose first appearance brings 1)."""
    mergeable: ClassVar[bool] = True
    retractable: ClassVar[bool] = False
    rising: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    """Whether totals add values up, so that a bound must be kept."""
    kept: ClassVar[bool] = False
    """Whether its quantity needs every event of the total (`rating.kept`) instead of a running value."""

    def fold(self) -> pl.Expr:
        """The new values of one cell as one `value`."""
        return pl.col("value").sum()

    def combine(self) -> pl.Expr:
        """The cell's `value` after the batch."""
        return pl.col("value_old") + pl.col("value")

    def step(self, total: Total, value: int, time: int) -> Total:
        """The total after one more event."""
        return Total(total.events + 1, total.value + value, max(total.at, time))

    def merge(self, earlier: Total, later: Total) -> Total:
        """The total of two parts of a period. Only where `mergeable`."""
        return Total(earlier.events + later.events, earlier.value + later.value, max(earlier.at, later.at))

    def quantity(self, total: Total) -> int:
        """What the total means, as a scaled number."""
        return total.value

    def ratio(self, total: Total) -> tuple[int, int]:
        """`quantity` before it is rounded: a scaled number over a whole one."""
        return total.value, 1

    def quantities(self) -> pl.Expr:
        """`quantity` by columns, from `value` and `events` after the batch."""
        return pl.col("value")
