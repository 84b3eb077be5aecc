"""Aggregate, first half: from the events of a batch to what each brings to each total.

Owns which meters count an event, which subscription and billing period it falls into, and which total of which
line it belongs to. What cannot be counted becomes a refusal, and its neighbours go on.
"""

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from native.library import function
from rating.cells import (
    Contributions,
    Refusal,
    Rows,
    Use,
    choose_leaves,
    locate,
    refuse_lacking,
    refuse_value,
)
from rating.columns import FOUND, MISSING, OUT_OF_RANGE, Batch
from rating.compiled import TIME_MAX, TIME_MIN, CompiledMeter, Shape
from rating.convert import Conversion
from rating.expressions import CODES, ValueFault
from rating.index import HashIndex, Keys, make_keys
from rating.state import NO_SUBSCRIPTION, SEVERAL, State
from schemas.numbers import format_scaled
from schemas.times import format_time


@dataclass(slots=True)
class Pairs:
    """Events beside the subscriptions and plans that cover them: one pair for each; -1 where none does. Rising by row.

    `start`, `end`: the calendar's period; `segment`: where the part of it begins in which the plan is in force;
    `bill`: that segment's, -1 where it has none yet. `least_end`: no period ends before it."""

    row: Rows
    kind: NDArray[np.int32]
    subscription: NDArray[np.int64]
    plan: NDArray[np.int64]
    start: Rows
    end: Rows
    segment: Rows
    bill: Rows
    least_end: int


def meter_batch(
    state: State, batch: Batch, fresh: NDArray[np.bool_]
) -> tuple[list[Contributions], list[Refusal], Rows]:
    """Everything that the fresh events of a batch bring, every refusal, and the bills that were made."""
    meters = state.catalogue.meters
    kinds = _kinds(meters)
    kind = batch.codes("type", lambda _tenant, types: [kinds.get(text, -1) for text in types])
    pairs = _pair(state, batch, fresh, kind)
    if not len(pairs.row):
        return [], [], np.empty(0, np.int64)
    refusals: list[Refusal] = []
    found: list[_Matched] = []
    for order, meter in enumerate(meters):
        matched = _match(state, batch, pairs, meter, order, kinds[meter.event], refusals)
        if matched is not None:
            found.append(matched)
    made = _bills(state, batch, pairs, found, refusals)
    contributions: list[Contributions] = []
    for matched in found:
        uses: list[Use] = []
        for shape, at, rate in matched.shapes:
            if len(at):
                is_all = len(at) == len(matched.pair)
                pair = matched.pair if is_all else matched.pair[at]
                value = matched.value if is_all or matched.value is None else matched.value.gather(at)
                use = Use(shape, matched.meter, matched.order, pairs.row[pair], pairs.bill[pair], rate, value)
                uses.append(choose_leaves(state, batch, use))
        lacking = refuse_lacking(state, batch, uses, refusals)
        for use in uses:
            kept = use.take(np.flatnonzero(~np.isin(use.row, lacking))) if len(lacking) else use
            if len(kept.row):
                contributions.extend(locate(state, batch, kept))
    return [c for c in contributions if len(c.row)], refusals, made


def _kinds(meters: Sequence[CompiledMeter]) -> dict[str, int]:
    return {event: number for number, event in enumerate(dict.fromkeys(meter.event for meter in meters))}


# Subscriptions and periods -------------------------------------------------------------------------------------------


def _pair(state: State, batch: Batch, fresh: NDArray[np.bool_], kind: NDArray[np.int32]) -> Pairs:
    pairs = _pair_native(state, batch, fresh, kind) or _pair_python(state, batch, fresh, kind)
    if len(state.books.values) > 1:
        # Where a bill was re-rated under another price book, its plan is the bill's.
        rebooked = (pairs.bill >= 0) & (state.bills["book"][pairs.bill] > 0)
        pairs.plan = np.where(rebooked, state.bills["plan"][pairs.bill], pairs.plan)
    return pairs


