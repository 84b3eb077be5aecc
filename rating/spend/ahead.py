"""What a store has taken in and not yet written: steps, joined to one write when their turn comes.

A write costs its store some milliseconds whatever is in it, and what changes in every step (a busy line item, the
positions) is written once for all the steps that it joins.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rating.spend.decode import Staged
from rating.spend.progress import Progress

_VIEW: Final = np.dtype("V16")
"""Of a text: where it stands (Arrow's string views)."""


class Reached(NamedTuple):
    """How far a store is: the offset after the last record of each topic and partition, the progress of each partition,
    and how often that has changed."""

    positions: Mapping[tuple[str, int], int]
    progress: Mapping[int, Progress]
    changes: Mapping[int, int]


class Step(NamedTuple):
    """The rows that some records bring, and how far the store is with them."""

    staged: Staged
    reached: Reached
    nbytes: int
    """Of the records, as they came."""


def join_staged(steps: Sequence[Staged]) -> Staged:
    """The rows of several steps, in their order: of each id the highest revision, the first of several."""
    if len(steps) == 1:
        return steps[0]
    joined: Staged = {}
    for name in dict.fromkeys(name for staged in steps for name in staged):
        rows = pa.concat_tables([staged[name] for staged in steps if name in staged])
        joined[name] = rows if "revision" not in rows.schema.names else _newest(rows)
    return joined


def _newest(rows: pa.Table) -> pa.Table:
    codes = rows["id"].combine_chunks().dictionary_encode().indices.to_numpy()  # in the order in which they come
    order = np.lexsort((-rows["revision"].to_numpy(), codes))
    first = np.diff(codes[order], prepend=-1) != 0
    if first.all():
        return rows
    return pa.Table.from_arrays([_taken(column, order[first]) for column in rows.columns], schema=rows.schema)


def _taken(column: pa.ChunkedArray, which: NDArray[np.int64]) -> pa.Array | pa.ChunkedArray:
    if not pa.types.is_string_view(column.type):
        return column.take(pa.array(which))
    whole = column.combine_chunks()  # of views: the texts stay where they are
    _, views, *texts = whole.buffers()
    chosen = np.frombuffer(views, _VIEW)[whole.offset :][which]
    return pa.Array.from_buffers(column.type, len(which), [None, pa.py_buffer(chosen), *texts])
