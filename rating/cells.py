"""Aggregate, between its halves: to which total of which line each event belongs, and what it brings to it.

Owns groups (`group_by`), the choice of a leaf by dimensions and by time, the channels of a leaf, the gauge of which an
event speaks.
"""

from ctypes import c_int64, c_void_p
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from native.library import function
from rating.aggregates import AGGREGATES, Aggregate
from rating.columns import FOUND, MISSING, Batch
from rating.compiled import CompiledMeter, Shape
from rating.expressions import CODES, explain
from rating.index import Keys
from rating.prices.model import ByTime, Split, choose
from rating.prices.windows import window_codes
from rating.slots import find_cells
from rating.state import State
from schemas.identity import digest
from schemas.numbers import ONE
from schemas.rejection import Code

Rows = NDArray[np.int64]
_SUM = AGGREGATES["sum"]

_NATIVE_COMBINE: Final = function(
    "tx_combine", None, c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p
)


class Refusal(NamedTuple):
    """An event that a meter could not count."""

    row: int
    order: int
    meter: str
    code: Code
    path: str | None
    message: str


_NO_ROWS: Rows = np.empty(0, np.int64)


@dataclass(slots=True)
class Use:
    """What one meter's events are for one shape of charge: an event each, in the log's order.

    `combo`, `leaf`: the number of its combination of `group_by` values, and of the leaf that prices it."""

    shape: Shape
    meter: CompiledMeter
    order: int
    row: Rows
    bill: Rows
    rate: NDArray[np.int64]
    value: pl.Series | None
    combo: Rows = field(default_factory=_NO_ROWS.copy)
    leaf: Rows = field(default_factory=_NO_ROWS.copy)

    def take(self, at: Rows) -> "Use":
        """Some of the events."""
        value = None if self.value is None else self.value.gather(at)
        columns = (self.row[at], self.bill[at], self.rate[at], value, self.combo[at], self.leaf[at])
        return Use(self.shape, self.meter, self.order, *columns)


@dataclass(slots=True)
class Contributions:
    """What some events bring to one channel of their totals, in the log's order within each cell.

    `counted`: the channel is the line's quantity. `kept`: its events are kept in their order. `texts`: the
    digests that the ledger holds in place of values, where texts are counted. `gauge`: of which gauge each one speaks.
    """

    meter: CompiledMeter
    order: int
    aggregate: Aggregate
    row: Rows
    bill: Rows
    cell: Rows
    rate: NDArray[np.int64]
    value: pl.Series
    texts: NDArray[np.int64] | None
    counted: bool = True
    kept: bool = False
    shape: int = -1
    gauge: Rows | None = None

    def take(self, at: Rows) -> "Contributions":
        """Some of them."""
        gauge = None if self.gauge is None else self.gauge[at]
        return replace(
            self,
            row=self.row[at],
            bill=self.bill[at],
            cell=self.cell[at],
            rate=self.rate[at],
            value=self.value.gather(at),
            texts=None if self.texts is None else self.texts[at],
            gauge=gauge,
        )


def locate(state: State, batch: Batch, use: Use) -> list[Contributions]:
    """What the events of one meter bring to the charges of one shape: their cells are found, or made."""
    shape, combo, leaf = use.shape, use.combo, use.leaf
    number = np.array(shape.first, dtype=np.int64)[leaf]
    cell = find_cells(state, shape, use.bill, combo, number, use.rate)
    uid = state.shapes.number(shape.signature)
    gauge = texts = None
    if use.meter.aggregate.reads == "text":
        value, texts = _first_seen(state, batch, shape, use, combo, number)
    else:
        value = pl.repeat(ONE, len(use.row), dtype=pl.Int128, eager=True) if use.value is None else use.value
    if use.meter.gauge is not None:
        gauge = _gauges(state, batch, use)
    ordered = np.array([split is not None and split.ordered for split in shape.splits], dtype=np.bool_)
    aggregate, of = use.meter.aggregate, (use.meter, use.order)
    kept_whole = aggregate.kept or bool(ordered.all())
    first = Contributions(*of, aggregate, use.row, use.bill, cell, use.rate, value, texts, True, kept_whole, uid, gauge)
    found = [first]
    if ordered.any() and not ordered.all():
        found = [first.take(np.flatnonzero(ordered[leaf] == flag)) for flag in (False, True)]
        found[1].kept = True
    for at, split in enumerate(shape.splits):
        rows = np.flatnonzero(leaf == at) if split is not None and not split.ordered else _NO_ROWS
        if split is not None and len(rows):
            extra = None
            if split.extra is not None:
                extra = batch.path(split.extra, state.catalogue.paths).numbers()[0].gather(use.row[rows])
            found.extend(_spread(state, split, use.take(rows), value.gather(rows), extra))
    return found