def _pair_python(state: State, batch: Batch, fresh: NDArray[np.bool_], kind: NDArray[np.int32]) -> Pairs:
    rows = np.flatnonzero(fresh & (kind >= 0))
    slot = batch.codes("customer", state.numbers_of, state.codes_of)[rows]
    subscription = state.customer_subscription[slot].astype(np.int64)
    if (subscription == SEVERAL).any():
        spread = [
            state.several[c] if s == SEVERAL else [s] for c, s in zip(slot.tolist(), subscription.tolist(), strict=True)
        ]
        rows = np.repeat(rows, [len(s) for s in spread])
        subscription = np.array([s for each in spread for s in each], dtype=np.int64)
    time = batch.time[rows]
    of = np.maximum(subscription, 0)
    timeline = state.subscriptions["timeline"][of] if state.subscriptions.size else np.zeros(len(rows), np.int32)
    entry = state.timelines.at(timeline, time)
    plan = np.where(subscription >= 0, state.timelines.plan(entry), NO_SUBSCRIPTION)
    subscription = np.where(plan >= 0, subscription, NO_SUBSCRIPTION)
    keep = _one_for_each(rows, subscription)
    if not keep.all():
        rows, subscription, plan, time = rows[keep], subscription[keep], plan[keep], time[keep]
        entry = entry[keep]
    start, end = _periods(state, subscription, time)
    segment = np.maximum(start, state.timelines.since(entry))
    places = state.bill_index.find(bill_keys(subscription, segment))
    covered = subscription >= 0
    bill = np.where(covered & (places >= 0), state.bill_index.values[places].astype(np.int64), -1)
    until = np.minimum(end, state.subscriptions["end"][subscription])[covered]
    return Pairs(rows, kind[rows], subscription, plan, start, end, segment, bill, int(until.min(initial=TIME_MAX)))


class _Pairing(Structure):
    """`Pairing` of native/src/meter.c."""

    _fields_: ClassVar = [
        ("rows", c_int64),
        *((name, c_void_p) for name in ("fresh", "kind", "customer", "time", "customer_subscription")),
        *((name, c_int64) for name in ("subscriptions", "step")),
        *((name, c_void_p) for name in ("timeline", "calendar", "first", "start", "plan")),
        *((name, c_void_p) for name in ("row", "row_kind", "subscription", "row_plan", "since", "row_calendar")),
        *((name, c_void_p) for name in ("least", "most")),
    ]


class _Periods(Structure):
    """`Periods` of native/src/meter.c."""

    _fields_: ClassVar = [
        ("count", c_int64),
        *((name, c_void_p) for name in ("row", "subscription", "since", "calendar", "time")),
        *((name, c_void_p) for name in ("starts", "begins", "ends")),
        ("step", c_int64),
        ("table", c_void_p),
        ("size", c_int64),
        *((name, c_void_p) for name in ("values", "start", "end", "bill")),
    ]


_NATIVE_PAIR: Final = function("tx_pair", c_int64, POINTER(_Pairing))
_NATIVE_PERIODS: Final = function("tx_periods", c_int64, POINTER(_Periods))


def _pair_native(state: State, batch: Batch, fresh: NDArray[np.bool_], kind: NDArray[np.int32]) -> Pairs | None:
    """The same, compiled; None where it cannot be: some customer has several subscriptions, or there is no library."""
    if _NATIVE_PAIR is None or _NATIVE_PERIODS is None:
        return None
    table, calendars = state.subscriptions, state.calendars.values
    customer = batch.codes("customer", state.numbers_of, state.codes_of)
    count = int(np.count_nonzero(fresh & (kind >= 0)))
    row, subscription, plan, since = (np.empty(count, np.int64) for _ in range(4))
    row_kind, calendar = np.empty(count, np.int32), np.empty(count, np.int32)
    least, most = np.full(len(calendars), TIME_MAX), np.full(len(calendars), TIME_MIN)
    of_events = (
        batch.rows,
        *_at(fresh, kind, customer, batch.time, state.customer_subscription),
        table.size,
        table.step,
    )
    held = _at(table["timeline"], table["calendar"], *state.timelines.columns())
    found = _at(row, row_kind, subscription, plan, since, calendar, least, most)
    if _NATIVE_PAIR(byref(_Pairing(*of_events, *held, *found))) < 0:
        return None
    starts = [
        calendars[number].starts(int(first), int(last)) if first <= last else []
        for number, (first, last) in enumerate(zip(least, most, strict=True))
    ]
    begins = np.cumsum([0, *map(len, starts)], dtype=np.int64)
    flat = np.array([start for each in starts for start in each], dtype=np.int64)
    start, end, bill = (np.empty(count, np.int64) for _ in range(3))
    index = state.bill_index
    pairs = _at(row, subscription, since, calendar, batch.time, flat, begins, table["end"])
    asked = _Periods(
        count, *pairs, table.step, index.keys.ctypes.data, len(index.keys), *_at(index.values, start, end, bill)
    )
    return Pairs(row, row_kind, subscription, plan, start, end, since, bill, _NATIVE_PERIODS(byref(asked)))


