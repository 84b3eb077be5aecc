"""Tally: what became of the events of one batch, from what the stages were given and what they gave back.

The stages tell two things that nobody else knows: what the event-by-event way could not count after all (`dropped`),
and what a void took back (`taken_back`). Everything else follows from the batch, the verdicts and the contributions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rating.aggregates import AGGREGATES, Aggregate
from rating.cells import Contributions, Refusal
from rating.exact import greatest, int_of
from rating.state import State
from schemas.numbers import ONE, SCALED_MAX
from streams.processor import Counts

_ADDED: Final = frozenset(name for name, one in AGGREGATES.items() if one.additive and one.retractable)
"""Aggregations whose totals are the sum of the values that they counted."""


def adds_up(aggregate: Aggregate) -> bool:
    """Whether a total is the sum of its events' values."""
    return aggregate.name in _ADDED


@dataclass(slots=True)
class _Brought:
    """What one event brought to one cell."""

    row: int
    cell: int
    counted: bool
    value: int
    """Nought where the total does not add values up."""


@dataclass(slots=True)
class Tally:
    """What the stages tell of one batch."""

    dropped: list[_Brought] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    """Rows of voids that took something back."""

    def drop(self, row: int, part: Contributions, cell: int, value: int) -> None:
        """What an event would have brought to a cell did not fit."""
        added = part.counted and adds_up(part.aggregate)
        self.dropped.append(_Brought(row, cell, part.counted, value if added else 0))

    def take_back(self, state: State, row: int, cells: NDArray[np.int32], wide: NDArray[np.int64]) -> None:
        """The void at `row` has taken what an event brought out of some cells."""
        self.taken.add(row)
        for cell, value in zip(cells.tolist(), wide.tolist(), strict=True):
            line = int(state.cells["line"][cell])
            rate = state.catalogue.rates[int(state.lines["rate"][line])]
            counted = rate.counted[int(state.cells["number"][cell])]
            totals = state.totals.charge(int(state.lines["charge"][line]))
            totals.cells -= 1
            totals.lines -= counted
            if counted and adds_up(state.catalogue.meter(rate.meter).aggregate):
                totals.quantity -= int_of(value)


def count_batch(
    state: State,
    fresh: NDArray[np.bool_],
    conflict: NDArray[np.bool_],
    is_void: NDArray[np.bool_],
    counting: NDArray[np.bool_],
    contributions: Sequence[Contributions],
    refusals: Sequence[Refusal],
    tally: Tally,
) -> Counts:
    """What became of a batch's events. `counting`: those that meters were asked about."""
    brought = np.zeros(len(fresh), dtype=np.int64)
    for part in contributions:
        _bring(state, part, brought)
    for one in tally.dropped:
        brought[one.row] -= 1
        totals = state.totals.charge(int(state.lines["charge"][state.cells["line"][one.cell]]))
        totals.cells -= 1
        totals.lines -= one.counted
        totals.quantity -= one.value
    rejected = np.zeros(len(fresh), dtype=np.bool_)
    real = [refusal.row for refusal in refusals if refusal.code != "conflict"]
    rejected[real] = True
    rated = counting & (brought > 0)
    refused = counting & ~rated & rejected
    return Counts(
        events=len(fresh),
        accepted=_count(fresh),
        duplicates=_count(~fresh & ~conflict),
        conflicts=_count(conflict),
        rejected=len(real),
        rated=_count(rated),
        refused=_count(refused),
        voids=_count(fresh & is_void),
        voided=_count(fresh & ~is_void & ~counting),
        unused=_count(counting & ~rated & ~refused),
        taken_back=len(tally.taken),
    )


def _bring(state: State, part: Contributions, brought: NDArray[np.int64]) -> None:
    rows = len(part.row)
    if not rows:
        return
    # Few events come twice to one part: those whose customer has several subscriptions.
    np.add.at(brought, part.row, 1)
    totals = state.totals.charge(int(state.lines["charge"][state.cells["line"][part.cell[0]]]))
    totals.cells += rows
    if part.counted:
        totals.lines += rows
        if adds_up(part.aggregate):
            totals.quantity += _sum(part)


def _sum(part: Contributions) -> int:
    if part.aggregate.reads == "nothing":
        return len(part.row) * ONE
    value = part.value
    if greatest(value) * len(value) <= SCALED_MAX:
        total: Any = value.sum()
        return int(total)
    return sum(value.to_list())


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))
