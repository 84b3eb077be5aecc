"""The price kernel: from quantities to amounts by columns, one lookup for each total, whatever the model.

The same function as `TierTable.amount`, which it calls for the few rows whose bounds do not hold (a law in the tests).
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.compiled import Tiers
from rating.exact import literal, round_to_scale
from schemas.numbers import ONE, SCALED_MAX, divide_half_up

_SAFE = 1.6e38
"""Products below this cannot leave Int128 (1.7e38), the error of the float that bounds them included."""


class Amounts(NamedTuple):
    """`amount` for each row (Int128), what rounding took from it in units of 10^-24 (`rest`), and which rows have no
    amount that fits 38 digits."""

    amount: pl.Series
    rest: pl.Series
    overflow: NDArray[np.bool_]


def rate_columns(tiers: Tiers, table: NDArray[np.int64], quantity: pl.Series, enter: NDArray[np.bool_]) -> Amounts:
    """The amount of each quantity under its table. `enter`: rows for which nought enters the first tier."""
    tier = find_tiers(tiers, table, quantity)
    frame = pl.DataFrame(
        {
            "q": quantity,
            "inside": quantity - tiers.start.gather(tier),
            "unit": tiers.unit.gather(tier),
            "base": tiers.base.gather(tier),
        }
    )
    units, span = pl.col("inside"), pl.col("inside").cast(pl.Float64)
    if tiers.has_blocks:
        down = pl.Series(tiers.blocks_down[table])
        frame = frame.with_columns(block=tiers.block.gather(tier)).with_columns(count=count_blocks("inside", down))
        blocks = (pl.col("block") > 0) & (pl.col("q") > 0)
        units = pl.when(blocks).then(pl.col("count") * literal(ONE)).otherwise(units)
        span = pl.when(blocks).then(pl.col("count").cast(pl.Float64) * ONE).otherwise(span)
    below = pl.Series(tiers.below_unit[table])
    # A bound, not a result: floats only say where Int128 is safe.
    reach = pl.col("unit").cast(pl.Float64).abs() * span.abs() + pl.col("base").cast(pl.Float64).abs()
    frame = frame.with_columns(units=units, below=below, reach=reach)
    exact = pl.col("base") + pl.col("unit") * pl.col("units")
    negative = pl.when(pl.col("below")).then(pl.col("unit") * pl.col("q")).otherwise(literal(0))
    chosen = pl.when(pl.col("q") > 0).then(exact).when(pl.col("q") < 0).then(negative).otherwise(literal(0))
    done = frame.select(exact=chosen, amount=round_to_scale(chosen), reach=pl.col("reach"))
    done = done.with_columns(rest=(pl.col("exact") - pl.col("amount") * literal(ONE)).cast(pl.Int64, strict=False))
    amount, rest = done["amount"], done["rest"].fill_null(0)
    by_hand = (done["reach"] >= _SAFE).to_numpy() | ~tiers.columnar[table]
    if enter.any():
        by_hand |= enter & (quantity == 0).to_numpy()
    return _by_hand(tiers, table, quantity, enter, Amounts(amount, rest, _none(len(table))), np.flatnonzero(by_hand))


def count_blocks(quantity: str, down: pl.Series) -> pl.Expr:
    """How many blocks of the column `block` a quantity is, a begun one counted except where `down`."""
    begun = (pl.col(quantity) % pl.col("block") > 0) & ~pl.lit(down)
    return pl.col(quantity) // pl.col("block") + begun.cast(pl.Int128)


def find_tiers(tiers: Tiers, table: NDArray[np.int64], quantity: pl.Series) -> NDArray[np.int64]:
    """The tier that holds each quantity; the first one for what is not above nought."""
    tier = tiers.first[table].copy()
    count = tiers.count[table]
    for step in range(int(count.max(initial=1)) - 1):
        more = np.flatnonzero(count > step + 1)
        bound = tiers.up_to.gather(tiers.first[table[more]] + step)
        above = (quantity.gather(more) > bound).to_numpy()
        tier[more[above]] += 1
    return tier


def reach_columns(tiers: Tiers, table: NDArray[np.int64], quantity: pl.Series, enter: NDArray[np.bool_]) -> Amounts:
    """The greatest amount of any total up to each quantity: `rate_columns`, where that never falls."""
    amounts = rate_columns(tiers, table, quantity, enter)
    peak = tiers.peak.gather(find_tiers(tiers, table, quantity))
    frame = pl.DataFrame({"amount": amounts.amount, "peak": peak})
    return amounts._replace(amount=frame.select(pl.max_horizontal("amount", "peak"))["amount"])


def _by_hand(
    tiers: Tiers,
    table: NDArray[np.int64],
    quantity: pl.Series,
    enter: NDArray[np.bool_],
    amounts: Amounts,
    rows: NDArray[np.int64],
) -> Amounts:
    if not len(rows):
        return amounts
    formed, rests = [], []
    for row in rows.tolist():
        exact = tiers.tables[int(table[row])].exact(int(quantity[row]), bool(enter[row]))
        amount = divide_half_up(exact, ONE)
        amounts.overflow[row] = not -SCALED_MAX <= amount <= SCALED_MAX
        formed.append(0 if amounts.overflow[row] else amount)
        rests.append(exact - amount * ONE)
    return Amounts(
        amounts.amount.scatter(rows, pl.Series(formed, dtype=pl.Int128)),
        amounts.rest.scatter(rows, pl.Series(rests, dtype=pl.Int64)),
        amounts.overflow,
    )


def _none(count: int) -> NDArray[np.bool_]:
    return np.zeros(count, dtype=np.bool_)
