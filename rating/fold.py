"""Aggregate, second half, and rate: by columns, for every cell, line and bill that a batch has changed.

Nothing is written for a bill that must be worked through event by event (`replay`): which those are is decided here,
from bounds that hold for every order of the batch's events.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.aggregates import Aggregate, Total
from rating.billing import Biller
from rating.cells import Contributions, Rows
from rating.columns import Batch
from rating.exact import form_amount, greatest, int128, literal, to_int128, to_wide
from rating.keeper import Keeper
from rating.kernel import rate_columns, reach_columns
from rating.lines import LineAfter, rate_line
from rating.state import NO_LEVEL, State
from schemas.numbers import ONE, SCALED_MAX, NumberError, divide_half_up

_SAFE = 0.9e38
"""Totals whose float bound stays below this fit 38 digits, the error of the float included."""


@dataclass(slots=True)
class _Rates:
    """The compiled rates as columns."""

    free: pl.Series
    minimum: pl.Series
    maximum: pl.Series
    bill_zero: NDArray[np.bool_]
    hand: NDArray[np.bool_]
    monotone: NDArray[np.bool_]
    plain: bool


def fold_columns(
    state: State, batch: Batch, contributions: list[Contributions], biller: Biller, careful: set[int]
) -> set[int]:
    """Folds a batch into cells, lines and bills. Returns the periods that it left alone, for `replay`: those in
    `careful`, and those that it finds to need the order of single events."""
    parts = [part for part in (_without(state, part, careful) for part in contributions) if len(part.row)]
    if not parts:
        return careful
    keeper = Keeper(state, batch)
    rates = _rates(state)
    segmented = bool((state.bills["next"][: state.bills.size] >= 0).any())
    cells = pl.concat([_fold_meter(state, batch, part, segmented) for part in parts])
    for part in parts:
        if part.kept:
            keeper.keep(part)
    cells = _rate_cells(state, rates, cells)
    lines = _fold_lines(state, rates, cells)
    bills = _fold_bills(state, lines)
    found = bills.filter(pl.col("careful"))["head"]
    if len(found):
        more = set(found.to_list())
        for part in parts:
            if part.kept:
                keeper.forget(_only(state, part, more))
        careful = careful | more
        lines = lines.filter(~pl.col("head").is_in(found.implode()))
        cells = cells.filter(~pl.col("head").is_in(found.implode()))
        bills = bills.filter(~pl.col("careful"))
    _write(state, biller, cells, lines, bills)
    if segmented:
        biller.rerate_later([_without(state, part, careful) for part in parts], batch)
    return careful


def _without(state: State, part: Contributions, heads: set[int]) -> Contributions:
    """What a part brings to other periods than these."""
    if not heads:
        return part
    inside = np.isin(state.bills["head"][part.bill], np.array(sorted(heads)))
    return part.take(np.flatnonzero(~inside)) if inside.any() else part


def _only(state: State, part: Contributions, heads: set[int]) -> Contributions:
    return part.take(np.flatnonzero(np.isin(state.bills["head"][part.bill], np.array(sorted(heads)))))


def _rates(state: State) -> _Rates:
    cached: _Rates | None = getattr(state.catalogue, "columns", None)
    if cached is None:
        rates = state.catalogue.rates
        cached = _Rates(
            free=int128([rate.free_units for rate in rates]),
            minimum=int128([-SCALED_MAX if rate.minimum is None else rate.minimum for rate in rates]),
            maximum=int128([SCALED_MAX if rate.maximum is None else rate.maximum for rate in rates]),
            bill_zero=np.array([rate.bill_zero_usage for rate in rates], dtype=np.bool_),
            hand=np.array([rate.by_hand for rate in rates], dtype=np.bool_),
            monotone=np.array([rate.monotone for rate in rates], dtype=np.bool_),
            plain=all(rate.minimum is None and rate.maximum is None for rate in rates),
        )
        state.catalogue.columns = cached
    return cached


def _fold_meter(state: State, batch: Batch, part: Contributions, segmented: bool) -> pl.DataFrame:
    """One row for each cell that a meter's events change: what it holds after the batch."""
    aggregate = part.aggregate
    time = batch.time[part.row]
    columns = {"cell": part.cell, "value": part.value, "time": time, "offset": batch.offset[part.row]}
    frame = pl.DataFrame(columns | ({"row": part.row} if segmented else {}))
    reach = greatest(part.value)
    falls = cast(int, part.value.min()) < 0
    extra = _highest_of_batch(aggregate, falls)
    folded = frame.group_by("cell").agg(
        aggregate.fold().alias("value"),
        pl.len().alias("brought"),
        *([pl.col("row").first().alias("born")] if segmented else []),
        pl.col("time").min().alias("first"),
        pl.col("time").max().alias("at"),
        pl.col("offset").last().alias("through"),
        *extra,
    )
    cell = folded["cell"].to_numpy()
    held = state.cells
    old = to_int128(held["value"][cell])
    line = held["line"][cell].astype(np.int64)
    folded = folded.with_columns(
        value_old=old,
        events_old=pl.Series(held["events"][cell]),
        at_old=pl.Series(held["at"][cell]),
        number=pl.Series(held["number"][cell].astype(np.int64)),
        line=pl.Series(line),
        bill=pl.Series(state.lines["bill"][line].astype(np.int64)),
        head=pl.Series(state.bills["head"][state.lines["bill"][line]].astype(np.int64)),
        rate=pl.Series(state.lines["rate"][line].astype(np.int64)),
    )
    overflow = pl.lit(False)
    if aggregate.additive and reach * len(frame) + greatest(old) > SCALED_MAX:
        bound = pl.col("value_old").cast(pl.Float64).abs() + pl.col("brought").cast(pl.Float64) * float(reach)
        overflow = bound >= _SAFE
    return folded.with_columns(
        born=pl.col("born") + state.arrivals if segmented else pl.lit(0, dtype=pl.Int64),
        added=pl.col("brought") if part.counted else pl.lit(0, dtype=pl.UInt32),
        last=pl.col("at"),
        value=aggregate.combine(),
        events=pl.col("events_old") + pl.col("brought").cast(pl.Int64),
        at=pl.max_horizontal("at", pl.when(pl.col("events_old") > 0).then(pl.col("at_old")).otherwise(pl.col("at"))),
        careful=overflow,
        highest=_highest(aggregate, falls),
    ).select(
        "cell",
        "line",
        "bill",
        "head",
        "rate",
        "number",
        "added",
        "events",
        "value",
        "at",
        "born",
        "first",
        "last",
        "through",
        "careful",
        "highest",
        quantity=aggregate.quantities(),
        counted=pl.lit(part.counted),
    )