def _spread(state: State, split: Split, use: Use, value: pl.Series, extra: pl.Series | None) -> list[Contributions]:
    """What the events of one leaf bring to its further channels."""
    found = []
    first = use.shape.first[int(use.leaf[0])]
    for channel, (at, brought) in enumerate(split.spread(value, extra), 1):
        if len(at):
            part = use.take(at)
            number = np.full(len(at), first + channel)
            cell = find_cells(state, use.shape, part.bill, part.combo, number, part.rate)
            of = (part.meter, part.order, _SUM, part.row, part.bill, cell, part.rate)
            found.append(Contributions(*of, brought, None, counted=False))
    return found


def refuse_lacking(state: State, batch: Batch, uses: list[Use], refusals: list[Refusal]) -> Rows:
    """The events of one meter that lack the further value that the price of one of its charges reads."""
    found: dict[int, Refusal] = {}
    for use in uses:
        for at, split in enumerate(use.shape.splits):
            if split is None or split.extra is None:
                continue
            column = batch.path(split.extra, state.catalogue.paths)
            status = column.numbers()[1]
            for row in use.row[(use.leaf == at) & (status[use.row] != FOUND)].tolist():
                code, message = refuse_value(column.coded(), row, int(status[row]))
                refusal = Refusal(row, use.order, use.meter.name, code, "data" + split.extra[1:], message)
                found.setdefault(row, refusal)
    refusals.extend(found.values())
    return np.array(sorted(found), dtype=np.int64)


def refuse_value(coded: tuple[NDArray[np.int32], list[Any]], row: int, status: int) -> tuple[Code, str]:
    """Why a value cannot be counted."""
    codes, values = coded
    return CODES[status], explain(status, "" if status == MISSING else values[codes[row]].text)


# Lines and cells -----------------------------------------------------------------------------------------------------


def choose_leaves(state: State, batch: Batch, use: Use) -> Use:
    """The same events with their groups and their leaves."""
    combo, leaf = _groups(state, batch, use)
    return replace(use, combo=combo, leaf=leaf)


def _groups(state: State, batch: Batch, use: Use) -> tuple[Rows, Rows]:
    """For each row the number of its combination of `group_by` values, and of its leaf."""
    shape = use.shape
    by, schedules = shape.by, shape.schedules
    rows, names = use.row, (*shape.group_by, *by)
    if not names and not schedules:
        return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    coded = [batch.path(use.meter.dimensions[name], state.catalogue.paths).coded() for name in names]
    columns: list[tuple[NDArray[np.int32], list[Any]]] = [(codes, [v.text for v in values]) for codes, values in coded]
    for node in schedules:
        codes = np.empty(batch.rows, dtype=np.int32)
        codes[rows] = window_codes(node, batch.time[rows])
        columns.append((codes, list(range(len(node.windows)))))
    groups = len(shape.group_by)

    def meaning(texts: list[Any]) -> tuple[int, int]:
        dimensions = dict(zip(by, texts[groups:], strict=False))
        windows: dict[ByTime, int | None] = dict(zip(schedules, texts[len(names) :], strict=True))
        return state.combos.number(tuple(texts[:groups])), choose(shape.choice, dimensions, windows.__getitem__)

    sizes = [len(values) + 1 for _, values in columns]
    if prod(sizes) >= 2**62:
        found = [
            meaning([None if codes[row] < 0 else values[codes[row]] for codes, values in columns])
            for row in rows.tolist()
        ]
        return np.array([c for c, _ in found], dtype=np.int64), np.array([n for _, n in found], dtype=np.int64)
    different, inverse = _combine(rows, [codes for codes, _ in columns], sizes)
    combos, leaves = [], []
    for number in different.tolist():
        texts: list[Any] = []
        rest = number
        for _, values in reversed(columns):
            rest, at = divmod(rest, len(values) + 1)
            texts.append(values[at] if at < len(values) else None)
        combo, leaf = meaning(texts[::-1])
        combos.append(combo)
        leaves.append(leaf)
    return np.array(combos, dtype=np.int64)[inverse], np.array(leaves, dtype=np.int64)[inverse]


