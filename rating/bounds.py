"""Bounds: whether the numbers of a period fit 38 digits whatever of its events is counted, and in whatever order.

Upper estimates in floats, never results. They are asked for periods from which voids take something back: there, each
subset of the events may be what is left.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.cells import Contributions
from rating.exact import to_int128
from rating.state import State
from schemas.numbers import ONE

_SMALL: Final = 1e36
"""Two digits are left for what these sums leave out: levels times hours, segments that build on others."""


def find_huge(state: State, parts: Sequence[Contributions], heads: set[int]) -> set[int]:
    """Those of some periods whose numbers may leave their bounds, with what the batch brings."""
    if not heads:
        return set()
    periods = np.array(sorted(heads), dtype=np.int64)
    lines, cells = state.lines, state.cells
    period_of_line = _places(periods, state.bills["head"][lines["bill"][: lines.size]])
    of = period_of_line[cells["line"][: cells.size]]
    values = _held(state, of, len(periods))
    for part in parts:
        values += _add(of[part.cell], _magnitudes(part.value) + ONE, len(periods))
    own = np.flatnonzero(period_of_line >= 0)
    amounts = _add(period_of_line[own], _magnitudes(to_int128(lines["amount"][own])), len(periods))
    rates = [state.catalogue.rates[rate] for rate in np.unique(lines["rate"][own]).tolist() if rate >= 0]
    slope = max((rate.reach[0] for rate in rates), default=0.0)
    fixed = max((rate.reach[1] for rate in rates), default=0.0)
    amounts += values * slope + _add(of, np.ones(len(of)), len(periods)) * fixed
    return set(periods[(values > _SMALL) | (amounts > _SMALL)].tolist())


def _held(state: State, of: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The magnitudes of what the ledger holds of each period, added up; a text counts as one."""
    rows = state.ledger.of_cells(np.flatnonzero(of >= 0))
    cell = state.ledger.read("cell", rows)
    reads = [state.catalogue.meter(rate.meter).aggregate.reads for rate in state.catalogue.rates]
    text = np.array([*(one == "text" for one in reads), False])[state.lines["rate"][state.cells["line"][cell]]]
    wide = state.ledger.read("value", rows)
    values = np.abs(wide[:, 1] * 2.0**64 + np.ascontiguousarray(wide[:, 0]).view(np.uint64))
    return _add(of[cell], np.where(text, 0, values) + ONE, count)


def _places(sorted_values: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int64]:
    """Where each value is among some that rise, -1 where it is not."""
    places = np.searchsorted(sorted_values, values).clip(max=len(sorted_values) - 1)
    return np.where(sorted_values[places] == values, places, -1)


def _add(of: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    inside = of >= 0
    return np.bincount(of[inside], weights=values[inside], minlength=count).astype(np.float64)


def _magnitudes(column: pl.Series) -> NDArray[np.float64]:
    return np.abs(column.cast(pl.Float64).to_numpy())