def _highest_of_batch(aggregate: Aggregate, falls: bool) -> list[pl.Expr]:
    if aggregate.rising and not falls:
        return []
    adds_up = aggregate.rising and aggregate.additive
    highest = pl.col("value").clip(lower_bound=literal(0)).sum() if adds_up else pl.col("value").max()
    return [highest.alias("highest")]


def _highest(aggregate: Aggregate, falls: bool) -> pl.Expr:
    """A bound of the cell's quantity after any of the batch's events (null: it only rises, so what it ends with)."""
    if aggregate.rising and not falls:
        return pl.lit(None, dtype=pl.Int128)
    if aggregate.rising and aggregate.additive:
        return pl.col("value_old") + pl.col("highest")
    return pl.max_horizontal(pl.col("highest"), pl.when(pl.col("events_old") > 0).then(_held_quantity(aggregate)))


def _held_quantity(aggregate: Aggregate) -> pl.Expr:
    """A bound of what the cell's quantity was before the batch; of a mean, rounded up."""
    if aggregate.additive:
        return pl.col("value_old").abs() // pl.col("events_old").cast(pl.Int128) + literal(1)
    return pl.col("value_old")


def _rate_cells(state: State, rates: _Rates, cells: pl.DataFrame) -> pl.DataFrame:
    """Adds what each cell comes to, and the changes to what it held."""
    cell = cells["cell"].to_numpy()
    rate = cells["rate"].to_numpy()
    table = state.catalogue.rate_table[rate] + cells["number"].to_numpy()
    tiers = state.catalogue.tiers
    amounts = rate_columns(tiers, table, _less_free(rates, rate, cells["quantity"]), rates.bill_zero[rate])
    highest = amounts.amount.clone()  # scatter changes in place
    wavers = cells["highest"].is_not_null().to_numpy() | ~tiers.monotone[table]
    wavering = np.flatnonzero(wavers)
    if len(wavering):
        quantity = cells["highest"].fill_null(cells["quantity"]).gather(wavering)
        enter = rates.bill_zero[rate[wavering]]
        reached = reach_columns(tiers, table[wavering], _less_free(rates, rate[wavering], quantity), enter)
        highest = highest.scatter(wavering, reached.amount)
        amounts.overflow[wavering] |= reached.overflow
    falling = tiers.falling[table]
    if falling.any():  # spend rises where usage falls: no bound from above holds, so levels are watched event by event
        level = to_int128(state.bills["next_level"][cells["head"].to_numpy()])
        falling &= (level < NO_LEVEL).to_numpy()
    return cells.with_columns(
        amount=amounts.amount,
        rest=amounts.rest - pl.Series(state.cells["rest"][cell]),
        highest=highest,
        quantity_old=to_int128(state.cells["quantity"][cell]),
        amount_old=to_int128(state.cells["amount"][cell]),
        careful=pl.col("careful") | pl.Series(amounts.overflow | falling),
        wavers=pl.Series(wavers),
    )


