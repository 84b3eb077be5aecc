"""Voids: events that take earlier events back. Every total that such an event was in is counted again from the ledger.

A void may come before what it names: the event then counts nowhere. One that names what was never counted changes
nothing. Levels that were crossed stay crossed; what was billed too much is on the next invoice.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.billing import Biller
from rating.cells import Refusal, seen_keys
from rating.columns import Batch
from rating.compiled import TIME_MAX, TIME_MIN, Rate
from rating.exact import int128, sum_wide, to_int128, wide_of
from rating.index import Keys
from rating.keeper import keep_again
from rating.lines import shape_of
from rating.state import State
from rating.tally import adds_up
from rating.undo import Undo
from schemas.event import VOID_TYPE
from schemas.identity import event_identity
from schemas.numbers import ONE, NumberError, check_scaled
from schemas.output import EventRef

_UNFIT: Final = 1
"""The value of an identity, among those that were named, whose last void was refused: another one may be tried."""


class Takeback(NamedTuple):
    """A void at a row of the batch, and the identity that it takes back. `again`: one before it in the batch names the
    same; there is something left to take back only where that one is refused."""

    row: int
    identity: tuple[int, int]
    offset: int
    again: bool = False


def read_voids(state: State, batch: Batch, fresh: NDArray[np.bool_]) -> tuple[list[Takeback], NDArray[np.bool_]]:
    """The voids of a batch that may take something back, and which fresh rows are to be counted: no voids, and no
    events that a void before them (in this batch or an earlier one) has named.

    An identity that was named before is not looked at again, unless the number that was left did not fit then."""
    is_void = batch.codes("type", names_void).astype(np.bool_)
    counts = fresh & ~is_void
    rows = np.flatnonzero(fresh & is_void)
    if not len(rows) and not len(state.voided):
        return [], counts
    slot = batch.codes("customer", state.numbers_of, state.codes_of)
    found: list[Takeback] = []
    first: dict[tuple[int, int], int] = {}
    for row in rows.tolist():
        named = msgspec.json.decode(batch.data_at(row), type=EventRef)
        raw = event_identity(state.tenant, state.customers[int(slot[row])], named.source, named.id)
        low, high = np.frombuffer(raw, dtype=np.uint64).tolist()
        key = np.array([[low, high]], dtype=np.uint64)
        place, new = state.voided.add(key)
        if new[0]:
            state.voided.values[place] = 0
            first[low, high] = row
        again = not new[0] and (low, high) in first
        if new[0] or again or state.voided.values[place[0]] == _UNFIT:
            found.append(Takeback(row, (low, high), int(batch.offset[row]), again))
    gone = np.flatnonzero(counts & (state.voided.find(batch.identity) >= 0))
    for row in gone.tolist():
        low, high = batch.identity[row].tolist()
        counts[row] = row < first.get((low, high), -1)  # the void came later in this very batch
    return found, counts


def names_void(_tenant: str, types: Sequence[str]) -> list[int]:
    """1 for the type of events that take others back, 0 for others."""
    return [int(type == VOID_TYPE) for type in types]


def periods_of(state: State, takebacks: Iterable[Takeback]) -> dict[int, list[int]]:
    """For each void (by row) the periods in which its event counts, as the ledger has it."""
    found: dict[int, list[int]] = {}
    for takeback in takebacks:
        cells = state.ledger.read("cell", state.ledger.of_events(_keys(takeback)))
        heads = state.bills["head"][state.lines["bill"][state.cells["line"][cells]]]
        found[takeback.row] = np.unique(heads).tolist()
    return found


def refuse_late(state: State, takebacks: Iterable[Takeback]) -> list[Refusal]:
    """The voids of what counts in periods that are not corrected any more."""
    found: list[Refusal] = []
    for row, heads in periods_of(state, (one for one in takebacks if not one.again)).items():
        if heads and (state.bills["until"][heads] <= state.corrected_from).all():
            message = "what it names is in a billing period closed for so long that it is not corrected any more"
            found.append(Refusal(row, -1, "", "period_closed", "data", message))
    return found


def take_back(state: State, biller: Biller, takeback: Takeback, heads: set[int], within: bool) -> list[int]:
    """Takes one event back out of every total it is in. Returns the periods that changed.

    `heads`: only the totals of these periods (`within`), or only those of all others. Raises: NumberError where what is
    left would not fit; nothing has changed then."""
    rows = state.ledger.of_events(_keys(takeback))
    cells = state.ledger.read("cell", rows)
    of = state.bills["head"][state.lines["bill"][state.cells["line"][cells]]]
    chosen = np.isin(of, np.array(sorted(heads), dtype=np.int64)) == within
    chosen &= state.bills["until"][of] > state.corrected_from
    rows, cells, of = rows[chosen], cells[chosen], of[chosen]
    if not len(rows):
        return []
    wide = state.ledger.read("value", rows)
    changed = np.unique(cells)
    undo = Undo(state, biller, rows, cells)
    try:
        state.ledger.take_back(rows)
        keep_again(state, changed.tolist())
        recount(state, changed)
        lines = np.unique(state.cells["line"][changed]).tolist()
        for line in lines:
            state.lines["events"][line] -= sum(_counted(state, cells[state.cells["line"][cells] == line]))
            _recount_times(state, line)
        biller.rerate_after_void(lines, state.arrivals + takeback.row, takeback.offset)
    except NumberError:
        undo.restore()
        raise
    biller.tally.take_back(state, takeback.row, cells, wide)
    _forget_texts(state, cells, wide)
    return np.unique(of).tolist()


def refuse_unfit(takeback: Takeback, error: NumberError) -> Refusal:
    """A void without whose event a number would not fit."""
    return Refusal(
        takeback.row, -1, "", "out_of_range", "data", f"taking it back would leave what does not fit: {error}"
    )


def note_unfit(state: State, takebacks: Iterable[Takeback], refused: Container[int]) -> None:
    """What voids (by row) that were refused have named may be named again."""
    for takeback in takebacks:
        state.voided.values[state.voided.find(_keys(takeback))] = _UNFIT if takeback.row in refused else 0


def recount(state: State, cells: NDArray[np.int32]) -> None:
    """Counts some totals again from their rows. Raises: NumberError where one does not fit."""
    ledger, held = state.ledger, state.cells
    for cell in cells.tolist():
        rows = ledger.of_cells(np.array([cell]))
        line = int(held["line"][cell])
        rate = state.catalogue.rates[int(state.lines["rate"][line])]
        aggregate = state.catalogue.meter(rate.meter).aggregate
        number = int(held["number"][cell])
        if not len(rows):
            held["events"][cell], held["at"][cell], held["value"][cell] = 0, 0, (0, 0)
            continue
        wide = ledger.read("value", rows)
        time = pl.Series(ledger.read("time", rows))
        if aggregate.reads == "text":
            value = len(np.unique(wide, axis=0)) * ONE
        elif not rate.counted[number] or adds_up(aggregate):
            value = sum_wide(wide)
        else:
            frame = pl.DataFrame({"value": to_int128(wide), "time": time})
            value = int128(frame.select(aggregate.fold()).to_series().to_list())[0]
        held["events"][cell], held["at"][cell] = len(rows), time.max()
        held["value"][cell] = wide_of(check_scaled(int(value)))


def _forget_texts(state: State, cells: NDArray[np.int32], wide: NDArray[np.int64]) -> None:
    """A text that no other event has brought counts again when it comes again."""
    for cell, digest in zip(cells.tolist(), wide, strict=True):
        line = int(state.cells["line"][cell])
        rate = _rate(state, line)
        if state.catalogue.meter(rate.meter).aggregate.reads != "text":
            continue
        head = int(state.bills["head"][state.lines["bill"][line]])
        signature, number = shape_of(state, line).signature, np.array([state.cells["number"][cell]], dtype=np.int64)
        combo = np.array([state.lines["combo"][line]], dtype=np.int64)
        siblings = [
            other
            for bill in state.segments(head)
            for near in state.lines_of(bill)
            if state.lines["charge"][near] == state.lines["charge"][line] and state.lines["combo"][near] == combo[0]
            for other in state.cells_of(near)
            if state.cells["number"][other] == number[0]
        ]
        rows = state.ledger.of_cells(np.array(siblings))
        if not (state.ledger.read("value", rows) == digest).all(axis=1).any():
            keys = seen_keys(state, signature, digest.reshape(1, 2), np.array([head]), combo, number)
            state.values_seen.values[state.values_seen.find(keys)] = 0


def _recount_times(state: State, line: int) -> None:
    rows = state.ledger.of_cells(np.array(state.cells_of(line), dtype=np.int64))
    times = state.ledger.read("time", rows)
    state.lines["first"][line], state.lines["last"][line] = times.min(initial=TIME_MAX), times.max(initial=TIME_MIN)


def _counted(state: State, cells: NDArray[np.int32]) -> list[bool]:
    return [
        _rate(state, int(state.cells["line"][cell])).counted[int(state.cells["number"][cell])]
        for cell in cells.tolist()
    ]


def _rate(state: State, line: int) -> Rate:
    return state.catalogue.rates[int(state.lines["rate"][line])]


def _keys(takeback: Takeback) -> Keys:
    return np.array([takeback.identity], dtype=np.uint64)