def _at(*columns: NDArray[Any]) -> list[int]:
    return [column.ctypes.data for column in columns]


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
    plan = pairs.plan[passing]
    shapes = []
    for shape in state.catalogue.shapes[meter.name]:
        rate = state.catalogue.plan_rates[:, shape.index].take(plan)
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
        fault = faults.get(row)
        if fault is None:
            code, message = refuse_value(column.coded(), row, found)
            path = meter.value
        else:
            code, message, path = CODES[fault.status], str(fault), fault.path
        refusals.append(Refusal(row, order, meter.name, code, None if path is None else "data" + path[1:], message))
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


def _bills(state: State, batch: Batch, pairs: Pairs, found: list[_Matched], refusals: list[Refusal]) -> Rows:
    """Makes the bills of the pairs that are used, where there are none yet. Returns those that were made.

    Pairs of periods that are too old to be corrected are taken out of `found`."""
    used = np.zeros(len(pairs.row), dtype=np.bool_)
    for matched in found:
        for _, rows, _ in matched.shapes:
            used[matched.pair[rows]] = True
    at = np.flatnonzero(used)
    if pairs.least_end <= state.corrected_from:
        late = _too_late(state, pairs, at)
        for matched in found:
            _take_out(matched, batch, pairs, set(at[late].tolist()), refusals)
        at = at[~late]
    made: Rows = np.empty(0, np.int64)
    missing = at[pairs.bill[at] < 0]
    if len(missing):
        of = (pairs.subscription[missing], pairs.start[missing])
        _, first = HashIndex(len(missing)).add(bill_keys(*of))
        opening = missing[first]
        end, offset = pairs.end[opening], batch.offset[pairs.row[opening]]
        made = make_periods(state, of[0][first], of[1][first], end, offset)
        places = state.bill_index.find(bill_keys(of[0], pairs.segment[missing]))
        pairs.bill[missing] = state.bill_index.values[places]
    return made


def make_periods(state: State, subscription: Rows, start: Rows, end: Rows, offset: Rows) -> Rows:
    """The bills of calendar periods that have none yet: one for each segment. `offset`: that of what opened each."""
    made = state.add_periods(subscription, start, end)
    heads = state.bills["head"][made] == made
    state.bills["opened"][made] = offset[np.cumsum(heads) - 1]
    index_bills(state, made)
    return made


def index_bills(state: State, bills: NDArray[np.int64]) -> None:
    """New bills can be found."""
    places, _ = state.bill_index.add(bill_keys(state.bills["subscription"][bills], state.bills["start"][bills]))
    state.bill_index.values[places] = bills


def bill_keys(subscription: NDArray[Any], start: NDArray[Any]) -> Keys:
    """The keys by which bills are found: the subscription, and where the segment begins."""
    high = (subscription.astype(np.uint64) << np.uint64(1)) | np.uint64(1)
    return make_keys(high, start.astype(np.int64).view(np.uint64))


def _too_late(state: State, pairs: Pairs, at: Rows) -> NDArray[np.bool_]:
    """Whether a period is over for so long that it is not corrected any more."""
    end = np.minimum(pairs.end[at], state.subscriptions["end"][pairs.subscription[at]])
    return end <= state.corrected_from


def _take_out(matched: _Matched, batch: Batch, pairs: Pairs, late: set[int], refusals: list[Refusal]) -> None:
    refused: set[int] = set()
    for i, (shape, rows, rate) in enumerate(matched.shapes):
        is_late = np.array([pair in late for pair in matched.pair[rows].tolist()], dtype=np.bool_)
        refused.update(matched.pair[rows[is_late]].tolist())
        matched.shapes[i] = (shape, rows[~is_late], rate[~is_late])
    for pair in sorted(refused):
        row = int(pairs.row[pair])
        end = format_time(int(pairs.end[pair]))
        message = f"the billing period that ended at {end} is closed for so long that it is not corrected any more"
        refusals.append(Refusal(row, matched.order, matched.meter.name, "period_closed", "time", message))
