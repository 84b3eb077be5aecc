"""How runs come about: a table of memory in order, or several runs in one, slice by slice in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rating.identities.run import READ_KEYS, Rows, Run, join, starts_of, write_run
from rating.index import HashIndex


def seal(folder: Path, bucket: int, table: HashIndex) -> Run:
    """Writes a table that no longer changes. Raises: OSError."""
    keys, contents = table.items()
    rows = Rows(keys[:, 0], keys[:, 1], contents).ordered()
    return write_run(folder, bucket, starts_of(rows.leads), [rows])


def merge(folder: Path, bucket: int, runs: Sequence[Run], pause: Callable[[], None]) -> Run:
    """Writes one run in place of several that share no key. `pause` is called between slices. Raises: OSError."""
    starts = [run.starts() for run in runs]
    return write_run(folder, bucket, np.sum(starts, axis=0), _merged(runs, starts, pause))


def _merged(runs: Sequence[Run], starts: list[NDArray[np.int64]], pause: Callable[[], None]) -> Iterator[Rows]:
    total = np.sum(starts, axis=0)
    slot, last = 0, len(total) - 1
    while slot < last:
        fitting = int(np.searchsorted(total, total[slot] + READ_KEYS, side="right")) - 1
        end = min(max(slot + 1, fitting), last)
        yield join([run.read(int(at[slot]), int(at[end])) for run, at in zip(runs, starts, strict=True)]).ordered()
        slot = end
        pause()
