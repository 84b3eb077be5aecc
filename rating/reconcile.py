"""Reconcile: the totals that were carried are held against the state's tables and the log. It changes neither.

Each comparison has a name that never changes, two sides that were come by on different roads, and costs one pass over
a column at most. What differs is found by the engine at a position of the source, so it is an output like any other:
an alert of the kind `reconciliation`, once for each partition, position and comparison.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rating.exact import sum_wide
from rating.state import State
from rating.tally import adds_up
from rating.tenants import Tenants
from rating.totals import Broken, Totals
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.identity import output_id
from schemas.output import ReconciliationAlert
from schemas.times import SECOND
from streams.processor import Output

CHECK_EVERY: Final = 60 * SECOND
"""How much later than at the last time a tick must be for the tables to be looked at again, in microseconds."""


class Comparison(NamedTuple):
    """Two sides of one thing: `expected` is what the totals say, `found` what stands elsewhere."""

    what: str
    expected: int
    found: int
    scaled: bool = False

    @property
    def texts(self) -> tuple[str, str]:
        """Both, for people."""
        write = format_exact if self.scaled else str
        return write(self.expected), write(self.found)


def format_exact(scaled: int) -> str:
    """A scaled number as a plain decimal; sums over all lines may be larger than a single number may."""
    sign, (whole, part) = "-" if scaled < 0 else "", divmod(abs(scaled), 10**12)
    return f"{sign}{whole}" + (f".{part:012d}".rstrip("0") if part else "")


def compare_counts(state: State) -> Iterator[Comparison]:
    """What a handful of numbers tell: at every step."""
    of = state.totals.counts
    yield Comparison("events", of["accepted"] + of["duplicates"] + of["conflicts"], of["events"])
    classes = ("rated", "refused", "voids", "voided", "unused")
    yield Comparison("accepted", sum(of[name] for name in classes), of["accepted"])
    yield Comparison("arrivals", of["events"], state.arrivals)


def compare_log(totals: Totals) -> Comparison:
    """One entry takes one offset, or, on a log that numbers events, as many as it holds."""
    taken = totals.offsets
    return Comparison("offsets", taken if taken == totals.counts["entries"] else totals.numbers, taken)


def compare_tables(state: State) -> Iterator[Comparison]:
    """What the tables tell: one pass over each column."""
    totals, lines, cells = state.totals, state.lines, state.cells
    customers = state.customer_events[: len(state.customers)]
    yield Comparison("accepted.customers", totals.counts["accepted"], int(customers.sum()))
    yield Comparison("amount.lines", totals.amount, sum_wide(lines["amount"][: lines.size]), True)
    yield Comparison("amount.periods", totals.amount, sum_wide(state.bills["spend"][: state.bills.size]), True)
    counted = sum(charge.cells for charge in totals.charges.values())
    yield Comparison("counted.ledger", counted, state.ledger.counted)
    by_line = _Groups(lines["charge"][: lines.size])
    of_cells = lines["charge"][cells["line"][: cells.size]]
    by_cell = _Groups(of_cells)
    found = {
        "lines": by_line.whole(lines["events"][: lines.size]),
        "cells": by_cell.whole(cells["events"][: cells.size]),
    }
    quantities, known = _quantities(state, of_cells, by_cell)
    for number in sorted(totals.charges.keys() | found["lines"].keys()):
        charge, name = totals.charge(number), state.charges.values[number]
        yield Comparison(f"counted.lines {name}", charge.lines, found["lines"].get(number, 0))
        yield Comparison(f"counted.totals {name}", charge.cells, found["cells"].get(number, 0))
        if number in known:
            yield Comparison(f"quantity {name}", charge.quantity, quantities.get(number, 0), True)


def compare_tenants(tenants: Tenants) -> Iterator[Comparison]:
    """What the partition carries is what its tenants' states carry between them."""
    whole = tenants.totals
    accepted = sum(state.totals.counts["accepted"] for state in tenants)
    yield Comparison("accepted.tenants", whole.counts["accepted"], accepted)
    yield Comparison("amount.tenants", whole.amount, sum(state.totals.amount for state in tenants), True)


