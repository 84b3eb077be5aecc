"""Aggregate, first half: from the events of a batch to what each brings to each total.

Owns which meters count an event, which subscription and billing period it falls into, and which total of which
line it belongs to. What cannot be counted becomes a refusal, and its neighbours go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.columns import FOUND, INVALID, MISSING, OUT_OF_RANGE, Batch, Value
from rating.compiled import CompiledMeter, Shape
from rating.convert import Conversion
from rating.exact import int128
from rating.expressions import ValueFault, explain
from rating.index import Keys
from rating.state import NO_SUBSCRIPTION, SEVERAL, State
from schemas.identity import digest
from schemas.numbers import ONE, format_scaled
from schemas.rejection import Code
from schemas.times import format_time

Rows = NDArray[np.int64]


class Refusal(NamedTuple):
    """An event that a meter could not count."""

    row: int
    order: int
    meter: str
    code: Code
    path: str | None
    message: str


@dataclass(slots=True)
class Pairs:
    """Events beside the subscriptions that cover them: one pair for each; -1 where none does. Rising by row."""

    row: Rows
    kind: NDArray[np.int32]
    subscription: NDArray[np.int64]
    start: Rows
    end: Rows


@dataclass(slots=True)
class Contributions:
    """What one meter's events bring, in the log's order within each cell."""

    meter: CompiledMeter
    order: int
    row: Rows
    bill: Rows
    cell: Rows
    rate: NDArray[np.int64]
    value: pl.Series


def meter_batch(state: State, batch: Batch, fresh: NDArray[np.bool_]) -> tuple[list[Contributions], list[Refusal]]:
    """Everything that the fresh events of a batch bring, and every refusal."""
    meters = state.catalogue.meters
    kinds = _kinds(meters)
    kind = batch.codes("type", lambda _tenant, text: kinds.get(text, -1))
    rows = np.flatnonzero(fresh & (kind >= 0))
    if not len(rows):
        return [], []
    pairs = _pair(state, batch, rows, kind)
    refusals: list[Refusal] = []
    found: list[_Matched] = []
    for order, meter in enumerate(meters):
        matched = _match(state, batch, pairs, meter, order, kinds[meter.event], refusals)
        if matched is not None:
            found.append(matched)
    bills = _bills(state, batch, pairs, found, refusals)
    contributions = [_locate(state, batch, pairs, bills, matched) for matched in found]
    return [c for c in contributions if len(c.row)], refusals


def _kinds(meters: Sequence[CompiledMeter]) -> dict[str, int]:
    return {event: number for number, event in enumerate(dict.fromkeys(meter.event for meter in meters))}


# Subscriptions and periods -------------------------------------------------------------------------------------------


def _pair(state: State, batch: Batch, rows: Rows, kind: NDArray[np.int32]) -> Pairs:
    slot = batch.codes("customer", state.customer)[rows]
    subscription = state.customer_subscription[slot].astype(np.int64)
    if (subscription == SEVERAL).any():
        spread = [
            state.several[c] if s == SEVERAL else [s] for c, s in zip(slot.tolist(), subscription.tolist(), strict=True)
        ]
        rows = np.repeat(rows, [len(s) for s in spread])
        subscription = np.array([s for each in spread for s in each], dtype=np.int64)
    time = batch.time[rows]
    subscription = _covered(state, rows, subscription, time)
    keep = _one_for_each(rows, subscription)
    rows, subscription, time = rows[keep], subscription[keep], time[keep]
    start, end = _periods(state, subscription, time)
    return Pairs(rows, kind[rows], subscription, start, end)


def _covered(state: State, rows: Rows, subscription: NDArray[np.int64], time: Rows) -> NDArray[np.int64]:
    """-1 where the subscription, or its price book, is not in force at the event's time."""
    table = state.subscriptions
    if not table.size:
        return subscription
    effective = np.array([plan.effective_from for plan in state.catalogue.plans], dtype=np.int64)
    known = np.maximum(subscription, 0)
    start = np.maximum(table["start"][known], effective[table["plan"][known]])
    inside = (subscription >= 0) & (time >= start) & (time < table["end"][known])
    return np.where(inside, subscription, NO_SUBSCRIPTION)


