"""What lines say of the segments that they stand in, and which lines must say it anew when the catalogue has changed.

What a line says must not depend on when it was written last: else a batch that holds the change and an event would say
another thing than two batches do.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.state import State


class Standing(NamedTuple):
    """Of each segment where it ends and under which version of which prices it stands, and each line's revision."""

    end: NDArray[np.int64]
    prices: NDArray[np.str_]
    revision: NDArray[np.int64]


def standing(state: State) -> Standing:
    """How it is now. Segments that stand under no prices have none."""
    bills, size = state.bills, state.bills.size
    names = np.array([*(f"{plan.price_book} {plan.price_version}" for plan in state.catalogue.plans), ""])
    revision = state.lines["revision"][: state.lines.size].copy()
    return Standing(bills["end"][:size].copy(), names[bills["plan"][:size]], revision)


def lines_to_tell(state: State, before: Standing) -> Iterator[int]:
    """The lines that stand otherwise now and have got no new revision since."""
    now, size = standing(state), len(before.end)
    prices = now.prices[:size]
    other = (now.end[:size] != before.end) | ((prices != before.prices) & (prices != ""))
    for bill in np.flatnonzero(other).tolist():
        for line in state.lines_of(bill):
            if line < len(before.revision) and 0 < now.revision[line] == before.revision[line]:
                yield line