def _combine(rows: Rows, columns: list[NDArray[np.int32]], sizes: list[int]) -> tuple[Rows, Rows]:
    """The different combinations of codes that rows have, as numbers that rise (a code of -1 is the last one of its
    column), and for each row the place of its own among them."""
    room = prod(sizes)
    if room > 4 * len(rows) + 4096 or _NATIVE_COMBINE is None:
        code = np.zeros(len(rows), dtype=np.int64)
        for codes, size in zip(columns, sizes, strict=True):
            own = codes[rows]
            code = code * size + np.where(own < 0, size - 1, own)
        different, inverse = np.unique(code, return_inverse=True)
        return different, inverse
    code, seen = np.empty(len(rows), dtype=np.int64), np.zeros(room, dtype=np.bool_)
    addresses = np.array([codes.ctypes.data for codes in columns], dtype=np.int64)
    widths = np.array(sizes, dtype=np.int64)
    of = (addresses.ctypes.data, widths.ctypes.data, len(sizes))
    _NATIVE_COMBINE(rows.ctypes.data, len(rows), *of, code.ctypes.data, seen.ctypes.data)
    different = np.flatnonzero(seen)
    place = np.empty(room, dtype=np.int64)
    place[different] = np.arange(len(different))
    return different, place[code]


def _first_seen(
    state: State, batch: Batch, shape: Shape, use: Use, combo: Rows, number: Rows
) -> tuple[pl.Series, NDArray[np.int64]]:
    """1 for each row that brings its total a value for the first time, else nought; and the values' digests.

    Segments of one period count a value once between them."""
    assert use.meter.value is not None
    codes, values = batch.path(use.meter.value, state.catalogue.paths).coded()
    used, inverse = np.unique(codes[use.row], return_inverse=True)
    digests = b"".join(digest(values[code].text) for code in used.tolist())
    wide = np.frombuffer(digests, dtype=np.int64).reshape(-1, 2)[inverse].copy()
    keys = seen_keys(state, shape.signature, wide, use.bill, combo, number)
    order = np.argsort(use.row, kind="stable")
    places, new = state.values_seen.add(keys[order])
    first = np.zeros(len(places), dtype=np.bool_)
    first[np.unique(places, return_index=True)[1]] = True
    # A value that was taken back is held with a nought: the next event brings it again.
    again = first & ~new & (state.values_seen.values[places] == 0)
    state.values_seen.values[places] = 1
    brought = np.zeros(len(use.row), dtype=np.int64)
    brought[order] = new | again
    return pl.Series(brought * ONE).cast(pl.Int128), wide


def seen_keys(state: State, signature: str, digests: NDArray[np.int64], bill: Rows, combo: Rows, number: Rows) -> Keys:
    """What `values_seen` holds for values of some totals: the total is mixed into all 128 bits of the digest."""
    root = _roots(state, bill).astype(np.uint64)
    total = (root << np.uint64(32)) | np.uint64(state.shapes.number(signature))
    cell = (combo.astype(np.uint64) << np.uint64(16)) | number.astype(np.uint64)
    keys = digests.view(np.uint64).copy()
    keys[:, 0] ^= total * np.uint64(0x9E3779B97F4A7C15)
    keys[:, 1] += total + cell * np.uint64(0xC2B2AE3D27D4EB4F)
    return keys


def _roots(state: State, bill: Rows) -> Rows:
    """For each segment the first one whose units stay used in it: between them a value counts once."""
    carries = state.bills["carries"]
    if not carries[bill].any():
        return bill
    found = bill.copy()
    for at in np.unique(bill[carries[bill] == 1]).tolist():
        chain = state.segments(int(state.bills["head"][at]))
        place = chain.index(at)
        while place > 0 and carries[chain[place]] and not state.plan_of(chain[place - 1]).trial:
            place -= 1
        found[bill == at] = chain[place]
    return found


def _gauges(state: State, batch: Batch, use: Use) -> Rows:
    """Of which gauge each event speaks: one for each combination of all the meter's dimensions, and its key."""
    paths = [*use.meter.dimensions.values(), *([use.meter.key] if use.meter.key else [])]
    columns = [batch.path(path, state.catalogue.paths).coded() for path in paths]
    found = np.zeros(len(use.row), dtype=np.int64)
    for i, row in enumerate(use.row.tolist()):
        texts = tuple(None if codes[row] < 0 else values[codes[row]].text for codes, values in columns)
        found[i] = state.gauges.number(texts)
    return found