def _one_for_each(rows: Rows, subscription: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Drops pairs without a subscription where the same event has one with (or another without)."""
    first = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.empty(0, np.bool_)
    if first.all():
        return first
    group = np.cumsum(first) - 1
    covered = np.zeros(int(group[-1]) + 1, dtype=np.bool_)
    np.logical_or.at(covered, group, subscription >= 0)
    return (subscription >= 0) | (first & ~covered[group])


def _periods(state: State, subscription: NDArray[np.int64], time: Rows) -> tuple[Rows, Rows]:
    """The calendar's period of each pair (noughts where there is no subscription)."""
    start, end = np.zeros(len(time), np.int64), np.zeros(len(time), np.int64)
    calendar = state.subscriptions["calendar"][np.maximum(subscription, 0)]
    covered = subscription >= 0
    for number in np.unique(calendar[covered]).tolist():
        rows = np.flatnonzero(covered & (calendar == number))
        when = time[rows]
        starts = np.array(state.calendars.values[number].starts(int(when.min()), int(when.max())), dtype=np.int64)
        at = np.searchsorted(starts, when, side="right") - 1
        start[rows], end[rows] = starts[at], starts[at + 1]
    return start, end


# Meters --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Matched:
    meter: CompiledMeter
    order: int
    pair: Rows
    shapes: list[tuple[Shape, Rows, NDArray[np.int64]]]  # positions in `pair`, and the rate of each
    value: pl.Series | None  # for each of `pair`; None: 1 each, or decided by the cell


def _match(
    state: State, batch: Batch, pairs: Pairs, meter: CompiledMeter, order: int, kind: int, refusals: list[Refusal]
) -> _Matched | None:
    """The pairs that a meter counts and some charge asks for, with their values.

    Every meter looks at its value, whoever pays for it; a fault there comes before `no_subscription`.
    """
    passing = np.flatnonzero(pairs.kind == kind)
    for condition in meter.conditions:
        mask = condition.mask(batch.path(condition.path, state.catalogue.paths))
        passing = passing[mask[pairs.row[passing]]]
    if not len(passing):
        return None
    value: pl.Series | None = None
    if meter.aggregate.reads != "nothing":
        passing, value = _values(state, batch, pairs, passing, meter, order, refusals)
    if meter.name not in state.catalogue.shapes:
        return None
    uncovered = pairs.subscription[passing] < 0
    if uncovered.any():
        for row in pairs.row[passing[uncovered]].tolist():
            when = format_time(int(batch.time[row]))
            message = f"no subscription and price book cover {when}"
            refusals.append(Refusal(row, order, meter.name, "no_subscription", None, message))
        kept = np.flatnonzero(~uncovered)
        passing, value = passing[kept], None if value is None else value.gather(kept)
    plan = state.subscriptions["plan"][pairs.subscription[passing]]
    shapes = []
    for shape in state.catalogue.shapes[meter.name]:
        rate = state.catalogue.plan_rates[plan, shape.index]
        rows = np.flatnonzero(rate >= 0)
        if len(rows):
            shapes.append((shape, rows, rate[rows].astype(np.int64)))
    return _Matched(meter, order, passing, shapes, value) if shapes else None


def _values(
    state: State,
    batch: Batch,
    pairs: Pairs,
    passing: Rows,
    meter: CompiledMeter,
    order: int,
    refusals: list[Refusal],
) -> tuple[Rows, pl.Series | None]:
    rows = pairs.row[passing]
    value: pl.Series | None = None
    faults: dict[int, ValueFault] = {}
    if meter.expression is not None:
        value, status, faults = meter.expression.columns(lambda path: batch.path(path, state.catalogue.paths), rows)
    else:
        assert meter.value is not None
        column = batch.path(meter.value, state.catalogue.paths)
        if meter.aggregate.reads == "text":
            status = np.where(column.coded()[0][rows] < 0, MISSING, FOUND).astype(np.uint8)
        else:
            numbers, all_status = column.numbers()
            status, value = all_status[rows], numbers.gather(rows)
    if meter.convert_event is not None and value is not None:
        value, status = _convert(meter, meter.convert_event, value, status, rows, faults)
    wrong = status != FOUND
    if not wrong.any():
        return passing, value
    for row, found in dict(zip(rows[wrong].tolist(), status[wrong].tolist(), strict=True)).items():
        fault = faults[row] if row in faults else _refuse_value(meter, column.coded(), row, found)
        path = None if fault.path is None else "data" + fault.path[1:]
        refusals.append(Refusal(row, order, meter.name, _CODES[fault.status], path, str(fault)))
    good = np.flatnonzero(~wrong)
    return passing[good], None if value is None else value.gather(good)


def _convert(
    meter: CompiledMeter,
    convert: Conversion,
    value: pl.Series,
    status: NDArray[np.uint8],
    rows: Rows,
    faults: dict[int, ValueFault],
) -> tuple[pl.Series, NDArray[np.uint8]]:
    """The values in other units; those that do not fit there are faults."""
    converted = convert.convert_columns(value)
    if not converted.null_count():
        return converted, status
    large = np.flatnonzero(converted.is_null().to_numpy())
    status = status.copy()
    status[large] = OUT_OF_RANGE
    for row, number in zip(rows[large].tolist(), value.gather(large).to_list(), strict=True):
        message = f"found {format_scaled(number)}, which `convert` would give more than 26 digits before the point"
        faults[row] = ValueFault(OUT_OF_RANGE, meter.value, message)
    return converted.fill_null(0), status


_CODES: dict[int, Code] = {MISSING: "missing_value", INVALID: "invalid_value", OUT_OF_RANGE: "out_of_range"}


def _refuse_value(
    meter: CompiledMeter, coded: tuple[NDArray[np.int32], list[Value]], row: int, status: int
) -> ValueFault:
    """Why a plain path gives no value."""
    codes, values = coded
    found = "" if status == MISSING else values[codes[row]].text
    return ValueFault(status, meter.value, explain(status, found))


def _bills(state: State, batch: Batch, pairs: Pairs, found: list[_Matched], refusals: list[Refusal]) -> Rows:
    """The bill of each pair that is used (-1: of the others); pairs of closed periods are taken out of `found`."""
    used = np.zeros(len(pairs.row), dtype=np.bool_)
    for matched in found:
        for _, rows, _ in matched.shapes:
            used[matched.pair[rows]] = True
    at = np.flatnonzero(used)
    bills = np.full(len(pairs.row), -1, dtype=np.int64)
    late = _closed(state, pairs, at)
    if late.any():
        for matched in found:
            _take_out(matched, batch, pairs, set(at[late].tolist()), refusals)
        at = at[~late]
    keys = bill_keys(pairs.subscription[at], pairs.start[at])
    places, new = state.bill_index.add(keys)
    for i in np.flatnonzero(new).tolist():
        pair = int(at[i])
        bill = state.add_bill(int(pairs.subscription[pair]), int(pairs.start[pair]), int(pairs.end[pair]))
        state.bills["opened"][bill] = batch.offset[pairs.row[pair]]
        state.bill_index.values[places[i]] = bill
    bills[at] = state.bill_index.values[places]
    return bills


def _closed(state: State, pairs: Pairs, at: Rows) -> NDArray[np.bool_]:
    """Whether a period is over and closed, cut to the subscription's own end."""
    end = np.minimum(pairs.end[at], state.subscriptions["end"][pairs.subscription[at]])
    return end <= state.closed_before


def _take_out(matched: _Matched, batch: Batch, pairs: Pairs, late: set[int], refusals: list[Refusal]) -> None:
    refused: set[int] = set()
    for i, (shape, rows, rate) in enumerate(matched.shapes):
        is_late = np.array([pair in late for pair in matched.pair[rows].tolist()], dtype=np.bool_)
        refused.update(matched.pair[rows[is_late]].tolist())
        matched.shapes[i] = (shape, rows[~is_late], rate[~is_late])
    for pair in sorted(refused):
        row = int(pairs.row[pair])
        end = format_time(int(pairs.end[pair]))
        message = f"the billing period that ended at {end} has been closed and invoiced"
        refusals.append(Refusal(row, matched.order, matched.meter.name, "period_closed", "time", message))


# Lines and cells -----------------------------------------------------------------------------------------------------


def _locate(state: State, batch: Batch, pairs: Pairs, bills: Rows, matched: _Matched) -> Contributions:
    parts: list[tuple[Rows, Rows, NDArray[np.int64]]] = []
    for shape, at, rates in matched.shapes:
        if len(at):
            pair = matched.pair[at]
            parts.append((at, _cells(state, batch, shape, pairs.row[pair], bills[pair], rates), rates))
    if not parts:
        none = np.empty(0, np.int64)
        return Contributions(matched.meter, matched.order, none, none, none, none, int128([]))
    at = np.concatenate([part[0] for part in parts])
    cell = np.concatenate([part[1] for part in parts])
    rate = np.concatenate([part[2] for part in parts])
    row = pairs.row[matched.pair[at]]
    if matched.meter.aggregate.reads == "text":
        value = _first_seen(state, batch, matched.meter, row, cell)
    elif matched.value is None:
        value = pl.repeat(ONE, len(at), dtype=pl.Int128, eager=True)
    else:
        value = matched.value.gather(at)
    return Contributions(matched.meter, matched.order, row, bills[matched.pair[at]], cell, rate, value)


def _cells(state: State, batch: Batch, shape: Shape, rows: Rows, bills: Rows, rates: NDArray[np.int64]) -> Rows:
    """The cell of each row; new ones are made, with the lines that they need."""
    combo, number = _groups(state, batch, shape, rows)
    uid = state.shapes.number(shape.signature)
    high = (bills.astype(np.uint64) << np.uint64(32)) | np.uint64(uid)
    low = (combo.astype(np.uint64) << np.uint64(16)) | number.astype(np.uint64)
    places, new = state.cell_index.add(_keys(high, low))
    fresh = np.flatnonzero(new)
    if len(fresh):
        charge = state.charges.number(shape.charge)
        first = state.cells.extend(len(fresh))
        cells = np.arange(first, first + len(fresh))
        lines = find_lines(state, bills[fresh], charge, combo[fresh], rates[fresh])
        state.cells["line"][cells], state.cells["number"][cells] = lines, number[fresh]
        state.attach_cells(cells, lines)
        state.cell_index.values[places[fresh]] = cells
    return state.cell_index.values[places].astype(np.int64)


def find_lines(state: State, bills: Rows, charge: int, combo: Rows, rates: NDArray[np.int64]) -> Rows:
    """The line of each (bill, charge, group); new ones are made."""
    high = (bills.astype(np.uint64) << np.uint64(32)) | np.uint64(charge)
    places, new = state.line_index.add(_keys(high, combo.astype(np.uint64)))
    fresh = np.flatnonzero(new)
    if len(fresh):
        charges = np.full(len(fresh), charge)
        state.line_index.values[places[fresh]] = state.add_lines(bills[fresh], charges, combo[fresh], rates[fresh])
    return state.line_index.values[places].astype(np.int64)


def _groups(state: State, batch: Batch, shape: Shape, rows: Rows) -> tuple[Rows, Rows]:
    """For each row the number of its combination of `group_by` values, and of its cell."""
    names = (*shape.group_by, *shape.by)
    if not names:
        return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    meter = next(m for m in state.catalogue.meters if m.name == shape.meter)
    code = np.zeros(len(rows), dtype=np.int64)
    columns = []
    for name in names:
        codes, values = batch.path(meter.dimensions[name], state.catalogue.paths).coded()
        texts: list[str | None] = [value.text for value in values]
        columns.append([*texts, None])
        if len(code) and int(code.max()) >= 2**62 // (len(values) + 1):
            return _groups_slowly(state, batch, shape, rows)
        code = code * (len(values) + 1) + np.where(codes[rows] < 0, len(values), codes[rows])
    different, inverse = _different(code, int(np.prod([len(c) for c in columns], dtype=object)))
    combos, cells = [], []
    for number in different.tolist():
        texts, rest = [], number
        for column in reversed(columns):
            rest, at = divmod(rest, len(column))
            texts.append(column[at])
        texts.reverse()
        combos.append(state.combos.number(tuple(texts[: len(shape.group_by)])))
        cells.append(shape.cell_of(texts[len(shape.group_by) :]))
    return np.array(combos, dtype=np.int64)[inverse], np.array(cells, dtype=np.int64)[inverse]


def _groups_slowly(state: State, batch: Batch, shape: Shape, rows: Rows) -> tuple[Rows, Rows]:
    """The same as `_groups` row by row, for so many different values that their combinations cannot be numbered."""
    meter = next(m for m in state.catalogue.meters if m.name == shape.meter)
    names = (*shape.group_by, *shape.by)
    found = [batch.path(meter.dimensions[name], state.catalogue.paths).coded() for name in names]
    combos, cells = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows.tolist()):
        texts = [None if codes[row] < 0 else values[codes[row]].text for codes, values in found]
        combos[i] = state.combos.number(tuple(texts[: len(shape.group_by)]))
        cells[i] = shape.cell_of(texts[len(shape.group_by) :])
    return combos, cells