def _less_free(rates: _Rates, rate: NDArray[np.int64], quantity: pl.Series) -> pl.Series:
    """What is left of each quantity once its free units are taken off."""
    left = pl.max_horizontal(pl.col("q") - pl.col("free"), literal(0))
    frame = pl.DataFrame({"q": quantity, "free": rates.free.gather(rate)})
    return frame.select(pl.when(pl.col("q") > 0).then(left).otherwise(pl.col("q")))["q"]


def _fold_lines(state: State, rates: _Rates, cells: pl.DataFrame) -> pl.DataFrame:
    """One row for each line that changes."""
    unsafe = _unsafe_sums(cells, ("quantity", "quantity_old"), ("amount", "amount_old"), ("highest", "amount_old"))
    quantity, taken = pl.col("quantity") - pl.col("quantity_old"), pl.lit(False)
    if not cells["counted"].all():
        quantity = pl.when("counted").then(quantity).otherwise(literal(0))
        # A price of single events is nought where corrections outweigh what was paid: no single channel can tell.
        taken = (~pl.col("counted") & ((pl.col("quantity") < 0) | (pl.col("quantity_old") < 0))).any()
    lines = cells.group_by("line").agg(
        pl.col("added").sum(),
        quantity.sum().alias("quantity"),
        (pl.col("amount") - pl.col("amount_old")).sum().alias("gross"),
        pl.col("rest").sum(),
        # One unit of the last digit for each cell: the line's amount may be rounded up where each cell's was not.
        (pl.max_horizontal("highest", "amount_old") - pl.col("amount_old") + literal(1)).sum().alias("highest"),
        pl.col("born").min(),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("through").max(),
        pl.col("careful").any() | unsafe,
        pl.col("wavers").any(),
        taken.alias("taken"),
    )
    held = state.lines
    line = lines["line"].to_numpy()
    rate = held["rate"][line].astype(np.int64)
    lines = lines.with_columns(
        bill=pl.Series(held["bill"][line].astype(np.int64)),
        head=pl.Series(state.bills["head"][held["bill"][line]].astype(np.int64)),
        hand=pl.Series(rates.hand[rate] | _in_segments(state, held["bill"][line])) | pl.col("taken"),
        quantity=pl.col("quantity") + to_int128(held["quantity"][line]),
        gross=pl.col("gross") + to_int128(held["gross"][line]),
        rest=pl.col("rest") + pl.Series(held["rest"][line]),
        highest=pl.col("highest") + to_int128(held["gross"][line]),
        amount_old=to_int128(held["amount"][line]),
    )
    huge = (pl.col("quantity").cast(pl.Float64).abs() >= _SAFE) | (pl.col("gross").cast(pl.Float64).abs() >= _SAFE)
    lines = lines.with_columns(careful=pl.col("careful") | huge)
    # What is held is rounded once, whatever it was summed up from: the same after any cut into batches.
    lines = lines.with_columns(gross=form_amount(pl.col("gross"), pl.col("rest")), summed=pl.col("gross"))
    taken_by_rounding = pl.col("rest") - ((pl.col("gross") - pl.col("summed")) * literal(ONE)).cast(pl.Int64)
    lines = lines.with_columns(rest=taken_by_rounding, amount=pl.col("gross"))
    if not rates.plain:
        bounded = [pl.max_horizontal(pl.min_horizontal(name, "high"), "low") for name in ("amount", "highest")]
        lines = lines.with_columns(low=rates.minimum.gather(rate), high=rates.maximum.gather(rate))
        lines = lines.with_columns(bounded)
    return _by_hand(state, rates, lines, cells) if lines["hand"].any() else lines


