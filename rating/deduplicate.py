"""Deduplication: which events have been counted before. Exact, in buckets by arrival that are dropped whole.

Owns the identities of all events of one partition for the deduplication window. An identity is found in whichever
bucket holds it, and enters that of the greatest arrival so far; a bucket goes as soon as all that it may hold is older
than the window, before the event that brings this about is looked at, so that no cut into batches shows. The window is
35 to 42 days and never shorter than promised. What a bucket is made of, in memory or on disk, and what that costs:
`rating.identities`.
"""

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.identities.held import ROWS_MAX, Held, Place, leftovers
from rating.identities.run import Run
from rating.index import Keys
from rating.work import Worker
from schemas.times import DAY
from streams.durable import is_whole, make_folder
from streams.processor import Fetch, no_files

WINDOW_DAYS: Final = 35
_BUCKET: Final = 7 * DAY


class Verdicts(NamedTuple):
    """For each row: `fresh`, seen for the first time; `conflict`, seen before with another content."""

    fresh: NDArray[np.bool_]
    conflict: NDArray[np.bool_]


class Deduplicator:
    """The identities of one partition, each with a fingerprint of its content."""

    def __init__(
        self, window_days: int | None = WINDOW_DAYS, place: Place | None = None, worker: Worker | None = None
    ) -> None:
        """`window_days` None: identities are never dropped. `place` None: they all stay in memory.

        The folder of `place` is this one's alone; what an earlier state has left in it goes. Raises: OSError.
        """
        self.window = None if window_days is None else window_days * DAY
        self._held = Held(place, worker)
        self._latest = 0
        if place is not None:
            make_folder(place.folder)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._held.nbytes

    @property
    def file_bytes(self) -> int:
        """Bytes held on disk."""
        return self._held.file_bytes

    def check(self, identity: Keys, content: NDArray[np.uint32], arrived: NDArray[np.int64]) -> Verdicts:
        """Tells first arrivals from later ones, in the order of the rows, and remembers the first ones."""
        fresh = np.zeros(len(identity), dtype=np.bool_)
        conflict = np.zeros(len(identity), dtype=np.bool_)
        number = np.zeros(len(arrived), np.int64)
        if self.window is not None and len(arrived):
            clock = np.maximum.accumulate(np.maximum(arrived, self._latest))
            number, self._latest = clock // _BUCKET, int(clock[-1])
        for rows in _runs(number):
            now = int(number[rows.start])
            self._expire(now)
            fresh[rows], conflict[rows] = self._held.add(now, identity[rows], content[rows])
            self._held.tend(now)
        return Verdicts(fresh, conflict)

    def _expire(self, now: int) -> None:
        if self.window is None:
            return
        for number in [n for n in self._held.numbers() if (now - n - 1) * _BUCKET >= self.window]:
            self._held.drop(number)

    # Snapshots ---------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """What is in memory, and the names of the files that hold the rest, for a snapshot."""
        buckets = {
            str(number): [keys.tobytes(), contents.tobytes()]
            for number, (keys, contents) in self._held.in_memory().items()
        }
        runs = {str(number): names for number, names in self._held.name_files().items()}
        return {"latest": self._latest, "buckets": buckets, "runs": runs}

    def files(self) -> Mapping[str, Path]:
        """The files that the last `dump` named. They stay until the next."""
        return self._held.files()

    def load(self, dumped: dict[str, Any], fetch: Fetch = no_files) -> None:
        """What `dump` wrote. Raises: RunRefused, OSError, and what `fetch` raises."""
        self._latest = dumped["latest"]
        place, runs = self._held.place, dumped["runs"]
        self.clear_folder(frozenset(name for names in runs.values() for name in names))
        with tempfile.TemporaryDirectory() as temporary:
            for number, (keys, values) in dumped["buckets"].items():
                flat = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)
                contents = np.frombuffer(values, dtype=np.uint32)
                folder = place.folder if place is not None else Path(temporary)
                opened = [_open_run(folder / name, fetch) for name in runs.get(number, ())]
                if place is None and opened:
                    flat, contents = _all_of(flat, contents, opened)
                    opened = []
                self._held.put(int(number), flat, contents, opened)

    def clear_folder(self, needed: frozenset[str] = frozenset()) -> None:
        """Removes what an earlier state has left in the folder, but for the files named. Raises: OSError."""
        if self._held.place is not None:
            for path in leftovers(self._held.place.folder, needed):
                path.unlink()

    def close(self) -> None:
        """Ends what is under way in the background. Nothing may be asked any more."""
        self._held.close()


def _open_run(path: Path, fetch: Fetch) -> Run:
    """A run of a snapshot: as it stands in the folder, if it is whole there, and brought from the snapshots if not."""
    if not (path.is_file() and is_whole(path, path.name)):
        fetch(path.name, path)
    return Run(path)


def _all_of(keys: Keys, contents: NDArray[np.uint32], runs: list[Run]) -> tuple[Keys, NDArray[np.uint32]]:
    rows = [run.read(0, run.count) for run in runs]
    joined = [np.stack([part.leads, part.others], axis=1) for part in rows]
    return np.concatenate([keys, *joined]), np.concatenate([contents, *(part.contents for part in rows)])


def _runs(numbers: NDArray[np.int64]) -> list[slice]:
    """The stretches of rows with the same bucket, in order, none too long: nearly always one."""
    cuts = (np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()
    edges = sorted({*range(0, len(numbers), ROWS_MAX), *cuts, len(numbers)})
    return [slice(a, b) for a, b in pairwise(edges)]