def _different(code: Rows, room: int) -> tuple[Rows, Rows]:
    """The different codes, rising, and for each row the place of its own among them."""
    if room > 4 * len(code) + 4096:
        different, inverse = np.unique(code, return_inverse=True)
        return different, inverse
    seen = np.zeros(room, dtype=np.bool_)
    seen[code] = True
    different = np.flatnonzero(seen)
    place = np.zeros(room, dtype=np.int64)
    place[different] = np.arange(len(different))
    return different, place[code]


def _first_seen(state: State, batch: Batch, meter: CompiledMeter, rows: Rows, cells: Rows) -> pl.Series:
    """1 for each row that brings its cell a value for the first time, else nought."""
    assert meter.value is not None
    codes, values = batch.path(meter.value, state.catalogue.paths).coded()
    used, inverse = np.unique(codes[rows], return_inverse=True)
    digests = b"".join(digest(values[code].text) for code in used.tolist())
    keys = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)[inverse].copy()
    # The cell is mixed into all 128 bits, so the same value of another cell is another key.
    keys[:, 0] ^= cells.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keys[:, 1] += cells.astype(np.uint64)
    order = np.argsort(rows, kind="stable")
    _, new = state.values_seen.add(keys[order])
    brought = np.zeros(len(rows), dtype=np.int64)
    brought[order] = new
    return pl.Series(brought * ONE).cast(pl.Int128)


def bill_keys(subscription: NDArray[Any], start: NDArray[Any]) -> Keys:
    """The keys by which bills are found: the subscription, and where the calendar's whole period begins."""
    return _keys(
        (subscription.astype(np.uint64) << np.uint64(1)) | np.uint64(1), start.astype(np.int64).view(np.uint64)
    )


def _keys(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Keys:
    keys = np.empty((len(high), 2), dtype=np.uint64)
    keys[:, 0], keys[:, 1] = high, low
    return keys