def _in_segments(state: State, bill: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the bill is one of several segments of its period."""
    bills = state.bills
    return (bills["head"][bill] != bill) | (bills["next"][bill] >= 0)


def _by_hand(state: State, rates: _Rates, lines: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Puts what `rate_line` says in place of the sums, for the lines that need it."""
    rows = np.flatnonzero(lines["hand"].to_numpy())
    chosen = lines["line"].to_numpy()[rows]
    own = cells.filter(pl.col("line").is_in(pl.Series(chosen).implode()))
    changed = {
        cell: Total(events, value, at)
        for cell, events, value, at in zip(*(own[n].to_list() for n in ("cell", "events", "value", "at")), strict=True)
    }
    rate = state.lines["rate"][chosen].astype(np.int64)
    heads = lines["head"].to_numpy()[rows]
    watched = (to_int128(state.bills["next_level"][heads]) < NO_LEVEL).to_numpy()
    wavers = lines["wavers"].to_numpy()[rows]
    careful = watched & (~rates.monotone[rate] | _in_segments(state, state.lines["bill"][chosen]) | wavers)
    careful |= lines["careful"].to_numpy()[rows]
    quantity, gross, rest, amount = [], [], [], []
    for i, line in enumerate(chosen.tolist()):
        after = LineAfter(0, 0, 0)
        if not careful[i]:
            try:
                after = rate_line(state, line, changed)
            except NumberError:
                careful[i] = True
        quantity.append(after.quantity)
        formed = divide_half_up(after.exact, ONE)
        gross.append(formed)
        rest.append(after.exact - formed * ONE)
        amount.append(after.amount)
    wide = {"quantity": quantity, "gross": gross, "amount": amount, "highest": amount}
    columns = {name: lines[name].scatter(rows, int128(values)) for name, values in wide.items()}
    return lines.with_columns(
        **columns,
        rest=lines["rest"].scatter(rows, pl.Series(rest, dtype=pl.Int64)),
        careful=lines["careful"].scatter(rows, pl.Series(careful)),
    )


def _unsafe_sums(frame: pl.DataFrame, *columns: tuple[str, ...]) -> pl.Expr:
    """Which groups' sums of the columns' differences might leave their bounds: none, nearly always, at once."""
    if all(sum(greatest(frame[name]) for name in names) * len(frame) * 2 <= SCALED_MAX for names in columns):
        return pl.lit(False)
    bounds = [sum((pl.col(n).cast(pl.Float64).abs() for n in names), pl.lit(0.0)).sum() for names in columns]
    return pl.any_horizontal(bound >= _SAFE / 2 for bound in bounds)


def _fold_bills(state: State, lines: pl.DataFrame) -> pl.DataFrame:
    """One row for each bill that changes, and whether it must be worked through event by event."""
    unsafe = _unsafe_sums(lines, ("amount", "amount_old"), ("highest", "amount_old"))
    bills = lines.group_by("head").agg(
        (pl.col("amount") - pl.col("amount_old")).sum().alias("change"),
        (pl.max_horizontal("highest", "amount_old") - pl.col("amount_old")).sum().alias("highest"),
        pl.col("careful").any() | unsafe,
    )
    bill = bills["head"].to_numpy()
    bills = bills.with_columns(
        spend=pl.col("change") + to_int128(state.bills["spend"][bill]),
        next=to_int128(state.bills["next_level"][bill]),
    )
    watched = pl.col("next") < literal(NO_LEVEL)
    # No order of the batch's events takes the sum above this: each line at its highest, all at once.
    may_cross = watched & (pl.col("highest") + pl.col("spend") - pl.col("change") >= pl.col("next"))
    huge = pl.col("spend").cast(pl.Float64).abs() >= _SAFE
    return bills.with_columns(careful=pl.col("careful") | may_cross | huge)


def _write(state: State, biller: Biller, cells: pl.DataFrame, lines: pl.DataFrame, bills: pl.DataFrame) -> None:
    at: Rows = cells["cell"].to_numpy()
    held = state.cells
    held["events"][at], held["at"][at] = cells["events"].to_numpy(), cells["at"].to_numpy()
    held["value"][at] = to_wide(cells["value"])
    hand = _rates(state).hand[cells["rate"].to_numpy()]
    if hand.any():  # what such a cell costs has no meaning by itself
        cells = cells.filter(~pl.Series(hand))
        at = cells["cell"].to_numpy()
    for name in ("quantity", "amount"):
        held[name][at] = to_wide(cells[name])
    held["rest"][at] += cells["rest"].to_numpy()
    line: Rows = lines["line"].to_numpy()
    table = state.lines
    for name in ("quantity", "gross", "amount"):
        table[name][line] = to_wide(lines[name])
    table["rest"][line] = lines["rest"].to_numpy()
    added: NDArray[Any] = lines["added"].to_numpy()
    fresh = np.flatnonzero((table["events"][line] == 0) & _in_segments(state, table["bill"][line]))
    if len(fresh):
        state.born.update(zip(line[fresh].tolist(), lines["born"].to_numpy()[fresh].tolist(), strict=True))
    table["events"][line] += added
    table["revision"][line] += added
    table["first"][line] = np.minimum(table["first"][line], lines["first"].to_numpy())
    table["last"][line] = np.maximum(table["last"][line], lines["last"].to_numpy())
    table["through"][line] = np.maximum(table["through"][line], lines["through"].to_numpy())
    bill: Rows = bills["head"].to_numpy()
    state.bills["touched"][bill] = 1
    state.bills["spend"][bill] = to_wide(bills["spend"])
    biller.changed_columns.append(line)
    biller.amount_change += sum(bills["change"].to_list()) if len(bills) else 0