def compare(tenants: Tenants, moved: Iterable[State], tables: bool) -> Iterator[Comparison]:
    """Everything that is wanted. `moved`: the states that a step has changed; `tables`: of all, the tables too."""
    yield compare_log(tenants.totals)
    if tables:
        yield from compare_tenants(tenants)
    for state in tenants if tables else moved:
        for one in (*compare_counts(state), *(compare_tables(state) if tables else ())):
            own = state.tenant == DEFAULT_TENANT
            yield one if own else one._replace(what=f"{one.what} of {state.tenant}")


def reconcile(tenants: Tenants, moved: Iterable[State], tables: bool) -> list[Output]:
    """Compares, remembers what is found to differ for the first time, and makes an alert of each."""
    position, broken = tenants.totals.position, tenants.totals.broken
    alerts: list[Output] = []
    for one in compare(tenants, moved, tables):
        if one.expected != one.found and one.what not in broken:
            expected, found = one.texts
            broken[one.what] = Broken(position, expected, found)
            alerts.append(_alert(tenants.partition, position, one.what, expected, found))
    return alerts


def _alert(partition: int, position: int, what: str, expected: str, found: str) -> Output:
    alert = ReconciliationAlert(
        id=output_id("rc", str(partition), str(position), what),
        kind="reconciliation",
        partition=partition,
        position=position,
        what=what,
        expected=expected,
        found=found,
        message=f"partition {partition} does not reconcile at position {position}: {what} should be {expected}, "
        f"found {found}",
    )
    return Output(topics.ALERTS, alert.id.encode(), msgspec.json.encode(alert))


class _Groups:
    """Sums by the number of a charge."""

    def __init__(self, charge: NDArray[Any]) -> None:
        self._order = np.argsort(charge, kind="stable")
        ordered = charge[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else None
        self._numbers = ordered[self._starts].tolist() if self._starts is not None else []

    def whole(self, values: NDArray[np.int64]) -> dict[int, int]:
        """The sums of whole numbers."""
        if self._starts is None:
            return {}
        sums = np.add.reduceat(values[self._order], self._starts)
        return dict(zip(self._numbers, sums.tolist(), strict=True))

    def wide(self, values: NDArray[np.int64]) -> dict[int, int]:
        """The exact sums of wide numbers."""
        if self._starts is None:
            return {}
        ends = [*self._starts[1:].tolist(), len(values)]
        ordered = values.take(self._order, axis=0)
        spans = zip(self._numbers, self._starts.tolist(), ends, strict=True)
        return {number: sum_wide(ordered[start:end]) for number, start, end in spans}


def _quantities(state: State, of_cells: NDArray[Any], by_cell: _Groups) -> tuple[dict[int, int], set[int]]:
    """For each charge the sum of its totals that add values up; and which charges can be told.

    Not those of which a line has lost its price: nobody knows any more how it reads usage."""
    cells, lines = state.cells, state.lines
    size = cells.size
    if not size:
        return {}, set()
    rate = lines["rate"][cells["line"][:size]].astype(np.int64)
    compiled = state.catalogue
    added = [
        counted and adds_up(compiled.meter(one.meter).aggregate) for one in compiled.rates for counted in one.counted
    ]
    starts = np.cumsum([0, *(len(one.counted) for one in compiled.rates)])
    flags = np.array([*added, False], dtype=np.bool_)
    at = np.where(rate < 0, len(flags) - 1, starts[rate] + cells["number"][:size])
    values = np.where(flags[np.minimum(at, len(flags) - 1)][:, None], cells["value"][:size], 0)
    unknown = set(np.unique(of_cells[(rate < 0) & (cells["events"][:size] > 0)]).tolist())
    sums = by_cell.wide(values)
    return sums, set(sums) - unknown
